"""What a task has computed, on the disk: its records, and the frames that the report shows."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from ..data.items import compact_json
from ..io.atomic_io import atomic_write
from .tasks import Task, TaskResult


def part_of(out: Path, task: Task) -> Path:
    """The file whose existence says that a task is done."""
    return out / "parts" / f"{task.name}.jsonl"


def publish(out: Path, task: Task, done: TaskResult) -> None:
    """Write a task's results. The frames first: the records say that all of it is there."""
    if done.frames:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **done.frames)
        with atomic_write(part_of(out, task).with_suffix(".npz")) as file:
            file.write(buffer.getvalue())
    with atomic_write(part_of(out, task)) as file:
        for record in done.records:
            file.write(compact_json(record).encode(errors="surrogateescape") + b"\n")


def frames_of(out: Path, tasks: list[Task]) -> dict[str, dict[int, np.ndarray]]:
    """By family: the frames of the sources that are shown, [C, H, W] uint8."""
    found: dict[str, dict[int, np.ndarray]] = {}
    for task in tasks:
        path = part_of(out, task).with_suffix(".npz")
        if path.exists():
            with np.load(path) as arrays:
                found.setdefault(task.what, {}).update({int(n): arrays[n] for n in arrays.files})
    return found

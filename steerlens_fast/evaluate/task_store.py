"""Stores the results of finished tasks.

They are records, and the frames that the report shows.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from ..data.items import compact_json
from ..io.atomic_io import atomic_write
from .tasks import Task, TaskResult


def task_file(out: Path, task: Task) -> Path:
    """Return the path of a task's records. If the file exists, the task is done."""
    return out / "parts" / f"{task.name}.jsonl"


def write_result(out: Path, task: Task, result: TaskResult) -> None:
    """Write the frames of a task, then its records. The file of records shows that the task is done."""
    if result.frames:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **result.frames)
        with atomic_write(task_file(out, task).with_suffix(".npz")) as file:
            file.write(buffer.getvalue())
    with atomic_write(task_file(out, task)) as file:
        for record in result.records:
            file.write(compact_json(record).encode(errors="surrogateescape") + b"\n")


def read_frames(out: Path, tasks: list[Task]) -> dict[str, dict[int, np.ndarray]]:
    """Return the frames uint8 [C, H, W] that the report shows, by family and source."""
    frames: dict[str, dict[int, np.ndarray]] = {}
    for task in tasks:
        path = task_file(out, task).with_suffix(".npz")
        if path.exists():
            with np.load(path) as arrays:
                frames.setdefault(task.kind, {}).update({int(n): arrays[n] for n in arrays.files})
    return frames

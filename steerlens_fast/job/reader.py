"""Finished shards read back: frames of some of their records, in whatever format, and what their classes are called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ..errors import USAGE, JobError
from ..io.atomic_io import read_json
from .formats import format_named
from .shard import stem


def read_config(out: Path) -> dict:
    """What is in ``config.json``; JobError where there is none."""
    try:
        return read_json(out / "config.json")
    except FileNotFoundError:
        raise JobError(f"out must be a job's folder, got {out}: there is no config.json", USAGE) from None
    except ValueError as error:
        raise JobError(f"{out / 'config.json'} is damaged: {error}") from error


def read_frames(out: Path, kind: str, shard: int, records: list[dict]) -> Tensor:
    """Frames [n, F, C, H, W] of some records of a shard, stored as ``kind``; JobError where it is damaged."""
    try:
        return format_named(kind).read(out / "shards", stem(shard), records)
    except (OSError, ValueError) as error:
        raise JobError(f"shard {shard} cannot be read: {error}; verify the job, and resume it") from error


def class_name(number: int, classes: Sequence[str] | None) -> str:
    """The class's name, or its number where it has none; ~number is a label that is absent.

    Examples
    --------
    >>> class_name(1, ["cat", "dog"]), class_name(2, ["cat", "dog"]), class_name(3, None)
    ('dog', 'class 2', 'class 3')
    >>> class_name(~1, ["cat", "dog"])
    'not dog'
    """
    if number < 0:
        return f"not {class_name(~number, classes)}"
    return str(classes[number]) if classes is not None and number < len(classes) else f"class {number}"

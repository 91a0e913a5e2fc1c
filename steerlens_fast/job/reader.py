"""Finished shards read back: frames of some of their records, in whatever format, and what their classes are called."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ..errors import USAGE, JobError
from ..io.atomic_io import read_json
from .formats import get_format
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
        return get_format(kind).read(out / "shards", stem(shard), records)
    except (OSError, ValueError) as error:
        raise JobError(f"shard {shard} cannot be read: {error}; verify the job, and resume it") from error

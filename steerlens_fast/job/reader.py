"""Reads the configuration and the frames in a job's folder."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ..errors import USAGE, JobError
from ..io.atomic_io import read_json
from .formats import get_format
from .shard import shard_name


def read_config(out: Path) -> dict:
    """Read ``config.json``; raise a JobError if there is none."""
    try:
        return read_json(out / "config.json")
    except FileNotFoundError:
        raise JobError(f"out must be a job's folder, got {out}, which has no config.json", USAGE) from None
    except ValueError as error:
        hint = "the job cannot be continued; use another --out"
        raise JobError(f"{out / 'config.json'} is damaged ({error}): {hint}") from error


def read_frames(out: Path, format: str, shard: int, records: list[dict]) -> Tensor:
    """Read the frames of some records of a shard, [n, F, C, H, W].

    Raise a JobError if the shard is damaged.
    """
    try:
        return get_format(format).read(out / "shards", shard_name(shard), records)
    except (OSError, ValueError) as error:
        raise JobError(f"shard {shard} cannot be read: {error}; run verify --discard, then morph --resume") from error

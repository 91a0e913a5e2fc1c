"""Checks that the format can store frames of more than 8 bits."""

from __future__ import annotations

from ..errors import USAGE, JobError
from .config import JobConfig


def check_depth(config: JobConfig, channels: int) -> None:
    """Check that the format can store frames of this dtype.

    Whether it can may depend on the number of channels.
    """
    if config.format == "folder" and config.frame_dtype != "uint8" and channels != 1:
        text = f"frame_dtype must be uint8 for colour frames in format 'folder', got {config.frame_dtype!r}"
        raise JobError(f"{text}: only grey frames are stored as 16-bit PNG files; use format 'safetensors'", USAGE)

"""The device and dtype that a model runs with, and how many images it takes at once."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import USAGE, JobError

CALL_BYTES = 5 << 20  # of images per thread in one call of the model on a CPU: larger ones leave its caches (bench/)


def samples_per_call(images: Tensor, threads: int) -> int | None:
    """So many that what the model computes from them stays in a CPU's caches; elsewhere all."""
    if images.device.type != "cpu":
        return None
    return max(1, CALL_BYTES * threads // (images[0].numel() * images.itemsize))


def resolve_device(device: str | None) -> str:
    """Return "cpu" or "cuda": the device given, or by default a GPU where there is one."""
    if device == "cuda" and not torch.cuda.is_available():
        raise JobError("device must be 'cpu' on this machine, got 'cuda': torch finds no GPU", USAGE)
    return device or ("cuda" if torch.cuda.is_available() else "cpu")


def image_dtype(dtype: str) -> torch.dtype:
    """In which images and frames are computed: that of the model, but at least float32."""
    return torch.promote_types(getattr(torch, dtype), torch.float32)

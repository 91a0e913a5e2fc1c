"""The device, dtype and batch size for running a model."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import USAGE, JobError

CALL_BYTES = 5 << 20  # of images per thread in one call of the model on a CPU; with more it is slower (measured)


def samples_per_call(images: Tensor, threads: int) -> int | None:
    """Return how many images per call keep their activations in a CPU's caches; None (no limit) on a GPU."""
    if images.device.type != "cpu":
        return None
    return max(1, CALL_BYTES * threads // (images[0].numel() * images.itemsize))


def resolve_device(device: str | None) -> str:
    """Return the given device, "cpu" or "cuda"; by default a GPU if there is one."""
    if device == "cuda" and not torch.cuda.is_available():
        raise JobError("device must be 'cpu' because torch finds no GPU, got 'cuda'", USAGE)
    return device or ("cuda" if torch.cuda.is_available() else "cpu")


def image_dtype(dtype: str) -> torch.dtype:
    """Return the dtype of images and frames: that of the model, but at least float32."""
    return torch.promote_types(getattr(torch, dtype), torch.float32)

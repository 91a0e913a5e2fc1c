"""Chooses the device, dtype and batch size for running a model."""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import shown
from ..errors import usage_error
from ..extension import no_cuda_reason
from ..io.console import warn

# Bytes of images in one call of the model on a CPU. Jobs multiply it by the number of threads, evaluations do not.
# Small batches are faster, because the outputs of layers reuse memory that is already allocated. For example,
# EfficientNet-Lite0 at 224 x 224 takes 41 ms of CPU time per image in a batch of 9, and 93 ms in a batch of 180.
CALL_BYTES = 5 << 20


def samples_per_call(images: Tensor, threads: int) -> int | None:
    """Return how many images to pass to the model in one call. On a GPU, the result is None, which means no limit."""
    if images.device.type != "cpu":
        return None
    return max(1, CALL_BYTES * threads // (images[0].numel() * images.itemsize))


def resolve_device(device: str | None) -> str:
    """Return the device to use, "cpu" or "cuda".

    If ``device`` is None, this is "cuda" if there are a GPU and CUDA kernels, otherwise "cpu". The argument "cuda"
    raises a JobError if one of the two is missing.
    """
    if device == "cpu":
        return device
    obstacle = "torch finds no GPU" if not torch.cuda.is_available() else no_cuda_reason()
    if device is not None and obstacle:
        raise usage_error(f"device must be 'cpu' because {obstacle}, got {shown(device)}")
    if obstacle and torch.cuda.is_available():
        warn(f"the GPU is not used: {obstacle}")
    return device or ("cpu" if obstacle else "cuda")


def image_dtype(dtype: str) -> torch.dtype:
    """Return the dtype of images and frames for a model's dtype: float64 for "float64", otherwise float32."""
    return torch.promote_types(getattr(torch, dtype), torch.float32)

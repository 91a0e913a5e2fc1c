"""Splits samples into batches for the model, and joins the results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..checks import check_int
from ..memory import rows


def split_samples(images, batch: int | None) -> list[slice]:
    """Check images, and return slices of at most ``batch`` of them; if ``batch`` is None, one slice of all."""
    if not isinstance(images, Tensor) or not images.is_floating_point():
        got = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"images must be a floating-point tensor [N, C, H, W], got {got}")
    if images.dim() < 2 or not images.numel():
        raise ValueError(f"images must have shape [N, C, H, W] and not be empty, got {list(images.shape)}")
    count = images.shape[0]
    if batch is None:
        return [slice(0, count)]
    size = check_int("batch", batch, 1, None)
    return [slice(i, min(i + size, count)) for i in range(0, count, size)]


def split_args(args, at: slice, count: int) -> Iterator:
    """Yield ``args``, the model's arguments besides the images, for the samples in the slice ``at``; copies tensors.

    Tensors whose first dimension is ``count``, the number of all samples, are sliced.
    """
    for arg in args if isinstance(args, tuple) else () if args is None else (args,):
        if isinstance(arg, Tensor):
            per_sample = arg.dim() > 0 and arg.shape[0] == count
            arg = (rows(arg, at) if per_sample else arg).detach().clone()
        yield arg


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Return the concatenation of tensors, or a single tensor as it is."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))

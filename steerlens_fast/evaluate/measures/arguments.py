"""Checks of the measures' arguments, and helpers that several measures share."""

from __future__ import annotations

import torch
from torch import Tensor

from ...checks import check_image, check_same


def check_batch(name: str, images) -> Tensor:
    """Check that images [N, C, H, W] are finite. Return them detached from autograd."""
    images = check_image(name, images).detach()
    if images.dim() != 4:
        hint = "; for one image pass image[None]" if images.dim() == 3 else ""
        raise ValueError(f"{name} must have shape [N, C, H, W], got {list(images.shape)}{hint}")
    if min(images.shape[1:]) < 1:
        raise ValueError(f"{name} must have at least one channel and pixel, got {list(images.shape)}")
    bad = (~images.isfinite()).flatten(1).any(1).nonzero()[:, 0].tolist()
    if bad:
        raise ValueError(f"{name} must be finite, got NaN or infinite values in samples {bad[:8]}")
    return images


def check_pair(source, edit) -> tuple[Tensor, Tensor]:
    """Check sources and edits, which must have the same shape, dtype and device."""
    source, edit = check_batch("source", source), check_batch("edit", edit)
    check_same("edit", edit, "source", source)
    return source, edit


def check_classes(name: str, classes, count: int, num_classes: int | None = None) -> Tensor:
    """Check that every class is at least 0, and below ``num_classes`` if that is given. Return int64 [count]."""
    if not isinstance(classes, Tensor) or classes.is_floating_point() or classes.dtype == torch.bool:
        got = classes.dtype if isinstance(classes, Tensor) else type(classes).__name__
        raise TypeError(f"{name} must be an integer tensor [{count}], got {got}")
    if tuple(classes.shape) != (count,):
        raise ValueError(f"{name} must have shape [{count}], one class for each sample, got {list(classes.shape)}")
    if count and (int(classes.min()) < 0 or (num_classes is not None and int(classes.max()) >= num_classes)):
        limit = "at least 0" if num_classes is None else f"0 to {num_classes - 1}"
        raise ValueError(f"{name} must be {limit}, got {int(classes.min())} to {int(classes.max())}")
    return classes.long()


def energy(images: Tensor) -> Tensor:
    """Return the sum of squares of each sample, [N] float64."""
    return images.double().square().flatten(1).sum(1)


def gaussian_noise(shape, seed: int, numbers) -> Tensor:
    """Return Gaussian noise [N, *shape] for sources with the given ``numbers``, float32 on the CPU.

    The noise of a source depends only on ``seed`` and its number, not on the batch.

    Examples
    --------
    >>> bool((gaussian_noise((2,), 0, [7, 8])[1] == gaussian_noise((2,), 0, [8])[0]).all())
    True
    """
    # Seeds differ for all pairs of ``seed`` and a number below 1,000,003.
    generator_of = lambda number: torch.Generator().manual_seed((seed * 1_000_003 + number) % (1 << 63))
    samples = [torch.randn(tuple(shape), generator=generator_of(int(n)), device="cpu") for n in numbers]
    return torch.stack(samples) if samples else torch.zeros(0, *shape, device="cpu")

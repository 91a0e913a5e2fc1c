"""Checks of what the measures are given: batches of images, of one shape, dtype and device."""

from __future__ import annotations

import torch
from torch import Tensor

from ...checks import check_image, check_same


def check_batch(name: str, images) -> Tensor:
    """Finite images [N, C, H, W]."""
    images = check_image(name, images).detach()
    if images.dim() != 4:
        hint = ": for one image give images[None]" if images.dim() == 3 else ""
        raise ValueError(f"{name} must have shape [N, C, H, W], got {list(images.shape)}{hint}")
    if min(images.shape[1:]) < 1:
        raise ValueError(f"{name} must have channels and pixels, got {list(images.shape)}")
    bad = (~images.isfinite()).flatten(1).any(1).nonzero()[:, 0].tolist()
    if bad:
        raise ValueError(f"{name} must be finite, got NaN or infinite values in samples {bad[:8]}")
    return images


def check_pair(name: str, images, other_name: str, other) -> tuple[Tensor, Tensor]:
    """Two batches that belong together."""
    images, other = check_batch(name, images), check_batch(other_name, other)
    check_same(other_name, other, name, images)
    return images, other


def check_classes(name: str, classes, count: int, most: int | None = None) -> Tensor:
    """A class for each of ``count`` samples, int64 [N], from 0 on and, where it is known, below ``most``."""
    if not isinstance(classes, Tensor) or classes.is_floating_point() or classes.dtype == torch.bool:
        got = classes.dtype if isinstance(classes, Tensor) else type(classes).__name__
        raise TypeError(f"{name} must be an integer tensor [{count}], got {got}")
    if tuple(classes.shape) != (count,):
        raise ValueError(f"{name} must have shape [{count}], one class for each sample, got {list(classes.shape)}")
    if count and (int(classes.min()) < 0 or (most is not None and int(classes.max()) >= most)):
        limit = "at least 0" if most is None else f"0 to {most - 1}"
        raise ValueError(f"{name} must be {limit}, got {int(classes.min())} to {int(classes.max())}")
    return classes.long()


def energy(images: Tensor) -> Tensor:
    """[N], float64: the sum of squares of each sample."""
    return images.double().square().flatten(1).sum(1)


def seeded(seed: int, number: int) -> torch.Generator:
    """Random numbers of one source's own, which do not depend on those beside it in a batch.

    Examples
    --------
    >>> one, again = seeded(0, 7), seeded(0, 7)
    >>> bool(torch.randn(1, generator=one) == torch.randn(1, generator=again))
    True
    """
    return torch.Generator().manual_seed((seed * 1_000_003 + number) % (1 << 63))


def noise(shape, seed: int, numbers) -> Tensor:
    """Gaussian noise [N, *shape], float32, on the CPU: of each source the same whatever else is in the batch."""
    drawn = [torch.randn(tuple(shape), generator=seeded(seed, int(n)), device="cpu") for n in numbers]
    return torch.stack(drawn) if drawn else torch.zeros(0, *shape, device="cpu")

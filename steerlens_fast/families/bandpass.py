"""Limiting families that are not the pyramid's own to some of its scales and orientations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..pyramid import SteerablePyramid
from ..pyramid.transforms import Bank, Part


def check_restriction(pyramid, scales: Sequence[int] | None, orientations: Sequence[int] | None) -> None:
    """Scales and orientations are those of a pyramid, which must be there to name them."""
    if pyramid is not None and not isinstance(pyramid, SteerablePyramid):
        raise TypeError(f"pyramid must be a SteerablePyramid or None, got {type(pyramid).__name__}")
    if pyramid is None and (scales is not None or orientations is not None):
        raise ValueError("pyramid must be given where scales or orientations are, got None")
    if pyramid is not None:
        moving_parts(pyramid, scales, orientations)


def moving_parts(
    pyramid: SteerablePyramid, scales: Sequence[int] | None, orientations: Sequence[int] | None
) -> tuple[Part, ...]:
    """The bands of the chosen scales and orientations; all by default."""
    keep = pyramid._check_orientations(orientations)
    chosen = pyramid._check_scales(scales)
    return () if keep == () else tuple(Part(s, keep) for s in chosen)


def band_weights(
    like: Tensor, pyramid: SteerablePyramid, scales: Sequence[int] | None, orientations: Sequence[int] | None
) -> Tensor:
    """Sum of the squared filters of the chosen bands, in [0, 1]: [H, W//2+1] on ``like``'s device, in its precision."""
    return Bank(pyramid.geometry, "adjoint", moving_parts(pyramid, scales, orientations)).held_weights(like)


def band_pass(
    image: Tensor,
    pyramid: SteerablePyramid | None,
    scales: Sequence[int] | None = None,
    orientations: Sequence[int] | None = None,
) -> Tensor:
    """What the chosen bands hold of images [..., H, W]; all of them where nothing is chosen."""
    if (scales is None and orientations is None) or not image.numel():
        return image
    weights = band_weights(image, pyramid, scales, orientations)
    return torch.fft.irfft2(torch.fft.rfft2(image) * weights, s=pyramid.image_shape)

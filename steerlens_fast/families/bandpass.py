"""Restricts families to some bands of a pyramid: the options ``scales`` and ``orientations``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..pyramid import SteerablePyramid
from ..pyramid.bank import Bank, Part


def check_restriction(pyramid, scales: Sequence[int] | None, orientations: Sequence[int] | None) -> None:
    """Raise unless ``pyramid`` has these scales and orientations.

    ``pyramid`` may be None if both are None.
    """
    if pyramid is not None and not isinstance(pyramid, SteerablePyramid):
        raise TypeError(f"pyramid must be a SteerablePyramid or None, got {type(pyramid).__name__}")
    if pyramid is None and (scales is not None or orientations is not None):
        raise ValueError("pyramid must be a SteerablePyramid if scales or orientations are given, got None")
    if pyramid is not None:
        moving_parts(pyramid, scales, orientations)


def moving_parts(
    pyramid: SteerablePyramid, scales: Sequence[int] | None, orientations: Sequence[int] | None
) -> tuple[Part, ...]:
    """Return one :class:`Part` for each scale, with these orientations; None means all scales or orientations."""
    orientations, scales = pyramid._check_orientations(orientations), pyramid._check_scales(scales)
    return () if orientations == () else tuple(Part(s, orientations) for s in scales)


def band_weights(
    like: Tensor, pyramid: SteerablePyramid, scales: Sequence[int] | None, orientations: Sequence[int] | None
) -> Tensor:
    """Return the sum of the bands' squared filters, [H, W//2+1] with values from 0 to 1.

    The result has the device and the precision of ``like``.
    """
    return Bank(pyramid.geometry, "adjoint", moving_parts(pyramid, scales, orientations)).squared_response(like)


def band_pass(
    image: Tensor,
    pyramid: SteerablePyramid | None,
    scales: Sequence[int] | None = None,
    orientations: Sequence[int] | None = None,
) -> Tensor:
    """Multiply the spectra of images [..., H, W] by :func:`band_weights`; return the filtered images.

    If ``scales`` and ``orientations`` are None, the images are returned unchanged.
    """
    if (scales is None and orientations is None) or not image.numel():
        return image
    weights = band_weights(image, pyramid, scales, orientations)
    return torch.fft.irfft2(torch.fft.rfft2(image) * weights, s=pyramid.image_shape)

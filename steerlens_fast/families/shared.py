"""Functions that families share: checks, factors, planes, clipping."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import checks
from ..checks import Factors, factor_table
from ..pyramid.spectra import real_images
from .protocols import Bounds


def check_image_and_gradient(
    image: Tensor, gradient: Tensor, shape: tuple[int, int] | None = None
) -> tuple[Tensor, Tensor]:
    """Check image and gradient [..., H, W], and return them, half precision converted to float32.

    They must have the same shape, dtype and device, and the size ``shape`` (H, W) if it is given.
    """
    image, gradient = checks.check_image("image", image, shape), checks.check_image("gradient", gradient, shape)
    checks.check_same("gradient", gradient, "image", image)
    return image, gradient


def check_amplitude_factors(amplitude_factors: Factors | None, moves_amplitude: bool) -> None:
    """Raise if there are factors for amplitudes, but no amplitudes move."""
    if amplitude_factors is not None and not moves_amplitude:
        got = f"a value of type {type(amplitude_factors).__name__}"
        raise ValueError(f"amplitude_factors must be None if no amplitudes move, got {got}")


def factor_pair(factors: Factors, amplitude_factors: Factors | None, image: Tensor) -> tuple[Tensor, Tensor]:
    """Return phase and amplitude factors of N planes, both [F, 1] or both [F, N]."""
    b = factor_table("factors", factors, image)
    if amplitude_factors is None:
        return b, b
    a = factor_table("amplitude_factors", amplitude_factors, image)
    if a.shape[0] != b.shape[0]:
        raise ValueError(f"amplitude_factors must have {len(b)} frames, as many as factors, got {len(a)}")
    return torch.broadcast_tensors(b, a)


def factors_of_planes(factors: Tensor, at: slice) -> Tensor:
    """Return the factors, [F, 1] or [F, n], of the n planes in the slice ``at``."""
    return factors if factors.shape[1] == 1 else factors[:, at]


def flatten_planes(t: Tensor) -> Tensor:
    """Return a tensor [..., H, W] as planes [N, H, W]; N may be 0."""
    return t.reshape(math.prod(t.shape[:-2]), *t.shape[-2:])


def clip(frames: Tensor, bounds: Bounds) -> Tensor:
    """Return the real parts of frames [..., H, W], clipped to ``bounds``.

    The caller must not use ``frames`` again, since they are clipped in place if no derivative is recorded.
    """
    if frames.is_complex():
        frames = real_images(frames.flatten(0, -3)).unflatten(0, frames.shape[:-2])
    if bounds is None:
        return frames
    return frames.clamp(*bounds) if frames.requires_grad else frames.clamp_(*bounds)

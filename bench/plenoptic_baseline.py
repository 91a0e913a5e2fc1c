"""The baseline "plenoptic": backward and morphs with its public functions.

They are written as its users would write them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor


def make_pyramid(shape, height, order, device="cpu"):
    """Return plenoptic's complex pyramid."""
    import plenoptic

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return plenoptic.process.SteerablePyramidFreq(
            shape[-2:], height=height, order=order, is_complex=True, tight_frame=False
        ).to(device)


def _with_grad(coefficients) -> tuple[list, list[Tensor]]:
    """Replace the oriented bands by tensors that require gradients.

    Return the keys of the bands, and the bands.
    """
    scales = [key for key in coefficients if isinstance(key, int)]
    bands = [coefficients[s].detach().requires_grad_() for s in scales]
    coefficients.update(zip(scales, bands))
    return scales, bands


def backward(pyramid, image: Tensor, gradient: Tensor) -> Callable:
    """Return a function that computes the gradients of the oriented bands.

    They are computed from the gradient of the image.
    """
    coefficients = pyramid(image)
    _, bands = _with_grad(coefficients)
    out = pyramid.recon_pyr(coefficients)
    return lambda: torch.autograd.grad(out, bands, gradient, retain_graph=True)


def morph(pyramid, image: Tensor, gradient: Tensor, factors: Tensor, joint=False, bounds=None) -> Tensor:
    """Return the frames [F, B, C, H, W] along one gradient; each takes one synthesis."""
    coefficients = pyramid(image)
    scales, bands = _with_grad(coefficients)
    gradients = torch.autograd.grad(pyramid.recon_pyr(coefficients), bands, gradient)
    with torch.no_grad():
        amplitudes = [c.abs() for c in bands]
        phases = [c.angle() for c in bands]
        phase_steps = [((c - g) * c.conj()).angle() for c, g in zip(bands, gradients)]
        amplitude_steps = [(c - g).abs() - a if joint else 0 for c, g, a in zip(bands, gradients, amplitudes)]
        frames = []
        for factor in factors:
            reached = [(a + factor * d).clamp(min=0) if joint else a for a, d in zip(amplitudes, amplitude_steps)]
            moved = [torch.polar(a, p + factor * s) for a, p, s in zip(reached, phases, phase_steps)]
            coefficients.update(zip(scales, moved))
            frames.append(pyramid.recon_pyr(coefficients))
        stacked = torch.stack(frames)
        return stacked if bounds is None else stacked.clamp_(*bounds)

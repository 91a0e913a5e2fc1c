"""The pyramid in plain torch, with which tests compare the results of :class:`SteerablePyramid`."""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops.reference import crop, pad
from . import filters
from .filters import Geometry


def analyze(image: Tensor, geometry: Geometry) -> tuple[Tensor, list[Tensor], Tensor]:
    """Return the high-pass, the bands [..., K, h_s, w_s] and the low-pass of images [..., H, W]."""
    X = torch.fft.fft2(image)
    to = lambda mask: mask.to(image.device, image.dtype)
    bands = []
    for s in range(geometry.num_scales):
        mask = filters.band_filter(geometry, s) * filters.analytic_weight(geometry, s) * filters.scaling(geometry, s)
        bands.append(torch.fft.ifft2(crop(X, *mask.shape[-2:])[..., None, :, :] * (-1j) ** geometry.order * to(mask)))
    highpass = torch.fft.ifft2(X * to(filters.highpass_filter(geometry))).real
    low = filters.lowpass_filter(geometry) * filters.scaling(geometry, geometry.num_scales)
    return highpass, bands, torch.fft.ifft2(crop(X, *low.shape) * to(low)).real


def synthesize(highpass: Tensor, bands: list[Tensor], lowpass: Tensor, geometry: Geometry, synthesis: str) -> Tensor:
    """Rebuild the images from the results of :func:`analyze`."""
    H, W = geometry.shape
    to = lambda mask: mask.to(highpass.device, highpass.dtype)
    X = torch.fft.fft2(highpass) * to(filters.highpass_filter(geometry))
    low = filters.lowpass_filter(geometry) / filters.scaling(geometry, geometry.num_scales)
    X = X + pad(torch.fft.fft2(lowpass) * to(low), H, W)
    for s, band in enumerate(bands):
        mask = filters.band_filter(geometry, s) / filters.scaling(geometry, s)
        if synthesis == "adjoint":
            mask = mask * filters.analytic_weight(geometry, s) / 2
        spectrum = torch.fft.fft2(band.real if synthesis == "real" else band)
        X = X + pad((spectrum * 1j**geometry.order * to(mask)).sum(-3), H, W)
    return torch.fft.ifft2(X).real

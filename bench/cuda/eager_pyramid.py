"""A copy of plenoptic's pyramid in plain torch, for machines without plenoptic.

It does the same operations in the same order as plenoptic 2.1's ``SteerablePyramidFreq(is_complex=True)``, and needs
even image sizes. The filters are exact here, whereas plenoptic interpolates them in a table (they differ by about
6e-6).
"""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import Tensor, fft
from torch.nn import Module

AXES = (-2, -1)


class EagerPyramid(Module):
    """A module for the analysis, with ``recon_pyr`` for the synthesis, as in plenoptic."""

    def __init__(self, image_shape: tuple[int, int], height: int, order: int):
        super().__init__()
        self.height, self.order = height, order
        self.analysis_factor, self.synthesis_factor = (-1j) ** order, 1j**order
        octaves, angle = _grid(*image_shape)
        self._keep("low", _low(octaves, 0))
        self._keep("high", _high(octaves, 0))
        self.inner = []
        for scale in range(height):
            self._keep(f"high_{scale}", _high(octaves, scale + 1))
            self._keep(f"angular_{scale}", _angular_filters(angle, order, one_sided=True))
            self._keep(f"angular_back_{scale}", _angular_filters(angle, order, one_sided=False))
            at = tuple(map(_inner, octaves.shape))
            octaves, angle = octaves[at], angle[at]
            self.inner.append(at)
            self._keep(f"low_{scale}", _low(octaves, scale + 1))

    def _keep(self, name: str, mask: Tensor) -> None:
        self.register_buffer(name, mask.float())

    def forward(self, image: Tensor) -> OrderedDict:
        spectrum = fft.fftshift(fft.fft2(image), dim=AXES)
        high = fft.ifft2(fft.ifftshift(spectrum * self.high, dim=AXES)).real
        coefficients = OrderedDict(residual_highpass=high)
        lowpass = spectrum[:, :, None] * self.low
        for scale in range(self.height):
            mask = getattr(self, f"angular_{scale}") * getattr(self, f"high_{scale}")
            band = self.analysis_factor * lowpass * mask
            coefficients[scale] = fft.ifft2(fft.ifftshift(band, dim=AXES))
            lowpass = lowpass[(..., *self.inner[scale])] * getattr(self, f"low_{scale}")
        coefficients["residual_lowpass"] = fft.ifft2(fft.ifftshift(lowpass, dim=AXES)).real.squeeze(2)
        return coefficients

    def recon_pyr(self, coefficients: OrderedDict) -> Tensor:
        spectrum = self._from_scale(coefficients, 0) * self.low
        high = fft.fftshift(fft.fft2(coefficients["residual_highpass"]), dim=AXES)
        return fft.ifft2(fft.ifftshift(spectrum + high * self.high, dim=AXES)).real

    def _from_scale(self, coefficients: OrderedDict, scale: int) -> Tensor:
        if scale == self.height:
            return fft.fftshift(fft.fft2(coefficients["residual_lowpass"]), dim=AXES)
        mask = getattr(self, f"angular_back_{scale}") * getattr(self, f"high_{scale}")
        band = fft.fftshift(fft.fft2(coefficients[scale]), dim=AXES)
        oriented = (self.synthesis_factor * band * mask).sum(2)
        lowpass = torch.zeros_like(coefficients[scale][:, :, 0], dtype=torch.complex64)
        inner = self._from_scale(coefficients, scale + 1) * getattr(self, f"low_{scale}")
        lowpass[(..., *self.inner[scale])] = inner
        return lowpass + oriented


def _grid(*shape: int) -> tuple[Tensor, Tensor]:
    """Return the octaves, log2(frequency / Nyquist), and the angle of every frequency, float64.

    Frequency zero is in the centre.
    """
    if any(n % 2 for n in shape):
        raise ValueError(f"image_shape must be even, got {shape}")
    y, x = (torch.arange(-n // 2, n // 2, dtype=torch.float64) * (2 / n) for n in shape)
    frequency = torch.hypot(y[:, None], x[None])
    return frequency.clamp(min=1e-12).log2(), torch.atan2(y[:, None], x[None].expand_as(frequency))


def _inner(n: int) -> slice:
    """Return the indices of the central half of n frequencies."""
    half = (n + 1) // 2
    return slice(n // 2 - half // 2, n // 2 - half // 2 + half)


def _transition(octaves: Tensor, scale: int) -> Tensor:
    return (octaves + scale + 1).clamp(0, 1) * (math.pi / 2)


def _high(octaves: Tensor, scale: int) -> Tensor:
    return _transition(octaves, scale).sin()


def _low(octaves: Tensor, scale: int) -> Tensor:
    return _transition(octaves, scale).cos()


def _angular_filters(angle: Tensor, order: int, one_sided: bool) -> Tensor:
    """Return the angular filters a_k (steerlens_fast/pyramid/filters.py), [K, h, w].

    One-sided filters are doubled where the cosine is positive, and 0 elsewhere.
    """
    K = order + 1
    squared_gain = 2 ** (2 * order) * math.factorial(order) ** 2 / (K * math.factorial(2 * order))
    cosine = (angle[None] - torch.arange(K, dtype=torch.float64)[:, None, None] * (math.pi / K)).cos()
    sided = 2 * (cosine > 1e-12) if one_sided else 1
    return math.sqrt(squared_gain) * cosine.pow(order) * sided

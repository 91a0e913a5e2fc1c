"""The pyramid's geometry and filters: sizes, masks and their symmetries, in float64.

Frequencies are those of ``fftfreq``; ``r = 1`` is Nyquist. For order ``n`` and ``K`` orientations::

    high_s(r) = sin(pi/2 t_s)    low_s(r) = cos(pi/2 t_s)    t_s = clamp((log2 r + s + width) / width, 0, 1)
    a_k(theta) = sqrt(C) cos(theta - pi k / K)^n             C   = 2^(2n) (n!)^2 / (K (2n)!)
    B_sk = low_0 ... low_s  high_(s+1)  a_k                  R_hi = high_0    R_lo = low_0 ... low_J

The squares of all ``B_sk``, ``R_hi`` and ``R_lo`` add up to 1 at every frequency (Simoncelli & Freeman 1995;
Portilla & Simoncelli 2000). They are sampled at the *true* frequencies, so this holds at odd sizes too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from operator import index

import torch
from torch import Tensor

from ..ops.frequencies import signed_frequencies
from .filter_cache import CACHE

MAX_ORDER = 15


@dataclass(frozen=True)
class Geometry:
    """Everything that decides a pyramid's filters. Hashable: filters are cached by it.

    ``shape`` is (H, W) in pixels, ``height`` the number of scales J, ``width`` the radial transition in octaves.
    """

    shape: tuple[int, int]
    height: int
    order: int
    orientations: int
    width: float
    tight_frame: bool
    downsample: bool
    width_text: str = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        object.__setattr__(self, "width_text", repr(self.width))

    @property
    def constants(self) -> tuple:
        """What :func:`geometry_of` makes this geometry from; constants to ``torch.compile``.

        ``torch.compile(dynamic=True)`` reads ints and floats as symbols. ``index`` makes an int of one, but nothing a
        float: hence the text.
        """
        sizes = [index(n) for n in (*self.shape, self.height, self.order, self.orientations)]
        return *sizes, self.width_text, self.tight_frame, self.downsample

    def band_shape(self, scale: int) -> tuple[int, int]:
        """Samples (h, w) of a band at ``scale``; ``scale = height`` is the low-pass residual."""
        h, w = self.shape
        for _ in range(scale if self.downsample else 0):
            h, w = -(-h // 2), -(-w // 2)
        return h, w


def geometry_of(H: int, W: int, height: int, order: int, orientations: int, width: str, *options: bool) -> Geometry:
    """The inverse of :attr:`Geometry.constants`."""
    return Geometry((H, W), height, order, orientations, float(width), *options)


def max_height(shape: tuple[int, int]) -> int:
    """The largest number of scales for an image of ``shape``: floor(log2(min(H, W))) - 2."""
    return int(math.log2(min(shape))) - 2


def polar_grid(geometry: Geometry, block: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """log2 of the radius (-inf at DC) and the angle of the frequencies of a low-frequency ``block`` [h, w]."""
    (H, W), (h, w) = geometry.shape, block
    fy = 2.0 * signed_frequencies(h).double()[:, None] / H
    fx = 2.0 * signed_frequencies(w).double()[None, :] / W
    return torch.hypot(fx, fy).log2(), torch.atan2(fy, fx)


def _transition(log_radius: Tensor, scale: int, width: float) -> Tensor:
    return torch.clamp((log_radius + scale + width) / width, 0.0, 1.0)


def high(log_radius: Tensor, scale: int, width: float) -> Tensor:
    """The radial high-pass of ``scale``; exactly 0 where its partner :func:`low` is 1."""
    return torch.sin(math.pi / 2 * _transition(log_radius, scale, width))


def low(log_radius: Tensor, scale: int, width: float) -> Tensor:
    """The radial low-pass of ``scale``; written as a sine, so that it is exactly 0 from r = 2^-scale on."""
    return torch.sin(math.pi / 2 * (1.0 - _transition(log_radius, scale, width)))


def low_product(log_radius: Tensor, scales: int, width: float) -> Tensor:
    """low_0 ... low_(scales-1)."""
    product = torch.ones_like(log_radius)
    for s in range(scales):
        product = product * low(log_radius, s, width)
    return product


def direction_cosines(angle: Tensor, orientations: int) -> tuple[Tensor, Tensor]:
    """cos(theta - pi k / K), [K, h, w], and a band's side: 2 where it is positive, 0 where it is negative.

    The line cos = 0 matters at order 0 only. One half of it counts as positive, so that exactly one of every pair of
    opposite frequencies does: that keeps the real part, the energy and the adjoint exact there too.
    """
    offset = (
        angle - math.pi * torch.arange(orientations, dtype=torch.float64, device="cpu")[:, None, None] / orientations
    )
    cosine = torch.cos(offset)
    on_line = cosine.abs() < 1e-13  # rounding of a zero
    side = torch.where(on_line, 1.0 + torch.sign(torch.sin(offset)), 1.0 + torch.sign(cosine))
    return torch.where(on_line, torch.zeros_like(cosine), cosine), side


def angular_gain(order: int, orientations: int) -> float:
    """sqrt(C): makes the squares of the K angular filters add up to 1."""
    log_c = 2 * order * math.log(2) + 2 * math.lgamma(order + 1) - math.lgamma(2 * order + 1)
    return math.sqrt(math.exp(log_c) / orientations)


def _band_filter(geometry: Geometry, scale: int) -> tuple[Tensor, Tensor]:
    return CACHE.get(geometry, ("band", scale), lambda: _make_band_filter(geometry, scale), original=True)


def _make_band_filter(geometry: Geometry, scale: int) -> tuple[Tensor, Tensor]:
    log_radius, angle = polar_grid(geometry, geometry.band_shape(scale))
    width = geometry.width
    radial = low_product(log_radius, scale + 1, width) * high(log_radius, scale + 1, width)
    cosine, side = direction_cosines(angle, geometry.orientations)
    band = radial * cosine**geometry.order * angular_gain(geometry.order, geometry.orientations)
    return band, side


def band_filter(geometry: Geometry, scale: int) -> Tensor:
    """``B_sk`` of one scale on its own low-frequency block, [K, h, w], two-sided; 0 at DC and on Nyquist."""
    return _band_filter(geometry, scale)[0]


def band_side(geometry: Geometry, scale: int) -> Tensor:
    """2 on the half plane where cos(theta - pi k / K) is positive, 0 on the other: makes a band analytic."""
    return _band_filter(geometry, scale)[1]


def highpass_filter(geometry: Geometry) -> Tensor:
    """``R_hi`` at full size, [H, W]."""
    make = lambda: high(polar_grid(geometry, geometry.shape)[0], 0, geometry.width)
    return CACHE.get(geometry, "highpass", make, original=True)


def lowpass_filter(geometry: Geometry) -> Tensor:
    """``R_lo`` on the low-pass residual's block, [h_J, w_J]."""
    return CACHE.get(geometry, "lowpass", lambda: _make_lowpass_filter(geometry), original=True)


def _make_lowpass_filter(geometry: Geometry) -> Tensor:
    log_radius, _ = polar_grid(geometry, geometry.band_shape(geometry.height))
    return low_product(log_radius, geometry.height + 1, geometry.width)


def scaling(geometry: Geometry, scale: int) -> float:
    """A coefficient over that of the plain pyramid (downsampled, not tight); ``scale = height`` is the low-pass.

    At full size, plenoptic's bands double per scale unless the frame is tight.
    """
    if not geometry.tight_frame:
        return 1.0 if geometry.downsample else 2.0**scale
    (h, w), (H, W) = geometry.band_shape(scale), geometry.shape
    analytic = 0.5 if scale < geometry.height else 1.0  # an analytic band has twice the energy of a real one
    return (analytic * h * w / (H * W)) ** 0.5

"""The formulas of the pyramid's filters, in float64.

Let ``fx`` and ``fy`` be twice the frequencies of ``fftfreq``, so that Nyquist is 1, and ``r = hypot(fx, fy)``,
``theta = atan2(fy, fx)``. The pyramid has scales ``s = 0 ... J - 1`` from fine to coarse, orientations
``k = 0 ... K - 1`` and the order ``n``. The transitions of its radial filters are ``width`` octaves wide. Its filters
are::

    high_s(r) = sin(pi/2 t_s)    low_s(r) = cos(pi/2 t_s)    t_s = clamp((log2 r + s + width) / width, 0, 1)
    a_k(theta) = sqrt(C) cos(theta - pi k / K)^n             C   = 2^(2n) (n!)^2 / (K (2n)!)
    B_sk = low_0 ... low_s  high_(s+1)  a_k                  R_hi = high_0    R_lo = low_0 ... low_J

``B_sk`` are the filters of bands, ``R_hi`` and ``R_lo`` those of the residuals. The squares of all filters add up to 1
at every frequency (Simoncelli & Freeman 1995; Portilla & Simoncelli 2000). The filters are sampled at the true
frequencies, so this holds for odd image sizes, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from operator import index

import torch
from torch import Tensor

from ..ops.frequencies import signed_frequencies
from .filter_cache import CACHE

MAX_ORDER = 15


@dataclass(frozen=True)
class Geometry:
    """All parameters of a pyramid's filters. It is the key of the cache of filters.

    ``shape`` is (H, W) in pixels. ``num_scales`` is the number of scales J, and ``transition_width`` the width of the
    radial filters' transition in octaves. :class:`SteerablePyramid` calls these two parameters ``height`` (like
    plenoptic) and ``width``.
    """

    shape: tuple[int, int]
    num_scales: int
    order: int
    orientations: int
    transition_width: float
    tight_frame: bool
    downsample: bool
    transition_width_text: str = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        object.__setattr__(self, "transition_width_text", repr(self.transition_width))

    @property
    def constants(self) -> tuple:
        """The arguments of :func:`geometry_of`, as constants for ``torch.compile``.

        ``torch.compile(dynamic=True)`` replaces ints and floats by symbols. ``index`` converts a symbol to an int.
        There is no such function for floats, so the transition width is passed as text.
        """
        sizes = [index(n) for n in (*self.shape, self.num_scales, self.order, self.orientations)]
        return *sizes, self.transition_width_text, self.tight_frame, self.downsample

    @property
    def analysis_i_power(self) -> int:
        """The exponent p, from 0 to 3, of the factor i^p = (-i)^order of the analysis."""
        return -self.order % 4

    def band_shape(self, scale: int) -> tuple[int, int]:
        """Return the size (h, w) of the bands of a scale; ``scale = num_scales`` is the low-pass residual."""
        h, w = self.shape
        for _ in range(scale if self.downsample else 0):
            h, w = -(-h // 2), -(-w // 2)
        return h, w


def geometry_of(
    H: int, W: int, num_scales: int, order: int, orientations: int, transition_width: str, *options: bool
) -> Geometry:
    """Return the geometry with these :attr:`Geometry.constants`."""
    return Geometry((H, W), num_scales, order, orientations, float(transition_width), *options)


def max_scales(shape: tuple[int, int]) -> int:
    """Return the largest number of scales for images of this shape."""
    return int(math.log2(min(shape))) - 2


def polar_grid(geometry: Geometry, block: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return log2 of the radius, and the angle, of the h x w lowest frequencies; ``block`` is (h, w)."""
    (H, W), (h, w) = geometry.shape, block
    fy = 2.0 * signed_frequencies(h).double()[:, None] / H
    fx = 2.0 * signed_frequencies(w).double()[None, :] / W
    return torch.hypot(fx, fy).log2(), torch.atan2(fy, fx)


def _transition(log_radius: Tensor, scale: int, width: float) -> Tensor:
    return torch.clamp((log_radius + scale + width) / width, 0.0, 1.0)


def high(log_radius: Tensor, scale: int, width: float) -> Tensor:
    """Return the radial high-pass filter of ``scale``. It is exactly 0 where :func:`low` is 1."""
    return torch.sin(math.pi / 2 * _transition(log_radius, scale, width))


def low(log_radius: Tensor, scale: int, width: float) -> Tensor:
    """Return the radial low-pass filter of ``scale``.

    It is computed by a sine, not a cosine, so that it is exactly 0 for r >= 2^-scale.
    """
    return torch.sin(math.pi / 2 * (1.0 - _transition(log_radius, scale, width)))


def low_product(log_radius: Tensor, scales: int, width: float) -> Tensor:
    """Return the product low_0 ... low_(scales-1)."""
    product = torch.ones_like(log_radius)
    for s in range(scales):
        product = product * low(log_radius, s, width)
    return product


def direction_cosines(angle: Tensor, orientations: int) -> tuple[Tensor, Tensor]:
    """Return cos(theta - pi k / K) and the analytic weight, both [K, h, w].

    The weight is 2 where the cosine is positive and 0 where it is negative. The line where the cosine is 0 matters only
    at order 0. On one half of this line the weight is 2, so that it is 2 for exactly one of two opposite frequencies.
    The real part, the energy and the adjoint are then exact on the line, too.
    """
    offset = (
        angle - math.pi * torch.arange(orientations, dtype=torch.float64, device="cpu")[:, None, None] / orientations
    )
    cosine = torch.cos(offset)
    on_line = cosine.abs() < 1e-13  # zero, apart from rounding
    weight = torch.where(on_line, 1.0 + torch.sign(torch.sin(offset)), 1.0 + torch.sign(cosine))
    return torch.where(on_line, torch.zeros_like(cosine), cosine), weight


def angular_gain(order: int, orientations: int) -> float:
    """Return sqrt(C): with this factor, the squares of the K angular filters add up to 1."""
    log_c = 2 * order * math.log(2) + 2 * math.lgamma(order + 1) - math.lgamma(2 * order + 1)
    return math.sqrt(math.exp(log_c) / orientations)


def _band_filter(geometry: Geometry, scale: int) -> tuple[Tensor, Tensor]:
    return CACHE.get(geometry, ("band", scale), lambda: _make_band_filter(geometry, scale), float64_source=True)


def _make_band_filter(geometry: Geometry, scale: int) -> tuple[Tensor, Tensor]:
    log_radius, angle = polar_grid(geometry, geometry.band_shape(scale))
    width = geometry.transition_width
    radial = low_product(log_radius, scale + 1, width) * high(log_radius, scale + 1, width)
    cosine, weight = direction_cosines(angle, geometry.orientations)
    band = radial * cosine**geometry.order * angular_gain(geometry.order, geometry.orientations)
    return band, weight


def band_filter(geometry: Geometry, scale: int) -> Tensor:
    """Return the filters ``B_sk`` [K, h, w] of a scale, at the h x w lowest frequencies.

    They are 0 at DC and Nyquist. Values at opposite frequencies are equal up to the sign (-1)^n, as those of cos^n.
    """
    return _band_filter(geometry, scale)[0]


def analytic_weight(geometry: Geometry, scale: int) -> Tensor:
    """Return the factors [K, h, w] that make bands analytic.

    They are 2 where cos(theta - pi k / K) is positive, and 0 where it is negative; see :func:`direction_cosines`.
    """
    return _band_filter(geometry, scale)[1]


def highpass_filter(geometry: Geometry) -> Tensor:
    """Return ``R_hi`` at full size, [H, W]."""
    make = lambda: high(polar_grid(geometry, geometry.shape)[0], 0, geometry.transition_width)
    return CACHE.get(geometry, "highpass", make, float64_source=True)


def lowpass_filter(geometry: Geometry) -> Tensor:
    """Return ``R_lo`` at the h_J x w_J frequencies of the low-pass residual."""
    return CACHE.get(geometry, "lowpass", lambda: _make_lowpass_filter(geometry), float64_source=True)


def _make_lowpass_filter(geometry: Geometry) -> Tensor:
    log_radius, _ = polar_grid(geometry, geometry.band_shape(geometry.num_scales))
    return low_product(log_radius, geometry.num_scales + 1, geometry.transition_width)


def scaling(geometry: Geometry, scale: int) -> float:
    """Return the factor of a scale's coefficients, besides the normalisation 1 / (h w) of their inverse FFT.

    It is 1 in a default pyramid, which is downsampled and not a tight frame. Without downsampling, coefficients double
    at each scale, as in plenoptic, unless the frame is tight. ``scale = num_scales`` is the low-pass residual.
    """
    if not geometry.tight_frame:
        return 1.0 if geometry.downsample else 2.0**scale
    (h, w), (H, W) = geometry.band_shape(scale), geometry.shape
    analytic = 0.5 if scale < geometry.num_scales else 1.0  # an analytic band has twice the energy of a real one
    return (analytic * h * w / (H * W)) ** 0.5


def energy_weight(geometry: Geometry, scale: int) -> float:
    """Return the factor that converts the sum of |c|^2 over a scale's coefficients to the scale's energy in the image.

    It is 1 for tight frames. For other pyramids, it follows from the ratio of a tight frame's coefficients to theirs.
    ``scale = num_scales`` is the low-pass residual.
    """
    return (scaling(replace(geometry, tight_frame=True), scale) / scaling(geometry, scale)) ** 2

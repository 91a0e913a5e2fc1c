"""The masks of a bank: the filters of :mod:`.filters`, times all constants of the transform.

Masks are computed in float64, converted to the precision and the device of the data, and cached.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import NamedTuple

import torch
from torch import Tensor

from ..torch_internals import constant_when_traced, with_static_sizes
from . import filters
from .filter_cache import CACHE
from .filters import Geometry

KINDS = ("analysis", "real", "adjoint")  # kinds of banks, see :mod:`.bank`
HIGHPASS, LOWPASS = "highpass", "lowpass"


class Part(NamedTuple):
    """A group of bands: a scale (a number) or residual (a name), and its orientations (None for all)."""

    name: int | str
    orientations: tuple[int, ...] | None = None


def is_oriented(part: Part) -> bool:
    """Return whether a part is a scale; otherwise it is a residual."""
    return isinstance(part.name, int)


def band_shape(geometry: Geometry, part: Part) -> tuple[int, int, int]:
    """Return (K, h, w) of a part's bands."""
    if part.name == HIGHPASS:
        return 1, *geometry.shape
    if part.name == LOWPASS:
        return 1, *geometry.band_shape(geometry.num_scales)
    return len(part.orientations or range(geometry.orientations)), *geometry.band_shape(part.name)


# --- Masks in float64 ---


def full_mask(geometry: Geometry, kind: str, part: Part) -> Tensor:
    """Return the masks [K, h, w] of a part's bands, float64, with all w columns."""
    analysis = kind == "analysis"
    _, h, w = band_shape(geometry, part)
    samples = h * w if analysis else math.prod(geometry.shape)  # 1 / samples normalises the inverse FFT
    if part.name == HIGHPASS:
        return filters.highpass_filter(geometry)[None] / samples
    scale = geometry.num_scales if part.name == LOWPASS else part.name
    scaling = filters.scaling(geometry, scale)
    factor = (scaling if analysis else 1 / scaling) / samples
    if part.name == LOWPASS:
        return filters.lowpass_filter(geometry)[None] * factor
    mask = filters.band_filter(geometry, scale) * factor
    if kind != "real":
        mask = mask * filters.analytic_weight(geometry, scale)
    if kind == "adjoint":
        mask = mask / 2  # because the analysis has doubled the positive frequencies
    return mask if part.orientations is None else mask[list(part.orientations)]


def full_residual_mask(geometry: Geometry, parts: tuple[Part, ...]) -> Tensor:
    """Return the mask [1, H, W] of a bank's residual, float64.

    It is the share of each frequency's energy that is in none of the parts, divided by H W. All parts must be scales,
    so this residual contains the energy of the pyramid's high-pass and low-pass residuals.
    """
    H, W = geometry.shape
    residual = torch.ones(H, W, dtype=torch.float64, device="cpu")
    for scale, orientations in parts:
        band = filters.band_filter(geometry, scale)
        band = band if orientations is None else band[list(orientations)]
        rows, columns = (filters.signed_frequencies(n) for n in band.shape[-2:])
        residual[(rows % H)[:, None], (columns % W)[None, :]] -= band.square().sum(0)
    return residual.clamp(min=0)[None] / (H * W)


def _halved_for_half_spectrum(mask: Tensor, w: int, W: int) -> Tensor:
    """Halve all columns of a mask but DC and the image's Nyquist column, for merges into half spectra.

    The merge adds the conjugates of values at negative frequencies to the values at the opposite frequencies. This sum
    is twice the spectrum of the real image. The merge adds no conjugates to the columns DC and Nyquist. There, irfft2
    averages each value with the conjugate of the value at the opposite frequency.
    """
    weight = torch.full((w,), 0.5, dtype=mask.dtype, device="cpu")
    weight[0] = 1.0
    if w == W and W % 2 == 0:
        weight[W // 2] = 1.0
    return mask * weight


# --- Masks as the ops read them, from the cache ---


def _as_constants(function: Callable[..., tuple[Tensor, ...]]) -> Callable[..., tuple[Tensor, ...]]:
    """Decorate a function of a geometry and options, whose results ``torch.compile`` takes as constants.

    ``torch.compile`` may create the Geometry during tracing, so it is passed as plain values, see Geometry.constants.
    """

    @constant_when_traced
    def constants(geometry: tuple, *options) -> tuple[Tensor, ...]:
        return tuple(map(with_static_sizes, function(filters.geometry_of(*geometry), *options)))

    @wraps(function)
    def decorated(geometry: Geometry, *options) -> tuple[Tensor, ...]:
        if torch.compiler.is_compiling():
            return constants(geometry.constants, *options)
        return function(geometry, *options)

    return decorated


@_as_constants
def band_masks(
    geometry: Geometry, kind: str, parts: tuple[Part, ...], merging: bool, device: str, dtype: torch.dtype
) -> tuple[Tensor, ...]:
    """Return the masks of ``parts`` for ``split_bands``, or if ``merging`` for ``merge_bands``.

    Each part also has its own entry in the cache, so that banks share the masks of common parts.
    """

    def of_part(part: Part) -> Tensor:
        halved = merging and kind != "real" and is_oriented(part)
        key = "mask", kind, part, halved, device, dtype
        return CACHE.get(geometry, key, lambda: _make_mask(geometry, kind, part, halved, device, dtype))

    key = "masks", kind, parts, merging, device, dtype
    return _cached(geometry, key, lambda: tuple(map(of_part, parts)), device)


def _make_mask(geometry: Geometry, kind: str, part: Part, halved: bool, device: str, dtype: torch.dtype) -> Tensor:
    mask, (_, _, w) = full_mask(geometry, kind, part), band_shape(geometry, part)
    if kind != "real" and not is_oriented(part):  # a residual of an unpaired bank: its spectra are half spectra
        mask = mask[..., : w // 2 + 1]
    elif halved:
        mask = _halved_for_half_spectrum(mask, w, geometry.shape[1])
    return mask.to(device=device, dtype=dtype).contiguous()


@_as_constants
def residual_mask(
    geometry: Geometry, parts: tuple[Part, ...], whole: bool, device: str, dtype: torch.dtype
) -> tuple[Tensor]:
    """Return :func:`full_residual_mask` in a tuple of one: all columns if ``whole``, otherwise the first W//2+1."""
    columns = geometry.shape[1] if whole else geometry.shape[1] // 2 + 1

    def make() -> tuple[Tensor]:
        return (full_residual_mask(geometry, parts)[..., :columns].to(device=device, dtype=dtype).contiguous(),)

    return _cached(geometry, ("residual", parts, whole, device, dtype), make, device)


@_as_constants
def squared_response(geometry: Geometry, parts: tuple[Part, ...], device: str, dtype: torch.dtype) -> tuple[Tensor]:
    """Return the sum of the squared filters of ``parts``, [H, W//2+1], in a tuple of one."""
    samples = math.prod(geometry.shape)

    def make() -> tuple[Tensor]:
        (residual,) = residual_mask(geometry, parts, False, device, dtype)
        return ((1 - residual * samples)[0].clone(),)

    return _cached(geometry, ("squared response", parts, device, dtype), make, device)


# The ops on whole planes are not used in torch.compile, so these masks need not be constants.
def plane_masks(
    geometry: Geometry, kind: str, parts: tuple[Part, ...], with_residual: bool, device: str, dtype: torch.dtype
) -> tuple[Tensor, ...]:
    """Return the masks of ``parts`` with all columns, for the argument ``filters`` of the ops on whole planes.

    If ``with_residual``, the last tensor is the mask of the bank's residual.
    """

    def of_part(part: Part) -> Tensor:
        make = lambda: full_mask(geometry, kind, part).to(dtype).to(device)
        return CACHE.get(geometry, ("plane mask", kind, part, device, dtype), make)

    def of_residual() -> Tensor:
        make = lambda: full_residual_mask(geometry, parts).to(dtype).to(device)
        return CACHE.get(geometry, ("plane mask of the residual", parts, device, dtype), make)

    def make() -> tuple[Tensor, ...]:
        return (*map(of_part, parts), *([of_residual()] if with_residual else []))

    return _cached(geometry, ("plane masks", kind, parts, with_residual, device, dtype), make, device)


def _cached(geometry: Geometry, key: tuple, make: Callable, device: str):
    """Return masks from the cache. While a CUDA graph is captured, exclude them from eviction."""
    value = CACHE.get(geometry, key, make)
    if device.startswith("cuda") and torch.cuda.is_current_stream_capturing():
        CACHE.keep_for_graph(geometry)
    return value

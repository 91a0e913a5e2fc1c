"""The filters have the symmetries and values of their formulas.

The formulas are those in the docstring of pyramid/filters.py, computed with numpy.
"""

import math

import numpy as np
import pytest
import torch
from inputs import SMALL_IMAGES
from tolerances import TOLERANCES

from steerlens_fast import SteerablePyramid
from steerlens_fast.pyramid import filters

FILTER = TOLERANCES["filter"].float64
GEOMETRIES = [
    SteerablePyramid(shape, order=order, orientations=order + more, width=width, downsample=downsample).geometry
    for shape, order, more, width, downsample in [
        ((8, 8), 3, 1, 1.0, True),
        ((16, 24), 0, 1, 1.0, True),
        ((16, 24), 0, 4, 1.7, False),
        ((23, 29), 1, 1, 0.5, True),
        ((23, 29), 2, 3, 1.7, True),
        ((32, 17), 15, 1, 1.0, True),
        ((32, 32), 7, 2, 0.5, False),
    ]
]


def frequencies(geometry, shape):
    """Return the frequencies (f_y, f_x) of a filter of this shape.

    They are in units of the Nyquist frequency. The Nyquist frequency itself counts as positive.
    """
    signed = lambda n: np.array([k if k <= n // 2 else k - n for k in range(n)])
    return [2 * signed(n) / N for n, N in zip(shape, geometry.shape)]


def radial(geometry, shape, scale):
    """Return the product low_0 ... low_scale high_(scale+1).

    For scale -1 this is high_0, and for scale J, the number of scales, the low-pass R_lo.
    """
    fy, fx = frequencies(geometry, shape)
    with np.errstate(divide="ignore"):
        log_r = np.log2(np.hypot(fy[:, None], fx[None, :]))
    t = lambda s: np.clip((log_r + s + geometry.transition_width) / geometry.transition_width, 0, 1)
    product = np.ones_like(log_r)
    for s in range(scale + 1):
        product = product * np.cos(np.pi / 2 * t(s))
    return product if scale == geometry.num_scales else product * np.sin(np.pi / 2 * t(scale + 1))


def angular(geometry, shape, k):
    fy, fx = frequencies(geometry, shape)
    n, K = geometry.order, geometry.orientations
    gain = 2 ** (2 * n) * math.factorial(n) ** 2 / (K * math.factorial(2 * n))
    return math.sqrt(gain) * np.cos(np.arctan2(fy[:, None], fx[None, :]) - np.pi * k / K) ** n


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_filters_are_those_of_the_formulas(geometry):
    for s in range(geometry.num_scales):
        shape = geometry.band_shape(s)
        bands = [radial(geometry, shape, s) * angular(geometry, shape, k) for k in range(geometry.orientations)]
        np.testing.assert_allclose(filters.band_filter(geometry, s).numpy(), bands, atol=FILTER)
    high, low = geometry.shape, geometry.band_shape(geometry.num_scales)
    np.testing.assert_allclose(filters.highpass_filter(geometry).numpy(), radial(geometry, high, -1), atol=FILTER)
    expected = radial(geometry, low, geometry.num_scales)
    np.testing.assert_allclose(filters.lowpass_filter(geometry).numpy(), expected, atol=FILTER)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_squares_add_up_to_one(geometry):
    """If the squares of the filters add up to one, reconstruction is exact, and cropping spectra loses nothing."""
    H, W = geometry.shape
    total = filters.highpass_filter(geometry) ** 2
    pieces = [filters.band_filter(geometry, s).square().sum(0) for s in range(geometry.num_scales)]
    for square in [*pieces, filters.lowpass_filter(geometry).square()]:
        rows, columns = (filters.signed_frequencies(n) for n in square.shape)
        total[(rows % H)[:, None], (columns % W)[None, :]] += square
    assert (total - 1).abs().max() < FILTER


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_bands_vanish_at_dc_and_nyquist(geometry):
    for s in range(geometry.num_scales):
        band = filters.band_filter(geometry, s)
        assert band[:, 0, 0].abs().max() == 0
        for dim in (1, 2):
            n = band.shape[dim]
            if n % 2 == 0:
                assert band.select(dim, n // 2).abs().max() == 0


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_one_of_two_opposite_frequencies_is_kept(geometry):
    """weight(f) + weight(-f) = 2 where a filter is not 0, so the real part of a band is the same as without weights."""
    for s in range(geometry.num_scales):
        weight = filters.analytic_weight(geometry, s)
        opposite = torch.roll(weight.flip(-2, -1), (1, 1), (-2, -1))
        passes = filters.band_filter(geometry, s) != 0
        assert ((weight + opposite)[passes] == 2).all()
        assert set(weight[passes].unique().tolist()) <= {0.0, 2.0}


@pytest.mark.parametrize("shape", SMALL_IMAGES)
def test_each_scale_has_half_the_rows_and_columns(shape):
    """The sizes are half of those of the next finer scale, rounded up."""
    geometry = SteerablePyramid(shape).geometry
    assert geometry.num_scales == math.floor(math.log2(min(shape))) - 2
    for s in range(geometry.num_scales):
        h, w = geometry.band_shape(s)
        assert geometry.band_shape(s + 1) == (math.ceil(h / 2), math.ceil(w / 2))

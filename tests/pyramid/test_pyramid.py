"""SteerablePyramid: reconstruction at every size, energy, both syntheses, phase, subsets, steering."""

import math
from itertools import product

import pytest
import torch
from coefficient_checks import assert_coefficients_close, random_coefficients
from inputs import DTYPES, IMAGE_SHAPES, SMALL_IMAGES, image, normal
from pairwise import pairwise
from tolerances import TOLERANCES, assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from steerlens_fast import Coefficients, SteerablePyramid
from steerlens_fast.ops import reference
from steerlens_fast.pyramid import filters
from steerlens_fast.pyramid import reference as pyramid_reference

OPTIONS = {
    "plain": {},
    "order0": {"order": 0},
    "order0_K5": {"order": 0, "orientations": 5},
    "order1": {"order": 1},
    "order2_K7": {"order": 2, "orientations": 7},
    "order15": {"order": 15},
    "narrow": {"width": 0.5},
    "wide": {"width": 1.7},
    "tight": {"tight_frame": True},
    "tight_wide_K4": {"tight_frame": True, "width": 1.7, "order": 2, "orientations": 4},
    "full_size": {"downsample": False},
    "tight_full_size": {"downsample": False, "tight_frame": True},
    "one_scale": {"height": 1},
}
TIGHT = {name: {**option, "tight_frame": True} for name, option in OPTIONS.items() if "tight_frame" not in option}
SYNTHESES = ("real", "adjoint")


# --- Exactness


@pairwise(dtype=DTYPES, shape=IMAGE_SHAPES, synthesis=SYNTHESES)
def test_reconstruction_is_exact_at_every_size(shape, synthesis, dtype, device):
    pyramid = SteerablePyramid(shape, synthesis=synthesis)
    x = image(2, *shape, dtype=dtype, device=device)
    assert_close(pyramid.synthesize(pyramid(x)), x, "reconstruction", absolute=True)


@pytest.mark.parametrize("order", range(16))
def test_reconstruction_is_exact_at_every_order(order, device):
    shapes, syntheses = ((16, 24), (23, 29)), ("real", "adjoint")
    for (shape, extra), synthesis, dtype in product(zip(shapes, (1, 4)), syntheses, DTYPES):
        pyramid = SteerablePyramid(shape, order=order, orientations=order + extra, synthesis=synthesis)
        x = image(*shape, dtype=dtype, device=device)
        assert_close(pyramid.synthesize(pyramid(x)), x, "reconstruction", absolute=True)


@pairwise(dtype=DTYPES, shape=SMALL_IMAGES, option=OPTIONS.values(), synthesis=SYNTHESES)
def test_analysis_and_synthesis_are_those_of_the_reference(shape, option, synthesis, dtype, device):
    """Syntheses are compared for random coefficients, because all give the image from an image's coefficients."""
    pyramid = SteerablePyramid(shape, **option, synthesis=synthesis)
    x = image(2, *shape, dtype=dtype, device=device)
    analyzed = pyramid.analyze(x)
    highpass, bands, lowpass = pyramid_reference.analyze(x.double().cpu(), pyramid.geometry)
    assert_coefficients_close(analyzed, Coefficients(highpass, tuple(bands), lowpass), "pyramid")
    assert_close(pyramid.synthesize(analyzed), x, "reconstruction", absolute=True)
    c = random_coefficients(pyramid, 2, dtype=dtype, device=device)
    c_cpu = c.to("cpu", torch.float64)
    expected = pyramid_reference.synthesize(c_cpu.highpass, c_cpu.bands, c_cpu.lowpass, pyramid.geometry, synthesis)
    assert_close(pyramid.synthesize(c), expected, "pyramid")


def test_coefficients_have_the_documented_sizes_and_types(dtype, device):
    pyramid = SteerablePyramid((37, 53))
    c = pyramid(image(2, 3, 37, 53, dtype=dtype, device=device))
    assert pyramid.height == 3
    assert c.highpass.shape == (2, 3, 37, 53) and c.lowpass.shape == (2, 3, 5, 7)
    assert [tuple(b.shape) for b in c.bands] == [(2, 3, 4, 37, 53), (2, 3, 4, 19, 27), (2, 3, 4, 10, 14)]
    assert all(b.dtype == dtype.to_complex() for b in c.bands)
    assert {c.highpass.dtype, c.lowpass.dtype} == {dtype}
    assert all(t.device.type == device.type and t.is_contiguous() for t in c.tensors())


# --- Energy and adjoint


@pairwise(dtype=DTYPES, shape=SMALL_IMAGES[::3], option=TIGHT.values())
def test_tight_frame_keeps_the_energy_and_its_adjoint_synthesis_is_the_adjoint(shape, option, dtype, device):
    """<analysis(x), c> = <x, synthesis(c)>, also for coefficients that are not those of an image."""
    pyramid = SteerablePyramid(shape, **option, synthesis="adjoint")
    x, c = normal(*shape, dtype=dtype, device=device), random_coefficients(pyramid, dtype=dtype, device=device)
    dot = lambda a, b: (a.conj() * b).real.double().sum()
    energy = sum(dot(t, t) for t in pyramid(x).tensors())
    assert abs(energy / dot(x, x) - 1) <= TOLERANCES["energy"].of(dtype)
    there = sum(dot(a, b) for a, b in zip(pyramid(x).tensors(), c.tensors()))
    back = dot(x, pyramid.synthesize(c))
    norms = math.sqrt(sum(dot(t, t) for t in c.tensors()) * dot(x, x))
    assert abs(there - back) <= TOLERANCES["adjoint"].of(dtype) * norms


@pairwise(dtype=DTYPES, shape=SMALL_IMAGES[::3], option=OPTIONS.values())
def test_energy_weights_convert_coefficients_to_the_energy_of_the_image(shape, option, dtype, device):
    pyramid = SteerablePyramid(shape, **option)
    x = normal(*shape, dtype=dtype, device=device)
    energy = lambda t: t.abs().double().square().sum()
    c = pyramid(x)
    scales = [
        filters.energy_weight(pyramid.geometry, scale) * energy(t) for scale, t in enumerate((*c.bands, c.lowpass))
    ]
    assert abs((energy(c.highpass) + sum(scales)) / energy(x) - 1) <= TOLERANCES["energy"].of(dtype)


def test_analysis_and_synthesis_are_linear(dtype, device):
    pyramid = SteerablePyramid((23, 29))
    x, y = (normal(23, 29, dtype=dtype, device=device, seed=s) for s in (1, 2))
    assert_coefficients_close(pyramid(2 * x - 3 * y), 2 * pyramid(x) - 3 * pyramid(y), "pyramid")


# --- Phase


@pytest.mark.parametrize("ky, kx", [(2, 5), (-4, 3), (0, 6), (5, 0), (-3, -7)])
@pytest.mark.parametrize("shape", [(32, 32), (31, 45)], ids=str)
def test_shift_of_a_grating_changes_the_phase(shape, ky, kx):
    """A shift by d changes the phase by -omega d. The filter passes one of the frequencies omega and -omega."""
    H, W = shape
    pyramid = SteerablePyramid(shape, order=2)
    y, x = torch.arange(H, dtype=torch.float64)[:, None], torch.arange(W, dtype=torch.float64)
    grating = torch.cos(2 * torch.pi * (ky * y / H + kx * x / W) + 0.4)
    down, right = 2, 3
    before, after = pyramid(grating), pyramid(grating.roll((down, right), (0, 1)))
    turn = 2 * torch.pi * (ky * down / H + kx * right / W)
    direction = math.atan2(ky / H, kx / W)
    for a, b in zip(before.bands, after.bands):
        for k in range(pyramid.orientations):
            side = math.copysign(1, math.cos(direction - math.pi * k / pyramid.orientations))
            expected = a[k] * torch.exp(torch.tensor(-1j * side * turn, dtype=a.dtype))
            assert (b[k] - expected).abs().max() < 1e-12
    assert max(b.abs().max() for b in before.bands) > 0.1, "no band contains the grating"


def test_amplitude_of_a_grating_is_its_contrast_times_the_gain():
    pyramid = SteerablePyramid((64, 64), height=3)
    x = torch.arange(64, dtype=torch.float64)
    c = pyramid((0.3 * torch.cos(2 * torch.pi * 16 * x / 64)).expand(64, 64))
    gain = filters.band_filter(pyramid.geometry, 0)[0, 0, 16]
    assert torch.allclose(c.bands[0][0].abs(), (0.3 * gain).expand(64, 64))


def test_only_real_parts_enter_the_real_synthesis(device):
    x = image(32, 32, dtype=torch.float32, device=device)
    noise = lambda b: torch.complex(b.real, torch.randn_like(b.real))
    pyramid = SteerablePyramid((32, 32))  # synthesis="real"
    c = pyramid(x)
    assert torch.equal(pyramid.synthesize(c), pyramid.synthesize(c.map(noise)))
    assert_close(pyramid.synthesize(c.map(lambda b: b.real)), pyramid.synthesize(c), "pyramid")


def test_real_and_imaginary_parts_contribute_equally_to_the_adjoint_synthesis(device):
    pyramid = SteerablePyramid((32, 32), synthesis="adjoint")
    x = image(32, 32, dtype=torch.float64, device=device)
    c = pyramid(x)
    parts = [pyramid.synthesize(c.map(f)) for f in (lambda b: b.real + 0j, lambda b: 1j * b.imag)]
    residuals = pyramid.synthesize(c, scales=[])
    assert_close(parts[0] + parts[1] - residuals, x, "pyramid")
    assert_close(parts[0], parts[1], "pyramid")


# --- Subsets: the same numbers, and no FFT of other bands


class FFTs(TorchDispatchMode):
    """Records the shape of the output of every FFT."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if "_fft_" in str(func):
            self.shapes.append(tuple(out.shape))
        return out


@pytest.mark.parametrize("scales", [None, [], [0], [2], [2, 0], (1, 2)], ids=str)
@pytest.mark.parametrize("residuals", [True, False])
def test_analysis_of_some_scales_computes_only_these(scales, residuals, device):
    pyramid = SteerablePyramid((67, 36), height=3)  # 67: a prime too large for split_planes, so only torch.fft is used
    x = image(2, 67, 36, dtype=torch.float64, device=device)
    full = pyramid(x)
    with FFTs() as ffts:
        some = pyramid.analyze(x, scales=scales, residuals=residuals)
    wanted_scales = range(3) if scales is None else scales
    for s in range(3):
        assert some.bands[s] is None if s not in wanted_scales else torch.equal(some.bands[s], full.bands[s])
    if residuals:
        assert torch.equal(some.highpass, full.highpass) and torch.equal(some.lowpass, full.lowpass)
    else:
        assert some.highpass is None and some.lowpass is None
    bands = [(2, 4, *pyramid.geometry.band_shape(s)) for s in wanted_scales]
    residual_shapes = [(2, 1, 67, 36), (2, 1, *pyramid.geometry.band_shape(3))] if residuals else []
    expected = [(2, 67, 36 // 2 + 1)] + bands + residual_shapes if bands + residual_shapes else []
    assert sorted(ffts.shapes) == sorted(expected)


@pairwise(
    residuals=[True, False], orientations=[None, [], [3], [2, 0]], scales=[None, [], [0], [2, 1]], synthesis=SYNTHESES
)
def test_synthesis_from_some_bands_reads_only_these(scales, orientations, residuals, synthesis, device):
    pyramid = SteerablePyramid((40, 36), height=3, synthesis=synthesis)
    c = random_coefficients(pyramid, 2, device=device)
    wanted_scales = range(3) if scales is None else scales
    wanted_orientations = range(4) if orientations is None else orientations
    keep = torch.zeros(4, 1, 1, dtype=torch.float64, device=device)
    keep[list(wanted_orientations)] = 1
    off = [b * keep if s in wanted_scales else b * 0 for s, b in enumerate(c.bands)]
    highpass, lowpass = (t if residuals else t * 0 for t in (c.highpass, c.lowpass))
    expected = pyramid.synthesize(Coefficients(highpass, tuple(off), lowpass))
    with FFTs() as ffts:
        actual = pyramid.synthesize(c, scales, orientations, residuals)
    assert_close(actual, expected, "pyramid", like=1.0)
    columns = lambda w: w // 2 + 1 if synthesis == "adjoint" else w  # columns of rfft2, or of fft2
    count = len(wanted_orientations)
    bands = count if synthesis == "adjoint" else (count + 1) // 2  # two real bands make one complex one
    shapes = [pyramid.geometry.band_shape(s) for s in wanted_scales if wanted_orientations]
    transformed = [(2, bands, h, w) for h, w in shapes]
    low = pyramid.geometry.band_shape(3)
    transformed += [(2, 1, 40, columns(36)), (2, 1, low[0], columns(low[1]))] if residuals else []
    transformed += [(2, 40, 36)] if transformed else []
    assert sorted(ffts.shapes) == sorted(transformed)


@pytest.mark.parametrize("synthesis", SYNTHESES)
def test_syntheses_of_all_parts_add_up(synthesis, device):
    pyramid = SteerablePyramid((23, 29), height=2, synthesis=synthesis)
    x = image(3, 23, 29, dtype=torch.float64, device=device)
    c = pyramid(x)
    parts = [pyramid.synthesize(c, [s], [k], residuals=False) for s in range(2) for k in range(4)]
    assert_close(sum(parts) + pyramid.synthesize(c, scales=[]), x, "pyramid")


@pytest.mark.parametrize("synthesis", SYNTHESES)
def test_planes_are_independent(synthesis, device):
    """A plane of NaN or of huge numbers does not change the other planes."""
    pyramid = SteerablePyramid((24, 20), synthesis=synthesis)
    x = image(5, 24, 20, dtype=torch.float32, device=device)
    alone = pyramid.synthesize(pyramid(x))
    others = [0, 1, 3, 4]
    for bad in (float("nan"), 1e30):
        x[2] = bad
        assert torch.equal(pyramid.synthesize(pyramid(x))[others], alone[others])


def test_missing_parts_contribute_nothing(device):
    pyramid = SteerablePyramid((32, 32), height=2)
    x = image(32, 32, dtype=torch.float64, device=device)
    some = pyramid.analyze(x, scales=[1], residuals=False)
    expected = pyramid.synthesize(pyramid(x), scales=[1], residuals=False)
    assert torch.equal(pyramid.synthesize(some), expected)
    nothing = pyramid.synthesize(some, scales=[0])
    assert nothing.shape == (32, 32) and nothing.dtype == torch.float64 and not nothing.any()


# --- Steering


def band_at(pyramid, x, scale: int, angle: float):
    """Return the real band of the filter with this angle."""
    g = pyramid.geometry
    log_r, theta = filters.polar_grid(g, g.band_shape(scale))
    radial = filters.low_product(log_r, scale + 1, g.transition_width) * filters.high(
        log_r, scale + 1, g.transition_width
    )
    mask = radial * torch.cos(theta - angle) ** g.order * filters.angular_gain(g.order, g.orientations)
    spectrum = reference.crop(torch.fft.fft2(x), *g.band_shape(scale)) * mask * (-1j) ** g.order
    return torch.fft.ifft2(spectrum).real


@pytest.mark.parametrize("order, orientations", [(0, 1), (1, 2), (2, 5), (3, 4), (3, 9), (6, 7)])
def test_steering_is_exact_at_any_angle(order, orientations):
    pyramid = SteerablePyramid((23, 32), order=order, orientations=orientations)
    x = image(2, 23, 32)
    c = pyramid(x)
    for angle in (0.0, 0.3, 1.0, math.pi / 2, 2.5, -4.0):
        for s, steered in enumerate(pyramid.steer(c, angle)):
            assert_close(steered, band_at(pyramid, x, s, angle), "pyramid")


@pytest.mark.parametrize("orientations", [4, 7])
def test_steering_to_a_basis_angle_gives_that_band(orientations, dtype, device):
    pyramid = SteerablePyramid((32, 32), orientations=orientations)
    c = pyramid(image(3, 32, 32, dtype=dtype, device=device))
    for k in range(orientations):
        exactly = math.pi * k / orientations
        for angle in (exactly, torch.tensor(exactly, dtype=torch.float64)):
            for steered, band in zip(pyramid.steer(c, angle), c.bands):
                assert_close(steered, band[:, k].real, "pyramid")


def test_steering_is_differentiable_in_the_angle():
    pyramid = SteerablePyramid((16, 16))
    c = pyramid(image(16, 16))
    angle = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: pyramid.steer(c, a), angle)


@pytest.mark.parametrize(
    "angle, error",
    [
        ("0", TypeError),
        (1j, TypeError),
        (math.nan, ValueError),
        (torch.tensor([0.1, 0.2]), ValueError),
        (torch.linspace(0, 1, 16), ValueError),  # would broadcast with the 16 angles t in steering_weights
        (torch.tensor(1j), ValueError),
    ],
)
def test_angle_that_is_not_one_real_number_raises(angle, error):
    pyramid = SteerablePyramid((16, 16))
    with pytest.raises(error, match="angle must be"):
        pyramid.steer(pyramid(image(16, 16)), angle)


def test_steering_skips_missing_scales():
    pyramid = SteerablePyramid((32, 32), height=2)
    steered = pyramid.steer(pyramid.analyze(image(32, 32), scales=[1]), 0.2)
    assert steered[0] is None and steered[1].shape == (16, 16)

"""The functions of math/trig.h, called through the ops, compared with float64."""

import math

import pytest
import torch
from tolerances import TOLERANCES

from steerlens_fast import ops

ANGLE, RELATIVE = TOLERANCES["angle"].float32, TOLERANCES["exp"].float32
AXES_AND_DIAGONALS = [1, 1j, -1, -1j, 1 + 1j, -1 + 1j, -1 - 1j, 1 - 1j]


def around(values: torch.Tensor, steps: int = 3) -> torch.Tensor:
    """Return each float32 value and its nearest neighbours on both sides."""
    values = values.to(torch.float32)
    results, up, down = [values], values, values
    for _ in range(steps):
        up, down = (torch.nextafter(v, torch.full_like(v, s * math.inf)) for v, s in ((up, 1), (down, -1)))
        results += [up, down]
    return torch.cat(results)


def angles(limit: float) -> torch.Tensor:
    """Return a dense grid of angles.

    It includes multiples of pi/4 with their neighbours, and numbers close to 0.
    """
    borders = around(torch.arange(-1000, 1001, dtype=torch.float64) * (math.pi / 4))
    tiny = torch.logspace(-38, 0, 400)
    grid = torch.linspace(-limit, limit, 200_001)
    everything = torch.cat([grid, borders, tiny, -tiny, torch.zeros(1)])
    return everything[everything.abs() <= limit]


def angle_error(values: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
    """Return for each complex number the larger of two errors.

    One is the difference of its angle from ``exact``, the other its distance from the unit circle.
    """
    quotient = values.cpu().to(torch.complex128) * torch.exp(-1j * exact)
    return torch.maximum(quotient.angle().abs(), (quotient.abs() - 1).abs())


@pytest.mark.parametrize("limit", [math.pi, 100.0, 1e4, 1e5])
def test_sincos_is_accurate(limit, device):
    x = angles(limit).to(device)
    z = ops.polar_join(torch.ones_like(x), x)
    assert angle_error(z, x.double().cpu()).max() <= ANGLE


def test_sin_of_small_angles_is_accurate_relative_to_its_value(device):
    x = torch.logspace(-30, -4, 1000, device=device)
    z = ops.polar_join(torch.ones_like(x), x)
    assert ((z.imag.double() / x.double().sin()) - 1).abs().max() <= RELATIVE


@pytest.mark.parametrize("factor", [1 / 3, 7.77, -123.4, 1000.0, -1000.0])
def test_sincos_of_a_product_is_accurate(factor, device):
    """The op corrects the rounding error of factor * angle."""
    angle = angles(math.pi).to(device)
    factors = torch.tensor([[factor]], device=device)
    one = torch.ones_like(angle).reshape(1, 1, 1, -1) + 0j
    z = ops.extrapolate(one, angle.reshape(1, 1, 1, -1), None, factors, factors, "complex", "complex").flatten()
    assert angle_error(z, factors.double().cpu() * angle.double().cpu()).max() <= ANGLE


def test_sincos_of_a_product_is_accurate_in_float64(device):
    """The expected values have the rounding error of the product, so the tolerance grows with the factor."""
    angle = torch.cat([angles(math.pi).double(), torch.linspace(-1, 1, 10_001, dtype=torch.float64)]).to(device)
    one = torch.ones_like(angle).reshape(1, 1, 1, -1) + 0j
    for factor in (1 / 3, -1000.0, 1e9):
        factors = torch.tensor([[factor]], device=device, dtype=torch.float64)
        z = ops.extrapolate(one, angle.reshape(1, 1, 1, -1), None, factors, factors, "complex", "complex").flatten()
        error = (z - torch.polar(torch.ones_like(angle), factor * angle)).abs().max()
        assert error <= 4e-16 * max(1.0, abs(factor))  # pi * 2**-53 is 3.5e-16


@pytest.mark.parametrize("radius", [1e-30, 1e-10, 1.0, 1e10, 1e30])
def test_atan2_is_accurate(radius, device):
    """The points are on a circle and on a square. The square has points on axes and diagonals, with neighbours."""
    exact = torch.linspace(-math.pi, math.pi, 100_001, dtype=torch.float64)
    circle = radius * torch.exp(1j * exact)
    along = around(torch.linspace(-1, 1, 201) * radius)
    across = torch.full_like(along, radius)
    edges = [torch.complex(*xy) for xy in ((along, across), (across, along), (along, -across), (-across, along))]
    z = torch.cat([circle.to(torch.complex64), *edges]).to(device)
    _, phase = ops.polar_split(z)
    assert phase.abs().max() <= math.pi + ANGLE
    expected = z.cpu().to(torch.complex128).angle()
    turn = torch.exp(1j * (phase.double().cpu() - expected)).angle()
    assert turn.abs().max() <= ANGLE


def test_atan2_is_accurate_on_axes_and_diagonals(device):
    z = torch.tensor(AXES_AND_DIAGONALS, device=device)
    expected = torch.tensor([0, 0.5, 1, -0.5, 0.25, 0.75, -0.75, -0.25], dtype=torch.float64) * math.pi
    assert (ops.polar_split(z)[1].double().cpu() - expected).abs().max() <= 1.3e-7  # float32 rounding at pi


def test_amplitude_is_accurate(device):
    """The relative error is small for all magnitudes of float32 except the extremes."""
    size = torch.logspace(-37, 37, 2001, dtype=torch.float64)
    z = torch.cat([size * torch.exp(torch.tensor(1j * a)) for a in (0.0, 0.3, math.pi / 4, 1.5, 3.0)])
    z = z.to(torch.complex64).to(device)
    amplitude, _ = ops.polar_split(z)
    assert (amplitude.double().cpu() / z.cpu().to(torch.complex128).abs() - 1).abs().max() <= RELATIVE


def exp_of(x: torch.Tensor) -> torch.Tensor:
    """Return exp(x), computed by the gain of the polar rule.

    The factors are 1, so their products with x are exact, and only exp itself is tested.
    """
    one = torch.ones_like(x).reshape(1, 1, 1, -1)
    factors = torch.ones(1, 1, dtype=x.dtype, device=x.device)
    return ops.extrapolate(one + 0j, None, x.reshape(one.shape), factors, factors, "polar", "complex").real.flatten()


def test_exp_is_accurate(device):
    # Multiples of ln(2)/2, the largest argument of the polynomial
    borders = around(torch.arange(-126, 127, dtype=torch.float64) * (math.log(2) / 2))
    x = torch.cat([torch.linspace(-86.9, 87.9, 100_001), borders, torch.logspace(-30, 0, 200)])
    x = x[(x > -87) & (x < 88)].to(device)
    assert (exp_of(x).double().cpu() / x.double().cpu().exp() - 1).abs().max() <= RELATIVE


def test_exp_overflows_and_underflows_where_float32_does(device):
    """Results too large for float32 are infinite; subnormal ones may be 0."""
    x = torch.tensor([88.5, 88.72, 89.0, 1e4, math.inf, -88.0, -103.0, -200.0, -math.inf], device=device)
    actual, expected = exp_of(x).double().cpu(), x.cpu().exp().double()
    assert torch.equal(actual.isinf(), expected.isinf())
    finite = expected.isfinite()
    assert ((actual - expected).abs()[finite] <= RELATIVE * expected[finite] + 1.2e-38).all()


def test_amplitudes_survive_any_phase(device):
    """amplitude * exp(i phase) has that amplitude even if the phase is too large to be accurate in float32."""
    phase = torch.logspace(5, 38, 4001, device=device)
    joined = ops.polar_join(torch.ones_like(phase), torch.cat([phase[::2], -phase[1::2]]))
    assert (joined.abs() - 1).abs().max() < 2e-4  # sincos_near_0 is a fit for up to pi/4, but gets up to 1 rad here


def test_exp_of_nan_is_nan(device):
    assert exp_of(torch.tensor([math.nan], device=device)).isnan().all()


def test_float64_agrees_with_libm(device):
    x = torch.linspace(-50, 50, 10_001, dtype=torch.float64, device=device)
    z = ops.polar_join(torch.ones_like(x), x)
    assert (z - torch.exp(1j * x)).abs().max() <= TOLERANCES["angle"].float64
    for radius in (1e-300, 1.0, 1e300):
        _, phase = ops.polar_split(radius * z)
        assert (torch.exp(1j * phase) - z).abs().max() <= TOLERANCES["angle"].float64
    directions = torch.tensor(AXES_AND_DIAGONALS, dtype=torch.complex128, device=device)
    assert torch.equal(ops.polar_split(directions)[1].cpu(), directions.cpu().angle())
    tiny = torch.logspace(-300, -1, 2001, dtype=torch.float64, device=device)
    assert (ops.polar_split(torch.complex(torch.ones_like(tiny), tiny))[1] / tiny.atan() - 1).abs().max() <= 1e-15


def test_exp_is_accurate_in_float64(device):
    x = torch.linspace(-700, 709, 100_001, dtype=torch.float64)
    assert (exp_of(x.to(device)).cpu() / x.exp() - 1).abs().max() <= TOLERANCES["exp"].float64
    ends = torch.tensor([709.7, 709.8, 1e4, math.inf, -745.2, -800.0, -math.inf], dtype=torch.float64)
    torch.testing.assert_close(exp_of(ends.to(device)).cpu(), ends.exp(), rtol=1e-15, atol=0)

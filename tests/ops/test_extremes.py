"""Ops on extreme numbers: zeros with a sign, subnormal and infinite numbers, and results that overflow."""

import math

import pytest
import torch

from steerlens_fast import ops
from steerlens_fast.ops import reference

INF, NAN = math.inf, math.nan
RULES, COMPLEX_FORM = ops.RULES, ops.FORMS["complex"]
COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}
dtypes = pytest.mark.parametrize("dtype", COMPLEX, ids=str)
rules = pytest.mark.parametrize("rule", ["complex", "polar"])
# The smallest number, another subnormal one, and nearly the smallest normal one
TINY = {torch.float32: (1e-45, 1e-40, 1.2e-38), torch.float64: (5e-324, 1e-310, 2.3e-308)}
REPEATS = 37  # larger than the number of values in a vector register, and no multiple of it


def row(*values, dtype, device="cpu"):
    """Return a tensor [1, 1, 1, n] that repeats the values many times."""
    return torch.tensor(values * REPEATS, dtype=dtype, device=device).reshape(1, 1, 1, -1)


def first(t, n):
    """Return the first ``n`` values of a tensor made by :func:`row`.

    Check that all its copies are equal.
    """
    t = t.detach().cpu().flatten()
    copies = t.reshape(REPEATS, -1)
    assert torch.allclose(copies, copies[:1].expand_as(copies), rtol=1e-6, atol=0, equal_nan=True)
    return copies[0][:n].tolist()


@dtypes
def test_phase_on_the_negative_real_axis_has_the_sign_of_the_imaginary_zero(dtype, device):
    c = row(complex(-1, -0.0), complex(-1, 0.0), complex(-INF, -0.0), dtype=COMPLEX[dtype], device=device)
    for _, phase in (ops.polar_split(c), reference.polar_split(c)):
        assert first(phase, 3) == pytest.approx([-math.pi, math.pi, -math.pi], abs=3e-7)


@dtypes
def test_phases_are_atan2_except_at_the_origin(dtype, device):
    sides = [0.0, -0.0, 1.0, -1.0, INF, -INF, 1e-40, -1e-40]
    points = [complex(re, im) for re in sides for im in sides]
    c = row(*points, dtype=COMPLEX[dtype], device=device)
    expected = [math.atan2(z.imag, z.real) if z else z.imag for z in points]
    for split in (ops.polar_split, reference.polar_split):
        phases = first(split(c)[1], len(points))
        assert phases == pytest.approx(expected, abs=3e-7)
        assert [math.copysign(1, phase) for phase in phases] == [math.copysign(1, phase) for phase in expected]


@dtypes
def test_derivatives_of_polar_split_at_0_are_0_in_every_mode(dtype, device):
    c = torch.zeros(3, dtype=COMPLEX[dtype], device=device)
    total = lambda c: sum(t.sum() for t in ops.polar_split(c))
    leaf = c.clone().requires_grad_()
    total(leaf).backward()
    assert not leaf.grad.any() and not torch.func.grad(total)(c).any()
    for direction in (1, 1j):
        assert not torch.func.jvp(lambda c: ops.polar_split(c)[1], (c,), (torch.full_like(c, direction),))[1].any()


@dtypes
def test_phase_step_of_half_a_turn_is_positive(dtype, device):
    c = row(complex(1, 0.0), complex(1, -0.0), complex(-1, 0.0), complex(-1, -0.0), dtype=COMPLEX[dtype], device=device)
    for gradient in (2 * c, (2 * c).real.clone()):
        phase, _ = ops.step(c, gradient)
        assert first(phase, 4) == pytest.approx([math.pi] * 4, abs=3e-7)
        expected = reference.step(c, gradient, 1.0, RULES["complex"], 1e-6)[0]
        assert first(expected, 4) == pytest.approx([math.pi] * 4, abs=3e-7)


@dtypes
@pytest.mark.parametrize("factor, amplitude_step", [(1e30, -1e10), (-1e30, 1e10), (1e38, -1e38)])
def test_amplitude_that_overflows_below_0_is_0(factor, amplitude_step, dtype, device):
    huge = (1e270 if dtype == torch.float64 else 1.0) * factor
    c, step = row(3 + 4j, dtype=COMPLEX[dtype], device=device), row(amplitude_step, dtype=dtype, device=device)
    factors = torch.tensor([[huge]], dtype=dtype, device=device)
    leaf = c.clone().requires_grad_()
    for phase in (None, torch.zeros_like(step)):
        frames = ops.extrapolate(leaf, phase, step, factors, factors, "complex", "complex")
        assert first(frames, 1) == [0]
        assert first(torch.autograd.grad(torch.view_as_real(frames).sum(), leaf)[0], 1) == [0]
        expected = reference.extrapolate(c, phase, step, factors, factors, RULES["complex"], COMPLEX_FORM)
        assert first(expected, 1) == [0]


@dtypes
@rules
def test_overflowing_phase_keeps_the_amplitude(rule, dtype, device):
    huge = torch.finfo(dtype).max / 2
    c, step = row(3 + 4j, dtype=COMPLEX[dtype], device=device), row(3.0, -9.0, dtype=dtype, device=device)
    c = c.repeat(1, 1, 1, 2)
    factors = [torch.tensor([[v]], dtype=dtype, device=device) for v in (huge, 0.0)]  # phase factors, amplitude factors
    frames = ops.extrapolate(c, step, torch.zeros_like(step), *factors, rule, "complex")
    assert first(frames.abs(), 2) == pytest.approx([5, 5], rel=1e-6)
    expected = reference.extrapolate(c, step, torch.zeros_like(step), *factors, RULES[rule], COMPLEX_FORM)
    assert first(expected.abs(), 2) == pytest.approx([5, 5], rel=1e-6)


@dtypes
def test_product_can_be_finite_although_its_gain_overflows(dtype, device):
    """0 exp(10000) is 0, and float32 can represent 1e-30 exp(100) although it cannot represent exp(100)."""
    large, small = (100.0, 1e-30) if dtype == torch.float32 else (800.0, 1e-300)
    c = row(0j, complex(small, 0), complex(0, 1 / small), dtype=COMPLEX[dtype], device=device)
    step, one = row(1e4, large, -large, dtype=dtype, device=device), torch.ones(1, 1, dtype=dtype, device=device)
    half = math.exp(large / 2)
    expected = [0, half * small * half, 1j / half / small / half]
    for frames in (
        ops.extrapolate(c, None, step, one, one, "polar", "complex"),
        reference.extrapolate(c, None, step, one, one, RULES["polar"], COMPLEX_FORM),
    ):
        for value, e in zip(first(frames, 3), expected):
            assert abs(value - e) <= 1e-5 * abs(e)


@dtypes
@rules
def test_coefficients_below_the_floor_have_zero_gradients(rule, dtype, device):
    """A band has large coefficients and tiny ones, whose gradients would be infinite."""
    tiny = TINY[dtype]
    c = row(*map(complex, tiny), complex(0, -tiny[0]), 0j, 1 + 1j, dtype=COMPLEX[dtype], device=device).requires_grad_()
    g = row(INF, 1.0, -1.0, NAN, INF, 0.5, dtype=dtype, device=device).requires_grad_()
    phase, amplitude = ops.step(c, g, rule=rule)
    grads = torch.autograd.grad((phase + amplitude).sum(), (c, g), create_graph=True)
    for grad in grads:
        assert first(grad, 5) == [0] * 5
        assert grad.isfinite().all()
    again = torch.autograd.grad(sum(torch.view_as_real(t + 0j).square().sum() for t in grads), (c, g))
    assert all(grad.isfinite().all() for grad in again)
    args = torch.ones_like(g), torch.ones_like(g), c, g, 1.0, RULES[rule], 1e-6
    assert all(grad.isfinite().all() for grad in reference.step_backward(*args))


@dtypes
@rules
def test_band_of_tiny_numbers_has_finite_gradients(rule, dtype, device):
    c = row(*map(complex, TINY[dtype]), *(complex(0, -t) for t in TINY[dtype]), dtype=COMPLEX[dtype], device=device)
    c.requires_grad_()
    for gradient in (torch.zeros_like(c.real), torch.ones_like(c.real)):
        phase, amplitude = ops.step(c, gradient, rule=rule)
        assert all(g.isfinite().all() for g in torch.autograd.grad((phase + amplitude).sum(), c))
    zeros, one = torch.zeros_like(c.real), torch.ones(1, 1, dtype=dtype, device=device)
    frames = ops.extrapolate(c, zeros, zeros, one, one, rule, "complex")
    assert torch.autograd.grad(torch.view_as_real(frames).sum(), c)[0].isfinite().all()
    polar = ops.polar_split(c)
    assert torch.autograd.grad(polar[0].sum(), c)[0].isfinite().all()
    assert torch.autograd.grad(ops.polar_split(c)[1].sum(), c)[0].isfinite().all()
    assert (
        reference.polar_split_backward(c.detach(), *torch.ones_like(torch.view_as_real(c)).unbind(-1)).isfinite().all()
    )


@dtypes
def test_infinite_gradients_do_not_become_finite(dtype, device):
    """The gradient divided by the amplitude is clamped only if the gradient is finite."""
    c = row(1 + 1j, dtype=COMPLEX[dtype], device=device).requires_grad_()
    _, phase = ops.polar_split(c)
    (grad,) = torch.autograd.grad(phase, c, torch.full_like(phase, INF))
    assert not grad.isfinite().any()


@rules
def test_phase_step_of_the_largest_floats_is_finite(rule, device):
    c = row(complex(3e38, 3e38), dtype=torch.complex64, device=device)
    phase, _ = ops.step(c, torch.full_like(c, 1e-38j), rule=rule)
    assert phase.isfinite().all()

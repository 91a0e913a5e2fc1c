"""Derivatives, compared with numerical ones and with the reference; adjoints."""

import functools

import pytest
import torch
from inputs import DTYPES, image, in_double, normal, on_tensors
from op_cases import BANK_SHAPES, OPS, RAW, SMALL_CASES, WHOLE_SHAPES, as_list, case, leaves_of, without_jumps
from pairwise import pairwise
from tolerances import TOLERANCES, assert_close

from steerlens_fast import Coefficients, SteerablePyramid, ops
from steerlens_fast.ops import reference
from steerlens_fast.pyramid import reference as pyramid_reference
from steerlens_fast.pyramid.bank import HIGHPASS, KINDS, LOWPASS, Bank, Part

cases = pytest.mark.parametrize("case_", SMALL_CASES.values(), ids=SMALL_CASES)


def function_of_leaves(case_, device):
    """Return the op as a function of its differentiable tensors, and these tensors.

    Empty outputs are left out.
    """
    args, leaves = leaves_of(case_.build(torch.float64, device), case_.op)
    position = {id(leaf): i for i, leaf in enumerate(leaves)}

    def function(*values):
        arguments = on_tensors(lambda t: values[position[id(t)]] if id(t) in position else t, args)
        return tuple(o for o in as_list(getattr(RAW, case_.op)(*arguments)) if o.numel())

    return function, leaves


# --- Numerical derivatives


@cases
def test_derivatives_agree_with_numerical_ones_and_the_reference(case_, device):
    function, leaves = function_of_leaves(case_, device)
    assert torch.autograd.gradcheck(function, leaves, nondet_tol=0.0)
    args = case_.build(torch.float64, device)
    actual = second_derivatives(RAW, case_, args)
    expected = second_derivatives(reference, case_, [in_double(a) for a in args])
    assert max(e.abs().max() for e in expected) > 1e-3
    for a, e in zip(actual, expected, strict=True):
        assert_close(a, e, "op_sums", like=1e-2)


def second_derivatives(module, case_, args):
    """Return second derivatives of a loss.

    The loss depends on amplitude and phase of every output.
    """
    arguments, leaves = leaves_of(args, case_.op)
    outs = without_jumps(case_.op, [in_double(a) for a in args], getattr(module, case_.op)(*arguments))
    weights = [normal(*o.shape, dtype=o.dtype, device=o.device, seed=i) for i, o in enumerate(outs)]
    loss = sum((w.conj() * o).real.square().sum() for w, o in zip(weights, outs))
    firsts = torch.autograd.grad(loss, leaves, create_graph=True, allow_unused=True)
    again = sum(g.abs().square().sum() for g in firsts if g is not None)
    seconds = torch.autograd.grad(again, leaves, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(seconds, leaves)]


@pytest.mark.parametrize("rule", ["complex", "polar"])
def test_second_derivatives_at_the_origin_are_finite(rule, device):
    c = torch.zeros(1, 1, 1, 2, dtype=torch.complex128, device=device, requires_grad=True)
    step = torch.full((1, 1, 1, 2), 0.3, dtype=torch.float64, device=device, requires_grad=True)
    factors = torch.ones(2, 1, dtype=torch.float64, device=device)
    outputs = [*ops.polar_split(c), *ops.step(c, step, rule=rule)]
    outputs.append(torch.view_as_real(ops.extrapolate(c, step, step, factors, factors, rule, "complex")))
    loss = sum((o * o + o).sum() for o in outputs)
    firsts = torch.autograd.grad(loss, (c, step), create_graph=True)
    assert all(g.isfinite().all() for g in firsts)
    seconds = torch.autograd.grad(sum(g.abs().square().sum() for g in firsts), (c, step), allow_unused=True)
    assert all(g is None or g.isfinite().all() for g in seconds)


@pytest.mark.parametrize("op", ["split_bands", "merge_bands"])
def test_third_derivatives_of_linear_ops_are_those_of_the_reference(op, device):
    args = case(op, "", BANK_SHAPES["odd"]).build(torch.float64, device)

    def third(module, args):
        # 1e-9 and 1e-27 keep the fourth powers of gradients moderate
        arguments, leaves = leaves_of(args, op)
        power = lambda ts: sum(t.abs().square().square().sum() for t in as_list(ts))
        firsts = torch.autograd.grad(power(getattr(module, op)(*arguments)), leaves, create_graph=True)
        seconds = torch.autograd.grad(power(firsts) * 1e-9, leaves, create_graph=True)
        return torch.autograd.grad(power(seconds) * 1e-27, leaves)

    for a, e in zip(third(RAW, args), third(reference, [in_double(a) for a in args]), strict=True):
        assert e.abs().max() > 0
        assert_close(a, e, "op_sums")


def test_small_cases_contain_every_op():
    assert {c.op for c in SMALL_CASES.values()} == set(OPS)


# --- Adjoints: <S x, y> = <x, S' y>


# Shapes for which merge_bands takes as many planes as split_bands returns
SAME_PLANES = [label for label, shape in BANK_SHAPES.items() if all(g.planes_in_merge is None for g in shape.groups)]


def dot(a, b):
    return (a.conj() * b).real.double().sum()


ADJOINTS = [(BANK_SHAPES[label], False, False) for label in SAME_PLANES]
ADJOINTS += [
    (WHOLE_SHAPES[label], True, paired) for label in ("even", "odd", "mixed", "K0") for paired in (False, True)
]


@pytest.mark.parametrize("shape, whole, paired", ADJOINTS)
def test_merge_is_the_adjoint_of_split(shape, whole, paired, device):
    """The two ops have opposite i_powers. The masks are not 0 at the Nyquist frequency."""
    dtype = torch.float64
    options = dict(whole=whole, paired=paired)
    spectrum, masks, i_powers, widths, width, _ = case("split_bands", "", shape, **options).build(dtype, device)
    bands = case("merge_bands", "", shape, **options).build(dtype, device)[0]
    split = ops.split_bands(spectrum, masks, i_powers, widths, width, paired)
    opposite = [-power % 4 for power in i_powers]
    merged = ops.merge_bands(bands, masks, opposite, widths, spectrum.shape[1], width, whole, paired)
    there, back = sum(map(dot, split, bands)), dot(spectrum, merged)
    squared_scale = sum(map(dot, bands, bands)) * max(sum(map(dot, split, split)), dot(spectrum, spectrum))
    assert abs(there - back) <= TOLERANCES["adjoint"].of(dtype) * squared_scale.sqrt()
    assert there != 0 or not spectrum.numel()


@pairwise(
    dtype=DTYPES,
    option=[
        {},
        {"order": 0, "orientations": 3},
        {"tight_frame": True},
        {"downsample": False, "order": 2},
        {"width": 1.7},
    ],
    shape=[(8, 8), (9, 12), (16, 11), (23, 29)],
    kind=KINDS,
)
def test_bank_merge_is_the_adjoint_of_split(kind, shape, option, dtype, device):
    geometry = SteerablePyramid(shape, **option).geometry
    parts = [Part(s) for s in range(geometry.num_scales)] + [Part(0, (0,)), Part(HIGHPASS), Part(LOWPASS)]
    bank = Bank(geometry, kind, tuple(parts))
    x = normal(2, *shape, dtype=dtype, device=device)
    split = bank.split(x)
    bands = [torch.randn_like(b) for b in split]
    there, back = sum(map(dot, split, bands)), dot(x, bank.merge(bands))
    squared_scale = sum(map(dot, bands, bands)) * max(sum(map(dot, split, split)), dot(x, x))
    assert abs(there - back) <= TOLERANCES["adjoint"].of(dtype) * squared_scale.sqrt()
    assert there != 0


# --- Derivatives of the pyramid


@pairwise(dtype=DTYPES, option=[{}, {"tight_frame": True}, {"downsample": False}], synthesis=["real", "adjoint"])
def test_gradients_of_the_pyramid_are_those_of_the_reference(synthesis, option, dtype, device):
    pyramid = SteerablePyramid((13, 16), order=2, synthesis=synthesis, **option)
    g = pyramid.geometry

    def ours(x):
        c = pyramid(x)
        return c.highpass, c.bands, c.lowpass

    def loss(analyze, synthesize, x):
        highpass, bands, lowpass = analyze(x)
        edited = [b * (1 + b.abs()) * torch.exp(0.3j * b.abs()) for b in bands]
        return synthesize(highpass, edited, lowpass).pow(3).sum() + sum(b.abs().sum() for b in bands)

    rebuild = lambda h, b, l: pyramid.synthesize(Coefficients(h, tuple(b), l))
    x = normal(2, 13, 16, dtype=dtype, device=device)
    pairs = []
    for analyze, synthesize, point in (
        (ours, rebuild, x),
        (
            functools.partial(pyramid_reference.analyze, geometry=g),
            lambda *c: pyramid_reference.synthesize(*c, g, synthesis),
            in_double(x),
        ),
    ):
        leaf = point.clone().requires_grad_()
        (first,) = torch.autograd.grad(loss(analyze, synthesize, leaf), leaf, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), leaf)
        pairs.append((first, second))
    for a, e in zip(*pairs):
        assert_close(a, e, "render")


@pytest.mark.parametrize("synthesis", ["real", "adjoint"])
def test_derivatives_of_the_pyramid_agree_with_numerical_ones(synthesis, device):
    pyramid = SteerablePyramid((8, 9), order=1, synthesis=synthesis)
    x = image(8, 9, device=device).requires_grad_()
    function = lambda t: pyramid.synthesize(pyramid(t).map(lambda b: b * b.abs()))
    assert torch.autograd.gradcheck(function, x)
    assert torch.autograd.gradgradcheck(lambda t: pyramid(t).bands[0].abs().square().sum(), x)


def test_gradient_of_a_single_band_is_real(device):
    pyramid = SteerablePyramid((16, 16))
    c = pyramid(image(16, 16, device=device))
    band = c.bands[1].clone().requires_grad_()
    out = pyramid.synthesize(type(c)(c.highpass, (c.bands[0], band), c.lowpass))
    (grad,) = torch.autograd.grad(out.square().sum(), band)
    assert grad.dtype == band.dtype and grad.imag.abs().max() == 0, "the image does not depend on Im(c)"
    assert grad.real.abs().max() > 0

"""Ops compared with their references: values, gradients, shapes, memory layouts, extreme numbers."""

import pytest
import torch
from inputs import DTYPES, ODD_LAYOUTS, in_double, on_tensors
from op_cases import (
    BANK_SHAPES,
    CPU_OPS,
    CPU_PLANE_OPS,
    OP_CASES,
    OPS,
    PLANE_OPS,
    POINT_SHAPES,
    RAW,
    PairShape,
    as_list,
    case,
    leaves_of,
    shapes_of,
    with_dtypes,
    without_jumps,
)
from pairwise import pairwise
from tolerances import all_equal, assert_close, error_of
from torch._subclasses import FakeTensorMode

from steerlens_fast import native, ops
from steerlens_fast.ops import reference

LAYOUT_CASES = [case(op, "odd", shapes_of(op)["odd"]) for op in OPS]


def check(op: str, args: list, tolerance: str, dtype: torch.dtype) -> list:
    """Compare the op on ``args`` with the reference on the same numbers in float64.

    Return the op's outputs.
    """
    double_args = [in_double(a) for a in args]
    actual, expected = getattr(RAW, op)(*args), getattr(reference, op)(*double_args)
    for a, e in zip(as_list(actual), as_list(expected), strict=True):
        assert a.dtype == (dtype.to_complex() if e.is_complex() else dtype)
        assert a.is_contiguous()
    like = 1.0 if op.startswith("step") else None  # a step is a difference, such as |c'| - |c|, of values near 1
    pairs = zip(without_jumps(op, double_args, actual), without_jumps(op, double_args, expected), strict=True)
    for a, e in pairs:
        assert_close(a, e, tolerance, like=like)
    return as_list(actual)


# --- Every op is complete


def test_cases_name_every_op():
    names = {
        n.split("::")[1].split(".")[0]
        for n in torch._C._dispatch_get_all_op_names()
        if n.startswith("steerlens_fast::")
    }
    assert names == {*OPS, *PLANE_OPS, *CPU_PLANE_OPS, *CPU_OPS}


@pytest.mark.parametrize("op", OPS + PLANE_OPS + CPU_PLANE_OPS)
def test_every_op_has_kernel_autograd_fake_reference_and_wrapper(op):
    name = f"steerlens_fast::{op}"
    # Emulated CUDA kernels are registered as CPU kernels of PLANE_OPS, though SIMD_WIDTH is 0.
    if op in OPS or (native.SIMD_WIDTH if op in CPU_PLANE_OPS else native.LARGEST_PLANE_SIDE["cpu"]):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(name, "CPU"), "no CPU kernel"
    assert torch._C._dispatch_has_kernel_for_dispatch_key(name, "Autograd"), "no autograd"
    assert torch._C._dispatch_has_kernel_for_dispatch_key(name, "Meta"), "no fake"
    assert callable(getattr(reference, op)), "no reference"
    if not op.endswith("_backward"):
        assert callable(getattr(ops, op)), "no wrapper"


def test_device_has_every_kernel(device):
    key = device.type.upper()
    expected = [*OPS, *(PLANE_OPS if native.LARGEST_PLANE_SIDE[device.type] else ())]
    has_kernel = lambda op: torch._C._dispatch_has_kernel_for_dispatch_key(f"steerlens_fast::{op}", key)
    assert [op for op in expected if not has_kernel(op)] == []


# --- Values


def described(outputs) -> list:
    return [(t.shape, t.dtype, t.stride()) for t in as_list(outputs)]


@pytest.mark.parametrize("case_, dtype", with_dtypes(OP_CASES), ids=str)
def test_values_fakes_and_gradients_are_correct(case_, dtype, device):
    op, args = case_.op, case_.build(dtype, device)
    outputs = check(op, args, "op_sums" if op.endswith("_backward") else "op", dtype)
    if device.type == "cpu":
        check_fakes(op, args, described(outputs))
    if not op.endswith("_backward"):
        check_gradients(op, args, dtype)


def check_fakes(op: str, args: list, expected: list) -> None:
    """Compare shape, dtype and strides of meta and fake tensors with those of the kernel."""
    function = getattr(RAW, op)
    assert described(function(*on_tensors(lambda t: t.to("meta"), args))) == expected
    with FakeTensorMode() as mode:
        assert described(function(*on_tensors(mode.from_tensor, args))) == expected


def check_gradients(op: str, args: list, dtype: torch.dtype) -> None:
    """Compare the gradients of the op with those of the reference in float64."""
    actual, cotangents = gradients(getattr(RAW, op), op, args)
    expected, _ = gradients(getattr(reference, op), op, [in_double(a) for a in args], in_double(cotangents))
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == (dtype.to_complex() if e.is_complex() else dtype)
        assert_close(a, e, "op_sums", like=1.0 if op == "step" else None)


@pytest.mark.parametrize("case_", LAYOUT_CASES)
def test_memory_layout_does_not_matter(case_, dtype, device):
    for layout in ODD_LAYOUTS.values():
        check(case_.op, on_tensors(layout, case_.build(dtype, device)), "op_sums", dtype)


@pytest.mark.parametrize("case_", LAYOUT_CASES)
def test_inputs_are_not_written(case_, device):
    args, unchanged = case_.build(torch.float32, device), case_.build(torch.float32, device)
    getattr(RAW, case_.op)(*args)
    tensors = lambda values: [t for v in values for t in (v if isinstance(v, list) else [v]) if hasattr(t, "shape")]
    assert all_equal(tensors(args), tensors(unchanged))


# --- Gradients


def gradients(function, op: str, args: list, cotangents=None):
    """Return the gradients of the leaves (0 where a leaf has no effect), and the cotangents of the outputs.

    The cotangents are random unless given.
    """
    arguments, leaves = leaves_of(args, op)
    outputs = [o for o in as_list(function(*arguments)) if o.requires_grad]
    cotangents = cotangents or [torch.randn_like(o) for o in outputs]
    grads = torch.autograd.grad(outputs, leaves, cotangents, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(grads, leaves)], cotangents


@pytest.mark.parametrize("op", [op for op in OPS if not op.endswith("_backward")])
def test_gradients_from_an_expanded_cotangent_are_those_of_the_reference(op, device):
    """The backward of sum() gives the op an expanded tensor."""
    shape = BANK_SHAPES["8x8"] if "bands" in op else PairShape((1, 6), 1) if "pair" in op else (1, 1, 1, 6)
    args = case(op, "", shape).build(torch.float64, device)
    arguments, leaves = leaves_of(args, op)
    total = lambda outs: sum(torch.view_as_real(o).sum() if o.is_complex() else o.sum() for o in as_list(outs))
    actual = torch.autograd.grad(total(getattr(RAW, op)(*arguments)), leaves, allow_unused=True)
    arguments, leaves = leaves_of([in_double(a) for a in args], op)
    expected = torch.autograd.grad(total(getattr(reference, op)(*arguments)), leaves, allow_unused=True)
    for a, e in zip(actual, expected, strict=True):
        assert_close(a, e, "op_sums")


def test_gradient_through_one_output_is_that_of_the_reference(device):
    args = case("split_bands", "", BANK_SHAPES["odd"]).build(torch.float64, device)
    arguments, leaves = leaves_of(args, "split_bands")
    (actual,) = torch.autograd.grad(RAW.split_bands(*arguments)[2].abs().sum(), leaves)
    arguments, leaves = leaves_of([in_double(a) for a in args], "split_bands")
    (expected,) = torch.autograd.grad(reference.split_bands(*arguments)[2].abs().sum(), leaves)
    assert_close(actual, expected, "op_sums")


@pytest.mark.parametrize("op", ["split_bands", "merge_bands"])
def test_masks_that_require_grad_raise(op, device):
    args = case(op, "", BANK_SHAPES["even"]).build(torch.float64, device)
    args[0] = on_tensors(lambda t: t.requires_grad_(), args[0])
    args[1][1].requires_grad_()
    out = as_list(getattr(RAW, op)(*args))
    with pytest.raises(RuntimeError, match="masks must not require grad"):
        sum(o.abs().sum() for o in out).backward()


# --- The origin, and extreme numbers


def point(*values, dtype=torch.complex64, device="cpu", grad=False):
    """Return coefficients or steps [1, 1, 1, n]."""
    return torch.tensor(values, dtype=dtype, device=device).reshape(1, 1, 1, -1).requires_grad_(grad)


def test_polar_split_is_zero_at_the_origin(dtype, device):
    for zero in (complex(0, 0), complex(-0.0, 0), complex(0, -0.0), complex(-0.0, -0.0)):
        c = point(zero, dtype=dtype.to_complex(), device=device, grad=True)
        amplitude, phase = ops.polar_split(c)
        assert amplitude.item() == 0 and phase.item() == 0
        (grad,) = torch.autograd.grad(amplitude.sum() + phase.sum(), c)
        assert grad.item() == 0


@pytest.mark.parametrize("rule", ["complex", "polar"])
def test_origin_does_not_move(rule, dtype, device):
    c = point(0, 1, dtype=dtype.to_complex(), device=device, grad=True)
    gradient = point(0.3, 0.2, dtype=dtype, device=device, grad=True)
    steps = ops.step(c, gradient, rule=rule, floor=0.0)
    assert all(s.flatten()[0] == 0 for s in steps)
    for grad in torch.autograd.grad(sum(s.sum() for s in steps), (c, gradient)):
        assert grad.isfinite().all() and grad.flatten()[0] == 0


@pytest.mark.parametrize("rule", ["complex", "polar"])
def test_extrapolate_is_finite_at_the_origin(rule, dtype, device):
    c = point(0, 0, dtype=dtype.to_complex(), device=device, grad=True)
    phase, amplitude = (point(0.5, 0, dtype=dtype, device=device, grad=True) for _ in range(2))
    factors = torch.ones(1, 1, dtype=dtype, device=device)
    frames = ops.extrapolate(c, phase, amplitude, factors, factors, rule, "complex")
    expected = 0.5 * torch.exp(torch.tensor(0.5j)) if rule == "complex" else torch.tensor(0j)
    assert abs(frames.flatten()[0].item() - expected.item()) < 1e-6
    for grad in torch.autograd.grad(torch.view_as_real(frames).sum(), (c, phase, amplitude)):
        assert grad.isfinite().all()


@pytest.mark.parametrize("magnitude", [1e-30, 1e-18, 1e18, 1e30])
@pytest.mark.parametrize("rule", ["complex", "polar"])
def test_amplitudes_do_not_under_or_overflow(magnitude, rule, device):
    """The squares of 1e30 and 1e-30 overflow and underflow in float32."""
    unit = case("polar_split", "", POINT_SHAPES["odd"]).build(torch.float32, device)[0]
    c = unit * magnitude
    wide_c = in_double(c)
    amplitude, phase = ops.polar_split(c)
    assert_close(amplitude, wide_c.abs(), "op")
    assert_close(torch.polar(torch.ones_like(phase), phase), wide_c / wide_c.abs(), "op")
    step = torch.full_like(phase, 0.3)
    factors = torch.tensor([[0.0], [1.0], [-2.0]], device=device)
    amplitude_step = step * magnitude if rule == "complex" else step
    args = [c, step, amplitude_step, factors, factors]
    frames = ops.extrapolate(*args, rule, "complex")
    assert_close(frames, reference.extrapolate(*in_double(args), ops.RULES[rule], ops.FORMS["complex"]), "op_sums")
    if rule == "complex":
        gradient = (0.3 + 0.2j) * c
        steps = ops.step(c, gradient, eps=1.0, rule=rule, floor=1e-6)
        expected = reference.step(wide_c, in_double(gradient), eps=1.0, rule=ops.RULES[rule], floor=1e-6)
        for a, e in zip(steps, expected):
            assert_close(a, e, "op_sums")


@pytest.mark.parametrize("magnitude", [1e-45, 1.5e-38, 1.7e38, 3e38])
@pytest.mark.parametrize("rule", ["complex", "polar"])
def test_subnormal_and_largest_amplitudes_stay_finite(magnitude, rule, device):
    c = point(complex(magnitude, 0), complex(0, -magnitude), device=device)
    amplitude, _ = ops.polar_split(c)
    assert_close(amplitude, in_double(c).abs(), "op", like=1e-38)
    still, factors = torch.zeros_like(c.real), torch.ones(1, 1, device=device)
    frames = ops.extrapolate(c, still, still, factors, factors, rule, "complex")
    assert_close(frames[0], in_double(c), "op", like=1e-38)


@pytest.mark.parametrize("factor", [1.0, 1000.0, -1000.0])
def test_phases_amplified_a_thousandfold_are_those_of_float64(factor, device):
    angle = torch.linspace(-torch.pi, torch.pi, 4001).reshape(1, 1, 1, -1).to(device)
    c = torch.ones_like(angle) + 0j
    factors = torch.tensor([[factor]], device=device)
    frames = ops.extrapolate(c, angle, None, factors, factors, "complex", "complex")
    error = (torch.exp(1j * factor * in_double(angle)) * frames[0].cpu().conj()).angle().abs().max()
    assert error <= 3e-7


@pytest.mark.parametrize("bad", [complex("nan"), complex("inf"), complex(0, float("nan")), complex(1, float("inf"))])
def test_nan_and_inf_stay_in_their_place(bad, dtype, device):
    c = point(bad, 1 + 1j, dtype=dtype.to_complex(), device=device)
    one, factors = torch.ones_like(c.real), torch.ones(1, 1, dtype=dtype, device=device)
    amplitude, _ = ops.polar_split(c)
    outputs = [amplitude, ops.polar_join(amplitude, one)]
    for rule in ("complex", "polar"):
        outputs += [ops.extrapolate(c, one, a, factors, factors, rule, "complex") for a in (None, one)]
        outputs += [ops.step(c, one, rule=rule, floor=0.0)[1]]  # the phase step of 1 + inf i is finite
    for out in outputs:
        assert not out.flatten()[0].isfinite(), "nan or inf was lost"
        assert out.flatten()[1].isfinite(), "nan or inf has spread"


@pairwise(dtype=DTYPES, rule=["complex", "polar"], bad=[float("nan"), float("inf"), -float("inf")])
def test_nan_and_inf_in_steps_stay_in_their_place(bad, rule, dtype, device):
    c = point(1 + 1j, 1 + 1j, dtype=dtype.to_complex(), device=device)
    step, factors = point(bad, 0.5, dtype=dtype, device=device), torch.ones(1, 1, dtype=dtype, device=device)
    phase = ops.extrapolate(c, step, None, factors, factors, rule, "complex").flatten()
    assert phase[0].isnan() and phase[1].isfinite()
    gradient = torch.complex(step, torch.zeros_like(step))
    steps = [s.flatten() for s in ops.step(c, gradient, rule=rule)]
    assert not (steps[0][0] + steps[1][0]).isfinite()
    assert all(s[1].isfinite() for s in steps)
    grown = ops.extrapolate(c, None, step, factors, factors, rule, "complex").flatten()
    vanishes = rule == "polar" and bad == -float("inf")  # exp(-inf) is 0
    assert grown[1].isfinite() and (grown[0] == 0 if vanishes else not grown[0].isfinite())


def test_amplitude_never_turns_negative(dtype, device):
    c, shrink = (
        point(1 + 1j, 2, dtype=dtype.to_complex(), device=device),
        point(-1, -1, dtype=dtype, device=device),
    )
    factors = torch.tensor([[10.0]], dtype=dtype, device=device)
    assert ops.extrapolate(c, None, shrink, factors, factors, "complex", "complex").abs().max() == 0


def test_floor_is_relative_to_the_largest_of_each_band(device):
    c = torch.tensor([[1.0, 0.05], [1e-3, 5e-5]], device=device).reshape(1, 2, 1, 2) + 0j
    phase_step, _ = ops.step(c, 1j * torch.ones_like(c), floor=0.1)
    assert (phase_step.reshape(2, 2) != 0).tolist() == [[True, False], [True, False]]
    phase_step, _ = ops.step(c, 1j * torch.ones_like(c), floor=0.01)
    assert (phase_step != 0).all()


def test_comparison_of_nan_with_a_number_raises():
    """This tests tolerances.py."""
    with pytest.raises(AssertionError, match="finite"):
        error_of(torch.tensor([float("nan")]), torch.tensor([1.0]))

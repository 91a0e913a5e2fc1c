"""Registration of the ops with torch: opcheck, torch.compile and torch.export, compared with eager results."""

import pytest
import torch
import torch._dynamo.testing
from inputs import image, normal
from op_cases import OPS, RAW, SMALL_CASES, as_list, case, leaves_of, shapes_of
from tolerances import assert_close
from torch._subclasses import FakeTensorMode
from torch.utils import _pytree

from steerlens_fast import CSPFamily, PixelFamily, SteerablePyramid, native
from steerlens_fast.ops import registration

ODD = [case(op, "odd", shapes_of(op)["odd"]) for op in OPS]
syntheses = pytest.mark.parametrize("synthesis", ["real", "adjoint"])


def compiled(function):
    """Trace the function and its derivative, as every backend does.

    Inductor is tested in test_transform_matrix.py.
    """
    return torch.compile(function, fullgraph=True, backend="aot_eager")


# --- Ops


def test_gpu_tensors_without_cuda_kernels_raise(monkeypatch):
    """Without a GPU, only fake tensors can have the device "cuda". So a stand-in replaces the op."""
    monkeypatch.setattr(native, "HAS_CUDA", False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with FakeTensorMode():
        x = torch.empty(2, device="cuda")

    def op(*_):
        raise NotImplementedError("Could not run 'steerlens_fast::pair' with arguments from the 'CUDA' backend")

    monkeypatch.setattr(registration, "_function", lambda *_: op)
    with pytest.raises(RuntimeError, match="tensors must be on the CPU, because steerlens_fast was .*on a GPU"):
        registration.call("pair", [x])
    with pytest.raises(NotImplementedError, match="Could not run"):
        registration.call("pair", [torch.empty(2)])


# One case for each way to compute a derivative.
DERIVATIVES = [
    "split_bands-odd",
    "split_bands-pairs",
    "merge_bands-odd",
    "merge_bands-pairs",
    "pair",
    "unpair",
    "polar_split",
    "polar_split_backward",
    "polar_join",
    "polar_join_backward",
    "step-complex_rule_real_gradient",
    "step-polar_rule_complex_gradient",
    "step_backward-complex_rule_complex_gradient",
    "extrapolate-complex_rule_joint_as_real",
    "extrapolate-polar_rule_joint_as_pairs",
    "extrapolate-polar_rule_amplitude_as_complex",
    "extrapolate_backward-complex_rule_joint_as_complex",
]


def opcheck(label: str, device: torch.device, **options) -> None:
    op = SMALL_CASES[label].op
    args, _ = leaves_of(SMALL_CASES[label].build(torch.float64, device), op)
    torch.library.opcheck(getattr(RAW, op).default, args, **options)


@pytest.mark.parametrize("label", SMALL_CASES)
def test_schema_autograd_and_fakes_are_registered(label, device):
    opcheck(label, device, test_utils=("test_schema", "test_autograd_registration", "test_faketensor"))


@pytest.mark.parametrize("label", DERIVATIVES)
def test_derivatives_are_traced_with_dynamic_sizes(label, device):
    opcheck(label, device, test_utils="test_aot_dispatch_dynamic")


def test_derivatives_of_every_op_are_traced():
    assert {SMALL_CASES[label].op for label in DERIVATIVES} == set(OPS)


@pytest.mark.slow
@pytest.mark.parametrize("case_", ODD, ids=str)
def test_compiled_op_has_one_graph_and_the_same_gradients(case_, device):
    args, leaves = leaves_of(case_.build(torch.float64, device), case_.op)
    function = lambda *a: as_list(getattr(RAW, case_.op)(*a))

    def run(f):
        outs = f(*args)
        grads = torch.autograd.grad(sum(o.abs().square().sum() for o in outs), leaves, allow_unused=True)
        return [*outs, *[g for g in grads if g is not None]]

    for a, e in zip(run(compiled(function)), run(function), strict=True):
        assert_close(a, e, "compiled", like=1e-2)


# --- The module and the family


def assert_same_trees(actual, expected, name="compiled"):
    actual, spec = _pytree.tree_flatten(actual)
    expected, other = _pytree.tree_flatten(expected)
    assert spec == other
    for a, e in zip(actual, expected):
        assert_close(a, e, name, like=1e-2)


def family(synthesis, edit="joint", **options):
    return CSPFamily(SteerablePyramid((16, 19), synthesis=synthesis), edit, **options)


@pytest.mark.slow
@pytest.mark.parametrize("synthesis, dtype", [("real", torch.float32), ("adjoint", torch.float64)], ids=str)
def test_compiled_module_is_equal(synthesis, dtype, device):
    pyramid = SteerablePyramid((17, 20), synthesis=synthesis)
    x = image(2, 3, 17, 20, dtype=dtype, device=device)
    analyze = compiled(pyramid)
    synthesize = compiled(pyramid.synthesize)
    assert_same_trees(analyze(x), pyramid(x))
    assert_close(synthesize(pyramid(x)), x, "reconstruction", absolute=True)
    some = compiled(lambda t: pyramid.analyze(t, scales=[1], residuals=False))
    assert_same_trees(some(x).bands[1], pyramid(x).bands[1])


@pytest.mark.slow
@syntheses
def test_compiled_gradients_are_equal(synthesis, device):
    pyramid = SteerablePyramid((16, 12), height=1, synthesis=synthesis)
    loss = lambda t: pyramid.synthesize(pyramid(t).map(lambda b: b * b.abs())).square().sum()
    x = image(2, 16, 12, device=device).requires_grad_()
    (expected,) = torch.autograd.grad(loss(x), x)
    (actual,) = torch.autograd.grad(compiled(loss)(x), x)
    assert_close(actual, expected, "compiled")


@pytest.mark.slow
def test_dynamic_batch_compiles_once(device):
    pyramid = SteerablePyramid((16, 12), height=1)
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    run = torch.compile(lambda t: pyramid.synthesize(pyramid(t)), fullgraph=True, dynamic=True, backend=counter)
    for n in (2, 3, 5, 8):
        x = image(n, 16, 12, device=device)
        assert_close(run(x), x, "reconstruction", absolute=True)
    assert counter.frame_count == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "edit, rule, synthesis",
    [("phase", "complex", "real"), ("joint", "complex", "adjoint"), ("joint", "polar", "real")],
)
def test_compiled_render_is_equal(edit, rule, synthesis, device):
    csp = family(synthesis, edit, rule=rule)
    x, g = image(2, 3, 16, 19, device=device), normal(2, 3, 16, 19, device=device)
    factors = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64, device=device)
    render = lambda x, g, f: csp.prepare(x, g).render(f, bounds=(0, 1))
    assert_close(compiled(render)(x, g, factors), render(x, g, factors), "compiled")


@pytest.mark.slow
def test_compiled_pixel_render_is_equal(device):
    x, g = image(2, 3, 8, 8, device=device), normal(2, 3, 8, 8, device=device)
    render = lambda x, g: PixelFamily(0.1).prepare(x, g).render([0.0, 1.0], bounds=(0, 1))
    assert_close(compiled(render)(x, g), render(x, g), "compiled")


class RoundTrip(torch.nn.Module):
    def __init__(self, pyramid):
        super().__init__()
        self.pyramid = pyramid

    def forward(self, x):
        c = self.pyramid(x)
        return c, self.pyramid.synthesize(c)


class Render(torch.nn.Module):
    def __init__(self, csp):
        super().__init__()
        self.csp = csp

    def forward(self, x, gradient, factors):
        return self.csp.prepare(x, gradient).render(factors)


@pytest.mark.slow
@pytest.mark.parametrize("synthesis, strict", [("real", True), ("adjoint", False)])
def test_exported_module_is_equal(synthesis, strict, device):
    """The batch size is dynamic. Coefficients are an output, as a pytree."""
    module = RoundTrip(SteerablePyramid((17, 20), synthesis=synthesis))
    x = image(2, 3, 17, 20, device=device)
    shapes = {"x": {0: torch.export.Dim("batch", min=2)}}
    program = torch.export.export(module, (x,), dynamic_shapes=shapes, strict=strict)
    for n in (2, 5):
        x = image(n, 3, 17, 20, device=device)
        assert_same_trees(program.module()(x), module(x))


@pytest.mark.slow
def test_exported_programs_can_be_saved(tmp_path, device):
    module, x = RoundTrip(SteerablePyramid((17, 20))), image(2, 17, 20, device=device)
    torch.export.save(torch.export.export(module, (x,)), tmp_path / "pyramid.pt2")
    loaded = torch.export.load(tmp_path / "pyramid.pt2")
    assert_same_trees(loaded.module()(x), module(x))


@pytest.mark.slow
@syntheses
def test_exported_render_is_equal(synthesis, device):
    module = Render(family(synthesis))
    x, g = image(2, 16, 19, device=device), normal(2, 16, 19, device=device)
    factors = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64, device=device)
    program = torch.export.export(module, (x, g, factors))
    assert_close(program.module()(x, g, factors), module(x, g, factors), "compiled")


@pytest.mark.slow
def test_masks_cached_while_compiling_work_in_eager_mode(device):
    """Masks of a geometry that is first used while compiling are not cached as fake tensors."""
    pyramid = SteerablePyramid((16, 16), width=1.125)
    x = image(2, 16, 16, device=device)
    compiled(lambda t: pyramid.synthesize(pyramid(t)))(x)
    assert_close(pyramid.synthesize(pyramid(x)), x, "reconstruction", absolute=True)

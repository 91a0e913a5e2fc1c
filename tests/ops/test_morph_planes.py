"""morph_planes, which computes frames from image and gradient in one op, on CPUs that have it."""

from dataclasses import dataclass, replace
from itertools import product

import pytest
import torch
from inputs import ODD_LAYOUTS, image, in_double, normal, on_tensors
from op_cases import RAW, PlaneShape, check_rejected, plane_dtypes
from pairwise import covering
from tolerances import assert_close

from steerlens_fast import CSPFamily, SteerablePyramid, memory, native, ops
from steerlens_fast.families.planes import PlaneMotion
from steerlens_fast.families.shared import factor_pair
from steerlens_fast.ops import reference

pytestmark = pytest.mark.skipif(not native.LARGEST_PLANE_SIDE["cpu"], reason="this CPU has no ops on whole planes")
# Emulated CUDA kernels leave SIMD_WIDTH at 0, but not LARGEST_PLANE_SIDE. Marks tests that do not apply to them
of_cpu_kernels = pytest.mark.skipif(not native.SIMD_WIDTH, reason="the CPU's kernels are replaced")
PHASE, AMPLITUDE, JOINT = 0, 1, 2
COMPLEX, POLAR = 0, 1

SHAPES = {
    "even": PlaneShape(3, 32, 24, [(4, 32, 24), (3, 16, 12)]),
    "odd": PlaneShape(2, 35, 27, [(3, 35, 27), (2, 18, 14)]),
    "primes": PlaneShape(2, 37, 53, [(1, 19, 27), (3, 37, 53)]),
    "whole_blocks": PlaneShape(2, 48, 16, [(4, 48, 16)]),
    "1x6": PlaneShape(2, 1, 6, [(2, 1, 6), (1, 1, 3)]),
    "1x1": PlaneShape(1, 1, 1, [(2, 1, 1)]),
    "K0": PlaneShape(2, 8, 8, [(0, 8, 8), (1, 4, 4)]),
    "empty": PlaneShape(0, 16, 12, [(4, 16, 12)]),
    "threads": PlaneShape(9, 100, 96, [(4, 100, 96), (1, 50, 48)]),
    "shared": PlaneShape(5, 192, 176, [(3, 192, 176), (1, 96, 88)]),
}


@dataclass(frozen=True)
class Case:
    """Arguments of the op.

    Their floor is large, so that coefficients near 0, where phases jump, do not move.
    """

    shape: PlaneShape
    edit: int = JOINT
    rule: int = COMPLEX
    complex_bands: bool = False
    per_plane: bool = False  # factors of each plane, in place of factors for all planes
    low: float = -0.5
    high: float = 0.75
    dtype: torch.dtype = torch.float32

    def args(self) -> list:
        N, H, W, groups = self.shape
        planes, gradients = (f(N, H, W, dtype=self.dtype) for f in (image, normal))
        masks = [image(*size, dtype=self.dtype, seed=i) + 0.5 for i, size in enumerate(groups)]
        filters = [m / (H * W) for m in masks]  # so that images stay near [0, 1]
        residual = image(1, H, W, dtype=self.dtype, seed=7) / (H * W)
        table = lambda seed: 0.7 * normal(3, N if self.per_plane else 1, dtype=self.dtype, seed=seed)
        phase_factors, amplitude_factors = table(3), table(4)
        phase_factors[1], amplitude_factors[1] = 0, 0
        # 0.06 and 0.3 are so small that hardly any pixel is clipped, except in frame 1, which is the plane itself.
        synthesis = [f * (0.06 if self.complex_bands else 0.3) for f in filters]
        i_power, eps, floor = 3, 1.0, 0.3
        options = i_power, self.edit, self.rule, self.complex_bands, eps, floor, self.low, self.high
        return [planes, gradients, phase_factors, amplitude_factors, [*filters, residual], synthesis, *options]


OPTIONS = {
    f"{edit}-{rule}-{bands}": (ops.EDITS[edit], ops.RULES[rule], bands == "complex_bands")
    for edit, rule, bands in product(ops.EDITS, ops.RULES, ("real_bands", "complex_bands"))
}
CASES = {f"odd-{name}": Case(SHAPES["odd"], *options) for name, options in OPTIONS.items()}
CASES |= {name: Case(shape) for name, shape in SHAPES.items()}
CASES |= {
    f"{name}-per_plane": Case(SHAPES[name], complex_bands=True, per_plane=True) for name in ("even", "empty", "threads")
}
of_cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


# --- Against the reference


@plane_dtypes
@of_cases
def test_frames_are_those_of_the_reference(case, dtype):
    args = replace(case, dtype=dtype).args()
    actual, expected = RAW.morph_planes(*args), reference.morph_planes(*in_double(args))
    assert actual.dtype == dtype and actual.is_contiguous()
    assert_close(actual, expected, "render")
    meta = RAW.morph_planes(*on_tensors(lambda t: t.to("meta"), args))
    assert (actual.shape, actual.dtype, actual.stride()) == (meta.shape, meta.dtype, meta.stride())


def halves(args: list) -> tuple[list, list]:
    """Return the arguments of step_planes, and those of move_planes after images and coefficients."""
    planes, gradients, *factors, analysis, synthesis, i_power, edit, rule, complex_bands, eps, floor, low, high = args
    shared = analysis, synthesis, i_power, edit, rule, complex_bands
    return [planes, gradients, *shared, eps, floor], [*factors, *shared, low, high]


@of_cpu_kernels
@plane_dtypes
@of_cases
def test_step_planes_and_move_planes_give_the_frames_of_morph_planes(case, dtype):
    args = replace(case, dtype=dtype).args()
    step, move = halves(args)
    coefficients, *per_band = RAW.step_planes(*step)
    assert torch.equal(RAW.move_planes(args[0], coefficients, *move), RAW.morph_planes(*args))
    for actual, expected in zip(per_band, reference.step_planes(*in_double(step))[1:], strict=True):
        assert_close(actual, expected, "op")
    meta = RAW.step_planes(*on_tensors(lambda t: t.to("meta"), step))
    assert [(t.shape, t.dtype) for t in meta] == [(t.shape, t.dtype) for t in (coefficients, *per_band)]
    frames = RAW.move_planes(*on_tensors(lambda t: t.to("meta"), [args[0], coefficients, *move]))
    assert frames.shape == (3, *args[0].shape)


@of_cpu_kernels
def test_move_planes_rejects_bad_coefficients_and_has_no_derivative():
    args = CASES["even"].args()
    step, move = halves(args)
    coefficients = RAW.step_planes(*step)[0]
    for wrong, text in [(coefficients[:, 1:], "shape"), (coefficients[:1], "shape"), (coefficients.double(), "dtype")]:
        check_rejected(RAW.move_planes, [args[0], wrong, *move], f"move_planes.*coefficients must .*{text}")
    with pytest.raises(RuntimeError, match="step_planes and move_planes have no derivative: use morph_planes"):
        RAW.move_planes(args[0].requires_grad_(), coefficients, *move).sum().backward()


@pytest.mark.parametrize("edit, changed", [(PHASE, 3), (AMPLITUDE, 2), (JOINT, 2)])
def test_frame_of_factor_0_is_the_plane_itself(edit, changed):
    """Phase factors (argument 2) have no effect on amplitude edits, amplitude factors (3) none on phase edits."""
    args = replace(CASES["even"], edit=edit, low=-1.0, high=2.0).args()
    args[2][0], args[3][0] = 0, 0
    args[changed][0] = 0.5
    frames = RAW.morph_planes(*args)
    assert torch.equal(frames[1], args[0]) and torch.equal(frames[0], args[0]) == (edit != JOINT)
    assert not torch.equal(frames[2], args[0])


def test_frames_are_clipped_and_nan_stays_in_its_plane():
    args = replace(CASES["even"], low=0.25, high=0.5).args()
    args[0][1, 3, 4] = torch.nan
    frames = RAW.morph_planes(*args)
    clean = frames[:, [0, 2]]
    assert clean.min() == 0.25 and clean.max() == 0.5
    # Frame 1 has factor 0: it is the plane itself
    assert frames[0, 1].isnan().all() and frames[1, 1].isnan().sum() == 1


@plane_dtypes
@pytest.mark.parametrize("layout", ODD_LAYOUTS)
def test_memory_layout_does_not_matter(layout, dtype):
    args = on_tensors(ODD_LAYOUTS[layout], replace(CASES["odd"], dtype=dtype).args())
    assert_close(RAW.morph_planes(*args), reference.morph_planes(*in_double(args)), "render")


def family_cases():
    sizes, edits = [(28, 28), (45, 35)], ("phase", "amplitude", "joint")
    for size, synthesis, edit, rule in covering(product(sizes, ("real", "adjoint"), edits, ("complex", "polar"))):
        yield CSPFamily(SteerablePyramid(size, order=2, synthesis=synthesis), edit, rule, floor=0.05)
    yield CSPFamily(SteerablePyramid((28, 28)), "joint", floor=0.05, scales=[1], orientations=[0, 2, 3])


@pytest.mark.parametrize("family", list(family_cases()), ids=str)
def test_frames_of_a_family_are_those_rendered_tile_by_tile(family):
    shape = 3, 2, *family.pyramid.image_shape
    x, g = image(*shape, dtype=torch.float32), 0.02 * normal(*shape, dtype=torch.float32)
    motion = family.prepare(x, g)
    factors = torch.tensor([0.0, 0.5, 1.5])[:, None] * torch.tensor([[1.0, 0.0, 2.0]])
    frames = motion.render(factors, bounds=(0, 1))
    by_tiles = PlaneMotion._render(motion, *factor_pair(factors, None, x), (0, 1)).reshape(frames.shape)
    assert_close(frames, by_tiles, "render")
    assert torch.equal(frames[:, 1], x[1].expand(3, *shape[1:])), "a sample with factors 0 has changed"


def test_family_renders_the_same_frames_without_morph_planes(monkeypatch):
    family = CSPFamily(SteerablePyramid((28, 28)), "joint", floor=0.05)
    x, g = image(2, 28, 28, dtype=torch.float32), 0.02 * normal(2, 28, 28, dtype=torch.float32)
    frames = family.prepare(x, g).render([0.5, 1.0])
    monkeypatch.setitem(native.LARGEST_PLANE_SIDE, "cpu", 0)
    monkeypatch.setattr(ops, "morph_planes", None)
    assert_close(family.prepare(x, g).render([0.5, 1.0]), frames, "render")


def test_inference_mode_changes_nothing():
    args = CASES["even"].args()
    with torch.inference_mode():
        frames = RAW.morph_planes(*args)
    assert torch.equal(frames, RAW.morph_planes(*args))


# --- Derivatives


DIFFERENTIABLE = [
    "odd-joint-complex-real_bands",
    "odd-joint-polar-complex_bands",
    "odd-phase-complex-complex_bands",
    "even-per_plane",
]


def vjp(function, args: list, cotangent: torch.Tensor) -> tuple:
    leaves = [a.detach().requires_grad_() for a in args[:4]]
    return torch.autograd.grad(function(*leaves, *args[4:]), leaves, cotangent, allow_unused=True)


@plane_dtypes
@pytest.mark.parametrize("label", DIFFERENTIABLE)
def test_gradients_are_those_of_the_reference(label, dtype):
    args = replace(CASES[label], low=-9.0, high=9.0, dtype=dtype).args()
    cotangent = normal(3, *args[0].shape, dtype=dtype)
    actual = vjp(RAW.morph_planes, args, cotangent)
    expected = vjp(reference.morph_planes, in_double(args), in_double(cotangent))
    for a, e in zip(actual, expected, strict=True):
        if a is None or e is None:  # factors of phases or amplitudes that do not move
            assert all(g is None or not g.any() for g in (a, e))
        else:
            assert_close(a, e, "op_sums")


@of_cpu_kernels
@pytest.mark.parametrize("label", DIFFERENTIABLE)
def test_derivatives_agree_with_numerical_ones(label):
    args = replace(CASES[label], low=-9.0, high=9.0, dtype=torch.float64).args()
    planes, gradients, *factors = args[:4]
    factors = [t[::2] for t in factors]  # without factor 0, where the frame jumps to the plane itself
    function = lambda *leaves: RAW.morph_planes(*leaves, *args[4:])
    leaves = [t.requires_grad_() for t in (planes, gradients, *factors)]
    assert torch.autograd.gradcheck(function, leaves, fast_mode=True)


def test_second_derivatives_are_those_of_the_reference():
    args = replace(CASES["odd-joint-polar-real_bands"], low=-9.0, high=9.0).args()

    def second(function, args):
        leaves = [a.detach().requires_grad_() for a in args[:2]]
        first = torch.autograd.grad(function(*leaves, *args[2:]).square().sum(), leaves, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), leaves)

    actual, expected = second(RAW.morph_planes, args), second(reference.morph_planes, in_double(args))
    for a, e in zip(actual, expected, strict=True):
        assert_close(a, e, "op_sums")


@pytest.mark.parametrize("second_order", [False, True])
def test_gradients_of_inputs_that_depend_on_each_other_are_those_of_the_reference(second_order):
    """One tensor is used for both factors, and the gradient depends on the image. The hook runs once per derivative."""
    x, _, factors, _, *options = replace(CASES["odd-joint-complex-complex_bands"], low=-9.0, high=9.0).args()

    def gradients_of(function, x, factors, options):
        x, factors, calls = x.detach().requires_grad_(), factors.detach().requires_grad_(), []
        inner = x * 1.0
        inner.register_hook(lambda grad: calls.append(1))
        frames = function(inner, inner.sin(), factors, factors, *options)
        grads = torch.autograd.grad(frames.square().sum(), (x, factors), create_graph=second_order)
        if second_order:
            grads += torch.autograd.grad(grads[0].square().sum(), (x, factors))
        assert calls == [1] * (1 + second_order)
        return grads

    actual = gradients_of(RAW.morph_planes, x, factors, options)
    for a, e in zip(actual, gradients_of(reference.morph_planes, *in_double([x, factors, options])), strict=True):
        assert_close(a, e, "op_sums")


@pytest.mark.parametrize("planes, frames", [(0, 3), (2, 0)])
def test_gradients_of_no_planes_or_no_frames_are_zero(planes, frames):
    args = CASES["odd"].args()
    args[:2] = [t[:planes] for t in args[:2]]
    args[2:4] = [t[:frames] for t in args[2:4]]
    grads = vjp(RAW.morph_planes, args, torch.empty(frames, planes, 35, 27))
    assert all(g is None or not g.any() for g in grads)


def test_compiled_gradients_are_the_same():
    args = replace(CASES["odd"], low=-9.0, high=9.0).args()
    x, factors = (args[i].requires_grad_() for i in (0, 2))
    run = lambda x, factors: RAW.morph_planes(x, 0.3 * x, factors, factors, *args[4:]).square().sum()
    leaves = x, factors
    compiled = torch.autograd.grad(torch.compile(run, backend="aot_eager", fullgraph=True)(*leaves), leaves)
    for a, e in zip(compiled, torch.autograd.grad(run(*leaves), leaves), strict=True):
        assert_close(a, e, "op_sums")


def test_forward_mode_has_frames_and_a_tangent():
    args = CASES["odd"].args()
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(args[0], torch.ones_like(args[0]))
        options = ["joint", "complex", False, 1.0, 0.3, (-0.5, 0.75)]
        frames, tangent = torch.autograd.forward_ad.unpack_dual(ops.morph_planes(dual, *args[1:7], *options))
    assert_close(frames, RAW.morph_planes(*args), "render")
    assert tangent.isfinite().all() and tangent.any()


def test_filters_that_require_grad_raise():
    args = CASES["even"].args()
    args[5][0].requires_grad_()
    with pytest.raises(RuntimeError, match="constants"):
        RAW.morph_planes(args[0].requires_grad_(), *args[1:]).sum().backward()


def test_opcheck_finds_no_errors():
    args = CASES["odd"].args()
    torch.library.opcheck(RAW.morph_planes.default, [*(a.requires_grad_() for a in args[:4]), *args[4:]])


@of_cpu_kernels
def test_opcheck_of_step_planes_and_move_planes_finds_no_errors():
    args = CASES["odd"].args()
    step, move = halves(args)
    torch.library.opcheck(RAW.step_planes.default, step)
    torch.library.opcheck(RAW.move_planes.default, [args[0], RAW.step_planes(*step)[0], *move])


@of_cpu_kernels
def test_arguments_that_are_only_read_are_not_copied():
    args = CASES["odd"].args()
    step, move = halves(args)
    clones = [torch._lazy_clone(t) for t in (args[0], RAW.step_planes(*step)[0])]
    RAW.move_planes(*clones, *move)
    assert all(map(torch._C._is_cow_tensor, clones))


# --- Equal bit for bit, however the work is divided


def with_threads(count: int, args: list) -> torch.Tensor:
    with memory.threads(count):
        return RAW.morph_planes(*args)


@plane_dtypes
@pytest.mark.parametrize("label", ["even", "threads", "threads-per_plane", "shared"])
def test_frames_do_not_depend_on_threads_and_other_planes(label, dtype):
    args = replace(CASES[label], dtype=dtype).args()
    frames = with_threads(1, args)
    assert all(torch.equal(with_threads(count, args), frames) for count in (2, 3))
    for n in range(len(args[0])):
        factors = [t[:, n : n + 1] if t.shape[1] > 1 else t for t in args[2:4]]
        alone = RAW.morph_planes(args[0][n : n + 1], args[1][n : n + 1], *factors, *args[4:])
        assert torch.equal(alone[:, 0], frames[:, n])


@of_cpu_kernels
def test_large_planes_are_shared_by_threads():
    """The coefficients of one plane exceed the memory that each thread may allocate."""
    args = Case(PlaneShape(2, 640, 720, [(4, 640, 720), (4, 320, 360)]), rule=POLAR).args()
    args[11] = 0.0  # no floor: rounding would decide whether coefficients near it move
    frames = with_threads(1, args)
    assert torch.equal(with_threads(2, args), frames)
    assert_close(frames, reference.morph_planes(*in_double(args)), "render")


@of_cpu_kernels
@pytest.mark.parametrize("frames", [3, 8])
def test_parallel_regions_are_few(frames):
    """There is one region for the filters and one for everything else, also if threads share frames."""
    args = CASES["shared"].args()
    args[2], args[3] = (0.1 * torch.ones(frames, 1) for _ in range(2))
    before = native.parallel_regions()
    with_threads(2, args)
    assert native.parallel_regions() - before == 2


# --- Bad input


# (changed arguments, part of the message)
BAD_ARGUMENTS = [
    (dict(images=torch.rand(3, 32, 24).half()), "images must have dtype float32( or float64)?, got float16"),
    (dict(gradients=torch.rand(3, 32, 24).double()), "gradients must have dtype float32, got float64"),
    (dict(images=torch.rand(32, 24)), r"images must have shape \[N, H, W\]"),
    (dict(gradients=torch.rand(2, 32, 24)), r"gradients must have shape \[3, 32, 24\]"),
    (dict(phase_factors=torch.rand(3, 2)), r"phase_factors must have shape \[F, 1\] or \[F, N\] with N = 3"),
    (dict(amplitude_factors=torch.rand(2, 1)), r"amplitude_factors must have shape \[3, 1\]"),
    (dict(synthesis=[]), "analysis must have one filter more than synthesis, .* got 3 and 0"),
    (dict(images=torch.rand(3, 67, 24), gradients=torch.rand(3, 67, 24)), "height of images must have no prime .* 67"),
    (dict(i_power=4), "i_power must be 0 to 3, got 4"),
    (dict(edit=3), "edit must be 0 .* got 3"),
    (dict(rule=2), "rule must be 0 .* got 2"),
]


def test_bad_arguments_raise():
    for change, message in BAD_ARGUMENTS:
        names = "images gradients phase_factors amplitude_factors analysis synthesis i_power edit rule"
        args = dict(zip([*names.split(), "complex_bands", "eps", "floor", "low", "high"], CASES["even"].args()))
        check_rejected(RAW.morph_planes, list({**args, **change}.values()), message)


def test_edit_and_rule_are_given_by_name_and_unknown_names_raise():
    args = CASES["even"].args()
    named = ops.morph_planes(*args[:7], "joint", "complex", False, 1.0, 0.3, (-0.5, 0.75))
    assert torch.equal(named, RAW.morph_planes(*args))
    for change in (dict(edit="all"), dict(rule="real")):
        with pytest.raises(ValueError, match=f"{next(iter(change))} must be one of"):
            ops.morph_planes(*args[:7], **change)

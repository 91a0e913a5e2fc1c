"""advance_planes, compared with the same steps by several ops.

An anchor (families/anchor.py) stores the changes of coefficients in the regime "persistent".
"""

import math

import pytest
import torch
from inputs import ODD_LAYOUTS, image, normal, on_tensors
from op_cases import PLANE_DTYPES, RAW, check_rejected, plane_dtypes
from pairwise import pairwise
from tolerances import all_equal, assert_close
from torch.autograd import forward_ad

from steerlens_fast import CSPFamily, LumaFamily, SteerablePyramid, memory, native, ops
from steerlens_fast.families.protocols import StepExtent
from steerlens_fast.lens.l2_search import l2_from, tolerance_at
from steerlens_fast.lens.regimes import SEARCH_OPTIONS

pytestmark = pytest.mark.skipif(not native.SIMD_WIDTH, reason="the op needs AVX2 or NEON")
BOUNDS = (0.0, 1.0)
ANY_STEP_LENGTH = SEARCH_OPTIONS | {"max_step_ratio": 1e30}


def csp(size, edit="phase", rule="complex", **options):
    return CSPFamily(SteerablePyramid(size, order=2, **options), edit, rule, floor=0.05)


def random_gradient(shape, seed, scale=0.02, dtype=torch.float32):
    return scale * normal(*shape, dtype=dtype, seed=seed)


def by_factors(x, position, phase, amplitude, phase_cap=math.inf):
    per_sample = lambda t: torch.as_tensor(t, dtype=x.dtype).expand(len(x))
    return StepExtent(x, position, phase_cap, factors=torch.stack([per_sample(phase), per_sample(amplitude)]))


def to_distance(x, position, max_l2, phase_cap=math.inf, start=0.0, dtype_max_factor=1e30, options=ANY_STEP_LENGTH):
    per_sample = lambda t: torch.as_tensor(t, dtype=x.dtype).expand(len(x))
    max_l2 = per_sample(max_l2)
    limits = torch.stack([max_l2, tolerance_at(max_l2), per_sample(dtype_max_factor), per_sample(start)])
    return StepExtent(x, position, phase_cap, limits=limits, options=options)


def copy_of(anchor, family):
    """Return an anchor with the same coordinates."""
    other = family.anchor(anchor.image)
    for to, t in zip(coordinates(other), coordinates(anchor)):
        to.copy_(t)
    return other


def coordinates(anchor):
    """Return the tensors that a step changes. An anchor of LumaFamily has them in the anchor of its luma."""
    return getattr(anchor, "anchor", anchor).state


@pairwise(
    size=[(28, 28), (45, 35), (37, 53), (9, 8)],
    channels=(1, 3),
    edit=("phase", "amplitude", "joint"),
    rule=("complex", "polar"),
    synthesis=("real", "adjoint"),
    bounds=(None, BOUNDS),
    dtype=PLANE_DTYPES,
)
def test_steps_are_those_of_separate_ops(size, channels, edit, rule, synthesis, bounds, dtype):
    family, shape = csp(size, edit, rule, synthesis=synthesis), (3, channels, *size)
    x = position = image(*shape, dtype=dtype)
    anchor, expected = family.anchor(x), family.anchor(x)
    phase, amplitude = factors = torch.tensor([[0.0, 3.0, 40.0], [1.0, 3.0, 20.0]], dtype=dtype)
    for step in range(3):  # some coordinates reach their limits
        g = random_gradient(shape, step, dtype=dtype)
        result = anchor.take_step(g, by_factors(x, position, phase, amplitude), bounds)
        expected.advance(g, phase[None], None if edit == "phase" else amplitude[None])
        position = result.frames.view(shape)
        assert_close(position, expected.frame(bounds), "render")
        assert torch.equal(result.factors, factors)
        assert_close(result.l2, l2_from(position[None], x)[0], "op")
        for ours, theirs in zip(anchor.state, expected.state):
            # Amplitudes are at least 1/e of the source's, so errors of their logarithms are up to e times larger.
            assert_close(ours, theirs, "render", like=math.e)


def check_search(anchor, family, gradient, extent, bounds=BOUNDS):
    """Check that the step to a distance equals a step with the factors that the search found; return the step."""
    other = copy_of(anchor, family)
    result = anchor.take_step(gradient, extent, bounds)
    same = other.take_step(gradient, by_factors(extent.source, extent.position, *result.factors), bounds)
    assert torch.equal(result.frames, same.frames) and torch.equal(result.l2, same.l2)
    assert all_equal(coordinates(anchor), coordinates(other))
    return result


@plane_dtypes
@pytest.mark.parametrize("rule", ["complex", "polar"])
@pytest.mark.parametrize("edit", ["phase", "amplitude", "joint"])
@pytest.mark.parametrize("color", ["rgb", "luma"])
def test_distances_are_reached(edit, rule, color, dtype):
    shape, family = (3, 3, 28, 36), csp((28, 36), edit, rule)
    family = family if color == "rgb" else LumaFamily(family)
    x = position = image(*shape, dtype=dtype)
    anchor = family.anchor(x)
    for step, distance in enumerate([0.1, 0.25, 0.4]):
        extent = to_distance(x, position, distance * torch.tensor([1.0, 0.5, 1.5]))
        result = check_search(anchor, family, random_gradient(shape, step, dtype=dtype), extent)
        position = result.frames.view(shape)
        assert ((result.l2 - extent.limits[0]).abs() <= extent.limits[1]).all() and not result.out_of_range.any()


def test_search_starts_at_the_given_factor():
    shape, family = (2, 1, 32, 32), csp((32, 32))
    x, g = image(*shape, dtype=torch.float32), random_gradient((2, 1, 32, 32), 0)
    expected = family.anchor(x).take_step(g, to_distance(x, x, 0.3), BOUNDS)
    start = expected.factors[0]
    options = ANY_STEP_LENGTH | {"iterations": 1}  # tries no other factor
    result = family.anchor(x).take_step(g, to_distance(x, x, 0.3, start=start, options=options), BOUNDS)
    assert torch.equal(result.factors, expected.factors) and torch.equal(result.frames, expected.frames)


def test_limits_are_kept():
    """The limits are ``max_step_ratio``, ``phase_cap`` and ``dtype_max_factor``."""
    shape, family = (2, 1, 32, 32), csp((32, 32))
    x, g = image(*shape, dtype=torch.float32), random_gradient((2, 1, 32, 32), 0)
    anchor = family.anchor(x)
    near, far, ratio = 0.5, 0.51, 0.5
    position = anchor.take_step(g, to_distance(x, x, near), BOUNDS).frames.view(shape)
    # A step through the source to its other side would reach the distance `far`, too, but would be too long
    extent = to_distance(x, position, far, options=SEARCH_OPTIONS | {"max_step_ratio": ratio})
    result = check_search(anchor, family, random_gradient(shape, 1), extent)
    longest = ratio * math.sqrt(far**2 - near**2)  # see MAX_STEP_RATIO
    assert (l2_from(result.frames.view(1, *shape), position)[0] <= longest * 1.01).all()

    motion, cap = family.prepare(x, g), 0.01
    largest = cap / motion.largest_phase_step()
    result = check_search(family.anchor(x), family, g, to_distance(x, x, 5.0, phase_cap=cap))
    torch.testing.assert_close(result.factors[0], largest, rtol=1e-6, atol=0)
    result = family.anchor(x).take_step(g, by_factors(x, x, 1e4, 2e4, phase_cap=cap), BOUNDS)
    torch.testing.assert_close(result.factors, largest * torch.tensor([[1.0], [2.0]]), rtol=1e-6, atol=0)
    extent = to_distance(x, x, 1.0, dtype_max_factor=torch.tensor([1.0, 1e30]))
    assert family.anchor(x).take_step(1e-4 * g, extent, BOUNDS).out_of_range.tolist() == [True, False]


@pytest.mark.parametrize("color", ["rgb", "luma"])
def test_motions_step_from_the_current_image(color):
    shape, family = (2, 3, 35, 32), csp((35, 32), "joint")
    family = family if color == "rgb" else LumaFamily(family)
    x, other = image(*shape, dtype=torch.float32), image(*shape, dtype=torch.float32, seed=5)
    position = (0.9 * x + 0.1 * other).clamp(0, 1)
    distance = l2_from(position[None], x)[0] + 0.2
    motion = family.prepare(position, random_gradient(shape, 0))
    result = motion.take_step(to_distance(x, position, distance), BOUNDS)
    assert ((result.l2 - distance).abs() <= tolerance_at(distance)).all()
    assert_close(result.frames.view(1, *shape), motion.render(result.factors[:1], bounds=BOUNDS), "render")
    if color == "rgb":
        assert torch.equal(result.frames.view(1, *shape), motion.render(result.factors[:1], bounds=BOUNDS))


def test_gradients_that_are_zero_or_not_finite_do_not_affect_other_samples():
    shape, family = (4, 1, 32, 32), csp((32, 32), "joint")
    x, g = image(*shape, dtype=torch.float32), random_gradient((4, 1, 32, 32), 0)
    expected = family.anchor(x).take_step(g, to_distance(x, x, 0.5), BOUNDS)
    g[1] = 0
    g[2, 0, 3, 4] = math.nan
    anchor = family.anchor(x)
    result = anchor.take_step(g, to_distance(x, x, 0.5), BOUNDS)
    assert all(
        torch.equal(a.view(-1, 4)[:, [0, 3]], b.view(-1, 4)[:, [0, 3]]) for a, b in zip(result[1:], expected[1:])
    )
    assert torch.equal(result.frames[0, [0, 3]], expected.frames[0, [0, 3]])
    assert not any(t[1].any() for t in anchor.state)


@pytest.mark.parametrize("shape", [(5, 1, 40, 36), (1, 3, 128, 192), (3, 2, 128, 192)], ids=str)
def test_results_do_not_depend_on_threads(shape):
    family, x = csp(shape[-2:], "joint"), image(*shape, dtype=torch.float32)

    def run(count):
        with memory.threads(count):
            anchor = family.anchor(x)
            result = anchor.take_step(random_gradient(shape, 0), to_distance(x, x, 0.5), BOUNDS)
            return *result, *anchor.state

    expected = run(1)
    for count in (2, 3):
        assert all_equal(run(count), expected)


# --- The raw op

NAMES = (
    "images gradients coordinates planes_per_sample base source position factors limits analysis synthesis i_power "
    "edit rule complex_bands eps floor low high phase_cap phase_limit speed_share max_step_ratio iterations"
).split()


def raw_arguments(factors=False) -> list:
    """Return the arguments for two samples of three planes."""
    shape, family, calls = (2, 3, 32, 28), csp((32, 28), "joint"), []
    x = image(*shape, dtype=torch.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("steerlens_fast.ops.advance.call_op", lambda name, *args, **_: calls.append(args) or (None,) * 4)
        extent = by_factors(x, x, 2.0, 2.0) if factors else to_distance(x, x, 0.1)
        family.anchor(x).take_step(random_gradient(shape, 0), extent, BOUNDS)
    return list(calls[0])


def test_empty_batches_have_empty_results():
    args = dict(zip(NAMES, raw_arguments(), strict=True))
    for name in ("images", "gradients", "source", "position"):
        args[name] = args[name][:0]
    args |= {"coordinates": [t[:0] for t in args["coordinates"]], "limits": args["limits"][:, :0]}
    result = RAW.advance_planes(**args)
    assert [list(t.shape) for t in result] == [[1, 0, 32, 28], [2, 0], [0], [0]]


def test_opcheck_finds_no_errors():
    tests = "test_schema", "test_autograd_registration", "test_faketensor"
    for factors in (True, False):
        torch.library.opcheck(RAW.advance_planes.default, raw_arguments(factors), test_utils=tests)


def advance(args: dict):
    """Take a step by the wrapper."""
    names = "images gradients coordinates planes_per_sample source position analysis synthesis i_power".split()
    options = {name: args[name] for name in ("base", "factors", "limits")}
    return ops.advance_planes(*(args[name] for name in names), edit="joint", **options)


@pytest.mark.parametrize("name", ["images", "coordinates", "analysis", "base", "factors"])
def test_derivatives_raise(name):
    args = dict(zip(NAMES, raw_arguments(factors=True), strict=True))
    args["base"] = args["images"].clone()
    value, before = args[name], [t.clone() for t in args["coordinates"]]
    require_grad = lambda t: t.clone().requires_grad_()
    recorded = [require_grad(t) for t in value] if isinstance(value, list) else require_grad(value)
    with pytest.raises(RuntimeError, match="advance_planes has no derivative: use morph_planes"):
        advance({**args, name: recorded})
    with forward_ad.dual_level():
        make_dual = lambda t: forward_ad.make_dual(t.clone(), torch.ones_like(t))
        dual = [make_dual(t) for t in value] if isinstance(value, list) else make_dual(value)
        with pytest.raises(RuntimeError, match="advance_planes has no derivative: use morph_planes"):
            advance({**args, name: dual})
    assert all_equal(args["coordinates"], before)


@pytest.mark.parametrize("run", [advance, lambda args: RAW.advance_planes(**args)], ids=["wrapper", "raw"])
def test_autograd_notices_that_coordinates_have_moved(run):
    args, weight = dict(zip(NAMES, raw_arguments(), strict=True)), torch.ones((), requires_grad=True)
    product = args["coordinates"][1] * weight
    run(args)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.sum().backward()


def test_compiled_op_moves_the_coordinates():
    args = dict(zip(NAMES, raw_arguments(), strict=True))
    copy = args | {"coordinates": [t.clone() for t in args["coordinates"]]}
    compiled = torch.compile(lambda: RAW.advance_planes(**copy), fullgraph=True, backend="aot_eager")
    pairs = zip((*compiled(), *copy["coordinates"]), (*RAW.advance_planes(**args), *args["coordinates"]))
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("layout", ODD_LAYOUTS)
def test_memory_layout_does_not_matter(layout):
    odd = on_tensors(ODD_LAYOUTS[layout], raw_arguments())
    plain = on_tensors(lambda t: t.clone(memory_format=torch.contiguous_format).resolve_neg(), odd)
    at = NAMES.index("coordinates")  # these tensors must be contiguous
    odd[at] = [t.clone() for t in plain[at]]
    pairs = zip(RAW.advance_planes(*odd), RAW.advance_planes(*plain))
    assert all(torch.equal(a, b) for a, b in pairs)


def bad_arguments(args: dict) -> list:
    coordinates = args["coordinates"]
    return [
        (dict(images=torch.rand(6, 32, 28).half()), "images must have dtype float32 or float64, got float16"),
        (dict(planes_per_sample=0), "planes_per_sample must divide the number of planes, 6, got 0"),
        (dict(planes_per_sample=4), "planes_per_sample must divide the number of planes, 6, got 4"),
        (dict(coordinates=coordinates[1:]), r"coordinates must hold \d+ tensors, or none, got \d+"),
        (dict(coordinates=[t.double() for t in coordinates]), r"coordinates\[0\] must have dtype float32"),
        (dict(coordinates=[t[:5] for t in coordinates]), r"coordinates\[0\] must have shape \[6, 3, 32, 28\]"),
        (dict(coordinates=[t.mT.contiguous().mT for t in coordinates]), r"coordinates\[0\] must be contiguous"),
        (dict(coordinates=[coordinates[0]] * 2 + coordinates[2:]), r"coordinates\[1\] must not share memory with"),
        (dict(position=coordinates[1].view(-1, 32, 28)[6:12]), r"coordinates\[1\] must not share memory with"),
        (dict(source=torch.rand(5, 32, 28)), r"source must have shape \[6, 32, 28\], got \[5, 32, 28\]"),
        (dict(position=torch.rand(6, 32, 28).double()), "position must have dtype float32"),
        (dict(limits=None), "either factors or limits must be given, got neither"),
        (dict(factors=torch.ones(2, 2)), "either factors or limits must be given, got both"),
        (dict(limits=torch.ones(3, 2)), r"limits must have shape \[4, 2\], got \[3, 2\]"),
        (dict(limits=None, factors=torch.ones(2, 3)), r"factors must have shape \[2, 2\], got \[2, 3\]"),
        (dict(iterations=-1), "iterations must be from 0 to 1048576, got -1"),
        (dict(iterations=2**62), "iterations must be from 0 to 1048576, got 4611686018427387904"),
        (dict(edit=3), "edit must be 0 .* got 3"),
    ]


def test_bad_arguments_raise():
    args = dict(zip(NAMES, raw_arguments(), strict=True))
    for change, message in bad_arguments(args):
        values, meta = list({**args, **change}.values()), "share memory" not in message  # meta tensors have no memory
        check_rejected(RAW.advance_planes, values, f"advance_planes: .*{message}", meta=meta)
    assert not any(t.any() for t in args["coordinates"])

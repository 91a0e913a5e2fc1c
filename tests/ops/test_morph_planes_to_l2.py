"""morph_planes_to_l2, compared with the search by other ops."""

import math

import pytest
import torch
from inputs import ODD_LAYOUTS, image, normal, on_tensors
from op_cases import PLANE_DTYPES, RAW, check_rejected
from pairwise import pairwise
from tolerances import all_equal, assert_close
from torch.autograd import forward_ad

from steerlens_fast import CSPFamily, LumaFamily, SteerablePyramid, memory, native, ops
from steerlens_fast.families.protocols import DistanceSearch
from steerlens_fast.lens.l2_search import (
    ITERATIONS,
    PHASE_LIMIT,
    SPEED_SHARE,
    l2_from,
    pieces_of,
    search_piece,
    tolerance_at,
)

pytestmark = pytest.mark.skipif(not native.SIMD_WIDTH, reason="the op needs AVX2 or NEON")
BOUNDS = (0.0, 1.0)


def motion_of(family, shape, gradient_scale=0.02, dtype=torch.float32):
    x, g = image(*shape, dtype=dtype), gradient_scale * normal(*shape, dtype=dtype)
    return family.prepare(x, g)


def csp(size, edit="phase", rule="complex", **options):
    return CSPFamily(SteerablePyramid(size, order=2, **options), edit, rule, floor=0.05)


def search_of(motion, max_l2, frames_before=3, **changes):
    """Return a search for distances [M] or [M, B], with ``frames_before`` frames before the first distance."""
    B, dtype = len(motion.image), motion.image.dtype
    max_l2 = torch.as_tensor(max_l2, dtype=dtype)
    max_l2 = (max_l2[:, None] if max_l2.dim() == 1 else max_l2).expand(-1, B).contiguous()
    tensors = {
        "max_l2": max_l2,
        "tolerances": tolerance_at(max_l2),
        "dtype_max_factors": torch.full((B,), torch.finfo(dtype).max, dtype=dtype),
        "shares": torch.linspace(0, 1, frames_before + 1, dtype=dtype)[:-1],
    }
    search = dict(phase_cap=math.inf, phase_limit=PHASE_LIMIT, speed_share=SPEED_SHARE, iterations=ITERATIONS)
    return DistanceSearch(**{**tensors, **search, **changes})


def check_with_other_ops(motion, search, bounds=BOUNDS):
    """Compare frames, distances and flags of the op with those of other ops.

    Return the op's results, frames as [F, B, C, H, W].
    """
    actual = motion.frames_at_l2(search, bounds)
    M, source = len(search.max_l2), motion.image
    frames = actual.frames.view(-1, *source.shape)
    shares = search.shares[:, None] * actual.factors[-M]
    assert torch.equal(actual.factors[:-M], shares)
    assert torch.equal(frames, motion.render(actual.factors, bounds=bounds))
    assert_close(actual.l2, l2_from(frames[-M:], source), "op")
    ((_, piece),) = pieces_of(motion)
    max_factor = None if math.isinf(search.phase_cap) else search.phase_cap / motion.largest_phase_step()
    for m, max_l2 in enumerate(search.max_l2):
        expected = search_piece(
            piece,
            max_l2,
            bounds,
            tolerance=search.tolerances[m],
            max_factor=max_factor,
            dtype_max_factor=search.dtype_max_factors,
        )
        assert torch.equal(actual.attained[m], expected.attained)
        assert torch.equal(actual.out_of_range[m], expected.out_of_range)
        # Both searches find the same factors, although for phases they may start at different ones
        torch.testing.assert_close(actual.factors[m - M], expected.factor, rtol=1e-3, atol=0)
        assert ((actual.l2[m] - expected.l2).abs() <= 2 * search.tolerances[m]).all()
    return actual._replace(frames=frames)


@pairwise(
    size=[(28, 28), (45, 35)],
    channels=(1, 3),
    edit=("phase", "amplitude", "joint"),
    rule=("complex", "polar"),
    synthesis=("real", "adjoint"),
    bounds=(None, BOUNDS),
    dtype=PLANE_DTYPES,
)
def test_frames_are_those_of_a_search_by_other_ops(size, channels, edit, rule, synthesis, bounds, dtype):
    motion = motion_of(csp(size, edit, rule, synthesis=synthesis), (4, channels, *size), dtype=dtype)
    max_l2 = torch.tensor([[0.05, 0.3, 0.0, 1.0]])
    result = check_with_other_ops(motion, search_of(motion, max_l2), bounds)
    assert result.attained.all() and not result.out_of_range.any()


@pytest.mark.parametrize("size, edit", [((45, 35), "phase"), ((32, 32), "joint")])
def test_luma_moves_all_channels(size, edit):
    motion = motion_of(LumaFamily(csp(size, edit)), (3, 3, *size))
    assert check_with_other_ops(motion, search_of(motion, [0.2, 0.9], 1)).attained.all()


def test_each_distance_has_a_frame():
    motion = motion_of(csp((32, 32), "joint"), (2, 3, 32, 32))
    result = check_with_other_ops(motion, search_of(motion, [0.2, 0.1, 0.7], 1))
    assert result.attained.all() and torch.equal(result.frames[0], motion.image)


def test_limits_are_kept():
    """A search is limited by what phases can reach, a cap on them, ``dtype_max_factors``, and ``iterations``."""
    motion = motion_of(csp((32, 32)), (3, 1, 32, 32))
    assert not check_with_other_ops(motion, search_of(motion, [50.0])).attained.any()
    cap = 0.01
    result = check_with_other_ops(motion, search_of(motion, [5.0], phase_cap=cap))
    torch.testing.assert_close(result.factors[-1], cap / motion.largest_phase_step(), rtol=1e-6, atol=0)
    weak = motion_of(csp((32, 32)), (3, 1, 32, 32), gradient_scale=1e-6)
    result = check_with_other_ops(weak, search_of(weak, [1.0], dtype_max_factors=torch.tensor([1.0, 1e30, 2.0])))
    assert result.out_of_range.tolist() == [[True, False, True]]
    no_trial = motion.frames_at_l2(search_of(motion, [1.0], iterations=0), BOUNDS)
    assert not no_trial.factors.any() and not no_trial.attained.any()


def test_few_factors_are_tried_where_phases_have_wrapped_around():
    """The spectrum falls with frequency, as in photographs. 5 factors are enough; if the first one were chosen
    as for linear motions, 6 would be needed.
    """
    size = (96, 96)
    frequency = torch.hypot(torch.fft.fftfreq(96, 1 / 96)[:, None], torch.fft.rfftfreq(96, 1 / 96))
    noise = torch.fft.irfft2(torch.fft.rfft2(normal(4, 3, *size, dtype=torch.float32)) / frequency.clamp(min=1), size)
    x, gradient = (0.5 + 0.2 * noise / noise.std()).clamp(0, 1), 0.01 * normal(4, 3, *size, dtype=torch.float32, seed=9)
    motion = csp(size).prepare(x, gradient)
    assert motion.frames_at_l2(search_of(motion, [10.0], iterations=5), BOUNDS).attained.all()


def test_source_outside_the_bounds_is_clipped():
    motion = motion_of(csp((35, 27)), (2, 1, 35, 27))
    bounds = (0.2, 0.8)
    result = check_with_other_ops(motion, search_of(motion, [0.0]), bounds)
    assert not result.attained.any() and torch.equal(result.frames[-1], motion.image.clamp(*bounds))
    check_with_other_ops(motion, search_of(motion, [[3.0, 4.0]]), bounds)


def test_gradients_that_are_zero_or_not_finite_do_not_affect_other_samples():
    motion = motion_of(csp((32, 32), "joint"), (5, 1, 32, 32))
    expected = motion.frames_at_l2(search_of(motion, [0.5]), BOUNDS)
    motion.gradient[1] = 0
    motion.gradient[2, 0, 3, 4] = math.nan
    motion.gradient[3] = math.inf
    actual = motion.frames_at_l2(search_of(motion, [0.5]), BOUNDS)
    assert actual.attained.tolist() == [[True, False, False, False, True]]
    assert not actual.factors[:, 1:4].any()
    assert all(torch.equal(a[:, [0, 4]], b[:, [0, 4]]) for a, b in zip(actual, expected, strict=True))
    assert torch.equal(actual.frames[-1, 1:4], motion.image[1:4, 0])


def test_norm_of_the_gradient_replaces_underflowing_speeds():
    motion = motion_of(csp((32, 32), "joint", "polar"), (2, 1, 32, 32), gradient_scale=1e-30)
    result = motion.frames_at_l2(search_of(motion, [0.5]), BOUNDS)
    assert result.attained.all()


def results(motion, threads, search):
    with memory.threads(threads):
        return motion.frames_at_l2(search, BOUNDS)


# Threads take whole samples, or share the planes of a sample
@pytest.mark.parametrize("shape", [(5, 1, 40, 36), (1, 1, 128, 192), (1, 3, 128, 192), (3, 2, 128, 192)], ids=str)
def test_results_do_not_depend_on_threads(shape):
    motion = motion_of(csp(shape[-2:], "joint"), shape)
    search = search_of(motion, [0.5, 2.0], 2)
    expected = results(motion, 1, search)
    for threads in (2, 3):
        assert all_equal(results(motion, threads, search), expected)


# --- The raw op


def raw_arguments() -> list:
    motion = motion_of(csp((32, 28)), (2, 3, 32, 28))
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ops, "morph_planes_to_l2", lambda *args, **options: calls.append((args, options)))
        motion.frames_at_l2(search_of(motion, [0.1]), BOUNDS)
    positional, options = calls[0]
    x, g, count, *tensors, analysis, synthesis, i_power, edit, rule, complex_bands, eps, floor, bounds = positional
    arguments = [i_power, ops.EDITS[edit], ops.RULES[rule], complex_bands, eps, floor, *bounds]
    search = [options[name] for name in ("phase_cap", "phase_limit", "speed_share", "iterations")]
    return [x, g, count, options["base"], *tensors, analysis, synthesis, *arguments, *search]


def test_empty_batches_have_empty_results():
    args = raw_arguments()
    args[:2] = [t[:0] for t in args[:2]]
    args[4:7] = args[4][:, :0], args[5][:, :0], args[6][:0]
    result = RAW.morph_planes_to_l2(*args)
    assert [list(t.shape) for t in result] == [[4, 0, 32, 28], [4, 0], [1, 0], [1, 0], [1, 0]]


def test_opcheck_finds_no_errors():
    args = raw_arguments()
    torch.library.opcheck(RAW.morph_planes_to_l2.default, args)
    args[3] = image(18, 32, 28, dtype=torch.float32)  # base
    torch.library.opcheck(RAW.morph_planes_to_l2.default, args, test_utils="test_faketensor")


def test_derivatives_raise():
    args = raw_arguments()
    with pytest.raises(RuntimeError, match="morph_planes_to_l2 has no derivative: use morph_planes"):
        RAW.morph_planes_to_l2(args[0].requires_grad_(), *args[1:])[0].sum().backward()
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match="morph_planes_to_l2 has no derivative"):
        dual = forward_ad.make_dual(args[1], torch.ones_like(args[1]))
        ops.morph_planes_to_l2(args[0].detach(), dual, args[2], *args[4:10])


@pytest.mark.parametrize("layout", ODD_LAYOUTS)
def test_memory_layout_does_not_matter(layout):
    args = raw_arguments()
    odd = on_tensors(ODD_LAYOUTS[layout], args)
    plain = on_tensors(lambda t: t.clone(memory_format=torch.contiguous_format).resolve_neg(), odd)
    pairs = zip(RAW.morph_planes_to_l2(*odd), RAW.morph_planes_to_l2(*plain))
    assert all(torch.equal(a, b) for a, b in pairs)


NAMES = (
    "images gradients planes_per_sample base max_l2 tolerances dtype_max_factors shares analysis synthesis i_power "
    "edit rule complex_bands eps floor low high phase_cap phase_limit speed_share iterations"
).split()
# (changed arguments, part of the message)
BAD_ARGUMENTS = [
    (dict(images=torch.rand(6, 32, 28).half()), "images must have dtype float32 or float64, got float16"),
    (dict(planes_per_sample=4), "planes_per_sample must divide the number of planes, 6, got 4"),
    (dict(planes_per_sample=0), "planes_per_sample must divide"),
    (dict(base=torch.rand(7, 32, 28)), "number of planes of base must be a multiple of that of images, 6, got 7"),
    (dict(base=torch.rand(6, 32, 20)), r"base must have shape \[6, 32, 28\], got \[6, 32, 20\]"),
    (dict(max_l2=torch.ones(1, 3)), r"max_l2 must have shape \[1, 2\], got \[1, 3\]"),
    (dict(max_l2=torch.ones(2)), r"max_l2 must have shape \[M, B\]"),
    (dict(max_l2=torch.ones(0, 2)), "max_l2 must have at least one row"),
    (dict(tolerances=torch.ones(2, 2)), r"tolerances must have shape \[1, 2\]"),
    (dict(dtype_max_factors=torch.ones(3)), r"dtype_max_factors must have shape \[2\], got \[3\]"),
    (dict(shares=torch.ones(3).double()), "shares must have dtype float32"),
    (dict(iterations=-1), "iterations must be from 0 to 1048576, got -1"),
    (dict(iterations=2**61), "iterations must be from 0 to 1048576, got 2305843009213693952"),
    (dict(edit=3), "edit must be 0 .* got 3"),
]


def test_bad_arguments_raise():
    args = dict(zip(NAMES, raw_arguments(), strict=True))
    for change, message in BAD_ARGUMENTS:
        check_rejected(RAW.morph_planes_to_l2, list({**args, **change}.values()), f"morph_planes_to_l2: .*{message}")

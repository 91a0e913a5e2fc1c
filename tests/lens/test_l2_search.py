"""The search for the factor at which a frame has a given distance (the budget) from its source."""

import math
import statistics

import classifiers
import pytest
import torch
from torch.nn import functional as F

from steerlens_fast import CSPFamily, FourierFamily, PixelFamily, SteerablePyramid
from steerlens_fast.lens.l2_search import factor_at_l2, pieces_of

TOLERANCE = 5e-4  # the largest error that factor_at_l2 promises


def _motion(family, batch=5, seed=0, scale=1.0):
    g = torch.Generator().manual_seed(seed)
    image = torch.rand(batch, 3, 32, 32, generator=g)
    return family.prepare(image, scale * torch.randn(batch, 3, 32, 32, generator=g))


def _families():
    for synthesis in ("real", "adjoint"):
        pyramid = SteerablePyramid((32, 32), synthesis=synthesis)
        for edit in ("phase", "amplitude", "joint"):
            for rule in ("complex", "polar"):
                yield pytest.param(CSPFamily(pyramid, edit, rule), id=f"{synthesis}-{edit}-{rule}")
    yield pytest.param(FourierFamily(), id="fourier")
    yield pytest.param(PixelFamily(), id="pixel")


def _l2(motion, factor, bounds=(0, 1)):
    frame = motion.render(factor[None], bounds=bounds)[0]
    return (frame - motion.image).flatten(1).norm(dim=1)


@pytest.mark.parametrize("family", list(_families()))
def test_budget_is_met_by_every_family(family):
    motion = _motion(family)
    budgets = torch.tensor([0.1, 1.0, 2.0, 4.0, 6.0])
    factor, l2, attained = factor_at_l2(motion, budgets)
    assert factor.shape == l2.shape == attained.shape == (5,) and attained.dtype == torch.bool
    assert attained.all()
    assert (l2 - budgets).abs().max() <= TOLERANCE
    # The frames have the distances that the search reports. 1e-5 is the rounding error of float32 over 3072 pixels.
    assert (_l2(motion, factor) - l2).abs().max() < 1e-5


@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1e3, 1e8])
def test_budget_is_met_at_any_gradient_scale(scale):
    for family in (PixelFamily(), CSPFamily(SteerablePyramid((32, 32)), "joint", "polar")):
        _, l2, attained = factor_at_l2(_motion(family, scale=scale), 2.0)
        assert attained.all() and (l2 - 2).abs().max() <= TOLERANCE


@pytest.mark.parametrize("start", [1e-6, 1.0, 1e5])
def test_start_does_not_change_the_factor(start):
    motion = _motion(PixelFamily())
    reference, _, _ = factor_at_l2(motion, 2.0, tolerance=1e-5)
    factor, _, attained = factor_at_l2(motion, 2.0, tolerance=1e-5, start=start)
    assert attained.all()
    torch.testing.assert_close(factor, reference, rtol=1e-4, atol=0)  # 20 times tolerance / distance


def test_factor_agrees_with_the_closed_form_without_clipping():
    motion = PixelFamily().prepare(torch.full((2, 1, 8, 8), 0.5), torch.ones(2, 1, 8, 8))
    factor, _, attained = factor_at_l2(motion, torch.tensor([1.0, 2.0]), tolerance=1e-5)
    assert attained.all()
    torch.testing.assert_close(factor, torch.tensor([1.0, 2.0]) / 8, rtol=1e-5, atol=0)  # 64 pixels: a norm of 8


def test_distances_that_bounds_prevent_are_attained_without_bounds():
    _, l2, attained = factor_at_l2(_motion(PixelFamily()), 500.0, bounds=None, tolerance=1e-2)
    assert attained.all() and (l2 - 500).abs().max() <= 1e-2
    assert not factor_at_l2(_motion(PixelFamily()), 500.0)[2].any()


@pytest.mark.parametrize("family", [PixelFamily(), FourierFamily(), CSPFamily(SteerablePyramid((32, 32)))], ids=repr)
def test_distance_of_0_has_factor_0(family):
    motion = _motion(family)
    factor, l2, attained = factor_at_l2(motion, [0.0, 1.0, 0.0, 2.0, 1.0])
    assert attained.all() and l2[[0, 2]].max() < 1e-4
    assert factor[[0, 2]].tolist() == [0, 0] and factor[[1, 3, 4]].min() > 0
    assert torch.equal(factor[[1, 3, 4]], factor_at_l2(motion, [1.0, 1.0, 1.0, 2.0, 1.0])[0][[1, 3, 4]])


def test_unattainable_distance_is_reported_with_the_best_factor():
    image, gradient = torch.full((3, 1, 16, 16), 0.5), torch.ones(3, 1, 16, 16)
    gradient[2] = 0  # moves nothing
    factor, l2, attained = factor_at_l2(PixelFamily().prepare(image, gradient), torch.tensor([4.0, 9.0, 1.0]))
    assert attained.tolist() == [True, False, False]
    assert l2[1] == pytest.approx(8, abs=1e-5)  # 256 pixels by 0.5: all of them clipped
    assert factor[1] < 1.1  # not far above 0.5, the smallest factor with this distance
    assert (factor[2], l2[2]) == (0, 0)


def test_sample_does_not_depend_on_its_batch():
    pyramid = SteerablePyramid((32, 32))
    motion = _motion(CSPFamily(pyramid, "joint", "polar"))
    together = factor_at_l2(motion, 3.0, tolerance=1e-5)[0]
    for n in range(len(together)):
        alone = motion.family.prepare(motion.image[n : n + 1], motion.gradient[n : n + 1])
        assert torch.equal(factor_at_l2(alone, 3.0, tolerance=1e-5)[0], together[n : n + 1])


# --- The number of renders


class Counted:
    """A motion that counts how often each sample is rendered."""

    def __init__(self, motion):
        self.motion, self.image, self.gradient, self.renders = motion, motion.image, motion.gradient, 0
        self.speed = getattr(motion, "speed", lambda: None)

    def render(self, factors, amplitude_factors=None, bounds=None):
        self.renders += len(factors)
        return self.motion.render(factors, amplitude_factors, bounds)


def _smooth_images(count, size):
    """Return images with more energy at coarse scales, like natural images."""
    g = torch.Generator().manual_seed(3)
    noise = lambda n: F.interpolate(torch.rand(count, 3, n, n, generator=g), (size, size), mode="bicubic")
    return (0.5 + 3 * (0.6 * noise(4) + 0.3 * noise(12) + 0.1 * noise(size) - 0.5)).clamp(0, 1)


def _gradient_of_a_classifier(images):
    """Return the gradient of a network's loss, as in the lens."""
    x = images.clone().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(classifiers.smooth()(x), torch.arange(len(x)) % 5), x)[0]


@pytest.mark.parametrize("rms, median, maximum", [(0.5 / 28, 5, 5), (2 / 28, 8, 10)])
@pytest.mark.parametrize("rule", ["complex", "polar"])
@pytest.mark.parametrize("edit", ["phase", "amplitude", "joint", "fourier", "pixel"])
def test_number_of_renders_is_bounded(edit, rule, rms, median, maximum):
    """Renders are counted per sample, including that at factor 0. ``rms`` is the root mean square change, as at an
    L2 distance of 0.5 or 2 in 28 x 28 pixels."""
    images = _smooth_images(6, 48)
    gradient = _gradient_of_a_classifier(images)
    csp = lambda: CSPFamily(SteerablePyramid((48, 48)), edit, rule)
    family = PixelFamily() if edit == "pixel" else FourierFamily(rule) if edit == "fourier" else csp()
    renders = []
    for n in range(len(images)):
        ((_, piece),) = pieces_of(family.prepare(images[n : n + 1], gradient[n : n + 1]))
        motion = Counted(piece)
        assert factor_at_l2(motion, rms * math.sqrt(images[0].numel()))[2].all()
        renders.append(motion.renders)
    assert statistics.median(renders) <= median and max(renders) <= maximum, renders


def test_renders_of_a_batch_with_different_distances_are_bounded():
    motion = Counted(_motion(CSPFamily(SteerablePyramid((32, 32)), "joint", "polar"), batch=16))
    assert factor_at_l2(motion, torch.logspace(-2, 0.6, 16))[2].all()
    assert motion.renders <= 16


def test_good_start_saves_renders():
    motion = _motion(CSPFamily(SteerablePyramid((32, 32)), "phase", "polar"))
    reference = factor_at_l2(motion, 2.0)[0]
    again = Counted(motion)
    assert factor_at_l2(again, 2.1, start=reference)[2].all()
    assert again.renders <= 5


def test_unattainable_distances_end_the_search():
    """Some images do not move, and some distances are reached by no change of phases."""
    still = Counted(PixelFamily().prepare(torch.rand(2, 1, 16, 16), torch.zeros(2, 1, 16, 16)))
    factor, l2, attained = factor_at_l2(still, 1.0)
    assert not (factor.any() or l2.any() or attained.any()) and still.renders <= 5
    images = _smooth_images(2, 32)
    phases = Counted(CSPFamily(SteerablePyramid((32, 32)), "phase").prepare(images, torch.randn(images.shape)))
    factor, l2, attained = factor_at_l2(phases, 50.0)
    assert not attained.any() and phases.renders <= 24
    around = torch.stack([_l2(phases, factor * by) for by in (0.25, 0.5, 2.0, 4.0)])
    assert (l2 > 0.9 * around.amax(0)).all()


# --- Non-monotonic distances


class Curve:
    """A motion of 64 equal pixels whose distance is a function of the factor."""

    def __init__(self, distance, count=1, dtype=torch.float32):
        self.distance, self.image, self.tried = distance, torch.zeros(count, 1, 8, 8, dtype=dtype), []

    def render(self, factors, amplitude_factors=None, bounds=None):
        self.tried.append(factors)
        return self.distance(factors)[:, :, None, None, None] / 8 + self.image


@pytest.mark.parametrize("target", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("start", [1e-9, 1e-3, 0.1, 0.5, 1.5])
def test_distance_of_a_wave_is_met_on_its_first_rise(start, target):
    wave = Curve(torch.sin)
    factor, _, attained = factor_at_l2(wave, target, start=start, tolerance=1e-6)
    assert attained.all() and factor.item() == pytest.approx(math.asin(target), rel=1e-4)
    assert len(wave.tried) <= 12


def test_distance_above_the_wave_is_out_of_reach():
    wave = Curve(lambda f: 2 * torch.sin(f / 2))
    _, l2, attained = factor_at_l2(wave, 2.5, start=0.1)
    assert not attained.any() and l2.item() > 1.8
    assert len(wave.tried) <= 16


def test_next_factor_is_at_most_twice_the_proportional_estimate():
    curve = Curve(lambda f: f / (1 + f))
    factor, _, attained = factor_at_l2(curve, 0.9, start=1e-4, tolerance=1e-6)
    assert attained.all() and factor.item() == pytest.approx(9, rel=1e-3)
    tried = torch.cat(curve.tried)[1:, 0]
    for now, after in zip(tried, tried[1:]):
        assert after <= 2.01 * now * max(1, 0.9 / (now / (1 + now)))


def test_budget_is_met_from_a_start_with_a_larger_distance():
    """The distance at the start is on a plateau, or has overflowed."""
    starts = torch.tensor([1e1, 1e4, 1e8, 1e12])
    flat = Curve(lambda f: 2 * f / (1 + f), 4)
    factor, _, attained = factor_at_l2(flat, 1.0, start=starts, tolerance=1e-5)
    assert attained.all()
    torch.testing.assert_close(factor, torch.ones(4), rtol=1e-4, atol=0)
    assert len(flat.tried) <= 24
    overflow = Curve(lambda f: torch.where(f > 3, math.nan, f), 4)
    assert factor_at_l2(overflow, 2.0, bounds=None, start=starts)[2].all()


def test_budget_is_met_by_a_motion_that_begins_away_from_the_source():
    """In the regimes live and persistent, a step may begin toward the source, or beyond the target distance."""
    curve = Curve(lambda f: torch.stack([1 - f[:, 0], 1 + f[:, 1], (4 - f[:, 2]).abs()], 1), 3)
    factor, l2, attained = factor_at_l2(curve, torch.tensor([2.0, 2.0, 2.0]), bounds=None, start=0.5, tolerance=1e-5)
    assert attained.all() and len(curve.tried) <= 16
    torch.testing.assert_close(factor[:2], torch.tensor([3.0, 1.0]), rtol=1e-4, atol=0)
    assert min(abs(factor[2].item() - by) for by in (2, 6)) < 1e-4


def test_jump_over_the_target_ends_the_search():
    curve = Curve(lambda f: torch.where(f < 0.7, 0.1 * f, 3.0))
    factor, _, attained = factor_at_l2(curve, 1.0, bounds=None, tolerance=1e-6)
    assert not attained.any() and factor.item() == pytest.approx(0.7, abs=1e-5)
    assert len(curve.tried) <= 40


def test_no_factor_above_max_factor_is_tried():
    curve = Curve(lambda f: f, 3)
    limits = torch.tensor([0.0, 0.5, 9.0])
    factor, l2, attained = factor_at_l2(curve, 1.0, max_factor=limits, start=0.01, bounds=None)
    assert attained.tolist() == [False, False, True]
    torch.testing.assert_close(factor, torch.tensor([0.0, 0.5, 1.0]), rtol=0, atol=TOLERANCE)
    assert (torch.cat(curve.tried) <= limits).all()


def test_factors_tried_for_a_sample_do_not_depend_on_its_batch():
    """A batch of very different samples gives the same results as each sample alone."""
    distances = [
        lambda f: f,
        torch.sin,
        lambda f: f.clamp(max=0.3),
        lambda f: 0 * f,
        lambda f: torch.where(f > 0.6, math.nan, f),
        lambda f: (3 * f).expm1(),
    ]
    start, targets = 0.05, torch.full((6,), 0.5)
    together = Curve(lambda f: torch.stack([distance(f[:, n]) for n, distance in enumerate(distances)], 1), 6)
    result = factor_at_l2(together, targets, start=start)
    assert result[2].tolist() == [True, True, False, False, True, True]
    tried = torch.cat(together.tried)
    for n, distance in enumerate(distances):
        alone = Curve(distance)
        factor, l2, _ = factor_at_l2(alone, targets[n : n + 1], start=start)
        assert (factor, l2) == (result[0][n], result[1][n])
        sequence = torch.cat(alone.tried)[:, 0]
        assert torch.equal(tried[: len(sequence), n], sequence)


def test_samples_with_zero_gradients_do_not_affect_others():
    motion = _motion(CSPFamily(SteerablePyramid((32, 32)), "phase"), batch=4)
    motion.gradient[1::2] = 0
    factor, l2, attained = factor_at_l2(motion, 1.0)
    assert attained.tolist() == [True, False, True, False]
    assert not factor[1::2].any() and l2[1::2].max() < 1e-4


def test_float64_tolerance_below_float32_resolution_is_met():
    curve = Curve(lambda f: f / (1 + f), dtype=torch.float64)
    factor, _, attained = factor_at_l2(curve, 0.5, start=1e-12, tolerance=1e-14)
    assert attained.all() and factor.item() == pytest.approx(1, rel=1e-12)
    assert len(curve.tried) <= 16


def test_results_are_float64_without_a_graph():
    image, gradient = torch.rand(2, 1, 16, 16).double().requires_grad_(), torch.randn(2, 1, 16, 16).double()
    motion = CSPFamily(SteerablePyramid((16, 16)), "joint", "polar").prepare(image, gradient)
    factor, l2, attained = factor_at_l2(motion, 1.0, tolerance=1e-10)
    assert factor.dtype == torch.float64 and not factor.requires_grad and attained.all()
    assert (l2 - 1).abs().max() <= 1e-10


# (arguments, type of the exception, part of the message)
BAD_ARGUMENTS = [
    ({"max_l2": -1}, ValueError, "max_l2 must be finite and at least 0, got -1"),
    ({"max_l2": [0.0, 1.0, 2.0, 3.0, -1e-9]}, ValueError, "max_l2 must be finite and at least 0"),
    ({"max_l2": math.inf}, ValueError, "max_l2"),
    ({"max_l2": math.nan}, ValueError, "max_l2"),
    ({"max_l2": "4"}, TypeError, "max_l2"),
    ({"max_l2": torch.ones(3)}, ValueError, r"max_l2 must be one number or 5, one per sample, got \[3\]"),
    ({"max_l2": 1.0, "start": 0.0}, ValueError, "start"),
    ({"max_l2": 1.0, "tolerance": 0.0}, ValueError, "tolerance"),
    ({"max_l2": 1.0, "tolerance": math.nan}, ValueError, "tolerance"),
]


@pytest.mark.parametrize("arguments, error, text", BAD_ARGUMENTS)
def test_bad_arguments_raise(arguments, error, text):
    with pytest.raises(error, match=text):
        factor_at_l2(_motion(PixelFamily()), **arguments)


def test_motion_without_a_batch_dimension_raises():
    motion = PixelFamily().prepare(torch.rand(8, 8), torch.rand(8, 8))
    with pytest.raises(ValueError, match="batch dimension"):
        factor_at_l2(motion, 1.0)


def test_search_runs_on_the_device_of_the_motion(device):
    pyramid = SteerablePyramid((32, 32))
    cpu = _motion(CSPFamily(pyramid, "joint", "polar"))
    motion = cpu.family.prepare(cpu.image.to(device), cpu.gradient.to(device))
    factor, l2, attained = factor_at_l2(motion, torch.full((5,), 2.0, device=device))
    assert factor.device.type == device.type and attained.all()
    assert (l2 - 2).abs().max() <= TOLERANCE

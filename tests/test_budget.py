"""Budgets: the factor at a given image distance."""

import math

import pytest
import torch

from steerlens_fast import CSPFamily, PixelFamily, SteerablePyramid
from steerlens_fast.budget import factor_at_l2

TOLERANCE = 5e-4  # what the follow-up paper met


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
    yield pytest.param(PixelFamily(), id="pixel")


def _l2(motion, factor, bounds=(0, 1)):
    frame = motion.render(factor[None], bounds=bounds)[0]
    return (frame - motion.image).flatten(1).norm(dim=1)


@pytest.mark.parametrize("family", list(_families()))
def test_meets_the_budget(family):
    motion = _motion(family)
    wanted = torch.tensor([0.1, 1.0, 2.0, 4.0, 6.0])
    factor, l2, attained = factor_at_l2(motion, wanted)
    assert factor.shape == l2.shape == attained.shape == (5,) and attained.dtype == torch.bool
    assert attained.all()
    assert (l2 - wanted).abs().max() <= TOLERANCE
    # Rendered again, alone: the reported distance is the real one. 1e-5: float32 over 3072 pixels.
    assert (_l2(motion, factor) - l2).abs().max() < 1e-5


@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1e3, 1e8])
def test_any_gradient_scale(scale):
    for family in (PixelFamily(), CSPFamily(SteerablePyramid((32, 32)), "joint", "polar")):
        _, l2, attained = factor_at_l2(_motion(family, scale=scale), 2.0)
        assert attained.all() and (l2 - 2).abs().max() <= TOLERANCE


@pytest.mark.parametrize("start", [1e-6, 1.0, 1e5])
def test_any_start(start):
    motion = _motion(PixelFamily())
    reference, _, _ = factor_at_l2(motion, 2.0, tolerance=1e-5)
    factor, _, attained = factor_at_l2(motion, 2.0, tolerance=1e-5, start=start)
    assert attained.all()
    torch.testing.assert_close(factor, reference, rtol=1e-4, atol=0)  # a distance of 1e-5 in 2, with room


def test_agrees_with_the_closed_form_where_nothing_clips():
    motion = PixelFamily().prepare(torch.full((2, 1, 8, 8), 0.5), torch.ones(2, 1, 8, 8))
    factor, _, attained = factor_at_l2(motion, torch.tensor([1.0, 2.0]), tolerance=1e-5)
    assert attained.all()
    torch.testing.assert_close(factor, torch.tensor([1.0, 2.0]) / 8, rtol=1e-5, atol=0)


def test_without_bounds():
    _, l2, attained = factor_at_l2(_motion(PixelFamily()), 500.0, bounds=None, tolerance=1e-2)
    assert attained.all() and (l2 - 500).abs().max() <= 1e-2
    assert not factor_at_l2(_motion(PixelFamily()), 500.0)[2].any()


def test_unattainable_is_said_and_the_best_returned():
    image, gradient = torch.full((3, 1, 16, 16), 0.5), torch.ones(3, 1, 16, 16)
    gradient[2] = 0  # moves nothing
    factor, l2, attained = factor_at_l2(PixelFamily().prepare(image, gradient), torch.tensor([4.0, 9.0, 1.0]))
    assert attained.tolist() == [True, False, False]
    assert l2[1] == pytest.approx(8, abs=1e-5)  # 256 pixels by 0.5: all of them clipped
    assert factor[1] < 1.1  # the smallest factor that gets there, not the last one tried; 0.5 is exact
    assert (factor[2], l2[2]) == (0, 0)


def test_a_sample_does_not_depend_on_its_batch():
    pyramid = SteerablePyramid((32, 32))
    motion = _motion(CSPFamily(pyramid, "joint", "polar"))
    together = factor_at_l2(motion, 3.0, tolerance=1e-5)[0]
    for n in range(len(together)):
        alone = motion.family.prepare(motion.image[n : n + 1], motion.gradient[n : n + 1])
        factor = factor_at_l2(alone, 3.0, tolerance=1e-5)[0]
        torch.testing.assert_close(factor, together[n : n + 1], rtol=1e-4, atol=0)


def test_first_crossing_of_a_distance_that_is_not_monotone():
    class Wave:
        image = torch.zeros(1, 1, 8, 8)

        def render(self, factors, amplitude_factors=None, bounds=None):
            return torch.sin(factors)[:, :, None, None, None] / 8 + self.image  # distance |sin(factor)|

    factor, _, attained = factor_at_l2(Wave(), 0.5, start=0.01, tolerance=1e-6)
    assert attained.all() and factor.item() == pytest.approx(math.asin(0.5), abs=1e-5)


def test_overflow_counts_as_too_far():
    class Explosion:
        image = torch.zeros(1, 1, 8, 8)

        def render(self, factors, amplitude_factors=None, bounds=None):
            grown = torch.where(factors > 3, math.nan, factors)
            return grown[:, :, None, None, None] / 8 + self.image

    factor, _, attained = factor_at_l2(Explosion(), 2.5, bounds=None)
    assert attained.all() and factor.item() == pytest.approx(2.5, abs=TOLERANCE)


def test_few_renders():
    """The search's cost, stated: a doubling grid of a few renders, then under ten."""
    motion = _motion(CSPFamily(SteerablePyramid((32, 32)), "joint", "polar"), batch=16)
    calls = []

    class Counted:
        image, gradient = motion.image, motion.gradient

        def render(self, factors, amplitude_factors=None, bounds=None):
            calls.append(len(factors))
            return motion.render(factors, amplitude_factors, bounds)

    assert factor_at_l2(Counted(), 4.0)[2].all()
    assert len(calls) <= 16, calls


def test_float64_and_no_graph():
    image, gradient = torch.rand(2, 1, 16, 16).double().requires_grad_(), torch.randn(2, 1, 16, 16).double()
    motion = CSPFamily(SteerablePyramid((16, 16)), "joint", "polar").prepare(image, gradient)
    factor, l2, attained = factor_at_l2(motion, 1.0, tolerance=1e-10)
    assert factor.dtype == torch.float64 and not factor.requires_grad and attained.all()
    assert (l2 - 1).abs().max() <= 1e-10


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        ({"max_l2": 0.0}, ValueError, "max_l2 must be finite and above 0"),
        ({"max_l2": -1}, ValueError, "max_l2"),
        ({"max_l2": math.inf}, ValueError, "max_l2"),
        ({"max_l2": math.nan}, ValueError, "max_l2"),
        ({"max_l2": "4"}, TypeError, "max_l2"),
        ({"max_l2": torch.ones(3)}, ValueError, r"max_l2 must be one number or 5, one per sample, got \[3\]"),
        ({"max_l2": 1.0, "start": 0.0}, ValueError, "start"),
        ({"max_l2": 1.0, "tolerance": 0.0}, ValueError, "tolerance"),
        ({"max_l2": 1.0, "tolerance": math.nan}, ValueError, "tolerance"),
    ],
)
def test_bad_arguments(arguments, error, text):
    with pytest.raises(error, match=text):
        factor_at_l2(_motion(PixelFamily()), **arguments)


def test_needs_a_batch():
    motion = PixelFamily().prepare(torch.rand(8, 8), torch.rand(8, 8))
    with pytest.raises(ValueError, match="batch dimension"):
        factor_at_l2(motion, 1.0)


def test_device(device):
    pyramid = SteerablePyramid((32, 32))
    cpu = _motion(CSPFamily(pyramid, "joint", "polar"))
    motion = cpu.family.prepare(cpu.image.to(device), cpu.gradient.to(device))
    factor, l2, attained = factor_at_l2(motion, torch.full((5,), 2.0, device=device))
    assert factor.device.type == device.type and attained.all()
    assert (l2 - 2).abs().max() <= TOLERANCE

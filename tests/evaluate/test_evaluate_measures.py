"""Confidence, transfer, common attainment and bootstrap, compared with known values."""

import itertools
import math

import pytest
import torch
from classifiers import CLASSES, Stateful, linear, smooth

from steerlens_fast import (
    bootstrap,
    common_attainment,
    driver_confidence,
    paired_difference,
    proportion,
    proportion_difference,
    transfer,
)
from steerlens_fast.evaluate.measures.statistics import _medians, resample_counts

# --- Confidence and transfer


def test_confidence_is_the_softmax_of_the_target():
    outputs = torch.randn(6, 5, dtype=torch.float16)
    target = torch.tensor([0, 1, 2, 3, 4, 0])
    expected = outputs.float().softmax(1)[torch.arange(6), target]
    assert torch.equal(driver_confidence(outputs, target), expected)
    with pytest.raises(ValueError, match="outputs must be class scores .* floating point, got torch.int64"):
        driver_confidence(outputs.long(), target)


def test_judges_are_counted_separately_and_jointly():
    images = torch.rand(9, 3, 16, 16)
    judges = {"linear": linear(), "smooth": smooth()}
    target = judges["smooth"](images).argmax(1)
    result = transfer(judges, images, target, batch_size=4)
    assert result.agrees["smooth"].all()
    for name, judge in judges.items():
        outputs = judge(images).detach()
        assert torch.equal(result.agrees[name], outputs.argmax(1) == target)
        assert torch.allclose(result.probability[name], driver_confidence(outputs, target), atol=1e-6)
    assert torch.equal(result.jointly, result.agrees["linear"] & result.agrees["smooth"])


def test_transfer_does_not_change_judges():
    judge = Stateful().eval()
    before = {name: t.clone() for name, t in judge.state_dict().items()}
    transfer({"restless": judge}, torch.rand(2, 3, 16, 16), torch.tensor([0, 1]))
    assert all(torch.equal(t, before[name]) for name, t in judge.state_dict().items())


# (judges, target, part of the message)
BAD_JUDGES = [
    ({}, torch.zeros(2, dtype=torch.int64), "judges must be a mapping"),
    ([linear()], torch.zeros(2, dtype=torch.int64), "judges must be a mapping"),
    ({"a": linear()}, torch.zeros(3, dtype=torch.int64), r"target must have shape \[2\]"),
    ({"a": linear()}, torch.zeros(2), "target must be an integer tensor"),
    ({"a": linear()}, torch.tensor([0, CLASSES]), f"target must be 0 to {CLASSES - 1}"),
    ({"flat": lambda x: x.mean((1, 2, 3))}, torch.zeros(2, dtype=torch.int64), r"model must return \[N, classes"),
]


def test_bad_judges_raise():
    for judges, target, message in BAD_JUDGES:
        with pytest.raises((TypeError, ValueError), match=message):
            transfer(judges, torch.rand(2, 3, 16, 16), target)


def test_common_attainment_has_the_counts_of_all_families():
    t, f = True, False
    result = common_attainment({"a": torch.tensor([t, t, f, t]), "b": torch.tensor([t, f, f, t])})
    assert result.common.tolist() == [t, f, f, t]
    assert (result.count, result.of, result.by_family) == (2, 4, {"a": 3, "b": 2})
    assert str(result) == "2/4 in common (a 3/4, b 2/4)"
    assert common_attainment({"a": torch.zeros(3, dtype=torch.bool)}).count == 0


@pytest.mark.parametrize("attained", [{}, {"a": torch.ones(2)}, {"a": [True]}])
def test_bad_attainment_raises(attained):
    with pytest.raises(TypeError, match="attained must"):
        common_attainment(attained)
    with pytest.raises(ValueError, match="one length"):
        common_attainment({"a": torch.ones(2, dtype=torch.bool), "b": torch.ones(3, dtype=torch.bool)})


# --- The bootstrap


def test_bootstrap_agrees_with_all_resamples():
    """Four sources have 256 resamples, so the exact percentiles can be computed."""
    values = torch.tensor([0.0, 1.0, 3.0, 7.0], dtype=torch.float64)
    every = torch.stack([values[list(index)].mean() for index in itertools.product(range(4), repeat=4)])
    low, high = every.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    result = bootstrap(values, "mean", draws=200_000)
    assert result.value == 2.75
    assert abs(result.low - low) <= 0.25 and abs(result.high - high) <= 0.25  # all means are multiples of 0.25


def test_bootstrap_agrees_with_the_normal_interval():
    """The interval of a mean of many values agrees with the central limit theorem."""
    values = torch.randn(4000, dtype=torch.float64) * 3 + 5
    result = bootstrap(values, "mean")
    half = 1.96 * values.std().item() / math.sqrt(4000)
    assert abs((result.high - result.low) / (2 * half) - 1) < 0.06
    assert abs((result.high + result.low) / 2 - values.mean().item()) < 0.1 * half


def test_bootstrap_of_a_proportion_agrees_with_the_normal_interval():
    result = bootstrap(torch.arange(300) < 30, "mean")
    half = 1.96 * math.sqrt(0.1 * 0.9 / 300)
    assert result.value == pytest.approx(0.1)
    assert abs(result.low - (0.1 - half)) < 0.008 and abs(result.high - (0.1 + half)) < 0.008


def test_constant_values_have_an_interval_without_width():
    result = bootstrap(torch.full((50,), 2.5))
    assert (result.value, result.low, result.high) == (2.5, 2.5, 2.5)


def test_medians_are_those_of_the_resamples():
    values = torch.randn(11, dtype=torch.float64)
    counts = resample_counts(11, 200, 0)
    resamples = [values.repeat_interleave(row) for row in counts]
    expected = torch.stack([r.quantile(0.5) for r in resamples])
    assert torch.allclose(_medians(values, counts), expected)
    even = torch.tensor([4.0, 1.0, 2.0, 3.0])
    assert bootstrap(even).value == 2.5


def test_cases_of_one_source_are_not_independent():
    """With every case four times, the interval is that of the sources, not half as wide."""
    values = torch.randn(100, dtype=torch.float64)
    once = bootstrap(values, "mean", seed=3)
    again = bootstrap(values.repeat(4), "mean", sources=torch.arange(100).repeat(4), seed=3)
    apart = bootstrap(values.repeat(4), "mean", seed=3)
    assert (again.low, again.high) == pytest.approx((once.low, once.high))
    assert (apart.high - apart.low) < 0.6 * (once.high - once.low)


def test_missing_values_are_left_out_and_counted():
    values = torch.tensor([1.0, math.nan, 3.0, math.nan])
    result = bootstrap(values)
    assert (result.value, result.cases, result.of) == (2.0, 2, 4)
    assert 1 <= result.low <= result.high <= 3
    none = bootstrap(torch.full((3,), math.nan))
    assert (none.value, none.low, none.high, none.cases, none.of) == (None, None, None, 0, 3)


def test_equal_seeds_give_equal_draws():
    assert torch.equal(resample_counts(20, 100, 5), resample_counts(20, 100, 5)) and not torch.equal(
        resample_counts(20, 100, 5), resample_counts(20, 100, 6)
    )
    base = torch.randn(200, dtype=torch.float64) * 10
    assert bootstrap(base, seed=1) == bootstrap(base, seed=1)


def test_intervals_of_medians_of_few_sources_are_too_narrow():
    """The true median is below the k-th smallest of n values with probability P(fewer than k of n coins show heads)."""

    # For even n, ends may be between two values. Then the coverage depends on the distribution.
    def coverage(n: int) -> float:
        result = bootstrap(torch.arange(float(n)))
        outside = (math.ceil(result.low), n - 1 - math.floor(result.high))  # numbers of values outside the interval
        return 1 - sum(math.comb(n, heads) for count in outside for heads in range(count + 1)) / 2**n

    assert [round(coverage(n), 3) for n in (3, 5, 7, 9, 10, 13)] == [0.75, 0.938, 0.875, 0.961, 0.891, 0.908]
    assert all(0.9 < coverage(n) < 0.965 for n in range(9, 60, 2)), "differences are bold from 9 sources on"


def test_constant_difference_has_an_interval_without_width():
    base = torch.randn(200, dtype=torch.float64) * 10
    result = paired_difference(base + 1, base, "mean")
    assert (result.value, result.low, result.high) == pytest.approx((1, 1, 1))


def test_pairs_with_a_missing_value_are_left_out():
    result = paired_difference(torch.tensor([5.0, math.nan, 2.0]), torch.tensor([1.0, 1.0, math.nan]))
    assert (result.value, result.cases, result.of) == (4.0, 1, 3)


def test_wilson_intervals_contain_the_true_proportion_with_probability_above_92_percent():
    """All samples of 8 cases are weighted by their probability. (Bootstrap intervals contain a true proportion of 10 %
    with probability 54 %.)"""
    for true in (0.1, 0.25, 0.5):
        covered = 0.0
        for count in range(9):
            result = proportion(torch.arange(8) < count)
            assert result.low <= result.value == count / 8 <= result.high and (result.low, result.high) != (0, 0)
            probability = math.comb(8, count) * true**count * (1 - true) ** (8 - count)
            covered += probability * (result.low <= true <= result.high)
        assert covered > 0.92


def test_wilson_intervals_are_the_roots_of_the_score_equation():
    """The roots p of (count / n - p)^2 = z^2 p (1 - p) / n."""
    result = proportion(torch.arange(18) < 10)
    assert (round(result.low, 3), round(result.high, 3)) == (0.337, 0.754)
    count, n, z = 7, 300, 1.644854
    result = proportion(torch.arange(n) < count, confidence=0.9)
    root = z * math.sqrt(z**2 + 4 * count * (1 - count / n))
    limits = [(2 * count + z**2 + sign * root) / (2 * (n + z**2)) for sign in (-1, 1)]
    assert (result.low, result.high) == pytest.approx(limits, rel=1e-5)


def test_intervals_of_differences_of_proportions_are_those_of_agresti_and_min():
    """Nine pairs are (1, 0), two (0, 1), six (1, 1) and three (0, 0). One pair lacks a value.
    The formula adds half a pair to each of these four kinds."""
    first = torch.tensor([1.0] * 9 + [0.0] * 2 + [1.0] * 6 + [0.0] * 3 + [math.nan])
    second = torch.tensor([0.0] * 9 + [1.0] * 2 + [1.0] * 6 + [0.0] * 3 + [1.0])
    result = proportion_difference(first, second)
    middle = (9.5 - 2.5) / 22
    half = 1.959964 * math.sqrt(((9.5 + 2.5) / 22 - middle**2) / 22)
    assert (result.value, result.cases, result.of) == (pytest.approx(7 / 20), 20, 21)
    assert (result.low, result.high) == pytest.approx((middle - half, middle + half), abs=1e-6)
    equal = proportion_difference(torch.zeros(8), torch.zeros(8))
    assert equal.value == 0 and -equal.low == equal.high == pytest.approx(1.959964 * math.sqrt((0.5 + 0.5) / 10 / 10))


# (changed arguments, part of the message)
BAD_STATISTICS = [
    ({"values": [1.0]}, "values must be a real tensor"),
    ({"values": torch.ones(2, 2)}, "values must be a real tensor"),
    ({"statistic": "mode"}, "statistic must be one of"),
    ({"draws": 0}, "draws must be at least 1"),
    ({"confidence": 1.0}, "confidence must be below 1"),
    ({"sources": torch.tensor([0])}, "sources must be an integer tensor"),
    ({"sources": torch.tensor([-1, 0])}, "sources must be at least 0"),
]


def test_bad_statistics_raise():
    for change, message in BAD_STATISTICS:
        arguments = {"values": torch.ones(2), **change}
        with pytest.raises((TypeError, ValueError), match=message):
            bootstrap(arguments.pop("values"), **arguments)
    for difference in (paired_difference, proportion_difference):
        with pytest.raises(ValueError, match="second must have the shape of first"):
            difference(torch.ones(2), torch.ones(3))
    with pytest.raises(ValueError, match="values must be 0, 1 or NaN, got 0.5"):
        proportion(torch.tensor([1.0, 0.5]))
    with pytest.raises(ValueError, match="confidence must be below 1"):
        proportion(torch.ones(2), confidence=1.0)

"""The summary of written records: over which sources each median and share is."""

import json

import pytest

from steerlens_fast.evaluate.config import EvaluationConfig
from steerlens_fast.evaluate.summary import summarise

COUNT, BUDGET = 10, 2.0
KINDS = ("bar", "disc")  # of even and of odd sources
ATTAINED = {"pixel": COUNT, "csp-phase": 7, "true motion": COUNT}  # the first sources attain the budget
AGREE = {"a": 2, "b": 6}  # the judge predicts the target for the first sources


class Runner:
    """What a summary reads of a ``TaskRunner``."""

    judges, truth, left_out, examined = AGREE, object(), {}, COUNT
    sources = property(lambda self: self)

    def __len__(self) -> int:
        return COUNT


def advantage(n: int, s: int, k: int) -> float:
    """Differs between the bands: it is above 0 for 9 - 3 s - k sources."""
    return n - 3 * s - k - 0.5


@pytest.fixture
def summary(tmp_path):
    rows = []
    for n in range(COUNT):
        values = {"warp": n, "displacement": n, "alignment": n, "factor_moved": 2.0}
        judges = {name: n < agree for name, agree in AGREE.items()}
        for family, attained in ATTAINED.items():
            record = {"family": family, "source": n, "budget": BUDGET, "group": KINDS[n % 2], "attained": n < attained}
            rows.append(record | values | {"judges": judges})
        bands = [[advantage(n, s, k) for k in range(3)] for s in range(2)]
        rows.append({"family": "probes", "source": n, "group": KINDS[n % 2], "advantage": bands})
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = EvaluationConfig("data", "driver", families=["pixel", "csp-phase"], draws=50)
    return summarise(tmp_path / "results.jsonl", config, Runner(), [])


def numbers(interval: dict) -> tuple:
    return interval["value"], interval["cases"], interval["of"]


def test_medians_are_over_the_common_sources(summary):
    """Seven sources are common. Pixel steps attained the budget for all ten, so their own median is 4.5."""
    families = summary["budgets"][0]["families"]
    assert [numbers(families[family]["warp"]) for family in ("pixel", "csp-phase")] == [(3.0, 7, COUNT)] * 2


def test_shares_of_judges_are_those_of_the_records(summary):
    for judge, agree in AGREE.items():
        share = summary["budgets"][0]["families"]["pixel"]["judges"][judge]
        assert numbers(share) == (pytest.approx(agree / 7), 7, COUNT)


def test_bands_are_those_of_the_records(summary):
    bands = summary["bands"]
    for s in range(2):
        for k in range(3):
            assert numbers(bands["advantage"][s][k]) == (4 - 3 * s - k, COUNT, COUNT)
            assert numbers(bands["positive"][s][k]) == (pytest.approx((9 - 3 * s - k) / 10), COUNT, COUNT)


def test_sources_of_a_kind_are_those_of_the_family(summary):
    """For each kind, a family is measured over the sources for which it attained the budget, common or not."""
    kinds = summary["groups"]["2"]
    for name, unit in (("displacement", 1), ("alignment", 1), ("recovered", 2)):
        medians = {(f, kind): numbers(kinds[kind][f][name]) for f in ("pixel", "csp-phase") for kind in KINDS}
        assert medians["pixel", "bar"] == (4 / unit, 5, 5) and medians["pixel", "disc"] == (5 / unit, 5, 5)
        assert medians["csp-phase", "bar"] == (3 / unit, 4, 5) and medians["csp-phase", "disc"] == (3 / unit, 3, 5)

"""Estimates of the remaining time of an evaluation, with a simulated clock."""

import io
import json

import pytest

from steerlens_fast.evaluate import estimates
from steerlens_fast.evaluate.estimates import RemainingTime
from steerlens_fast.io import progress as progress_module
from steerlens_fast.io.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(estimates, "time", clock)
    monkeypatch.setattr(progress_module, "time", clock)
    return clock


SECONDS = {"pixel": 4.0, "csp-joint": 6.0, "noise": 1.0, "probes": 40.0}  # true time of a record
RECORDS = {"pixel": 50, "csp-joint": 50, "noise": 50, "probes": 25}


def estimated(clock, order, cost) -> list[tuple[float, float]]:
    """Return (estimated, true) remaining seconds after each record."""
    remaining = RemainingTime(RECORDS, cost)
    left, results = sum(SECONDS[kind] * count for kind, count in RECORDS.items()), []
    for kind in order:
        clock.now += SECONDS[kind]
        remaining.add(kind, 1)
        left -= SECONDS[kind]
        results.append((remaining(), left))
    return results


def test_estimate_is_close_while_some_kinds_have_not_run(clock):
    """Kinds of tasks that have not run yet are weighted by their expected cost."""
    order = [kind for kind, count in RECORDS.items() for _ in range(count)]
    result = estimated(clock, order, cost={"pixel": 5.0, "csp-joint": 5.0, "noise": 1.0, "probes": 30.0})
    # After "pixel" alone, all costs are scaled by 4 / 5. Then probes are expected to take 24 s, 0.6 of the true 40 s.
    assert all(0.6 * true <= entry <= 1.001 * true for entry, true in result)
    assert result[-1] == (0.0, 0.0)


def test_wrong_expectations_are_corrected_after_one_record_of_each_kind(clock):
    order = [*RECORDS, *(kind for kind, count in RECORDS.items() for _ in range(count - 1))]
    result = estimated(clock, order, cost=dict.fromkeys(RECORDS, 1.0))
    assert all(entry == pytest.approx(true) for entry, true in result[3:])


def test_nothing_is_estimated_before_the_first_record(clock):
    assert RemainingTime(RECORDS, SECONDS)() is None


def test_progress_has_the_estimate(clock):
    stream = io.StringIO()
    remaining = RemainingTime({"noise": 100, "probes": 10}, {"noise": 1.0, "probes": 40.0})
    progress = Progress(110, kind="json", stream=stream, unit="records", remaining=remaining)
    clock.now += 20
    remaining.add("noise", 10)  # 2 s each, twice the expected time: 90 * 2 + 10 * 80 s are left
    progress.update(10)
    assert json.loads(stream.getvalue()) == {
        "done": 10, "total": 110, "failed": 0, "seconds": 20.0, "records_per_second": 0.5, "eta_seconds": 980,
    }  # fmt: skip
    lines = io.StringIO()
    progress = Progress(110, done=10, kind="lines", stream=lines, unit="records", remaining=remaining)
    clock.now += 20
    remaining.add("noise", 10, seconds=20.0)
    progress.update(10)
    assert lines.getvalue() == "20/110 records, 0.5/s, 16:00 left\n"  # 80 * 2 + 10 * 80 s

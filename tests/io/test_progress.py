"""What a running job tells of itself: counts, rates, how long it will take."""

import io
import json

import pytest

from steerlens_fast.io import progress as progress_module
from steerlens_fast.io.progress import Progress, format_duration


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves when it is told to."""

    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    return clock


def test_a_line_every_ten_seconds(clock):
    """None before that, however many updates come; failures are told; the last line is of the whole run."""
    told = io.StringIO()
    progress = Progress(1000, kind="lines", stream=told)
    for _ in range(50):
        clock.now += 0.5
        progress.update(10, failed=0)
    lines = told.getvalue().splitlines()
    assert lines == ["200/1000 images, 20/s, 0:40 left", "400/1000 images, 20/s, 0:30 left"]
    clock.now += 5
    progress.update(500, failed=3)
    progress.close()
    assert told.getvalue().splitlines()[-1] == "1000/1000 images, 33.33/s, 3 failed"
    assert progress.summary() == {"images": 1000, "seconds": 30.0, "images_per_second": 33.33}


def test_json_lines_and_the_rate_of_the_last_minute(clock):
    """A job that has become ten times slower says so within a minute; what an earlier run did is no rate."""
    told = io.StringIO()
    progress = Progress(10_000, done=4000, failed=7, kind="json", stream=told)
    for rate in [100] * 12 + [10] * 8:
        clock.now += 10
        progress.update(10 * rate)
    rows = [json.loads(line) for line in told.getvalue().splitlines()]
    assert rows[0] == {
        "done": 5000, "total": 10_000, "failed": 7, "seconds": 10.0, "images_per_second": 100.0, "eta_seconds": 50,
    }  # fmt: skip
    assert [row["images_per_second"] for row in rows[:12]] == [100.0] * 12
    assert rows[-1]["images_per_second"] == 10.0


def test_a_single_look_after_a_long_silence(clock):
    """The first batch may take minutes."""
    told = io.StringIO()
    progress = Progress(100, kind="json", stream=told)
    clock.now += 300
    progress.update(30)
    assert json.loads(told.getvalue())["images_per_second"] == 0.1
    clock.now += 300
    progress.update(30)
    assert json.loads(told.getvalue().splitlines()[-1])["images_per_second"] == 0.1


def test_nothing_is_told_where_that_is_asked_for(clock):
    told = io.StringIO()
    progress = Progress(100, kind="none", stream=told)
    clock.now += 60
    progress.update(100)
    progress.close()
    assert told.getvalue() == ""


def test_durations():
    assert [format_duration(s) for s in (0, 59.6, 3599, 3600)] == ["0:00", "1:00", "59:59", "1:00:00"]

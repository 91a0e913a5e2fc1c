"""The progress of a job: counts, rates and remaining time."""

import io
import json
import sys
from types import SimpleNamespace

import pytest

from steerlens_fast.io import progress as progress_module
from steerlens_fast.io.progress import Progress, format_duration


@pytest.fixture
def clock(monkeypatch):
    """A clock whose time the test sets."""

    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    return clock


def test_notebooks_have_a_progress_bar(monkeypatch):
    """A notebook has a progress bar although its streams are not terminals."""
    pytest.importorskip("tqdm")
    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    stream = io.StringIO()
    progress = Progress(10, stream=stream)
    assert progress._kind == "bar"
    progress.close()
    shell.config = {"TerminalIPythonApp": {}}
    assert Progress(10, stream=stream)._kind == "lines"


def test_a_line_is_written_every_ten_seconds(clock):
    """Updates in between write nothing. The last line has the failures and the average rate of the whole run."""
    stream = io.StringIO()
    progress = Progress(1000, kind="lines", stream=stream)
    for _ in range(50):
        clock.now += 0.5
        progress.update(10, failed=0)
    lines = stream.getvalue().splitlines()
    assert lines == ["200/1000 images, 20/s, 0:40 left", "400/1000 images, 20/s, 0:30 left"]
    clock.now += 5
    progress.update(500, failed=3)
    progress.close()
    assert stream.getvalue().splitlines()[-1] == "1000/1000 images, 33.33/s, 3 failed"
    assert progress.summary() == {"images": 1000, "seconds": 30.0, "images_per_second": 33.33}


def test_json_lines_have_the_rate_of_the_last_minute(clock):
    """If a job becomes ten times slower, its rate shows this within a minute. Items of earlier runs do not count."""
    stream = io.StringIO()
    progress = Progress(20_000, done=4000, failed=7, kind="json", stream=stream)
    for rate in [100] * 12 + [10] * 8:
        clock.now += 10
        progress.update(10 * rate)
    rows = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert rows[0] == {
        "done": 5000, "total": 20_000, "failed": 7, "seconds": 10.0, "images_per_second": 100.0, "eta_seconds": 150,
    }  # fmt: skip
    assert [row["images_per_second"] for row in rows[:12]] == [100.0] * 12
    assert rows[-1]["images_per_second"] == 10.0


def test_first_line_after_a_long_batch_has_the_rate_so_far(clock):
    """The first two batches take 5 minutes each."""
    stream = io.StringIO()
    progress = Progress(100, kind="json", stream=stream)
    clock.now += 300
    progress.update(30)
    assert json.loads(stream.getvalue())["images_per_second"] == 0.1
    clock.now += 300
    progress.update(30)
    assert json.loads(stream.getvalue().splitlines()[-1])["images_per_second"] == 0.1


def test_kind_none_writes_nothing(clock):
    stream = io.StringIO()
    progress = Progress(100, kind="none", stream=stream)
    clock.now += 60
    progress.update(100)
    progress.close()
    assert stream.getvalue() == ""


def test_durations_are_written_in_minutes_or_hours():
    assert [format_duration(s) for s in (0, 59.6, 3599, 3600)] == ["0:00", "1:00", "59:59", "1:00:00"]

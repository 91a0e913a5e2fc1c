"""Reports progress on stderr, as a bar, or as lines of text or JSON every ten seconds.

Errors in writing progress are ignored, so that they never stop a job.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable
from typing import TextIO

from ..checks import check_choice
from ..extras import MissingExtra, require_extra
from .console import write_line

KINDS = ("auto", "bar", "lines", "json", "none")
INTERVAL = 10.0  # seconds between lines
UNWRITABLE = (OSError, ValueError)  # raised by streams; ValueError if a stream is closed or cannot encode the text
RATE_WINDOW = 60.0  # seconds over which the rate is averaged


class Progress:
    """Counts the items that are done, and writes the counts to a stream.

    Parameters
    ----------
    total, done, failed : int
        Number of all items, of items done by earlier runs, and how many of the done items failed.
    kind : {"auto", "bar", "lines", "json", "none"}
        "auto" is a bar on a terminal or in a notebook if tqdm (extra ``cli``) is installed, otherwise "lines". "lines"
        and "json" write a line every 10 seconds.
    stream : file, optional
        By default stderr.
    unit : str
        Plural name of the items.
    remaining : callable, optional
        Returns the remaining seconds, or None. By default they are estimated from the rate of the last minute.

    Examples
    --------
    >>> progress = Progress(10, kind="json", stream=sys.stdout)
    >>> progress.update(4, failed=1)
    >>> progress.done, progress.failed
    (4, 1)
    """

    def __init__(
        self,
        total: int,
        done: int = 0,
        failed: int = 0,
        kind: str = "auto",
        stream: TextIO | None = None,
        *,
        unit: str = "images",
        remaining: Callable[[], float | None] | None = None,
    ):
        check_choice("progress", kind, KINDS)
        self.unit, self._remaining = unit, remaining
        self.total, self.done, self.failed = total, done, failed
        self._stream = sys.stderr if stream is None else stream
        self._kind = _resolve_kind(kind, self._stream)
        self._start = self._last_time = time.monotonic()
        self._done_before = done
        self._recent = [(self._start, done)]
        self._last_counts: tuple[int, int] | None = None  # done and failed, as in the last line
        self._bar = None
        if self._kind == "bar" and self._stream is not None:
            with contextlib.suppress(*UNWRITABLE):
                options = self._bar_options()
                self._bar = require_extra("cli", "tqdm.auto").tqdm(
                    total=total, initial=done, file=self._stream, dynamic_ncols=True, **options
                )

    def update(self, items: int, failed: int = 0) -> None:
        """Count more items, and how many of them failed."""
        self.done, self.failed = self.done + items, self.failed + failed
        if self._bar is not None:
            with contextlib.suppress(*UNWRITABLE):
                self._bar.set_postfix_str(self._postfix(), refresh=False)
                self._bar.update(items)
        self.tick()

    def _bar_options(self) -> dict:
        options = {"unit": "img" if self.unit == "images" else f" {self.unit}"}
        if self._remaining is not None:  # replaces tqdm's estimate
            options["bar_format"] = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}, {rate_fmt}{postfix}]"
        return options

    def _postfix(self) -> str:
        left = None if self._remaining is None else self._remaining()
        failed = [f"{self.failed} failed"] if self.failed else []
        return ", ".join(failed + ([f"{format_duration(left)} left"] if left is not None else []))

    def tick(self) -> None:
        """Write a line if the last one is at least ``INTERVAL`` seconds old and does not have the final counts."""
        now = time.monotonic()
        was_final = self.done == self.total and self._last_counts == (self.done, self.failed)
        if self._kind in ("lines", "json") and now - self._last_time >= INTERVAL and not was_final:
            self._write(now)

    def close(self) -> None:
        """Write a final line, unless the last one has the same counts."""
        if self._bar is not None:
            with contextlib.suppress(*UNWRITABLE):
                self._bar.close()
        elif self._kind in ("lines", "json") and self._last_counts != (self.done, self.failed):
            self._write(time.monotonic(), whole_run=True)

    def summary(self) -> dict:
        """Return the number of images of this run, its seconds and its rate."""
        images, seconds = self.done - self._done_before, time.monotonic() - self._start
        rate = images / max(seconds, 1e-9)
        return {"images": images, "seconds": round(seconds, 3), "images_per_second": round(rate, 2)}

    def _write(self, now: float, whole_run: bool = False) -> None:
        whole_run = whole_run or self.done == self.total  # the last line has the average of the whole run
        since, done = (self._start, self._done_before) if whole_run else self._recent[0]
        rate = (self.done - done) / max(now - since, 1e-9)
        eta = self._remaining() if self._remaining else (self.total - self.done) / rate if rate > 0 else None
        eta = None if eta is None else round(eta)
        values = {"done": self.done, "total": self.total, "failed": self.failed, "seconds": round(now - self._start, 1)}
        values |= {f"{self.unit}_per_second": round(rate, 2), "eta_seconds": eta}
        write_line(json.dumps(values) if self._kind == "json" else _line(values, self.unit), self._stream)
        self._last_time, self._last_counts = now, (self.done, self.failed)
        # One entry older than the window is kept, so that the rate covers the whole window.
        old = [n for n, (when, _) in enumerate(self._recent) if now - when > RATE_WINDOW]
        self._recent = [*self._recent[old[-1] if old else 0 :], (now, self.done)]


def _resolve_kind(kind: str, stream: TextIO | None) -> str:
    if kind != "auto":
        return kind
    try:
        if stream is None or not (stream.isatty() or in_notebook()):
            return "lines"
    except UNWRITABLE:
        return "lines"
    try:
        require_extra("cli", "tqdm")
    except MissingExtra:
        return "lines"
    return "bar"


def in_notebook() -> bool:
    """Return whether the process is the kernel of a notebook. A notebook can show bars although it has no terminal."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config


def _line(values: dict, unit: str) -> str:
    share = f"{values['done']}/{values['total']} {unit}"
    eta = None if values["done"] == values["total"] else values["eta_seconds"]
    left = "" if eta is None else f", {format_duration(eta)} left"
    failed = f", {values['failed']} failed" if values["failed"] else ""
    return f"{share}, {values[f'{unit}_per_second']:g}/s{left}{failed}"


def format_duration(seconds: float) -> str:
    """Return seconds as ``m:ss`` or ``h:mm:ss``.

    Examples
    --------
    >>> format_duration(75), format_duration(7400)
    ('1:15', '2:03:20')
    """
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"


def format_bytes(count: int) -> str:
    """Return a number of bytes as text: in MB, or in kB (rounded up).

    Examples
    --------
    >>> format_bytes(300), format_bytes(34_500), format_bytes(2_340_000)
    ('1 kB', '35 kB', '2.3 MB')
    """
    return f"{-(-count // 1000)} kB" if count < 10**6 else f"{count / 1e6:.1f} MB"

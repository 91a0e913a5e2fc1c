"""What a running job tells of itself on stderr: a bar on a terminal, else a line now and then, or JSON lines.

Progress that cannot be written is dropped: it never ends a job.
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
EVERY = 10.0  # seconds between lines
UNWRITABLE = (OSError, ValueError)  # what a stream raises; ValueError where it is closed, or cannot encode the text
RECENT = 60.0  # seconds that an estimate of the rate looks back


class Progress:
    """Counts items as they are done.

    Parameters
    ----------
    total, done, failed : int
        Items of the job; those that earlier runs have done, and of these those that failed.
    kind : {"auto", "bar", "lines", "json", "none"}
        "auto" is a bar on a terminal with tqdm (extra ``cli``), else a line every 10 seconds.
    unit : str
        What the items are.
    remaining : callable, optional
        Gives the seconds left, or None; by default the rate of the last minute decides.

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
        self._kind = _resolved(kind, self._stream)
        self._start = self._told = time.monotonic()
        self._already = done
        self._recent = [(self._start, done)]
        self._last: tuple[int, int] | None = None  # done and failed, of the last line
        self._bar = None
        if self._kind == "bar" and self._stream is not None:
            make = require_extra("cli", "tqdm").tqdm
            with contextlib.suppress(*UNWRITABLE):
                options = self._bar_options()
                self._bar = make(total=total, initial=done, file=self._stream, dynamic_ncols=True, **options)

    def update(self, items: int, failed: int = 0) -> None:
        """So many more items are done, of which some failed."""
        self.done, self.failed = self.done + items, self.failed + failed
        if self._bar is not None:
            with contextlib.suppress(*UNWRITABLE):
                self._bar.set_postfix_str(self._postfix(), refresh=False)
                self._bar.update(items)
        self.tick()

    def _bar_options(self) -> dict:
        options = {"unit": "img" if self.unit == "images" else f" {self.unit}"}
        if self._remaining is not None:  # in place of tqdm's own estimate
            options["bar_format"] = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}, {rate_fmt}{postfix}]"
        return options

    def _postfix(self) -> str:
        left = None if self._remaining is None else self._remaining()
        said = [f"{self.failed} failed"] if self.failed else []
        return ", ".join(said + ([f"{duration(left)} left"] if left is not None else []))

    def tick(self) -> None:
        """Time has passed; tell if it is time to."""
        now = time.monotonic()
        told = self.done == self.total and self._last == (self.done, self.failed)
        if self._kind in ("lines", "json") and now - self._told >= EVERY and not told:
            self._tell(now)

    def close(self) -> None:
        """Tell the last of it, unless the last line has told just that."""
        if self._bar is not None:
            with contextlib.suppress(*UNWRITABLE):
                self._bar.close()
        elif self._kind in ("lines", "json") and self._last != (self.done, self.failed):
            self._tell(time.monotonic(), whole_run=True)

    def told(self) -> dict:
        """What this run has done, by the clock on the wall."""
        images, seconds = self.done - self._already, time.monotonic() - self._start
        rate = images / max(seconds, 1e-9)
        return {"images": images, "seconds": round(seconds, 3), "images_per_second": round(rate, 2)}

    def _tell(self, now: float, whole_run: bool = False) -> None:
        whole_run = whole_run or self.done == self.total  # the last line is of the whole run
        then, done = (self._start, self._already) if whole_run else self._recent[0]
        rate = (self.done - done) / max(now - then, 1e-9)
        eta = self._remaining() if self._remaining else (self.total - self.done) / rate if rate > 0 else None
        eta = None if eta is None else round(eta)
        known = {"done": self.done, "total": self.total, "failed": self.failed, "seconds": round(now - self._start, 1)}
        known |= {f"{self.unit}_per_second": round(rate, 2), "eta_seconds": eta}
        write_line(json.dumps(known) if self._kind == "json" else _line(known, self.unit), self._stream)
        self._told, self._last = now, (self.done, self.failed)
        # Of the points in time that lie further back than a minute, the last one stays
        late = [n for n, (when, _) in enumerate(self._recent) if now - when > RECENT]
        self._recent = [*self._recent[late[-1] if late else 0 :], (now, self.done)]


def _resolved(kind: str, stream: TextIO | None) -> str:
    if kind != "auto":
        return kind
    try:
        if stream is None or not stream.isatty():
            return "lines"
    except UNWRITABLE:
        return "lines"
    try:
        require_extra("cli", "tqdm")
    except MissingExtra:
        return "lines"
    return "bar"


def _line(known: dict, unit: str) -> str:
    share = f"{known['done']}/{known['total']} {unit}"
    eta = None if known["done"] == known["total"] else known["eta_seconds"]
    left = "" if eta is None else f", {duration(eta)} left"
    failed = f", {known['failed']} failed" if known["failed"] else ""
    return f"{share}, {known[f'{unit}_per_second']:g}/s{left}{failed}"


def duration(seconds: float) -> str:
    """For people.

    Examples
    --------
    >>> duration(75), duration(7400)
    ('1:15', '2:03:20')
    """
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"

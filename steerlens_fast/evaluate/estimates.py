"""Estimates the remaining time of an evaluation."""

from __future__ import annotations

import time
from collections.abc import Mapping


class RemainingTime:
    """Estimates the remaining seconds from the times so far.

    Kinds of tasks take very different times, so the times of each kind are counted separately.

    Parameters
    ----------
    left : mapping from str to int
        Number of remaining records of each kind.
    cost : mapping from str to float
        Expected cost of a record of each kind, in any unit. The times of kinds without a record are estimated from it.

    Examples
    --------
    >>> remaining = RemainingTime({"noise": 10, "probes": 10}, {"noise": 1.0, "probes": 20.0})
    >>> remaining() is None
    True
    >>> remaining.add("noise", 5, seconds=10.0)
    >>> remaining()  # 5 records of 2 s, and 10 records of 40 s
    410.0
    """

    def __init__(self, left: Mapping[str, int], cost: Mapping[str, float]):
        self.left, self.cost = dict(left), dict(cost)
        self.count, self.seconds = dict.fromkeys(left, 0), dict.fromkeys(left, 0.0)
        self._last = time.monotonic()

    def add(self, kind: str, records: int, seconds: float | None = None) -> None:
        """Add records that took ``seconds``, by default the time since the last call or, at first, since the start."""
        now = time.monotonic()
        self.seconds[kind] += now - self._last if seconds is None else seconds
        self.count[kind] += records
        self.left[kind] -= records
        self._last = now

    def __call__(self) -> float | None:
        """Return the estimated seconds, or None before the first record."""
        expected = sum(self.cost[kind] * count for kind, count in self.count.items())
        if not expected:
            return None
        scale = sum(self.seconds.values()) / expected
        seconds_per_record = {
            kind: self.seconds[kind] / count if count else self.cost[kind] * scale for kind, count in self.count.items()
        }
        return sum(seconds_per_record[kind] * left for kind, left in self.left.items())

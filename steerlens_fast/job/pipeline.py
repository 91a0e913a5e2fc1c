"""Finishes the batches that the device has computed, and publishes complete shards.

To publish a shard is to write it to the job's folder.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from .loading import Batch
from .shard import Shard

EventCallback = Callable[[dict], None]
# next_shard(True) waits for the number of the next shard to compute, and returns None if there are no more.
# next_shard(False) does not wait, and returns None if no shard is known yet, or there are no more.
NextShard = Callable[[bool], "int | None"]


def in_order(shards: Iterable[int]) -> NextShard:
    """Return a function that returns one shard after another.

    Examples
    --------
    >>> next_shard = in_order([3, 5])
    >>> next_shard(True), next_shard(False), next_shard(True)
    (3, 5, None)
    """
    remaining = iter(shards)
    return lambda wait: next(remaining, None)


class Pipeline:
    """Batches on the device, and the shard that is being published.

    Parameters
    ----------
    publisher : ThreadPoolExecutor
        Publishes shards, in one thread.
    publish : callable
        Called with a complete shard and ``on_event``.
    on_event : callable
        Called with an event for each finished batch.
    max_pending : int
        Number of batches that may be pending on the device.
    """

    def __init__(self, publisher: ThreadPoolExecutor, publish: Callable, on_event: EventCallback, max_pending: int):
        self._publisher, self._publish, self._on_event = publisher, publish, on_event
        self._max_pending = max_pending
        self._pending: deque[tuple[Shard, Batch, list[Callable[[], int]]]] = deque()
        self._publishing: Future | None = None

    def add(self, shard: Shard, batch: Batch, finishers: list[Callable[[], int]]) -> None:
        """Append a batch that was submitted to the device. ``finishers`` are results of :meth:`Shard.add`."""
        self._pending.append((shard, batch, finishers))
        while len(self._pending) > self._max_pending:
            self._finish(*self._pending.popleft())

    def flush(self) -> None:
        """Finish all pending batches.

        Call this before waiting for shards: the next shard may not come until these batches are finished.
        """
        while self._pending:
            self._finish(*self._pending.popleft())

    def wait(self) -> None:
        """Wait until the shard that is being published is written; raise the error if publishing failed."""
        if self._publishing is not None:
            self._publishing.result()

    def _finish(self, shard: Shard, batch: Batch, finishers: list[Callable[[], int]]) -> None:
        failed = sum(finish() for finish in finishers)
        self._on_event({"event": "batch", "shard": batch.shard, "items": len(batch.items), "failed": failed})
        if batch.last:
            self.wait()  # only one shard is published at a time, so that few are in memory
            self._publishing = self._publisher.submit(self._publish, shard, self._on_event)

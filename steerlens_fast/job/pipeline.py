"""The order of a worker's tasks.

Shards wait in a queue. Their batches are computed on the device. Complete shards are published: they are written to the
job's folder.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from .loading import Batch
from .shard import Shard

EventCallback = Callable[[dict], None]
END = None  # the last entry of a queue of shards


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
        """Append a batch that was submitted to the device.

        ``finishers`` are results of :meth:`Shard.add`.
        """
        self._pending.append((shard, batch, finishers))
        while len(self._pending) > self._max_pending:
            self._finish(*self._pending.popleft())

    def flush(self) -> None:
        """Finish all pending batches.

        Call this before waiting for shards, since shards may be assigned only after these batches are finished.
        """
        while self._pending:
            self._finish(*self._pending.popleft())

    def wait(self) -> None:
        """Wait until the shard that is being published is complete.

        Raise the error if publishing failed.
        """
        if self._publishing is not None:
            self._publishing.result()

    def _finish(self, shard: Shard, batch: Batch, finishers: list[Callable[[], int]]) -> None:
        failed = sum(finish() for finish in finishers)
        self._on_event({"event": "batch", "shard": batch.shard, "items": len(batch.items), "failed": failed})
        if batch.last:
            self.wait()  # only one shard is published at a time, so that few are in memory
            self._publishing = self._publisher.submit(self._publish, shard, self._on_event)


class ShardQueue:
    """Reads the items of the shards in a queue, until ``END``.

    Parameters
    ----------
    shards : Queue
        Numbers of shards, then ``END``.
    read : callable
        Returns the number and the items of a shard.
    before_waiting : callable
        Called before the queue is waited for.
    """

    def __init__(self, shards: queue.Queue, read: Callable, before_waiting: Callable[[], None] = lambda: None):
        self._shards, self._read, self._before_waiting, self._ended = shards, read, before_waiting, False

    def __call__(self, wait: bool):
        """Return the next shard.

        The result is None after ``END``, or if ``wait`` is False and the queue is empty.
        """
        if self._ended:
            return None
        if wait:
            self._before_waiting()
        try:
            number = self._shards.get(block=wait)
        except queue.Empty:
            return None
        self._ended = number is END
        return None if self._ended else self._read(number)


def queue_of(*shards: int) -> queue.Queue:
    """Return a queue of these shards and ``END``."""
    ready: queue.Queue = queue.Queue()
    for shard in (*shards, END):
        ready.put(shard)
    return ready

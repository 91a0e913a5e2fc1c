"""Shards that wait for a worker, batches that wait for its GPU: what is taken in which order, who waits for whom."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from .loading import Batch
from .shard import Shard

Tell = Callable[[dict], None]
END = None  # in a queue of shards: no more will come


class Line:
    """Batches that a GPU may still be at work on, at most ``ahead`` of them, and the shard that is published."""

    def __init__(self, publisher: ThreadPoolExecutor, publish: Callable, tell: Tell, ahead: int):
        self._publisher, self._publish, self._tell, self._ahead = publisher, publish, tell, ahead
        self._waiting: deque[tuple[Shard, Batch, list[Callable[[], int]]]] = deque()
        self._publishing: Future | None = None

    def add(self, shard: Shard, batch: Batch, parts: list[Callable[[], int]]) -> None:
        """A batch that was handed to the device."""
        self._waiting.append((shard, batch, parts))
        while len(self._waiting) > self._ahead:
            self._finish(*self._waiting.popleft())

    def clear(self) -> None:
        """Finish all; also before anybody waits for more work, which may come only when this is done."""
        while self._waiting:
            self._finish(*self._waiting.popleft())

    def wait(self) -> None:
        """Until the last shard is published, or has failed to be."""
        if self._publishing is not None:
            self._publishing.result()

    def _finish(self, shard: Shard, batch: Batch, parts: list[Callable[[], int]]) -> None:
        failed = sum(finish() for finish in parts)
        self._tell({"event": "batch", "shard": batch.shard, "items": len(batch.items), "failed": failed})
        if batch.last:
            self.wait()  # at most one waits to be published: few shards are in memory
            self._publishing = self._publisher.submit(self._publish, shard, self._tell)


class Taker:
    """Takes shards from a queue; once it has met the end it stays there. ``before_waiting`` is called before a wait."""

    def __init__(self, shards: queue.Queue, read: Callable, before_waiting: Callable[[], None] = lambda: None):
        self._shards, self._read, self._before_waiting, self._ended = shards, read, before_waiting, False

    def __call__(self, wait: bool):
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


def filled(*shards: int) -> queue.Queue:
    """A queue of these shards, and no more."""
    ready: queue.Queue = queue.Queue()
    for shard in (*shards, END):
        ready.put(shard)
    return ready

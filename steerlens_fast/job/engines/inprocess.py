"""No engine at all: the worker runs in this process. For objects that have no name, for debugging, and as a rank."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from pathlib import Path

from ...memory import threads
from ..config import JobConfig
from ..pipeline import END
from ..plan import Plan
from ..worker import Worker
from .engine import Stop, Tell, noted


class InProcess:
    """See :class:`~steerlens_fast.job.engines.engine.Engine`."""

    def __init__(self, config: JobConfig, device: str, decoders: int, log: Path, source=None, model=None):
        self._log, self.workers = log, 1
        with noted(log):
            self.worker = Worker(config, device, decoders, source, model)

    def describe(self) -> dict:
        return self.worker.loaded.description

    def run(self, out: Path, plan: Plan, shards: Sequence[int], tell: Tell, stop: Stop) -> None:
        with threads(plan.threads), noted(self._log):
            self.worker.open(out, plan)
            self.worker.run(_UntilStopped(shards, stop), _one_at_a_time(tell))

    def close(self) -> None:
        self.worker.close()


def _one_at_a_time(tell: Tell) -> Tell:
    """Batches are told of by this thread, shards by the one that publishes."""
    lock = threading.Lock()

    def locked(event: dict) -> None:
        with lock:
            tell(event)

    return locked


class _UntilStopped(queue.Queue):
    """The shards, until a stop is requested."""

    def __init__(self, shards: Sequence[int], stop: Stop):
        super().__init__()
        self._stop = stop
        for shard in (*shards, END):
            self.put(shard)

    def get(self, block: bool = True, timeout: float | None = None):
        return END if self._stop.requested else super().get(block, timeout)

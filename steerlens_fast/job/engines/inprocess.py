"""The engine that runs the worker in this process.

It is used with ``--workers 0``, for data or models that are objects, and for ranks (see :mod:`.env`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...memory import threads
from ..config import JobConfig
from ..pipeline import EventCallback, in_order
from ..plan import Plan
from ..worker import Worker
from .engine import Stop, log_unexpected_errors


class InProcess:
    """Computes shards in this process, see :class:`~steerlens_fast.job.engines.engine.Engine`."""

    def __init__(self, config: JobConfig, device: str, decoders: int, log: Path, source=None, model=None):
        self._log, self.workers = log, 1
        with log_unexpected_errors(log):
            self.worker = Worker(config, device, decoders, source, model)

    def describe(self) -> dict:
        """Return the model's description."""
        return self.worker.loaded.description

    def run(self, out: Path, plan: Plan, shards: Sequence[int], on_event: EventCallback, stop: Stop) -> None:
        """Compute shards, until a stop is requested."""
        next_shard = in_order(shards)
        until_stopped = lambda wait: None if stop.requested else next_shard(wait)
        with threads(plan.threads), log_unexpected_errors(self._log):
            self.worker.open(out, plan)
            self.worker.run(until_stopped, on_event)

    def close(self) -> None:
        """Stop the worker."""
        self.worker.close()

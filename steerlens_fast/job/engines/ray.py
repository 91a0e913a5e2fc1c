"""The engine that computes shards in actors of Ray (extra ``ray``). All actors must have access to the job's folder."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...errors import JobError, to_job_error
from ...extras import require_extra
from ..config import JobConfig
from ..pipeline import EventCallback, in_order
from ..plan import Plan
from ..worker import Worker
from .engine import Stop, log_unexpected_errors

MAX_ASSIGNED = 2  # tasks of an actor: one that runs, one that is queued
RESTARTS = 3  # how often Ray restarts an actor, and how often it repeats a task
POLL_SECONDS = 0.25


class Ray:
    """Computes shards in actors, see :class:`~steerlens_fast.job.engines.engine.Engine`.

    If this process is already connected to a cluster, the actors run there. Otherwise this class connects to the
    cluster at ``RAY_ADDRESS`` or, if this variable is not set, starts a cluster on this machine.

    Parameters
    ----------
    config : JobConfig
    workers : int
        Number of actors; each has a GPU if the device is "cuda".
    device : {"cpu", "cuda"}
    decoders : int
    """

    def __init__(self, config: JobConfig, workers: int, device: str, decoders: int):
        self._ray = require_extra("ray", "ray")
        self._calls_init = not self._ray.is_initialized()
        if self._calls_init:
            self._init(workers)
        resources = {"num_cpus": 1, "num_gpus": 1 if device == "cuda" else 0}
        retries = {"max_restarts": RESTARTS, "max_task_retries": RESTARTS}
        actor = self._ray.remote(**resources, **retries)(_Actor)
        self.workers = max(workers, 1)
        self._actors = [actor.remote(config.as_dict(), device, decoders, n) for n in range(self.workers)]

    def describe(self) -> dict:
        """Wait until an actor has loaded the model; return the model's description."""
        task, ended = self._actors[0].describe.remote(), ()
        while not ended:
            with _deferred_signals():
                ended = self._ended([task])
        with _deferred_signals():
            return self._get(task)

    def run(self, out: Path, plan: Plan, shards: Sequence[int], on_event: EventCallback, stop: Stop) -> None:
        """Compute shards in the actors, until a stop is requested."""
        pending, running = deque(shards), {}
        load = dict.fromkeys(range(len(self._actors)), 0)
        while running or (pending and not stop.requested):
            with _deferred_signals():
                while pending and not stop.requested and min(load.values()) < MAX_ASSIGNED:
                    n = min(load, key=load.get)
                    running[self._actors[n].run_shard.remote(str(out), pending.popleft())] = n
                    load[n] += 1
                events = []
                for task in self._ended(list(running)):
                    load[running.pop(task)] -= 1
                    events += self._get(task)
            for event in events:
                on_event(event)
            on_event({"event": "tick"})

    def close(self) -> None:
        """Kill the actors. If this object connected to Ray, disconnect; a cluster that it started then ends, too."""
        for actor in self._actors:
            self._ray.kill(actor)
        if self._calls_init:
            self._ray.shutdown()

    def _init(self, workers: int) -> None:
        handler = signal.getsignal(signal.SIGTERM)
        self._ray.init(**_cluster(workers))
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray replaced it by a handler that exits with status 15

    def _ended(self, tasks: list) -> list:
        """Return a list of one task that has ended; empty if none ends within ``POLL_SECONDS``."""
        return self._ray.wait(tasks, timeout=POLL_SECONDS)[0] if tasks else []

    def _get(self, task):
        errors = self._ray.exceptions
        try:
            return self._ray.get(task)
        except errors.RayTaskError as error:
            raise to_job_error(error.cause) from error
        except errors.RayActorError as error:
            raise JobError(f"a Ray actor died more than {RESTARTS} times: {error}") from error


class _Actor:
    """A worker in an actor of Ray."""

    def __init__(self, config: dict, device: str, decoders: int, number: int):
        self._arguments = JobConfig.from_dict(config), device, decoders
        self._number, self._worker, self._opened = number, None, False

    def describe(self) -> dict:
        """Return the model's description."""
        return self._get_worker().loaded.description

    def run_shard(self, out: str, shard: int) -> list[dict]:
        """Compute one shard and return its events."""
        events: list[dict] = []
        with log_unexpected_errors(Path(out) / "logs" / f"worker-{self._number}.log"):
            worker = self._get_worker()
            if not self._opened:
                worker.open(Path(out), Plan.read(Path(out)))
                self._opened = True
            worker.run(in_order([shard]), events.append)
        return events

    def _get_worker(self) -> Worker:
        """Return the worker. It is made in the first call, since Ray reports errors in ``__init__`` as a dead actor."""
        self._worker = self._worker or Worker(*self._arguments)
        return self._worker


@contextlib.contextmanager
def _deferred_signals() -> Iterator[None]:
    """Defer signals until the end of the block.

    An exception raised by a signal handler inside Ray's compiled code may be replaced by another exception, or lost.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    before = {n: signal.signal(n, lambda number, _: received.append(number)) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in received:
            signal.raise_signal(number)


def _cluster(workers: int) -> dict:
    """Return the arguments of ``ray.init``."""
    quiet = {"log_to_driver": False, "configure_logging": False}
    if os.environ.get("RAY_ADDRESS"):
        return quiet
    # "local": a new cluster, not one that another user has started on this machine
    return {**quiet, "address": "local", "num_cpus": max(workers, 1), "include_dashboard": False}

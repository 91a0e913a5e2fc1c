"""Actors of Ray (extra ``ray``), each with its own model; shards are their tasks, on a folder that all can reach."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...errors import JobError, to_job_error
from ...extras import require_extra
from ..config import JobConfig
from ..pipeline import END
from ..plan import Plan
from ..worker import Worker
from .engine import Stop, Tell, noted

IN_HAND = 2  # tasks of an actor: one runs, one waits in its queue
ATTEMPTS = 3  # restarts of an actor, and of a task on it
TICK = 0.25  # seconds


class Ray:
    """See :class:`~steerlens_fast.job.engines.engine.Engine`.

    A cluster is joined where ``RAY_ADDRESS`` names one or Ray runs in this process already; else one is started on this
    machine, for as long as the job takes.

    Parameters
    ----------
    config : JobConfig
    workers : int
        Actors; each has a GPU where the device is "cuda".
    device : {"cpu", "cuda"}
    decoders : int
    """

    def __init__(self, config: JobConfig, workers: int, device: str, decoders: int):
        self._ray = require_extra("ray", "ray")
        self._own = not self._ray.is_initialized()
        if self._own:
            self._init(workers)
        resources = {"num_cpus": 1, "num_gpus": 1 if device == "cuda" else 0}
        retries = {"max_restarts": ATTEMPTS, "max_task_retries": ATTEMPTS}
        actor = self._ray.remote(**resources, **retries)(_Actor)
        self.workers = max(workers, 1)
        self._actors = [actor.remote(config.as_dict(), device, decoders, n) for n in range(self.workers)]

    def describe(self) -> dict:
        task, ended = self._actors[0].describe.remote(), ()
        while not ended:
            with _signals_wait():
                ended = self._ended([task])
        with _signals_wait():
            return self._get(task)

    def run(self, out: Path, plan: Plan, shards: Sequence[int], tell: Tell, stop: Stop) -> None:
        pending, running = deque(shards), {}
        load = dict.fromkeys(range(len(self._actors)), 0)
        while running or (pending and not stop.requested):
            with _signals_wait():
                while pending and not stop.requested and min(load.values()) < IN_HAND:
                    n = min(load, key=load.get)
                    running[self._actors[n].run_shard.remote(str(out), pending.popleft())] = n
                    load[n] += 1
                events = []
                for task in self._ended(list(running)):
                    load[running.pop(task)] -= 1
                    events += self._get(task)
            for event in events:
                tell(event)
            tell({"event": "tick"})

    def close(self) -> None:
        for actor in self._actors:
            self._ray.kill(actor)
        if self._own:
            self._ray.shutdown()

    def _init(self, workers: int) -> None:
        ours = signal.getsignal(signal.SIGTERM)
        self._ray.init(**_cluster(workers))
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ours)  # Ray has put its own there, which exits with 15

    def _ended(self, tasks: list) -> list:
        """Those that have ended, or end within a tick."""
        return self._ray.wait(tasks, timeout=TICK)[0] if tasks else []

    def _get(self, task):
        errors = self._ray.exceptions
        try:
            return self._ray.get(task)
        except errors.RayTaskError as error:
            raise to_job_error(error.cause) from error
        except errors.RayActorError as error:
            raise JobError(f"a Ray actor died more than {ATTEMPTS} times: {error}") from error


class _Actor:
    """A worker that Ray has placed."""

    def __init__(self, config: dict, device: str, decoders: int, number: int):
        self._made_of = JobConfig.from_dict(config), device, decoders
        self._number, self._worker, self._opened = number, None, False

    def describe(self) -> dict:
        return self._loaded().loaded.description

    def run_shard(self, out: str, shard: int) -> list[dict]:
        """Make one shard; what there is to tell of it."""
        events: list[dict] = []
        with noted(Path(out) / "logs" / f"worker-{self._number}.log"):
            worker = self._loaded()
            if not self._opened:
                worker.open(Path(out), Plan.read(Path(out)))
                self._opened = True
            shards: queue.Queue[int | None] = queue.Queue()
            for number in (shard, END):
                shards.put(number)
            worker.run(shards, events.append)
        return events

    def _loaded(self) -> Worker:
        """The worker; not made in ``__init__``, of whose errors Ray tells as of an actor that died."""
        self._worker = self._worker or Worker(*self._made_of)
        return self._worker


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Signals that come in the block are raised after it.

    What a signal's handler raises inside a compiled call of Ray's may leave it as another error, or get lost.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {n: signal.signal(n, lambda number, _: came.append(number)) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)


def _cluster(workers: int) -> dict:
    """What ``ray.init`` is told."""
    quiet = {"log_to_driver": False, "configure_logging": False}
    if os.environ.get("RAY_ADDRESS"):
        return quiet
    # "local": not the cluster that somebody else has started on this machine
    return {**quiet, "address": "local", "num_cpus": max(workers, 1), "include_dashboard": False}

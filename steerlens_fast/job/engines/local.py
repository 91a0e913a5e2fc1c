"""Worker processes on this machine, supervised: one that dies is replaced, and its shards are made again."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from ...errors import JobError
from ...io.console import warn
from ..config import JobConfig
from ..plan import Plan
from .engine import Stop, Tell

IN_HAND = 2  # shards given to a worker: the next one's first images are decoded before this one is done
ATTEMPTS = 3  # deaths over one shard, or before a model is loaded, after which it is not the machine's fault
# The working directory, where anything may lie (a clone of this package, whose folder Python takes for a package of the
# same name), is looked at last, and not with -m first.
PROCESS = """import os, sys
here = [place for place in sys.path if not place or os.path.abspath(place) == os.getcwd()]
sys.path[:] = [place for place in sys.path if place not in here]
try:
    from steerlens_fast.dataset.engines.process import run
except ImportError:  # it may be all there is
    sys.path += here
    sys.modules.pop("steerlens_fast", None)
    from steerlens_fast.dataset.engines.process import run
else:
    sys.path += here
run()
"""
# Threads that spin for long while they wait take the cores from whatever else runs. With a short spin, told to the
# libgomp of torch's wheels, a job beside a busy core was 3 times as fast, and one alone as fast as it was within 2 %.
SHORT_SPIN = {"GOMP_SPINCOUNT": "4000"}
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # whoever sets one of these has decided
FORK_AGAIN = 1.0  # seconds
TICK = 0.25  # seconds between looks at what was asked for meanwhile


class Local:
    """See :class:`~steerlens_fast.job.engines.engine.Engine`.

    Parameters
    ----------
    config : JobConfig
    workers : int
    devices : sequence of str
        The workers take them in turn.
    decoders : int
        Threads that decode, in each worker.
    logs : path
        Folder for ``worker-0.log`` and so on.
    """

    def __init__(self, config: JobConfig, workers: int, devices: Sequence[str], decoders: int, logs: Path):
        self.workers = workers
        self._selector = selectors.DefaultSelector()
        self._orders = {"config": config.as_dict(), "decoders": decoders}
        self._out: Path | None = None
        self._pending: deque[int] = deque()
        self._lost: list[int] = []
        self._deaths: Counter[int | None] = Counter()  # over a shard alone; None: before there was one
        self._suspects: set[int] = set()  # shards of a worker that died with several: from now on each is made alone
        with contextlib.suppress(OSError):  # see _Process.open_log
            logs.mkdir(parents=True, exist_ok=True)
        wanted = [_Process(n, devices[n % len(devices)], logs / f"worker-{n}.log") for n in range(workers)]
        self._workers: list[_Process] = []
        for worker in wanted:
            self._start(worker, last=worker is wanted[-1])

    def describe(self) -> dict:
        while not any(worker.model for worker in self._workers):
            self._look(lambda event: None)
        return next(worker.model for worker in self._workers if worker.model)

    def run(self, out: Path, plan: Plan, shards: Sequence[int], tell: Tell, stop: Stop) -> None:
        self._out = out
        self._pending.extend(shards)
        threads = str(plan.threads)
        for worker in self._workers:
            worker.threads = threads
            self._open(worker)
        while self._busy(stop):
            self._feed(stop)
            self._look(tell)
            tell({"event": "tick"})
        for worker in self._workers:
            worker.end()
        if self._lost:
            lost = f"shards {sorted(self._lost)} could not be made: their workers died {ATTEMPTS} times each"
            raise JobError(f"{lost}; see {self._workers[0].log.parent}")

    def close(self) -> None:
        for worker in self._workers:
            worker.kill()
        self._selector.close()

    # --- One look at all workers

    def _busy(self, stop: Stop) -> bool:
        return bool(self._pending and not stop.requested) or any(worker.in_hand for worker in self._workers)

    def _feed(self, stop: Stop) -> None:
        """Give every worker that has room the next shard; in turns, so that none waits while another hoards."""
        if stop.requested:
            for worker in self._workers:
                worker.take_back()
            return
        for room in range(1, IN_HAND + 1):
            for worker in self._workers:
                if worker.opened and self._pending and len(worker.in_hand) < self._room(worker, room):
                    worker.give(self._pending.popleft())

    def _room(self, worker: _Process, room: int) -> int:
        return 1 if self._suspects & {self._pending[0], *worker.in_hand} else room

    def _look(self, tell: Tell) -> None:
        for key, _ in self._selector.select(TICK):
            worker: _Process = key.data
            events = worker.read()
            if events is None:
                self._bury(worker)
                continue
            for event in events:
                self._hear(worker, event, tell)

    def _hear(self, worker: _Process, event: dict, tell: Tell) -> None:
        kind = event["event"]
        if kind == "fatal":
            raise JobError(event["message"], event["code"])
        if kind == "ready":
            worker.model = event["model"]
            self._check_same_model(worker)
            self._open(worker)
            return
        if kind == "shard":
            worker.in_hand.remove(event["shard"])
            self._deaths.pop(None, None)  # all is well: what a long job's machine does now and then does not add up
        tell(event)

    def _check_same_model(self, worker: _Process) -> None:
        known = {w.model["sha256"] for w in self._workers if w.model}
        if len(known) > 1:
            raise JobError(f"model must be the same in every worker, got SHA-256 {' and '.join(sorted(known))}")

    def _open(self, worker: _Process) -> None:
        if self._out is not None and worker.model and not worker.opened:
            worker.order({"open": str(self._out)})
            worker.opened = True

    def _bury(self, worker: _Process) -> None:
        """A worker is gone: put its shards back, and start another in its place."""
        self._selector.unregister(worker.popen.stdout)
        status, shards = worker.kill(patience=5.0), worker.in_hand
        worker.in_hand = []
        if worker.ended:
            return
        worker.note(f"the worker ended with status {status} over {'shards' if shards else 'no shard'} {shards or ''}")
        if len(shards) > 1:
            self._suspects.update(shards)
        else:
            self._blame(worker, status, shards)
        self._pending.extendleft(reversed(shards))
        self._workers.remove(worker)
        self._start(worker, last=True)

    def _blame(self, worker: _Process, status: int, shards: list[int]) -> None:
        """Count a death; a shard over which there were too many is given up."""
        shard = shards[0] if shards else None
        self._deaths[shard] += 1
        if self._deaths[shard] < ATTEMPTS:
            return
        if shard is None:
            raise JobError(f"workers die before their first shard (status {status}); see {worker.log}")
        self._lost.append(shards.pop())

    def _start(self, worker: _Process, last: bool) -> None:
        """Start a worker, or go on without it; JobError where it is the ``last`` and there is no other."""
        try:
            worker.start()
        except OSError as error:
            what = f"worker process {worker.number} cannot be started ({error.strerror or error})"
            if last and not self._workers:
                limits = "raise the limits on processes and memory (ulimit -u), or use --workers 0, this process alone"
                raise JobError(f"{what}, and there is no other: {limits}") from error
            warn(f"{what}: the job goes on with fewer")
            return
        self._workers.append(worker)
        worker.order({**self._orders, "device": worker.device})
        self._selector.register(worker.popen.stdout, selectors.EVENT_READ, worker)


class _Process:
    """One worker process, or the next one in its place."""

    def __init__(self, number: int, device: str, log: Path):
        self.number, self.device, self.log, self.threads = number, device, log, None
        self.popen: subprocess.Popen | None = None

    def start(self) -> None:
        self.in_hand: list[int] = []
        self.model: dict | None = None
        self.opened = self.ended = False
        self._line = b""
        command = [sys.executable, "-c", PROCESS]
        # a script's folder is the driver's to import from, too
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(place) for place in sys.path)}
        environment |= {} if any(name in environment for name in WAITING) else SHORT_SPIN
        environment |= {"OMP_NUM_THREADS": self.threads} if self.threads else {}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with self.open_log() as log:
            # a session of its own: the terminal's Ctrl-C is the driver's to hear
            how = {**pipes, "stderr": log, "env": environment, "start_new_session": True}
            self.popen = _popen(command, **how)
        os.set_blocking(self.popen.stdout.fileno(), False)

    def open_log(self) -> BinaryIO:
        """Its log; the null device where that cannot be opened, which is no reason not to work."""
        try:
            return open(self.log, "ab")
        except OSError as error:
            warn(f"{self.log} cannot be written ({error.strerror}): what this worker prints is dropped")
            return open(os.devnull, "ab")

    def order(self, order: dict) -> None:
        try:
            self.popen.stdin.write(json.dumps(order).encode() + b"\n")
            self.popen.stdin.flush()
        except BrokenPipeError:
            pass  # it is dead; reading will tell

    def give(self, shard: int) -> None:
        self.in_hand.append(shard)
        self.order({"shard": shard})

    def take_back(self) -> None:
        """Leave it only the shard that it has begun."""
        if self.opened and not self.ended:
            self.ended = True
            self.order({"stop": True})

    def end(self) -> None:
        if self.opened and not self.ended:
            self.ended = True
            self.order({"end": True})

    def read(self) -> list[dict] | None:
        """What it has told since the last look; None where it is gone."""
        data = os.read(self.popen.stdout.fileno(), 1 << 16)
        if not data:
            return None
        *lines, self._line = (self._line + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def kill(self, patience: float = 0.0) -> int:
        """End it, after so many seconds in which it may end by itself; its status, negative for a signal."""
        try:
            self.popen.wait(patience)
        except subprocess.TimeoutExpired:
            self.popen.send_signal(signal.SIGKILL)
        status = self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout):
            try:
                pipe.close()
            except BrokenPipeError:
                pass
        return status

    def note(self, text: str) -> None:
        """A line in its log."""
        with contextlib.suppress(OSError), open(self.log, "a") as log:
            print(text, file=log)


def _popen(command: list[str], **how) -> subprocess.Popen:
    """A process; tried again for a moment where the machine has none to give now."""
    for _ in range(ATTEMPTS - 1):
        try:
            return subprocess.Popen(command, **how)
        except BlockingIOError:  # EAGAIN, of fork
            time.sleep(FORK_AGAIN)
    return subprocess.Popen(command, **how)

"""The engine that computes shards in worker processes on this machine.

A worker process that dies is started again, and its shards are computed again.
"""

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

from ...errors import JobError, ModelError
from ...io.console import warn
from ...openmp import short_spin
from ..config import JobConfig
from ..model_errors import MAX_SHOWN, list_paths
from ..pipeline import EventCallback
from ..plan import Plan
from .engine import Stop

MAX_ASSIGNED = 2  # shards of a worker: it decodes images of the second one while it completes the first
# A shard is skipped if workers have exited this many times while they had only this shard. The job ends after this
# number of exits of workers that had no shard, counted anew after each completed shard. This is also the number of
# attempts to start a process.
ATTEMPTS = 3
# The script of a worker process. The working directory is the last entry of sys.path, not the first as with python -m,
# since it may contain a clone of this repository, whose folder steerlens_fast must not be imported. Garbage is
# collected only after the model is loaded, which makes the imports a quarter faster (measured with timm).
WORKER_SCRIPT = """import gc, os, sys
gc.disable()
here = [folder for folder in sys.path if not folder or os.path.abspath(folder) == os.getcwd()]
sys.path[:] = [folder for folder in sys.path if folder not in here]
try:
    from steerlens_fast.job.engines.process import run
except ImportError:  # the package may be importable only from the working directory
    sys.path += here
    sys.modules.pop("steerlens_fast", None)
    from steerlens_fast.job.engines.process import run
else:
    sys.path += here
run()
"""
# Settings of glibc's allocator, with which a worker keeps up to 256 MiB of freed memory. Without them, the kernel would
# map new pages for the activations of every batch. Blocks of more than 32 MiB, the largest limit that glibc allows,
# still return to the kernel.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}
# If the user has set one of these, KEEP_MEMORY is not used.
ALLOCATOR_SETTINGS = (
    *KEEP_MEMORY,
    "MALLOC_MMAP_MAX_",
    "MALLOC_TOP_PAD_",
    "GLIBC_TUNABLES",
    "STEERLENS_KEEP_FREED_MEMORY",
)
RETRY_SECONDS = 1.0  # pause between attempts to start a process
POLL_SECONDS = 0.25  # longest time between checks for a requested stop


class Local:
    """Supervises worker processes, see :class:`~steerlens_fast.job.engines.engine.Engine`.

    Parameters
    ----------
    config : JobConfig
    workers : int
    devices : sequence of str
        Devices that the workers use in turn.
    decoders : int
        Number of threads that decode images, in each worker.
    logs : path
        Folder of ``worker-0.log`` and so on.
    """

    def __init__(self, config: JobConfig, workers: int, devices: Sequence[str], decoders: int, logs: Path):
        self.workers = workers
        self._selector = selectors.DefaultSelector()
        self._settings = {"config": config.as_dict(), "decoders": decoders}
        self._out: Path | None = None
        self._pending: deque[int] = deque()
        self._plan: Plan | None = None
        self._skipped: dict[int, str] = {}  # skipped shards, and how the last worker of each ended
        # By shard, how many workers exited while they had only this shard; the key None counts workers without a shard.
        self._exits: Counter[int | None] = Counter()
        # Shards that were assigned together to a worker that exited. Then each is assigned alone, to find the shard
        # that causes the exit.
        self._retry_alone: set[int] = set()
        with contextlib.suppress(OSError):  # see _Process.open_log
            logs.mkdir(parents=True, exist_ok=True)
        processes = [_Process(n, devices[n % len(devices)], logs / f"worker-{n}.log") for n in range(workers)]
        self._started: list[_Process] = []
        for worker in processes:
            self._start(worker, last=worker is processes[-1])

    def describe(self) -> dict:
        """Wait until a worker has loaded the model; return the model's description."""
        while not any(worker.model for worker in self._started):
            self._poll(lambda event: None)
        return next(worker.model for worker in self._started if worker.model)

    def run(self, out: Path, plan: Plan, shards: Sequence[int], on_event: EventCallback, stop: Stop) -> None:
        """Compute shards in the worker processes, until a stop is requested."""
        self._out, self._plan = out, plan
        self._pending.extend(shards)
        threads = str(plan.threads)
        for worker in self._started:
            worker.threads = threads
            self._open(worker)
        while self._busy(stop):
            self._assign_shards(stop)
            self._poll(on_event)
            on_event({"event": "tick"})
        for worker in self._started:
            worker.end()
        if self._skipped:
            text = f"could not be computed: workers died {ATTEMPTS} times while computing each"
            skipped = f"shards {sorted(self._skipped)} {text}"
            ends = "; ".join(f"shard {shard}: {end}" for shard, end in sorted(self._skipped.items())[:MAX_SHOWN])
            raise JobError(f"{skipped}; {ends}; see {self._started[0].log.parent}")

    def close(self) -> None:
        """Kill all workers."""
        for worker in self._started:
            worker.kill()
        self._selector.close()

    # --- Events of all workers

    def _busy(self, stop: Stop) -> bool:
        """Return whether shards are being computed or must still be assigned."""
        return bool(self._pending and not stop.requested) or any(worker.assigned for worker in self._started)

    def _assign_shards(self, stop: Stop) -> None:
        """Assign pending shards to workers. Every worker gets a first shard before any gets a second."""
        if stop.requested:
            for worker in self._started:
                worker.end(cancel=True)
            return
        for limit in range(1, MAX_ASSIGNED + 1):
            for worker in self._started:
                if worker.opened and self._pending and len(worker.assigned) < self._limit(worker, limit):
                    worker.assign(self._pending.popleft())

    def _limit(self, worker: _Process, limit: int) -> int:
        """Return how many shards a worker may have.

        This is ``limit``, or 1 if one of its shards, or the next one, must be computed alone.
        """
        return 1 if self._retry_alone & {self._pending[0], *worker.assigned} else limit

    def _poll(self, on_event: EventCallback) -> None:
        self._selector.select(POLL_SECONDS)
        for key in list(self._selector.get_map().values()):
            worker: _Process = key.data
            ended = worker.popen.poll() is not None  # before reading, so that the last events are read before _on_exit
            for event in worker.read():
                self._handle_event(worker, event, on_event)
            if ended or worker.closed:
                self._on_exit(worker)

    def _handle_event(self, worker: _Process, event: dict, on_event: EventCallback) -> None:
        kind = event["event"]
        if kind == "fatal":
            raise (ModelError if event["of_model"] else JobError)(event["message"], event["code"])
        if kind == "ready":
            worker.model = event["model"]
            self._check_same_model()
            self._open(worker)
            return
        if kind == "morph":
            worker.computing = event if event["count"] else None
            return
        if kind == "shard":
            worker.assigned.remove(event["shard"])
            # Reset, because rare exits of workers without a shard would add up in a long job, and end it.
            self._exits.pop(None, None)
        on_event(event)

    def _check_same_model(self) -> None:
        known = {w.model["sha256"] for w in self._started if w.model}
        if len(known) > 1:
            raise JobError(f"model must be the same in every worker, got SHA-256 {' and '.join(sorted(known))}")

    def _open(self, worker: _Process) -> None:
        """Send the job's folder to a worker that has loaded the model."""
        if self._out is not None and worker.model and not worker.opened:
            worker.send({"open": str(self._out)})
            worker.opened = True

    def _on_exit(self, worker: _Process) -> None:
        """Put the shards of an exited worker back into the queue. Then start the worker again."""
        self._selector.unregister(worker.events)
        status, shards = worker.kill(grace=5.0), worker.assigned
        worker.assigned = []
        if worker.end_requested:
            return
        end = f"{describe_status(status)}{self._images_of(worker)}"
        worker.log_line(f"the worker ended while it had {f'shards {shards}' if shards else 'no shard'}: {end}")
        if len(shards) > 1:
            self._retry_alone.update(shards)
        else:
            self._record_failure(worker, end, shards)
        self._pending.extendleft(reversed(shards))
        self._started.remove(worker)
        self._start(worker, last=True)

    def _images_of(self, worker: _Process) -> str:
        """Return which images an exited worker was computing, as text. The text is empty if there were none."""
        if worker.computing is None:
            return ""
        shard, first, count = (worker.computing[name] for name in ("shard", "first", "count"))
        paths = [item.path for item in self._plan.read_items(self._out, shard) if item.index >= first][:count]
        return f" while the model computed shard {shard}, {list_paths(paths)}"

    def _record_failure(self, worker: _Process, end: str, shards: list[int]) -> None:
        """Count the exit of a worker that had at most one shard.

        After ``ATTEMPTS`` exits, remove the shard from ``shards``, so that it is not computed again. After
        ``ATTEMPTS`` exits without a shard, raise a JobError.
        """
        shard = shards[0] if shards else None
        self._exits[shard] += 1
        if self._exits[shard] < ATTEMPTS:
            return
        if shard is None:
            raise JobError(f"workers died {ATTEMPTS} times while they had no shard ({end}); see {worker.log}")
        self._skipped[shards.pop()] = end

    def _start(self, worker: _Process, last: bool) -> None:
        """Start a worker. If that fails, warn, or raise a JobError if no other worker runs.

        ``last`` is False if the caller will start further workers: the JobError is then left to the last of them.
        """
        try:
            worker.start()
        except OSError as error:
            what = f"worker process {worker.number} cannot be started ({error.strerror or error})"
            if last and not self._started:
                hint = "raise the limits on processes and memory (ulimit -u), or use --workers 0"
                raise JobError(f"{what}, and no other is running: {hint}") from error
            warn(f"{what}: the job continues with fewer workers")
            return
        self._started.append(worker)
        worker.send({**self._settings, "device": worker.device})
        self._selector.register(worker.events, selectors.EVENT_READ, worker)


class _Process:
    """A worker process, which can be started again."""

    def __init__(self, number: int, device: str, log: Path):
        self.number, self.device, self.log, self.threads = number, device, log, None
        self.popen: subprocess.Popen | None = None
        self.events: BinaryIO | None = None  # the reading end of a pipe

    def start(self) -> None:
        """Start the process."""
        self.assigned: list[int] = []
        self.computing: dict | None = None  # the event ``morph`` of the images that the model is computing
        self.model: dict | None = None
        self.opened = self.end_requested = False
        # Whether the pipe of events is at its end. After the worker's exit, a child of the worker may keep it open.
        self.closed = False
        self._line = b""
        # The worker can import the same modules as this process, for example from the folder of a script.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(folder) for folder in sys.path)}
        environment |= short_spin(environment)
        environment |= {} if any(name in environment for name in ALLOCATOR_SETTINGS) else KEEP_MEMORY
        environment |= {"OMP_NUM_THREADS": self.threads} if self.threads else {}
        reader, writer = os.pipe()
        with contextlib.ExitStack() as on_error, open(writer, "wb"), self.open_log() as log:
            self.events = on_error.enter_context(open(reader, "rb", buffering=0))
            os.set_blocking(reader, False)
            command = [sys.executable, "-c", WORKER_SCRIPT, str(writer)]
            streams = {"stdin": subprocess.PIPE, "stdout": log, "stderr": log, "pass_fds": [writer]}
            # In a session of its own, the worker does not get the terminal's Ctrl-C, which the supervisor handles.
            self.popen = _popen(command, **streams, env=environment, start_new_session=True)
            on_error.pop_all()

    def open_log(self) -> BinaryIO:
        """Open the log, or the null device if that fails."""
        try:
            return open(self.log, "ab")
        except OSError as error:
            warn(f"{self.log} cannot be written ({error.strerror}): the output of this worker is lost")
            return open(os.devnull, "ab")

    def send(self, message: dict) -> None:
        """Send a message to the process."""
        try:
            self.popen.stdin.write(json.dumps(message).encode() + b"\n")
            self.popen.stdin.flush()
        except BrokenPipeError:
            pass  # the process has exited

    def assign(self, shard: int) -> None:
        """Send a shard number."""
        self.assigned.append(shard)
        self.send({"shard": shard})

    def end(self, *, cancel: bool = False) -> None:
        """Let the process end when it has computed its shards; with ``cancel``, only those that have begun."""
        if self.opened and not self.end_requested:
            self.end_requested = True
            self.send({"end": True, "cancel": cancel})

    def read(self) -> list[dict]:
        """Return the events since the last call, without waiting."""
        while not self.closed:
            data = self.events.read(1 << 16)
            if data is None:  # no more events now
                break
            self._line += data
            self.closed = not data
        *lines, self._line = self._line.split(b"\n")
        return [json.loads(line) for line in lines]

    def kill(self, grace: float = 0.0) -> int:
        """Kill the process if it does not end within ``grace`` seconds; return its status, negative for a signal."""
        try:
            self.popen.wait(grace)
        except subprocess.TimeoutExpired:
            self.popen.send_signal(signal.SIGKILL)
        status = self.popen.wait()
        for pipe in (self.popen.stdin, self.events):
            try:
                pipe.close()
            except BrokenPipeError:
                pass
        return status

    def log_line(self, text: str) -> None:
        """Append a line to the log."""
        with contextlib.suppress(OSError), open(self.log, "a") as log:
            print(text, file=log)


def describe_status(status: int) -> str:
    """Return the exit status of a process as text.

    A negative status is the number of a signal.

    Examples
    --------
    >>> describe_status(3), describe_status(-11)
    ('exit status 3', 'signal SIGSEGV')
    >>> describe_status(-9)
    'signal SIGKILL, as when memory runs out'
    """
    if status >= 0:
        return f"exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:  # a real-time signal
        name = str(-status)
    return f"signal {name}{', as when memory runs out' if name == 'SIGKILL' else ''}"


def _popen(command: list[str], **options) -> subprocess.Popen:
    """Start a process. If the limit on processes is reached, wait and try again."""
    for _ in range(ATTEMPTS - 1):
        try:
            return subprocess.Popen(command, **options)
        except BlockingIOError:  # EAGAIN, of fork
            time.sleep(RETRY_SECONDS)
    return subprocess.Popen(command, **options)

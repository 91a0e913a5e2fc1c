"""A worker process, which :mod:`.local` (the supervisor) starts.

It reads messages from stdin: its settings, the job's folder ("open"), shard numbers ("shard"), and "end". If
"cancel" is true in "end", queued shards are dropped. It writes events (see :mod:`.engine`) to a pipe whose descriptor
is the argument of the process. Messages and events are JSON lines. Stdout and stderr are the log. The process exits
when the supervisor closes its end of stdin.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import queue
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import TextIO

from ...errors import ModelError, is_expected, to_job_error
from ..config import JobConfig
from ..pipeline import EventCallback
from ..plan import Plan
from ..worker import Worker


def main() -> int:
    """Run the worker until its supervisor ends it; return the exit status."""
    # Only the supervisor handles SIGINT, but a cluster's scheduler may send it to all processes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    descriptor = int(sys.argv.pop())  # not to be seen by models that parse arguments
    os.set_inheritable(descriptor, False)
    events = os.fdopen(descriptor, "w", buffering=1)
    messages = os.fdopen(os.dup(0))
    _hide_stdin()
    sys.stdout.reconfigure(errors="backslashreplace")  # stderr has this error handler by default
    sys.stdout, sys.stderr = _LossyStream(sys.stdout), _LossyStream(sys.stderr)
    on_event = lambda event: events.write(json.dumps(event) + "\n")
    try:
        _serve(messages, on_event)
        return 0
    except BaseException as error:  # noqa: BLE001  (reported to the supervisor)
        reported = to_job_error(error)
        if not is_expected(error):
            traceback.print_exception(error)
        of_model = isinstance(reported, ModelError)
        on_event({"event": "fatal", "message": str(reported), "code": reported.code, "of_model": of_model})
        return 1


def _hide_stdin() -> None:
    """Replace stdin by the null device, so that the model and its children cannot read messages."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


class _LossyStream:
    """A stream that drops what cannot be written, for example to a log on a full disk."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text; errors are ignored."""
        with contextlib.suppress(OSError):
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream; errors are ignored."""
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str):
        return getattr(self._stream, name)


def _serve(messages: TextIO, on_event: EventCallback) -> None:
    settings = json.loads(messages.readline())
    worker = Worker(JobConfig.from_dict(settings["config"]), settings["device"], settings["decoders"])
    gc.enable()  # disabled by local.WORKER_SCRIPT
    on_event({"event": "ready", "model": worker.loaded.description})
    line = messages.readline()
    if not line:
        return
    out = Path(json.loads(line)["open"])
    worker.open(out, Plan.read(out))
    worker.send_warnings()
    try:
        worker.run(_AssignedShards(messages).next, on_event)
    finally:
        worker.close()


class _AssignedShards:
    """The shards that the supervisor assigns while the worker runs."""

    def __init__(self, messages: TextIO):
        self._queue: queue.Queue[int | None] = queue.Queue()  # None: there are no more
        self._ended = False
        threading.Thread(target=self._listen, args=(messages,), daemon=True).start()

    def next(self, wait: bool) -> int | None:
        """Return the next shard, see :data:`~steerlens_fast.job.pipeline.NextShard`."""
        if self._ended:
            return None
        try:
            shard = self._queue.get(block=wait)
        except queue.Empty:
            return None
        self._ended = shard is None
        return shard

    def _listen(self, messages: TextIO) -> None:
        """Queue the shards that the supervisor sends; exit if the supervisor has died."""
        for line in messages:
            message = json.loads(line)
            if "shard" in message:
                self._queue.put(message["shard"])
                continue
            if message["cancel"]:
                with self._queue.mutex:
                    self._queue.queue.clear()
            self._queue.put(None)
        os._exit(1)


def run() -> None:
    """Run the process, and exit."""
    code = main()
    sys.stdout.flush()
    os._exit(code)  # does not wait for threads that are still decoding

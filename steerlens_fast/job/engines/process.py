"""A worker process: reads orders from stdin and tells of its work on stdout, one JSON line each; the rest is its log.

Started by :mod:`.local`. It ends when its stdin does.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import TextIO

from ...errors import is_expected, to_job_error
from ..config import JobConfig
from ..pipeline import END
from ..plan import Plan
from ..worker import Worker


def main() -> int:
    """Serve one driver."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal's processes; the driver decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    told = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a model prints goes into the log
    sys.stdout.reconfigure(errors="backslashreplace")  # as stderr's
    sys.stdout, sys.stderr = _LossyStream(sys.stdout), _LossyStream(sys.stderr)
    lock = threading.Lock()

    def tell(event: dict) -> None:
        with lock:
            told.write(json.dumps(event) + "\n")

    try:
        _serve(sys.stdin, tell)
        return 0
    except BaseException as error:  # noqa: BLE001  (all that can be done about it is to tell)
        reported = to_job_error(error)
        note(error)
        tell({"event": "fatal", "message": str(reported), "code": reported.code})
        return 1


class _LossyStream:
    """A stream to the log, which may be on a disk that is full: what cannot be written is dropped, and ends no job."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str):
        return getattr(self._stream, name)


def note(error: BaseException) -> None:
    """What nobody foresaw, with where it comes from, on stderr."""
    if not is_expected(error):
        traceback.print_exception(error)


def _serve(orders: TextIO, tell) -> None:
    order = json.loads(orders.readline())
    worker = Worker(JobConfig.from_dict(order["config"]), order["device"], order["decoders"])
    tell({"event": "ready", "model": worker.loaded.description})
    line = orders.readline()
    if not line:
        return
    out = Path(json.loads(line)["open"])
    worker.open(out, Plan.read(out))
    shards: queue.Queue[int | None] = queue.Queue()
    threading.Thread(target=_listen, args=(orders, shards), daemon=True).start()
    try:
        worker.run(shards, tell)
    finally:
        worker.close()


def _listen(orders: TextIO, shards: queue.Queue) -> None:
    """Pass on shard numbers; a stop takes back those that have not begun; a driver that is gone ends the process."""
    for line in orders:
        order = json.loads(line)
        if "shard" in order:
            shards.put(order["shard"])
            continue
        if order.get("stop"):
            with shards.mutex:
                shards.queue.clear()
        shards.put(END)
    os._exit(1)


def run() -> None:
    """The process, from its first to its last moment."""
    code = main()
    sys.stdout.flush()
    os._exit(code)  # decoding threads may be in the middle of an image that nobody wants any more

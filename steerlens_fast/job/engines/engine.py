"""Engines: where shards are computed.

An engine computes shards in this process, in worker processes, or in actors of Ray. With the engine "env", this process
is one of several *ranks*, which torchrun or SLURM has started (:mod:`.env`).

An engine tells workers which shards to compute, and receives their events. In every engine, the same
:class:`~steerlens_fast.job.worker.Worker` reads the images and writes the frames, so the bytes are the same.

Events are dictionaries:

========= ========================= ================================================================================
``event`` other keys                meaning
========= ========================= ================================================================================
``ready`` ``model``                 a worker process has loaded the model; ``model`` is the model's description
``begun`` ``shard``                 the first batch of a shard is loaded
``morph`` ``shard, first, count``   the model starts to compute ``count`` items from index ``first``; with ``count`` 0:
                                    the model has computed them
``batch`` ``shard, items, failed``  the records of a batch are made
``shard`` ``shard, items, failed``  a shard is complete, and its marker is written
``warning`` ``message``             a worker process has written this warning about the model to its log
``fatal`` ``message, code,``        a worker process ends with an error, which also ends the job; ``of_model``: whether
          ``of_model``              it is a ModelError
``tick``  –                         the engine waits for events; the progress can be refreshed
========= ========================= ================================================================================

Only :class:`~steerlens_fast.job.engines.local.Local` handles ``ready``, ``morph`` and ``fatal``, and sends ``warning``.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from ...errors import JobError, is_expected, to_job_error
from ..pipeline import EventCallback
from ..plan import Plan


class Stop:
    """A flag that ends a job early. It is set by the first Ctrl-C, or when too many items have failed.

    Shards that have begun (with Ray, also shards queued for an actor) are then finished, and no others are started.
    """

    requested = False


class Engine(Protocol):
    """The interface of an engine."""

    workers: int  # number of workers, by which make_plan divides the cores of this machine; not used for ranks

    def describe(self) -> dict:
        """Wait until a worker has loaded the model; return the model's description."""

    def run(self, out: Path, plan: Plan, shards: Sequence[int], on_event: EventCallback, stop: Stop) -> None:
        """Compute shards in any order, until a stop is requested.

        ``on_event`` is called with every event. ``begun``, ``batch`` and ``warning`` have an effect. Other events only
        refresh the progress.
        """

    def close(self) -> None:
        """Stop all workers immediately."""


@contextlib.contextmanager
def log_unexpected_errors(log: Path) -> Iterator[None]:
    """Convert exceptions in the block to JobErrors.

    The traceback is written to the log, unless the exception is expected (:func:`is_expected`).
    """
    try:
        yield
    except Exception as error:
        if is_expected(error):
            raise
        with contextlib.suppress(OSError):  # the disk may be full
            log.parent.mkdir(parents=True, exist_ok=True)
            with open(log, "a", encoding="utf-8", errors="backslashreplace") as file:
                traceback.print_exception(error, file=file)
        if isinstance(error, JobError):  # a ModelError, the only JobError that is not expected
            raise
        raise to_job_error(error) from error

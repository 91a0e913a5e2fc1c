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
``fatal`` ``message, code,``        a worker process ends with an error, which also ends the job; ``of_model``: whether
          ``of_model``              it is a ModelError
``tick``  –                         the engine waits for events; the progress can be refreshed
========= ========================= ================================================================================

Only :class:`~steerlens_fast.job.engines.local.Local` handles the events ``ready``, ``morph`` and ``fatal``.
"""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import torch

from ...errors import JobError, is_expected, to_job_error, usage_error
from ..config import RunOptions
from ..pipeline import EventCallback
from ..plan import Plan
from ..planning import JobInputs
from .env import rank_of


class Stop:
    """A flag that ends a job early. It is set by the first Ctrl-C, or when too many items have failed.

    Shards that have begun (with Ray, also those queued for an actor) are then finished, and no others are started.
    """

    requested = False


class Engine(Protocol):
    """The interface of an engine."""

    workers: int  # number of workers, by which make_plan divides the cores of this machine; not used for ranks

    def describe(self) -> dict:
        """Wait until a worker has loaded the model; return the model's description."""

    def run(self, out: Path, plan: Plan, shards: Sequence[int], on_event: EventCallback, stop: Stop) -> None:
        """Compute shards in any order, until a stop is requested.

        ``on_event`` is called with ``begun``, ``batch`` and ``shard`` events. Other events only refresh the progress.
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


def make_engine(inputs: JobInputs, options: RunOptions, out: Path) -> Engine:
    """Return the selected engine, which starts to load the model immediately, unless it is Ray."""
    config, workers = inputs.config, num_workers(options, inputs.device)
    decoders = options.decoders or max(1, min(8, len(os.sched_getaffinity(0)) // max(workers, 1)))
    has_objects = inputs.dataset is not None or inputs.model is not None
    if has_objects and (options.engine != "local" or (options.workers or 0) > 1):
        text = "data and model must be given by name for several workers or an engine other than 'local'"
        raise usage_error(f"{text}, got an object")
    if options.engine == "env" or has_objects or workers == 0:
        from .inprocess import InProcess

        source = None if inputs.dataset is None else inputs.source
        device, number = inputs.device, 0
        if options.engine == "env":
            rank = rank_of()
            number = rank.number
            if device == "cuda":  # the ranks of a machine use different GPUs, if it has enough
                device = f"cuda:{rank.local % torch.cuda.device_count()}"
        log = out / "logs" / f"worker-{number}.log"
        return InProcess(config, device, decoders, log, source, inputs.model)
    if options.engine == "ray":
        from .ray import Ray

        return Ray(config, workers, inputs.device, decoders)
    from .local import Local

    devices = [f"cuda:{n}" for n in range(torch.cuda.device_count())] if inputs.device == "cuda" else ["cpu"]
    return Local(config, workers, devices, decoders, out / "logs")


def num_workers(options: RunOptions, device: str) -> int:
    """Return the number of workers. The default is the number of GPUs if the device is "cuda", else 1."""
    if options.workers is not None:
        return options.workers
    return torch.cuda.device_count() if device == "cuda" else 1

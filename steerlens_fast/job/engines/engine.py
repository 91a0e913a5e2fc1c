"""Engines: where shards are computed.

An engine computes them in this process, in worker processes, or in actors of Ray. With the engine "env", this process
is one of several *ranks*, which torchrun or SLURM has started (:mod:`.env`).

An engine tells workers which shards to compute, and receives their events. In every engine, the same
:class:`~steerlens_fast.job.worker.Worker` reads the images and writes the frames, so the bytes are the same.

Events are dictionaries:

========= ========================= ================================================================================
``event`` other keys                meaning
========= ========================= ================================================================================
ready     ``model``                 a worker process has loaded the model; ``model`` is the model's description
begun     ``shard``                 the first batch of a shard is loaded
morph     ``shard, first, count``   the model starts to compute ``count`` items from index ``first``; with ``count`` 0:
                                    the model has computed them
batch     ``shard, items, failed``  the records of a batch are made
shard     ``shard, items, failed``  a shard is complete, and its marker is written
fatal     ``message, code``         a worker process ends with an error, which also ends the job
tick      –                         the engine waits for events; the progress can be refreshed
========= ========================= ================================================================================

The events ready, morph and fatal are for :class:`~steerlens_fast.job.engines.local.Local`, which handles them itself.
"""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from ...errors import USAGE, JobError, is_expected, to_job_error
from ...io.base_config import check_fields, option, plain_data
from ...io.progress import KINDS
from ..pipeline import EventCallback
from ..plan import Plan
from ..planning import JobInputs
from .env import rank_of

ENGINES = ("local", "env", "ray")


@dataclass(frozen=True)
class RunOptions:
    """Options that decide how a job runs.

    They do not change the bytes of its shards.

    Parameters
    ----------
    engine : {"local", "env", "ray"}
        "local": worker processes on this machine. "env": this process is one of the ranks that torchrun or a SLURM
        array has started. "ray": actors of Ray.
    workers : int, optional
        Number of processes or actors; 0 runs the job in this process. By default one for each GPU, or 1 if there is
        none.
    decoders : int, optional
        Threads that decode images, in each worker. By default the cores divided by the workers, at most 8.
    resume : bool
        Continue the job.
    overwrite : bool
        Delete the job and start again.
    retry_failed : bool
        Continue the job, and compute shards with failed items again.
    max_failures : int or str
        Maximum number of failed items, or a percentage of all items such as "10%", which allows at least 10.
    progress : {"auto", "bar", "lines", "json", "none"}
        How progress is reported on stderr.
    gallery : int
        Maximum number of morphs, and of failed items, in the gallery; 0 for no gallery.
    """

    engine: str = option(
        "local",
        group="running",
        choices=ENGINES,
        help="local: worker processes on this machine. env: this command is one of the ranks that torchrun or a SLURM "
        "array has started. ray: actors of Ray",
    )
    workers: int | None = option(
        None,
        group="running",
        metavar="N",
        minimum=0,
        help="worker processes; 0 runs the job in this process (default: one for each GPU, or 1 if there is none)",
    )
    decoders: int | None = option(
        None,
        group="running",
        metavar="N",
        minimum=1,
        help="threads that decode images, in each worker (default: the cores divided by the workers, at most 8)",
    )
    resume: bool = option(
        False, group="running", help="continue the job in --out; options that are given again must be the same"
    )
    overwrite: bool = option(False, group="running", help="delete what a previous job has written to --out")
    retry_failed: bool = option(
        False, group="running", help="continue the job, and compute shards with failed items again"
    )
    max_failures: int | str = option(
        "10%",
        group="running",
        metavar="N|P%",
        help="maximum number or percentage of failed items; a percentage allows at least 10 items (default: 10%)",
    )
    progress: str = option("auto", group="running", choices=KINDS, help="how progress is reported on stderr")
    gallery: int = option(
        48,
        group="outputs",
        metavar="N",
        minimum=0,
        help="maximum number of morphs, and of failed items, in the gallery; 0 for no gallery",
    )

    def __post_init__(self):
        for name in ("workers", "decoders", "max_failures", "gallery"):
            object.__setattr__(self, name, plain_data(getattr(self, name)))
        try:
            check_fields(self)
        except (TypeError, ValueError) as error:
            raise JobError(str(error), USAGE) from error
        if self.overwrite and (self.resume or self.retry_failed):
            raise JobError("overwrite must not be given with resume or retry_failed, which keep the job", USAGE)


class Stop:
    """A flag that ends a job early.

    It is set by the first Ctrl-C, or when too many items have failed.

    Shards that have begun are then finished, and no others are started.
    """

    requested = False


class Engine(Protocol):
    """The interface of an engine."""

    workers: int  # number of workers, by which make_plan divides the cores of this machine; not used for ranks

    def describe(self) -> dict:
        """Wait until a worker has loaded the model; return the model's description."""

    def run(self, out: Path, plan: Plan, shards: Sequence[int], on_event: EventCallback, stop: Stop) -> None:
        """Compute shards in any order, until a stop is requested.

        ``on_event`` is called with every begun, batch and shard event; other events only refresh the progress.
        """

    def close(self) -> None:
        """Stop all workers immediately."""


@contextlib.contextmanager
def log_unexpected_errors(log: Path) -> Iterator[None]:
    """Convert exceptions in the block to JobErrors.

    If the message alone does not explain an exception (:func:`is_expected`), its traceback is written to the log.
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
        if isinstance(error, JobError):  # a ModelError
            raise
        raise to_job_error(error) from error


def make_engine(inputs: JobInputs, options: RunOptions, out: Path, objects: dict) -> Engine:
    """Return the selected engine, which starts to load the model immediately, unless it is Ray."""
    config, workers = inputs.config, num_workers(options, inputs.device)
    decoders = options.decoders or max(1, min(8, len(os.sched_getaffinity(0)) // max(workers, 1)))
    has_objects = any(value is not None for value in objects.values())
    if has_objects and (options.engine != "local" or (options.workers or 0) > 1):
        text = "data and model must be given by name for several workers or an engine other than 'local'"
        raise JobError(f"{text}, got an object", USAGE)
    if options.engine == "env" or has_objects or workers == 0:
        from .inprocess import InProcess

        source = None if objects["dataset"] is None else inputs.source
        log = out / "logs" / f"worker-{rank_of().number if options.engine == 'env' else 0}.log"
        return InProcess(config, _own_device(inputs.device, options), decoders, log, source, objects["model"])
    if options.engine == "ray":
        from .ray import Ray

        return Ray(config, workers, inputs.device, decoders)
    from .local import Local

    devices = [f"cuda:{n}" for n in range(torch.cuda.device_count())] if inputs.device == "cuda" else ["cpu"]
    return Local(config, workers, devices, decoders, out / "logs")


def num_workers(options: RunOptions, device: str) -> int:
    """Return the number of workers.

    By default it is one for each GPU, or 1 without a GPU.
    """
    if options.workers is not None:
        return options.workers
    return torch.cuda.device_count() if device == "cuda" else 1


def _own_device(device: str, options: RunOptions) -> str:
    """Return the device of this process.

    A rank uses the GPU whose number is the rank's number on its machine.
    """
    if device == "cpu" or options.engine != "env":
        return device
    return f"cuda:{rank_of().local % torch.cuda.device_count()}"

"""Where shards are made: in this process, in supervised ones, in those that a cluster has started, or through Ray.

Only shard numbers and what is told of them pass through an engine; items and frames never do. Whatever the engine, the
same :class:`~steerlens_fast.job.worker.Worker` makes the same bytes.
"""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from ...checks import check_bool, check_choice, check_int
from ...errors import USAGE, JobError, is_expected, to_job_error
from ...io.base_config import plain_data
from ...io.progress import KINDS
from ..plan import Plan
from ..planning import Inputs
from .env import rank_of

Tell = Callable[[dict], None]
ENGINES = ("local", "env", "ray")


@dataclass(frozen=True)
class RunOptions:
    """How a job is run; nothing of it changes a byte of its shards.

    Parameters
    ----------
    engine : {"local", "env", "ray"}
        Worker processes on this machine; this process as one of the ranks that torchrun or a SLURM array has started;
        actors of Ray.
    workers : int, optional
        Processes or actors; 0 is this process. By default one for each GPU, else one.
    decoders : int, optional
        Threads that decode, in each worker; by default the cores over the workers, at most 8.
    resume, overwrite, retry_failed : bool
        Go on with what the folder holds; drop it; go on, and make shards with failed items again.
    max_failures : int or str
        Stop when more items have failed: a number, or a share of all like "10%", but at least 10.
    progress : {"auto", "bar", "lines", "json", "none"}
    gallery : int
        Examples that the gallery shows; 0 for no gallery.
    """

    engine: str = "local"
    workers: int | None = None
    decoders: int | None = None
    resume: bool = False
    overwrite: bool = False
    retry_failed: bool = False
    max_failures: int | str = "10%"
    progress: str = "auto"
    gallery: int = 48

    def __post_init__(self):
        for name in ("workers", "decoders", "max_failures", "gallery"):
            object.__setattr__(self, name, plain_data(getattr(self, name)))
        try:
            check_choice("engine", self.engine, ENGINES)
            check_choice("progress", self.progress, KINDS)
            for name in ("resume", "overwrite", "retry_failed"):
                check_bool(name, getattr(self, name))
            for name, least in (("workers", 0), ("decoders", 1)):
                if getattr(self, name) is not None:
                    check_int(name, getattr(self, name), least, None)
            check_int("gallery", self.gallery, 0, None)
        except (TypeError, ValueError) as error:
            raise JobError(str(error), USAGE) from error
        if self.overwrite and (self.resume or self.retry_failed):
            raise JobError("overwrite must not come with resume or retry_failed, which keep what is there", USAGE)


class Stop:
    """Asked for by the first Ctrl-C: finish what has begun, begin nothing more."""

    requested = False


class Engine(Protocol):
    """What the job asks of an engine."""

    workers: int  # that share this machine

    def describe(self) -> dict:
        """Wait until a worker has loaded the model; what it tells of it."""

    def run(self, out: Path, plan: Plan, shards: Sequence[int], tell: Tell, stop: Stop) -> None:
        """Make the shards, in any order; ``tell`` hears of batches and shards. Returns early where asked to stop."""

    def close(self) -> None:
        """Stop at once."""


@contextlib.contextmanager
def noted(log: Path) -> Iterator[None]:
    """What nobody foresaw leaves as a JobError, and its traceback in the log."""
    try:
        yield
    except Exception as error:
        if is_expected(error):
            raise
        with contextlib.suppress(OSError):  # the log may be on a disk that is full
            log.parent.mkdir(parents=True, exist_ok=True)
            with open(log, "a", encoding="utf-8", errors="backslashreplace") as file:
                traceback.print_exception(error, file=file)
        if isinstance(error, JobError):
            raise
        raise to_job_error(error) from error


def make_engine(inputs: Inputs, options: RunOptions, out: Path, objects: dict) -> Engine:
    """The engine that the options ask for, its workers already loading the model."""
    config, workers = inputs.config, count_of_workers(options, inputs.device)
    decoders = options.decoders or max(1, min(8, len(os.sched_getaffinity(0)) // max(workers, 1)))
    named = all(thing is None for thing in objects.values())
    if not named and (options.engine != "local" or (options.workers or 0) > 1):
        raise JobError("objects for data or model need engine 'local' without workers: name them instead", USAGE)
    if options.engine == "env" or not named or workers == 0:
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


def count_of_workers(options: RunOptions, device: str) -> int:
    """Those asked for, else one for each GPU, else one."""
    if options.workers is not None:
        return options.workers
    return torch.cuda.device_count() if device == "cuda" else 1


def _own_device(device: str, options: RunOptions) -> str:
    """A rank's GPU is that of its place on its machine."""
    if device == "cpu" or options.engine != "env":
        return device
    return f"cuda:{rank_of().local % torch.cuda.device_count()}"

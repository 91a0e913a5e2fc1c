"""A whole job: lock, plan or go on, make what is missing, sum up."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import DONE, INTERRUPTED, QUARANTINED, TERMINATED, TOO_MANY_FAILURES, USAGE, JobError, to_job_error
from ..io.atomic_io import sync_folder
from ..io.output_dir import check_same_model, hold_lock
from ..io.progress import Progress
from ..models.device import resolve_device
from .config import JobConfig
from .engines.engine import Engine, RunOptions, Stop, make_engine
from .engines.env import rank_of
from .plan import Plan
from .planning import (
    Inputs,
    check_plan,
    clear,
    clear_leftovers,
    has_plan,
    make_plan,
    nothing_made,
    refuse_foreign,
    resumed_config,
    with_targets_of_data,
)
from .report import CompletedShards, done_shards, sum_up, summed_up
from .shard import marker

FEW = 10  # failures that are never too many where a share of all is the limit


@dataclass(frozen=True)
class Outcome:
    """How a job ended: its exit code, and what ``summary.json`` says."""

    code: int
    summary: dict


def run_job(out: Path, asked: Mapping, options: RunOptions | None = None, *, dataset=None, model=None) -> Outcome:
    """Run a job to its end, or as far as it goes.

    Parameters
    ----------
    out : path
        Its folder.
    asked : mapping
        Fields of :class:`JobConfig` that are not left to their defaults, or, on resume, to what they were.
    options : RunOptions
    dataset, model
        Objects, in place of those that ``asked`` names; then all runs in this process.

    Raises
    ------
    JobError
        With an exit code.
    """
    options, out = options or RunOptions(), out.absolute()
    most_failures(options.max_failures, 1)  # before anything is loaded
    try:
        refuse_foreign(out, asked.get("data"))
        out.mkdir(parents=True, exist_ok=True)
        with _signals() as stop, _locked(out, options):
            return _run(out, asked, options, stop, {"dataset": dataset, "model": model})
    except Terminated:
        raise JobError("terminated", TERMINATED) from None
    except (OSError, ImportError) as error:
        raise to_job_error(error) from error


class Terminated(BaseException):
    """SIGTERM came; no Exception, so that nobody's handling of errors takes it for one on the way."""


@contextmanager
def _locked(out: Path, options: RunOptions) -> Iterator[None]:
    """One job at a time; the ranks of one job share its folder, each rank being there once."""
    if options.engine != "env":
        with hold_lock(out / ".lock"):
            yield
        return
    if options.overwrite:
        raise JobError("overwrite must not come with engine 'env': each rank would drop the others' work", USAGE)
    rank = rank_of()
    with hold_lock(out / ".lock", shared=True), hold_lock(out / f".lock-rank-{rank.number}-of-{rank.world}"):
        yield


def _run(out: Path, asked: Mapping, options: RunOptions, stop: Stop, objects: dict) -> Outcome:
    if options.engine == "env":
        return _run_rank(out, asked, options, stop, objects)
    going_on = _goes_on(out, options)
    config = resumed_config(out, asked) if going_on else JobConfig.from_dict(with_targets_of_data(asked))
    inputs = Inputs(config, resolve_device(config.device), objects["dataset"])
    plan = check_plan(out, inputs) if going_on else None
    clear_leftovers(out)
    pending = None if plan is None else _pending(out, plan, options, range(plan.shards))
    if pending != []:
        engine = make_engine(inputs, options, out, objects)
        try:
            plan = plan or _new_plan(out, inputs, engine)
            made = _make(out, plan, range(plan.shards) if pending is None else pending, engine, options, stop)
        finally:
            engine.close()
            clear_leftovers(out)  # of workers that were killed
    return _finish(out, plan, options, stop, None if pending == [] else made)


def _run_rank(out: Path, asked: Mapping, options: RunOptions, stop: Stop, objects: dict) -> Outcome:
    """Whichever rank comes first makes the plan; whichever is the last to be done sums up."""
    rank = rank_of()
    config = resumed_config(out, asked) if has_plan(out) else JobConfig.from_dict(with_targets_of_data(asked))
    inputs = Inputs(config, resolve_device(config.device), objects["dataset"])
    engine = make_engine(inputs, options, out, objects)  # not under the lock: ranks load their models side by side
    try:
        with hold_lock(out / ".planning", wait=True, required=rank.world > 1):
            if not has_plan(out):
                make_plan(out, inputs, engine.describe(), _ranks_here())
            resumed_config(out, asked)  # whoever planned may have been asked for something else
            plan = check_plan(out, inputs)
            pending = _pending(out, plan, options, rank.shards(range(plan.shards)))
        made = _make(out, plan, pending, engine, options, stop) if pending else {}
    finally:
        engine.close()
    with hold_lock(out / ".planning", wait=True, required=rank.world > 1):
        return _finish(out, plan, options, stop, made)


def _new_plan(out: Path, inputs: Inputs, engine: Engine) -> Plan:
    """A plan, in place of one that is there: only now that data and model are known to be what a job needs."""
    model = engine.describe()
    if has_plan(out):
        clear(out)
    return make_plan(out, inputs, model, engine.workers)


def _ranks_here() -> int:
    """Ranks that share this machine's cores, as far as the environment tells."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("SLURM_NTASKS_PER_NODE") or 1)


def _goes_on(out: Path, options: RunOptions) -> bool:
    """Whether there is a plan to go on with; refuses to touch one where that was not asked for."""
    if not has_plan(out):
        return False
    if options.overwrite:
        Plan.read(out)  # says so now if it is no job's; what it holds stays until the new one is known to start
        return False
    if not (options.resume or options.retry_failed):
        if nothing_made(out):  # of a job that failed at once: another may take its place
            return False
        how = "use --resume or --overwrite (in Python resume=True or overwrite=True)"
        raise JobError(f"out must be a new folder, got {out}, a job's: {how}", USAGE)
    return True


def _pending(out: Path, plan: Plan, options: RunOptions, mine: Iterable[int]) -> list[int]:
    """Those of the shards that are to be made."""
    done = done_shards(out, plan)
    again = set(done.failing) & set(mine) if options.retry_failed else set()
    for shard in again:
        marker(out, shard).unlink()
    return [shard for shard in mine if shard not in done.shards - again]


def _make(out: Path, plan: Plan, pending: Sequence[int], engine: Engine, options: RunOptions, stop: Stop) -> dict:
    """Make the shards; returns how many images that were, and how long it took."""
    check_same_model(plan.model, engine.describe())
    (out / "shards").mkdir(exist_ok=True)
    sync_folder(out)
    (out / "summary.json").unlink(missing_ok=True)  # until it is true again: a finished job's is believed
    listener = Listener(plan, done_shards(out, plan), options, stop)
    try:
        if not listener.too_many:
            engine.run(out, plan, pending, listener, stop)
    finally:
        listener.progress.close()
    if listener.too_many:
        sum_up(out, plan, listener.progress.summary())
        raise JobError(listener.too_many, TOO_MANY_FAILURES)
    return listener.progress.summary()


def _finish(out: Path, plan: Plan, options: RunOptions, stop: Stop, made: dict | None) -> Outcome:
    """Sum up, unless nothing was ``made`` and that has been done."""
    summary = summed_up(out) if made is None else None
    new, summary = summary is None, summary or sum_up(out, plan, made or {})
    code = QUARANTINED if summary["failed"] else DONE
    if not summary["complete"]:
        return Outcome(INTERRUPTED if stop.requested else code, summary)
    if options.engine != "env":  # other ranks may be at work again
        clear_leftovers(out)
    if options.gallery and (new or not (out / "gallery").exists()):
        from .gallery import write_gallery

        write_gallery(out, sample=options.gallery)
    return Outcome(code, summary)


class Listener:
    """Hears of batches and shards: shows progress, counts failures, and asks to stop when there are too many.

    As after a Ctrl-C, shards that have begun are finished then, so that ``failed.jsonl`` has what failed in them.
    """

    def __init__(self, plan: Plan, done: CompletedShards, options: RunOptions, stop: Stop):
        self.progress = Progress(plan.items, done.items, done.failed, options.progress)
        self._most, self._batches, self._stop = most_failures(options.max_failures, plan.items), {}, stop

    @property
    def too_many(self) -> str:
        """What to say of the failures where there are too many, else nothing."""
        failed = self.progress.failed
        text = f"{failed} items failed, more than max_failures allows ({self._most}): see failed.jsonl"
        return text if failed > self._most else ""

    def __call__(self, event: dict) -> None:
        kind = event["event"]
        if kind == "begun":
            self._again(event["shard"])
        elif kind == "batch":
            self._count(event)
        self.progress.tick()

    def _count(self, event: dict) -> None:
        items, failed = self._batches.get(event["shard"], (0, 0))
        self._batches[event["shard"]] = items + event["items"], failed + event["failed"]
        self.progress.update(event["items"], event["failed"])
        if self.too_many:
            self._stop.requested = True

    def _again(self, shard: int) -> None:
        """A shard that a dead worker had begun counts from the beginning."""
        items, failed = self._batches.pop(shard, (0, 0))
        self.progress.update(-items, -failed)


def most_failures(limit: int | str, items: int) -> int:
    """How many items may fail.

    Examples
    --------
    >>> most_failures("10%", 1000), most_failures("10%", 20), most_failures(3, 1000)
    (100, 10, 3)
    """
    text = str(limit)
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else None
        count = int(text) if share is None else int(share * items)
    except (ValueError, OverflowError):
        share, count = None, -1
    if count < 0 or (share or 0) < 0:
        raise JobError(f'max_failures must be a number of items or a share of them like "10%", got {limit!r}', USAGE)
    return count if share is None else max(FEW, count)


@contextmanager
def _signals() -> Iterator[Stop]:
    """The first Ctrl-C asks to stop, the second interrupts; SIGTERM ends the job at once. Only in the main thread."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def interrupt(*_):
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True
        with suppress(OSError):  # not print, which may be what was interrupted
            if sys.stderr is not None:  # else descriptor 2 may be any file
                os.write(2, b"finishing the shards that have begun; Ctrl-C again stops at once\n")

    def terminate(*_):
        raise Terminated

    handlers = {signal.SIGINT: interrupt, signal.SIGTERM: terminate}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not set from Python

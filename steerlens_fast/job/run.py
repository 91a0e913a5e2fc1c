"""Runs a job: locks the folder, plans or resumes, computes the missing shards, and writes the summary."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.targets import with_default_target
from ..errors import (
    DONE,
    INTERRUPTED,
    SOME_FAILED,
    TERMINATED,
    TOO_MANY_FAILED,
    USAGE,
    JobError,
    to_job_error,
    usage_error,
)
from ..io.atomic_io import existing_path, refresh_names, restore_backups, sync_folder
from ..io.console import warn
from ..io.output_dir import check_same_model, hold_lock, is_locked, output_dir
from ..io.progress import Progress
from ..models.device import resolve_device
from .config import JobConfig, RunOptions
from .engines.engine import Engine, Stop
from .engines.env import Rank, rank_of
from .engines.make_engine import make_engine
from .folder import (
    FILES,
    RANK_LOCK,
    CompletedShards,
    JobFolder,
    check_output_folder,
    has_complete_shard,
    has_plan,
    remove_temporary_files,
)
from .plan import Plan
from .planning import (
    JobInputs,
    check_plan,
    expand_settings,
    log_warnings,
    make_plan,
    make_shared_plan,
    resumed_config,
)
from .replaced import discard_replaced, finish_moving, restored_on_error
from .shard import marker_path
from .summary import failure_example, read_summary, write_summary


@dataclass(frozen=True)
class Outcome:
    """The result of a job: its exit status, and the contents of ``summary.json``."""

    code: int
    summary: dict


def run_job(out: Path, options: Mapping, run_options: RunOptions, *, dataset=None, model=None) -> Outcome:
    """Run a job, or resume it.

    Parameters
    ----------
    out : path
        The job's folder.
    options : mapping
        Fields of :class:`JobConfig`; fields that are not given have their defaults or, on resume, the job's values.
    run_options : RunOptions
    dataset, model : optional
        Objects that are used in place of the options ``data`` and ``model``; the job then runs in this process.

    Raises
    ------
    JobError
        With the command's exit status as ``code``.
    """
    out, options = out.absolute(), expand_settings(options)
    try:
        check_output_folder(out, options.get("data"))
        with _signals() as stop, _output_dir(out), _locked(out, run_options):
            job_run = _JobRun(out, options, run_options, dataset, model, stop)
            return job_run.run_rank() if run_options.engine == "env" else job_run.run()
    except Terminated:
        raise JobError("terminated", TERMINATED) from None
    except (OSError, ImportError, SystemExit) as error:
        raise to_job_error(error) from error


class Terminated(BaseException):
    """Raised on SIGTERM. It is a BaseException, so that ``except Exception`` does not catch it."""


def _output_dir(out: Path) -> AbstractContextManager[None]:
    """Return a context for the job, which creates the folder.

    The folder is deleted again if the job is rejected, or fails before it has a plan, unless the logs are needed.
    """
    had_plan = has_plan(out)

    def is_kept(error: BaseException) -> bool:
        if had_plan:
            return True
        rejected = isinstance(error, JobError) and error.code == USAGE
        logs = b"".join(log.read_bytes() for log in (out / "logs").glob("*.log"))
        # Logs are needed if they say more than the error. For a rejected job, only logs with a traceback do.
        logs_needed = b"Traceback" in logs if rejected else bool(logs)
        # Complete shards count even without a plan: they may be another rank's, whose plan is not visible here yet.
        begun = has_complete_shard(out) or (has_plan(out) and not rejected)
        return logs_needed or begun

    # The lock is deleted last, since it shows that the other files are a job's.
    return output_dir(out, ("logs/*.log", "logs", *FILES, "shards", ".planning", ".lock-*", ".lock"), is_kept)


@contextmanager
def _locked(out: Path, run_options: RunOptions) -> Iterator[None]:
    """Lock the folder for this job. The ranks of a job share this lock, and each also locks its own number."""
    if run_options.engine != "env":
        with hold_lock(out / ".lock"):
            finish_moving(out)
            yield
        return
    rank = rank_of()
    with ExitStack() as locks:
        locks.enter_context(hold_lock(out / ".lock", shared=True))
        # One rank at a time: if ranks that start together do not agree on the number of ranks, only those that agree
        # with the first one continue.
        with hold_lock(out / ".lock-ranks", wait=True, required=rank.world > 1):
            check_number_of_ranks(out, rank)
            finish_moving(out)
            locks.enter_context(hold_lock(out / f"{RANK_LOCK}{rank.number}-of-{rank.world}"))
        yield


def check_number_of_ranks(out: Path, rank: Rank) -> None:
    """Raise a JobError if a rank is running that was started for another number of ranks."""
    for lock in out.glob(f"{RANK_LOCK}*"):
        number, _, world = lock.name.removeprefix(RANK_LOCK).partition("-of-")
        if world != str(rank.world) and is_locked(lock):
            text = f"the number of ranks must be the same in all ranks that run, got {rank.world} in rank {rank.number}"
            raise usage_error(f"{text}, but {world} in rank {number}, which also runs in {out}")


@dataclass(frozen=True)
class _JobRun:
    """A run of a job, or of one of its ranks; see :func:`run_job`."""

    out: Path
    options: Mapping
    run_options: RunOptions
    dataset: Any
    model: Any
    stop: Stop

    def run(self) -> Outcome:
        """Run the job, without other ranks."""
        out = self.out
        restore_backups(out, out / "shards")
        discard_replaced(out)
        resumed = self._is_resumed()
        inputs = self._inputs(resumed)
        plan = check_plan(out, inputs) if resumed else None
        remove_temporary_files(out)
        pending = None if plan is None else self._pending(plan, range(plan.shards))
        if pending == []:
            return self._finish(plan, None)
        engine = make_engine(inputs, self.run_options, out)
        if plan is not None:  # before the next block, so that a rejected --resume does not restore an old job
            with _closed_on_error(engine):
                check_same_model(plan.model, engine.describe())
        with restored_on_error(out):
            try:
                plan = plan or self._new_plan(inputs, engine)
                shards = range(plan.shards) if pending is None else pending
                last_run, too_many_message = self._compute(plan, shards, engine)
            finally:
                engine.close()
                remove_temporary_files(out)  # temporary files of killed workers
        return self._finish(plan, last_run, too_many_message)

    def run_rank(self) -> Outcome:
        """Run one rank. The first rank that holds the lock makes the plan. Each rank writes the summary at its end."""
        out, rank = self.out, rank_of()
        inputs = self._inputs(has_plan(out))
        engine = make_engine(inputs, self.run_options, out)  # before locking, so that ranks load at the same time
        try:
            with hold_lock(out / ".planning", wait=True, required=rank.world > 1):
                restore_backups(out)  # but not in the folder of shards, to which other ranks may be writing
                if not has_plan(out):
                    make_shared_plan(out, inputs, engine.describe(), _ranks_here())
            resumed_config(out, self.options)  # raises if the plan was made with other options
            plan = check_plan(out, inputs)  # without the lock, since listing all items takes long
            pending = self._pending(plan, rank.shards(range(plan.shards)))
            last_run, too_many_message = {}, ""
            if pending:
                check_same_model(plan.model, engine.describe())
                last_run, too_many_message = self._compute(plan, pending, engine)
        finally:
            engine.close()
        with hold_lock(out / ".planning", wait=True, required=rank.world > 1):
            refresh_names(out / "shards")  # so that the summary has the shards of ranks that have ended
            return self._finish(plan, last_run, too_many_message)

    def _is_resumed(self) -> bool:
        """Return whether to resume a job. Raise a JobError if there is a job to be neither resumed nor replaced."""
        out, run_options = self.out, self.run_options
        if not has_plan(out):
            return False
        if run_options.overwrite:
            Plan.read(out)  # raises if the folder is not a job's; make_plan sets the job aside
            return False
        if not (run_options.resume or run_options.retry_failed):
            if not has_complete_shard(out):  # a job that failed before its first shard
                return False
            hint = "use --resume or --overwrite (in Python resume=True or overwrite=True)"
            raise usage_error(f"out must be a new folder, got {out}, which has a job: {hint}")
        return True

    def _inputs(self, resumed: bool) -> JobInputs:
        options = self.options
        if self.run_options.resume and not resumed and not {"data", "model"} & set(options):
            raise usage_error(f"out must have a job to resume, got {self.out}, which has none: give all options")
        config = resumed_config(self.out, options) if resumed else JobConfig.from_dict(with_default_target(options))
        return JobInputs(config, resolve_device(config.device), self.dataset, self.model)

    def _new_plan(self, inputs: JobInputs, engine: Engine) -> Plan:
        """Wait until the model is loaded, and make a plan."""
        plan = make_plan(self.out, inputs, engine.describe(), engine.workers)
        log_warnings(plan)
        return plan

    def _pending(self, plan: Plan, shards: Iterable[int]) -> list[int]:
        """Return the given shards that must be computed."""
        done = JobFolder(self.out, plan).completed_shards()
        retried = done.failed_shards if self.run_options.retry_failed else ()
        kept = done.shards.difference(retried)
        return [shard for shard in shards if shard not in kept]

    def _compute(self, plan: Plan, shards: Sequence[int], engine: Engine) -> tuple[dict, str]:
        """Compute shards; return a summary of the progress, and :attr:`ProgressListener.too_many_message`."""
        out = self.out
        (out / "shards").mkdir(exist_ok=True)
        sync_folder(out)
        (out / "summary.json").unlink(missing_ok=True)  # the summary is out of date while shards are computed
        if self.run_options.retry_failed:  # the caller has checked that the model is the same
            for shard in shards:
                existing_path(marker_path(out, shard)).unlink(missing_ok=True)
        done = JobFolder(out, plan).completed_shards()
        listener = ProgressListener(plan, done, self.run_options, self.stop)

        def on_event(event: dict) -> None:
            if event["event"] == "shard":
                discard_replaced(out)
            listener(event)

        try:
            if not listener.too_many_message:
                engine.run(out, plan, shards, on_event, self.stop)
        finally:
            listener.progress.close()
        return listener.progress.summary(), listener.too_many_message

    def _finish(self, plan: Plan, last_run: dict | None, too_many_message: str = "") -> Outcome:
        """Write summary and gallery. If ``last_run`` is None, no shard was missing, and existing files are kept."""
        out = self.out
        summary = read_summary(out) if last_run is None else None
        is_new = summary is None
        summary = summary or write_summary(JobFolder(out, plan), last_run or {})
        if too_many_message:
            raise JobError(too_many_message + failure_example(out, summary), TOO_MANY_FAILED)
        code = SOME_FAILED if summary["failed"] else DONE
        if not summary["complete"]:
            return Outcome(INTERRUPTED if self.stop.requested else code, summary)
        # Safe, since no process computes shards of a complete job, and ranks do this one at a time.
        remove_temporary_files(out)
        if self.run_options.gallery and (is_new or not (out / "gallery").exists()):
            from .gallery import write_gallery

            write_gallery(out, sample=self.run_options.gallery)
        return Outcome(code, summary)


@contextmanager
def _closed_on_error(engine: Engine) -> Iterator[None]:
    try:
        yield
    except BaseException:
        engine.close()
        raise


def _ranks_here() -> int:
    """Return the number of ranks on this machine, according to the environment."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("SLURM_NTASKS_PER_NODE") or 1)


class ProgressListener:
    """Reports progress, and stops the job if too many items fail. An engine calls it with each event.

    Shards that have begun are finished after a stop, so that ``failed.jsonl`` lists the failed items.
    """

    def __init__(self, plan: Plan, done: CompletedShards, run_options: RunOptions, stop: Stop):
        self.progress = Progress(plan.items, done.items, done.failed, run_options.progress)
        self._max_failed, self._shard_counts, self._stop = run_options.max_failed_items(plan.items), {}, stop
        self._warnings: set[str] = set()

    @property
    def too_many_message(self) -> str:
        """The error message if too many items failed, otherwise an empty string."""
        failed = self.progress.failed
        text = f"{failed} items failed, more than max_failures allows ({self._max_failed}): see failed.jsonl"
        return text if failed > self._max_failed else ""

    def __call__(self, event: dict) -> None:
        kind = event["event"]
        if kind == "begun":
            self._restart(event["shard"])
        elif kind == "batch":
            self._count(event)
        elif kind == "warning" and event["message"] not in self._warnings:  # each batch of each worker may warn
            self._warnings.add(event["message"])
            warn(event["message"])
        self.progress.tick()

    def _count(self, event: dict) -> None:
        items, failed = self._shard_counts.get(event["shard"], (0, 0))
        self._shard_counts[event["shard"]] = items + event["items"], failed + event["failed"]
        self.progress.update(event["items"], event["failed"])
        if self.too_many_message:
            self._stop.requested = True

    def _restart(self, shard: int) -> None:
        """Reset the counts of a shard that begins again after its worker died."""
        items, failed = self._shard_counts.pop(shard, (0, 0))
        self.progress.update(-items, -failed)


@contextmanager
def _signals() -> Iterator[Stop]:
    """Handle signals.

    After the first Ctrl-C, the shards that have begun are finished. A second Ctrl-C, or SIGTERM, stops the job
    immediately.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def interrupt(*_):
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True
        with suppress(OSError):  # os.write, not print, since the signal may have interrupted a print
            if sys.stderr is not None:  # without a stderr, descriptor 2 may be any file
                os.write(2, b"finishing the shards that have begun; Ctrl-C again stops at once\n")

    def terminate(*_):
        raise Terminated

    handlers = {signal.SIGINT: interrupt, signal.SIGTERM: terminate}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None if it was not set from Python

"""A whole evaluation: lock, prepare, go on or begin, do the tasks that are not done, sum up, draw."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import DONE, QUARANTINED, USAGE, JobError, to_job_error
from ..extras import require_extra
from ..io.atomic_io import TEMPORARY_PATTERN, atomic_write, read_json, sync_folder, write_json
from ..io.output_dir import check_unchanged, hold_lock
from ..io.progress import Progress
from ..memory import threads
from ..models.errors import error_summary, is_out_of_memory
from .config import EvaluationConfig
from .estimates import RemainingTime
from .prepare import Prepared, prepare
from .presets.published import published
from .report import write_report
from .summary import summarise
from .task_store import frames_of, part_of, publish
from .tasks import Task, TaskResult, Work

FILES = ("config.json", "plan.json", "results.jsonl", "summary.json", "index.html")
FOLDERS = ("parts", "figures")


@dataclass(frozen=True)
class Evaluation:
    """How an evaluation ended.

    Attributes
    ----------
    code : int
        0 all well, 3 done with problems that ``summary["problems"]`` names.
    summary : dict
        As ``summary.json``.
    out : Path
        The folder; ``index.html`` in it is the report.
    """

    code: int
    summary: dict
    out: Path


def run_evaluation(
    out: Path,
    asked: Mapping,
    *,
    data=None,
    driver: Callable | None = None,
    judges: Mapping[str, Callable] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: str = "auto",
    figures: bool = True,
) -> Evaluation:
    """Run an evaluation to its end; see :func:`steerlens_fast.evaluate.evaluate`.

    Raises
    ------
    JobError
        With an exit code.
    """
    out = Path(out).absolute()
    if figures:
        require_extra("plot", "matplotlib")  # before any work
    try:
        out.mkdir(parents=True, exist_ok=True)
        with hold_lock(out / ".lock"):
            config = _config(out, asked, resume, overwrite)
            with threads(config.threads):
                prepared = prepare(config, data, driver, judges)
                _begin(out, prepared, overwrite)
                _do(out, prepared.work, progress)
                return _finish(out, prepared, figures)
    except (OSError, ImportError) as error:
        raise to_job_error(error) from error


# --- Beginning -------------------------------------------------------------------------------------------------------


def _config(out: Path, asked: Mapping, resume: bool, overwrite: bool) -> EvaluationConfig:
    """What is asked for; where an evaluation goes on, it must be what was asked for before."""
    if not (out / "plan.json").exists():
        _refuse_strangers(out)
        return EvaluationConfig.from_dict(asked)
    if "budgets" not in read_json(out / "plan.json"):
        raise JobError(f"out must be a new folder, or an evaluation's, got {out}, which has another job's plan", USAGE)
    if overwrite:
        return EvaluationConfig.from_dict(asked)
    if not resume:
        raise JobError(f"out must be a new folder, got {out}, an evaluation's: use --resume or --overwrite", USAGE)
    saved = EvaluationConfig.from_dict(read_json(out / "config.json"))
    now = EvaluationConfig.from_dict({**saved.as_dict(), "trust_checkpoint": False, **asked})
    check_unchanged(saved.as_dict(), now.as_dict(), "the configuration")
    return now


def _begin(out: Path, prepared: Prepared, overwrite: bool) -> None:
    """Write down what is to be done, or see that it is what was begun."""
    if overwrite:
        _clear(out)
    for leftover in (path for folder in ("", *FOLDERS) for path in (out / folder).glob(TEMPORARY_PATTERN)):
        with suppress(OSError):  # of a run that was killed; it does no harm
            leftover.unlink()
    (out / "parts").mkdir(exist_ok=True)
    if (out / "plan.json").exists():
        before = read_json(out / "plan.json")
        for name, what in (("versions", "the software"), ("models", "the models"), ("data", "the data")):
            check_unchanged(before[name], prepared.about[name], what)
        check_unchanged(before, prepared.about, "the plan")
        return
    write_json(out / "config.json", prepared.config.as_dict())
    write_json(out / "plan.json", prepared.about)
    sync_folder(out)


def _refuse_strangers(out: Path) -> None:
    """Where no evaluation has begun there must be nothing that one would write, or take for its own."""
    there = [name for name in (*FILES, *FOLDERS) if (out / name).exists()]
    if "parts" in there and not any((out / "parts").iterdir()):
        there.remove("parts")
    if there == ["config.json"] and "judges" in read_json(out / "config.json"):
        return  # killed before its plan was written
    if there:
        raise JobError(f"out must be a new folder, or an evaluation's, got {out}, which has {', '.join(there)}", USAGE)


def _clear(out: Path) -> None:
    """Remove what an evaluation has written here, and nothing else; the plan, which says that it is one's, last."""
    for name in FOLDERS:
        if (out / name).exists():
            shutil.rmtree(out / name)
    for name in sorted(FILES, key=lambda name: name == "plan.json"):
        (out / name).unlink(missing_ok=True)


# --- Tasks -----------------------------------------------------------------------------------------------------------


def _do(out: Path, work: Work, progress: str) -> None:
    """Every task that is not done yet; each is on the disk, whole, before the next begins."""
    tasks = list(work.tasks())
    missing = [task for task in tasks if not part_of(out, task).exists()]
    # All kinds of tasks for the first sources, then for the next ones: what each kind costs is known early.
    missing.sort(key=lambda task: task.first)
    left = Counter()
    for task in missing:
        left[task.what] += work.records_of(task)
    remaining = RemainingTime(left, {what: work.cost_of(what) for what in left})
    total = sum(map(work.records_of, tasks))
    bar = Progress(total, total - left.total(), kind=progress, unit="records", remaining=remaining)

    def report(what: str, records: int) -> None:
        remaining.add(what, records)
        bar.update(records)

    work.report = report
    try:
        for task in missing:
            (out / "summary.json").unlink(missing_ok=True)  # until it is true again
            publish(out, task, _run(work, task))
    finally:
        bar.close()


def _run(work: Work, task: Task) -> TaskResult:
    """Compute a task; an error of a classifier names the task and its sources."""
    try:
        return work.run(task)
    except (JobError, OSError):
        raise
    except Exception as error:
        less = "; a smaller batch_size (--batch-size) needs less" if is_out_of_memory(error) else ""
        where = f"{task.what}, sources {task.first} to {task.last - 1}"
        raise JobError(f"{error_summary(error)}; raised in the evaluation of {where}{less}") from error


# --- The end ---------------------------------------------------------------------------------------------------------


def _finish(out: Path, prepared: Prepared, figures: bool) -> Evaluation:
    """Results, summary, figures and page, from what the parts hold."""
    tasks = list(prepared.work.tasks())
    with atomic_write(out / "results.jsonl") as file:
        for task in tasks:
            file.write(part_of(out, task).read_bytes())
    summary = summarise(out / "results.jsonl", prepared.config, prepared.work, prepared.problems)
    summary["about"] = prepared.about
    if (found := published(prepared.config, summary)) is not None:
        summary["published"] = found
    write_json(out / "summary.json", summary)
    if figures:
        write_report(out, summary, prepared.work, frames_of(out, tasks))
    return Evaluation(QUARANTINED if summary["problems"] else DONE, summary, out)

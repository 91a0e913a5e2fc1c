"""Runs an evaluation.

It locks the folder, prepares, runs the unfinished tasks, and writes summary and report.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..data.targets import with_default_target
from ..errors import DONE, SOME_FAILED, JobError, to_job_error, usage_error
from ..extras import require_extra
from ..io.atomic_io import TEMPORARY_PATTERN, atomic_write, restore_backups, sync_folder, write_json
from ..io.output_dir import check_is_folder, check_unchanged, hold_lock, output_dir, read_saved
from ..io.progress import Progress
from ..memory import threads
from ..models.errors import error_summary, is_out_of_memory
from .config import EvaluationConfig
from .estimates import RemainingTime
from .prepare import FORMAT_VERSION, Preparation, prepare
from .presets.published import compare_with_published
from .presets.training import TrainingRun, training_run
from .report import write_report
from .summary import summarise
from .task_store import read_frames, task_file, write_result
from .tasks import Task, TaskResult, TaskRunner

FILES = ("config.json", "plan.json", "results.jsonl", "summary.json", "index.html")
FOLDERS = ("parts", "figures")
NETWORKS = "networks"  # folder of the presets' trained weights


@dataclass(frozen=True)
class Evaluation:
    """The outcome of an evaluation.

    Attributes
    ----------
    code : int
        0, or 3 if ``summary["problems"]`` is not empty.
    summary : dict
        The content of ``summary.json``.
    out : Path
        The output folder.
    """

    code: int
    summary: dict
    out: Path


def run_evaluation(
    out: Path,
    settings: Mapping,
    *,
    data=None,
    driver: Callable | None = None,
    judges: Mapping[str, Callable] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: str = "auto",
    figures: bool = True,
) -> Evaluation:
    """Run an evaluation; see :func:`steerlens_fast.evaluate_families`.

    Raises
    ------
    JobError
        With the command's exit status as ``code``.
    """
    out = Path(out).absolute()
    check_is_folder(out)
    if figures:
        require_extra("plot", "matplotlib")  # raises if matplotlib is missing, before any work
    try:
        with _output_dir(out), hold_lock(out / ".lock"):
            restore_backups(out, *(out / name for name in FOLDERS))
            config = _config(out, settings, resume, overwrite)
            with threads(config.threads):
                with training_run(TrainingRun(out / NETWORKS, config.data, progress)) as training:
                    prepared = prepare(config, data, driver, judges)
                prepared.problems += training.problems()
                _write_or_check_plan(out, prepared, overwrite)
                _run_tasks(out, prepared.runner, progress)
                return _finish(out, prepared, training.accuracies, figures)
    except (OSError, ImportError, SystemExit) as error:
        raise to_job_error(error) from error


def _output_dir(out: Path) -> AbstractContextManager[None]:
    """Create the folder. If the run fails before it has written a plan, delete the files that it created."""
    new = [name for name in ("config.json", "plan.json", "parts", ".lock") if not (out / name).exists()]
    is_kept = lambda error: "plan.json" in new and (out / "plan.json").exists()
    return output_dir(out, new, is_kept)


# --- Configuration and plan ------------------------------------------------------------------------------------------


def _config(out: Path, settings: Mapping, resume: bool, overwrite: bool) -> EvaluationConfig:
    """Return the configuration; on resume, check that it is the saved one."""
    if not (out / "plan.json").exists():
        _check_no_foreign_files(out)
        return EvaluationConfig.from_dict(with_default_target(settings))
    plan = read_saved(out / "plan.json")
    if "budgets" not in plan:
        raise usage_error(f"out must be a new folder or an evaluation's, got {out}, which has the plan of a job")
    if overwrite:
        return EvaluationConfig.from_dict(with_default_target(settings))
    if not resume:
        hint = "use --resume or --overwrite (in Python resume=True or overwrite=True)"
        raise usage_error(f"out must be a new folder, got {out}, which has an evaluation: {hint}")
    if (version := plan.get("format_version", 1)) != FORMAT_VERSION:
        text = f"{out} must have format version {FORMAT_VERSION}, got {version}"
        hint = "another version of steerlens_fast wrote it; use --overwrite or a new folder"
        raise usage_error(f"{text}: {hint}")
    saved = EvaluationConfig.from_dict(read_saved(out / "config.json"))
    # trust_checkpoint is never restored from a folder; the user must give it again.
    now = EvaluationConfig.from_dict({**saved.as_dict(), "trust_checkpoint": False, **settings})
    check_unchanged(saved.as_dict(), now.as_dict(), "the configuration")
    return now


def _write_or_check_plan(out: Path, prepared: Preparation, overwrite: bool) -> None:
    """Write the plan, or check that it is unchanged."""
    if overwrite:
        _clear(out)
    for leftover in (path for folder in ("", *FOLDERS, NETWORKS) for path in (out / folder).glob(TEMPORARY_PATTERN)):
        with suppress(OSError):  # temporary files of a killed run do no harm
            leftover.unlink()
    (out / "parts").mkdir(exist_ok=True)
    if (out / "plan.json").exists():
        before = read_saved(out / "plan.json")
        for name, what in (("versions", "the software"), ("models", "the models"), ("data", "the data")):
            check_unchanged(before[name], prepared.plan[name], what)
        check_unchanged(before, prepared.plan, "the plan", sources="the SHA-256 of the selected sources")
        return
    write_json(out / "config.json", prepared.config.as_dict())
    write_json(out / "plan.json", prepared.plan)
    sync_folder(out)


def _check_no_foreign_files(out: Path) -> None:
    """Raise a JobError if the folder has files of another program. An evaluation would overwrite or read them."""
    there = [name for name in (*FILES, *FOLDERS) if (out / name).exists()]
    if "parts" in there and not any((out / "parts").iterdir()):
        there.remove("parts")
    if there == ["config.json"] and "judges" in read_saved(out / "config.json"):
        return  # an evaluation was killed before it wrote its plan
    if there:
        raise usage_error(f"out must be a new folder or an evaluation's, got {out}, which has {', '.join(there)}")


def _clear(out: Path) -> None:
    """Delete an evaluation's files except its networks. The plan comes last, since it identifies the folder."""
    for name in FOLDERS:
        if (out / name).exists():
            shutil.rmtree(out / name)
    for name in sorted(FILES, key=lambda name: name == "plan.json"):
        (out / name).unlink(missing_ok=True)


# --- Tasks -----------------------------------------------------------------------------------------------------------


def _run_tasks(out: Path, runner: TaskRunner, progress: str) -> None:
    """Run the unfinished tasks. Each result is on disk before the next task starts."""
    tasks = list(runner.tasks())
    missing = [task for task in tasks if not task_file(out, task).exists()]
    # All kinds of tasks for the first sources come first, so that the cost of each kind is known early.
    missing.sort(key=lambda task: task.first)
    left = Counter()
    for task in missing:
        left[task.kind] += runner.num_records(task)
    remaining = RemainingTime(left, {kind: runner.cost_of(kind) for kind in left})
    total = sum(map(runner.num_records, tasks))
    bar = Progress(total, total - left.total(), kind=progress, unit="records", remaining=remaining)

    def show_progress(kind: str, records: int) -> None:
        remaining.add(kind, records)
        bar.update(records)

    runner.on_records = show_progress
    try:
        for task in missing:
            (out / "summary.json").unlink(missing_ok=True)  # a summary of an earlier run would be outdated
            write_result(out, task, _run_task(runner, task))
    finally:
        bar.close()


def _run_task(runner: TaskRunner, task: Task) -> TaskResult:
    """Run a task. If a classifier raises an error, add the task and its sources to the message."""
    try:
        return runner.run(task)
    except (JobError, OSError):
        raise
    except (Exception, SystemExit) as error:
        hint = "; a smaller batch_size (--batch-size) needs less memory" if is_out_of_memory(error) else ""
        where = f"{task.kind}, sources {task.first} to {task.last - 1}"
        raise JobError(f"{error_summary(error)}; raised while evaluating {where}{hint}") from error


# --- Results ---------------------------------------------------------------------------------------------------------


def _finish(out: Path, prepared: Preparation, networks: dict[str, dict], figures: bool) -> Evaluation:
    """Write results and summary, and with ``figures`` also the report, from the tasks' files."""
    tasks = list(prepared.runner.tasks())
    with atomic_write(out / "results.jsonl") as file:
        for task in tasks:
            file.write(task_file(out, task).read_bytes())
    summary = summarise(out / "results.jsonl", prepared.config, prepared.runner, prepared.problems)
    summary["about"] = prepared.plan
    if networks:
        summary["networks"] = networks
    if (comparison := compare_with_published(prepared.config, summary)) is not None:
        summary["published"] = comparison
    write_json(out / "summary.json", summary)
    if figures:
        write_report(out, summary, prepared.runner, read_frames(out, tasks))
    return Evaluation(SOME_FAILED if summary["problems"] else DONE, summary, out)

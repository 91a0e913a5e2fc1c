"""The option ``--dry-run``: reports what a job would do. Nothing is written to the job's folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ..data.targets import with_default_target
from ..errors import NO_SPACE, JobError, to_job_error
from ..io.progress import format_duration
from ..lens.schedule import DEFAULT_L2
from ..models.device import resolve_device
from .config import JobConfig, RunOptions
from .engines.make_engine import num_workers
from .folder import check_output_folder
from .plan import Plan
from .planning import JobInputs, expand_settings, make_plan
from .worker import Worker

SAMPLE_SECONDS = 1.0  # time for the images that are computed to estimate the job's time


def dry_run(out: Path, options: Mapping, run_options: RunOptions) -> list[str]:
    """Return the report of a dry run, as lines of text.

    It has the configuration, counts, bytes, and an estimate of the job's time from a few images. Raise a JobError if
    the disk has too little space.
    """
    options = expand_settings(options)
    check_output_folder(out, options.get("data"))
    config = JobConfig.from_dict(with_default_target(options))
    inputs = JobInputs(config, resolve_device(config.device))
    workers = num_workers(run_options, inputs.device)
    worker = Worker(config, inputs.device, run_options.decoders or 1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            plan = make_plan(Path(folder), inputs, worker.loaded.description, max(workers, 1))
            worker.open(Path(folder), plan)
            timed = _timed_images(worker)
    except Exception as error:
        raise to_job_error(error) from error
    finally:
        worker.close()
    return [*_configuration(config, plan), "", *_counts(plan), *_time(plan, timed, workers), *_space(out, plan)]


def _timed_images(worker: Worker) -> tuple[int, float]:
    """Return a number of images, at most a batch, and the seconds that they take.

    One image is computed first. If this takes at most a second, it was only a warm-up: then images are computed for
    about a second.
    """
    seconds = worker.first_batch(1)
    count = min(worker.plan.batch_size, worker.plan.count(0), int(SAMPLE_SECONDS / max(seconds, 1e-9)))
    return (count, worker.first_batch(count)) if count else (1, seconds)


def _configuration(config: JobConfig, plan: Plan) -> list[str]:
    planned = ("size", "channels", "threads", "range", "batch_size", "shard_size")
    values = {**config.as_dict(), **{name: getattr(plan, name) for name in planned}}
    lines = [f"{name:18s}{json.dumps(value)}" for name, value in values.items() if value is not None]
    if all(values[name] is None for name in ("max_l2", "distances", "factors")):
        lines.append(f"{'max_l2':18s}{DEFAULT_L2} (default)")  # for values in [0, 1], as in all jobs
    return lines


def _counts(plan: Plan) -> list[str]:
    skipped = f" ({plan.without_target} without a target skipped)" if plan.without_target else ""
    shape = " x ".join(map(str, plan.frame_shape))
    shards = f"{plan.items} images{skipped} in {plan.shards} shards of {plan.shard_size}"
    kind = "bytes" if plan.frame_dtype == "uint8" else plan.frame_dtype
    lines = [f"{shards}; each morph is {shape} {kind}"]
    for reason, entries in plan.unused_entries.items():
        lines.append(f"unused entries: {entries['count']} {reason}, e.g. {', '.join(entries['examples'])}")
    return lines + [f"warning: {warning}" for warning in plan.warnings]


def _time(plan: Plan, timed: tuple[int, float], workers: int) -> list[str]:
    count, seconds = timed
    total = seconds / count * plan.items / max(workers, 1)
    where = f"on {workers} worker(s)" if workers else "in one process"
    estimate = f"about {format_duration(total)} for all images {where}, without loading the model"
    return [f"{estimate}: computing {count} of them took {seconds:.3f} s, including decoding, at the present load"]


def _space(out: Path, plan: Plan) -> list[str]:
    needed = plan.items * plan.bytes_per_morph
    existing = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise JobError(f"out must have {needed} bytes of free space for frames, got {free}", NO_SPACE)
    mib = f"{needed / 2**20:.1f} MiB of frames as safetensors (the formats wds and folder take less)"
    return [f"{mib}; {free / 2**20:.0f} MiB are free"]

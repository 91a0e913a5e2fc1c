"""The option ``--dry-run``: reports what a job would do. Nothing is written to the job's folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
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

MAX_SECONDS = 30.0  # for the images that are computed, after two calls with one, to estimate the job's time


def dry_run(out: Path, options: Mapping, run_options: RunOptions) -> list[str]:
    """Return the report of a dry run, as lines of text.

    It has the configuration, counts, bytes, and an estimate of the job's time from a batch. Raise a JobError if the
    disk has too little space.
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
            timed = _timed_images(worker.first_batch, worker.images_at_once)
    except Exception as error:
        raise to_job_error(error) from error
    finally:
        worker.close()
    return [*_configuration(config, plan), "", *_counts(plan), *_time(plan, timed, workers), *_space(out, plan)]


def _timed_images(compute: Callable[[int], float], at_once: int) -> tuple[int, float, bool]:
    """Return a number of images, the seconds that they take, and whether there was time for ``at_once`` images.

    ``compute`` computes a number of images, and returns the elapsed seconds. One image is computed twice, since the
    first call takes longer; but only once if that takes more than MAX_SECONDS. Then follow larger numbers, up to
    ``at_once`` images, as long as they are expected to take at most MAX_SECONDS in all. If there is time, the last
    number is repeated, since its first call allocates memory.

    Examples
    --------
    >>> _timed_images(lambda count: 4 + 0.01 * count, at_once=64)
    (64, 4.64, True)
    >>> _timed_images(lambda count: 4.0 * count, at_once=64)
    (2, 8.0, False)
    >>> _timed_images(lambda count: 40.0, at_once=64)
    (1, 40.0, False)
    """
    first = compute(1)
    count, seconds, spent = 1, compute(1) if first <= MAX_SECONDS else first, 0.0
    per_image = seconds  # how much longer a larger number is expected to take
    while count < at_once:
        more = min(2 if count == 1 else 4 * count, at_once)
        if spent + seconds + per_image * (more - count) > MAX_SECONDS:
            break
        before, seconds = seconds, compute(more)
        per_image = max(seconds - before, 0.0) / (more - count)
        count, spent = more, spent + seconds
    if count > 1 and spent + seconds <= MAX_SECONDS:
        seconds = compute(count)
    return count, seconds, count == at_once


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


def _time(plan: Plan, timed: tuple[int, float, bool], workers: int) -> list[str]:
    count, seconds, is_full = timed
    total = seconds / count * plan.items / max(min(workers, plan.shards), 1)
    where = f"on {workers} worker(s)" if workers else "in one process"
    estimate = f"about {format_duration(total)} for all images {where}, without loading the model and the first call"
    computed = f"{count} of them together" if count > 1 else "1 of them"
    measured = f"computing {computed} took {seconds:.3f} s, including decoding, at the present load"
    larger = "" if is_full else "; the job's batches are larger, and may take less time per image"
    return [f"{estimate}: {measured}{larger}"]


def _space(out: Path, plan: Plan) -> list[str]:
    needed = plan.items * plan.bytes_per_morph
    existing = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise JobError(f"out must have {needed} bytes of free space for frames, got {free}", NO_SPACE)
    mib = f"{needed / 2**20:.1f} MiB of frames as safetensors (the formats wds and folder take less)"
    return [f"{mib}; {free / 2**20:.0f} MiB are free"]

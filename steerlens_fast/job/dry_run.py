"""``--dry-run``: what a job would do, with one batch really computed, and nothing written to its folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ..errors import NO_SPACE, JobError, to_job_error
from ..io.progress import format_duration
from ..models.device import resolve_device
from .config import JobConfig
from .engines.engine import RunOptions, count_of_workers
from .plan import Plan
from .planning import Inputs, make_plan, refuse_foreign, with_targets_of_data
from .worker import Worker


def rehearse(out: Path, asked: Mapping, options: RunOptions) -> list[str]:
    """Lines for people: the configuration, counts and bytes, a batch's time, and how long all of it will take."""
    refuse_foreign(out, asked.get("data"))
    config = JobConfig.from_dict(with_targets_of_data(asked))
    inputs = Inputs(config, resolve_device(config.device))
    workers = count_of_workers(options, inputs.device)
    worker = Worker(config, inputs.device, options.decoders or 1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            plan = make_plan(Path(folder), inputs, worker.loaded.description, max(workers, 1))
            worker.open(Path(folder), plan)
            worker.first_batch()  # the first one also warms up
            seconds = worker.first_batch()
    except Exception as error:
        raise to_job_error(error) from error
    finally:
        worker.close()
    return [*_configuration(config, plan), "", *_counts(plan), *_time(plan, seconds, workers), *_space(out, plan)]


def _configuration(config: JobConfig, plan: Plan) -> list[str]:
    told = {**config.as_dict(), "size": plan.size, "channels": plan.channels, "threads": plan.threads}
    told |= {"range": plan.range}
    told |= {"batch_size": plan.batch_size, "shard_size": plan.shard_size}
    return [f"{name:18s}{json.dumps(value)}" for name, value in told.items() if value is not None]


def _counts(plan: Plan) -> list[str]:
    dropped = f" ({plan.dropped} without a target left out)" if plan.dropped else ""
    shape = " x ".join(map(str, plan.frame_shape))
    shards = f"{plan.items} images{dropped} in {plan.shards} shards of {plan.shard_size}"
    kind = "bytes" if plan.frame_dtype == "uint8" else plan.frame_dtype
    told = [f"{shards}; each morph is {shape} {kind}"]
    for reason, entries in plan.left_out.items():
        told.append(f"not used: {entries['count']} {reason}, e.g. {', '.join(entries['examples'])}")
    return told + [f"warning: {warning}" for warning in plan.warnings]


def _time(plan: Plan, seconds: float, workers: int) -> list[str]:
    n = min(plan.batch_size, plan.items)
    whole = seconds / n * plan.items / max(workers, 1)
    about = f"about {format_duration(whole)} for all on {workers} worker(s)"
    return [f"a batch of {n} takes {seconds:.3f} s, from reading to frames: {about}"]


def _space(out: Path, plan: Plan) -> list[str]:
    needed = plan.items * plan.bytes_of_morph
    there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise JobError(f"out must have space for {needed} bytes of frames, got {free} that are free", NO_SPACE)
    mib = f"{needed / 2**20:.1f} MiB of frames as safetensors (wds and folder are smaller)"
    return [f"{mib}; {free / 2**20:.0f} MiB are free"]

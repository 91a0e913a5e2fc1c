"""Finished shards in another form: stored otherwise, or as one animation, strip or array file for each item."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from ..checks import check_bool, check_choice, check_int
from ..data.class_names import class_name
from ..errors import OK, USAGE, JobError
from ..extras import require_extra
from ..io.atomic_io import atomic_write
from ..io.paths import output_folder
from ..lens import SteerableLens
from ..morphs.container import method_words
from ..morphs.differences import difference_maps
from ..morphs.strips import StripData, draw_strips, predicted_text, remark, strip_note, tiled_frames, write_animation
from .config import JobConfig
from .formats import MODULES, get_format
from .formats.common import ahead, as_8_bit
from .formats.names import file_name
from .plan import Plan
from .reader import read_config, read_frames
from .report import done_shards
from .shard import read_records, stem, write_records
from .success import judge, start_frame

SUFFIXES = {"gif": ".gif", "webp": ".webp", "strip": ".png", "npz": ".npz"}
FORMATS = (*MODULES, *SUFFIXES)
DRAWING = Lock()  # matplotlib draws in one thread at a time


def export(
    out: Path,
    to: Path,
    format: str,
    *,
    keys: Sequence[str] | None = None,
    limit: int | None = None,
    differences: bool = False,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Write the morphs of a job's finished shards to another folder, in another form; one shard is held at a time.

    Parameters
    ----------
    out : Path
        The job's output folder. Shards that are not done are left out, as are items that are not ok.
    to : Path
        Another folder; made where it is missing.
    format : {"safetensors", "wds", "folder", "gif", "webp", "strip", "npz"}
        The first three are a job's own formats: ``to/00000.tar`` or the like, with ``to/00000.jsonl`` beside it. The
        others are one file for each item, ``to/KEY.gif`` (:func:`~steerlens_fast.job.formats.names.file_name`):
        an animation there and back (GIF, or lossless WebP), a strip of all frames (PNG, as
        :meth:`steerlens_fast.Morphs.save` draws it), or arrays.
    keys : sequence of str, optional
        Only items with these keys, or with keys that match them as patterns of the shell; ``*`` matches "/" too.
    limit : int, optional
        Only the first so many items.
    differences : bool
        Whether a strip has a second row: each frame's signed difference from the source.
    overwrite : bool
        Whether to write again what is there. By default it is kept as it is, so that an export that was stopped goes on
        where it ended; with other ``keys`` or another ``limit``, shards in ``to`` are not what was asked for then.
    progress : callable, optional
        Told the number of items so far, after each shard.

    Returns
    -------
    int
        How many items ``to`` has of those chosen.

    Raises
    ------
    JobError
        Where ``out`` is no job's folder, ``to`` is its own, nothing matches ``keys``, frames are not of 1 or 3 channels
        and shall be pictures, or a shard is damaged.
    ImportError
        Naming the extra that is not installed.

    Notes
    -----
    "safetensors" and "npz" keep the frames' type; pictures have 8 bits.

    An ``npz`` holds ``frames`` [F, C, H, W]; ``factors``, ``l2`` and ``probability`` [F], NaN where not scored;
    ``label``, ``source`` and ``target``, -1 where not known; and ``record``, all that is known, as JSON.
    """
    check_bool("overwrite", overwrite)
    if check_bool("differences", differences) and format != "strip":
        raise ValueError(f"differences must be False for format {format!r}: only a strip has a row of them")
    if isinstance(keys, str):
        raise TypeError(f"keys must be a sequence of str, got {keys!r}")
    left = None if limit is None else check_int("limit", limit, 1, None)
    folders = output_folder(out), output_folder(to)
    job = _Job.read(*folders, check_choice("format", format, FORMATS), overwrite, differences)
    count = 0
    for shard in sorted(done_shards(job.out, job.plan).shards):
        records = read_records(job.out / "shards" / f"{stem(shard)}.jsonl")
        chosen = [r for r in records if r["status"] == OK and _matches(r["key"], keys)]
        chosen = chosen[: None if left is None else left - count]
        if chosen:
            (_write_shard if format in MODULES else _write_items)(job, shard, chosen)
            count += len(chosen)
            if progress is not None:
                progress(count)
        if count == left:
            break
    if keys is not None and not count:
        raise JobError(f"keys must match an item that is ok, got {list(keys)}", USAGE)
    return count


@dataclass(frozen=True)
class _Job:
    """What is exported, where to, as what."""

    out: Path
    to: Path
    format: str
    overwrite: bool
    differences: bool
    plan: Plan
    config: dict

    @classmethod
    def read(cls, out: Path, to: Path, format: str, overwrite: bool, differences: bool) -> _Job:
        plan, config = Plan.read(out), read_config(out)
        if format not in ("safetensors", "npz") and plan.channels not in (1, 3):
            raise JobError(
                f"format must be safetensors or npz for frames of {plan.channels} channels, got {format}", USAGE
            )
        if to.resolve() in (out.resolve(), (out / "shards").resolve()):
            raise JobError(f"to must be another folder than the job's own, got {to}", USAGE)
        to.mkdir(parents=True, exist_ok=True)
        return cls(out, to, format, overwrite, differences, plan, config)

    def frames(self, shard: int, records: list[dict]) -> Tensor:
        return read_frames(self.out, self.config["format"], shard, records)

    @cached_property
    def method(self) -> str:
        """Family, rule and regime, as ``Morphs.settings`` has them."""
        lens = SteerableLens(len, **JobConfig.from_dict(self.config).lens_options)
        return ", ".join(method_words(lens.settings))

    def name(self, number: int) -> str:
        """A class's name; its number where none has a name, as in ``Morphs.save``."""
        if number < 0:  # a label that is absent
            return f"not {self.name(~number)}"
        return str(number) if self.plan.classes is None else class_name(number, self.plan.classes)


def _matches(key: str, patterns: Sequence[str] | None) -> bool:
    return patterns is None or any(key == p or fnmatchcase(key, p) for p in patterns)


# --- Shards ----------------------------------------------------------------------------------------------------------


def _write_shard(job: _Job, shard: int, records: list[dict]) -> None:
    listed = job.to / f"{stem(shard)}.jsonl"  # written last: where it is, the shard is
    if listed.exists() and not job.overwrite:
        return
    frames = job.frames(shard, records)
    frames = frames if job.format == "safetensors" else as_8_bit(frames)
    records = [{**record, "row": row} for row, record in enumerate(records)]
    get_format(job.format).write(job.to, stem(shard), frames, records, {"config": job.config, "shard": shard})
    write_records(listed, records)


# --- Items -----------------------------------------------------------------------------------------------------------


def _write_items(job: _Job, shard: int, records: list[dict]) -> None:
    """A file for each, those that are there left out before anything is read."""
    paths = {r["key"]: job.to / file_name(r["key"], SUFFIXES[job.format]) for r in records}
    missing = [r for r in records if job.overwrite or not paths[r["key"]].exists()]
    if job.format != "npz":
        require_extra("plot", "matplotlib")  # has the captions' font; imported here, not in several threads at once
    for record in missing:
        paths[record["key"]].parent.mkdir(parents=True, exist_ok=True)

    def write(record: dict, frames: Tensor) -> None:
        with atomic_write(paths[record["key"]], durable=False) as file:
            _write_item(job, record, frames, file)

    if missing:
        frames = job.frames(shard, missing)
        frames = frames if job.format == "npz" else as_8_bit(frames)
        for _ in ahead(lambda pair: write(*pair), zip(missing, frames)):
            pass


def _write_item(job: _Job, record: dict, frames: Tensor, file: BinaryIO) -> None:
    if job.format == "npz":
        return np.savez(file, **_arrays(record, frames))
    data = _strip_data(job, record, frames)
    if job.format != "strip":
        return write_animation(tiled_frames(data), file, job.format)
    with DRAWING:
        draw_strips(data).savefig(file, format="png")


def _arrays(record: dict, frames: Tensor) -> dict[str, np.ndarray]:
    told = {name: np.array(record[name], np.float64) for name in ("factors", "l2", "probability")}  # None becomes NaN
    classes = {name: np.array(-1 if record[name] is None else record[name]) for name in ("label", "source", "target")}
    return {"frames": frames.numpy(), **told, **classes, "record": np.array(json.dumps(record))}


def _strip_data(job: _Job, record: dict, frames: Tensor) -> StripData:
    """What a strip or an animation shows of one item: as of ``Morphs``, but from its record and stored frames."""
    pixels = frames.movedim(1, -1)
    pictures = (pixels[..., 0] if pixels.shape[-1] == 1 else pixels).contiguous().numpy()
    target, already, attained = record["target"], judge(record)["already_predicted"], record["attained"]
    probability = np.array([record["probability"]], np.float64)  # None becomes NaN
    reached = np.array([[p == target and not already for p in record["predictions"]]])
    table = lambda name: torch.tensor([record[name]], dtype=torch.float64, device="cpu") if name in record else None
    count, start = len(frames), start_frame(record)
    maps, scale = difference_maps(pictures, start) if job.differences else (None, 0.0)
    return StripData(
        pictures=pictures[None],
        frames=list(range(count)),
        names=[f"{job.name(record['source'])} → {job.name(target)}"],
        remarks=[remark(None, already, attained is None or bool(np.all(attained)))],
        probability=probability,
        prediction=[_predictions(job, record)],
        reached=reached & np.isfinite(probability),
        l2=table("l2"),
        factors=table("factors"),
        amplitude_factors=table("amplitude_factors"),
        by_distance=job.config.get("factors") is None,
        title=job.method,
        note=strip_note(any(p is not None for p in record["predictions"]), 1, 1, count, count),
        maps=None if maps is None else [(maps, scale)],
    )


def _predictions(job: _Job, record: dict) -> list[str]:
    """The predicted class of each frame and its probability; "" where it is the target or not scored."""
    count, target = len(record["predictions"]), record["target"]
    probabilities = record.get("prediction_probability") or [None] * count  # older jobs have none
    text = lambda c, p: "" if c in (None, target) else predicted_text(job.name(c), math.nan if p is None else p)
    return list(map(text, record["predictions"], probabilities))

"""Exports complete shards to another format.

The formats are those of shards, and animations, strips and array files of single items.
"""

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
from ..classifier.class_names import pair_text
from ..data.class_names import class_name
from ..data.items import read_listing
from ..errors import OK, USAGE, JobError
from ..extras import require_extra
from ..io.atomic_io import atomic_write, existing_path
from ..io.paths import output_folder
from ..lens import SteerableLens
from ..morphs.container import method_words
from ..morphs.differences import difference_maps
from ..morphs.strips import StripData, draw_strips, predicted_text, remark, strip_note, tiled_frames, write_animation
from .config import JobConfig
from .formats import MODULES, get_format
from .formats.common import as_8_bit, map_in_threads
from .formats.folder import write_morph
from .formats.names import FileNames
from .plan import Plan
from .reader import read_config, read_frames
from .report import check_undamaged, completed_shards
from .shard import read_records, shard_name, write_records
from .success import assess, start_frame

SUFFIXES = {"gif": ".gif", "webp": ".webp", "strip": ".png", "npz": ".npz"}
FORMATS = (*MODULES, *SUFFIXES)
DRAWING = Lock()  # matplotlib is not thread-safe


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
    """Write the morphs of complete shards to another folder and format.

    One shard at a time is read.

    Parameters
    ----------
    out : Path
        The job's folder. Incomplete shards and items whose status is not "ok" are skipped.
    to : Path
        Another folder; created if it does not exist.
    format : {"safetensors", "wds", "folder", "gif", "webp", "strip", "npz"}
        "safetensors" and "wds" are formats of jobs; a shard becomes ``to/00000.tar`` or similar, and
        ``to/00000.jsonl``. With "folder", an item becomes a folder of PNG images, ``to/cat/1.png/frame_00.png`` and so
        on, and the records of a shard are in ``to/00000.jsonl``. The other formats have one file per item. "gif" and
        "webp" (lossless) are animations that play forward and backward. "strip" is a PNG with all frames, as
        :meth:`steerlens_fast.Morphs.save` draws it. "npz" has arrays. The item ``cat/1.png`` becomes ``to/cat/1.gif``,
        unless another item would have the same file name (see
        :class:`~steerlens_fast.job.formats.names.FileNames`).
    keys : sequence of str, optional
        Export only items with these keys, or with keys that match these shell patterns; ``*`` also matches "/".
    limit : int, optional
        Export only the first ``limit`` items.
    differences : bool
        Whether a strip has a second row, with the signed difference of each frame from the source.
    overwrite : bool
        Whether to replace existing files. By default they are skipped, so that an interrupted export can be continued;
        ``keys`` and ``limit`` must then be the same.
    progress : callable, optional
        Called with the number of exported items after each shard.

    Returns
    -------
    int
        The number of selected items in ``to``.

    Raises
    ------
    JobError
        If ``out`` is not a job's folder, ``to`` is the same folder, no item matches ``keys``, the format stores images
        but frames do not have 1 or 3 channels, or a shard is damaged.
    TypeError, ValueError
        If another argument is invalid.
    ImportError
        If an extra is not installed.

    Notes
    -----
    "safetensors" and "npz" keep the dtype of the frames; the other formats store 8-bit images.

    An ``npz`` file contains

    - ``frames`` [F, C, H, W];
    - ``factors`` and ``l2`` [F];
    - ``probability`` [F], with NaN for frames that were not scored;
    - ``label``, ``source`` and ``target``, with -1 for an unknown class;
    - ``record``, the whole record as JSON.
    """
    check_bool("overwrite", overwrite)
    if check_bool("differences", differences) and format != "strip":
        raise ValueError(f"differences must be False with format {format!r}: only strips show them")
    if isinstance(keys, str):
        raise TypeError(f"keys must be a sequence of str, got {keys!r}")
    limit = None if limit is None else check_int("limit", limit, 1, None)
    folders = output_folder(out), output_folder(to)
    job = _ExportJob.read(*folders, check_choice("format", format, FORMATS), overwrite, differences)
    count = 0
    for shard in sorted(completed_shards(job.out, job.plan).shards):
        records = read_records(job.out / "shards" / f"{shard_name(shard)}.jsonl")
        selected = [r for r in records if r["status"] == OK and _matches(r["key"], keys)]
        selected = selected[: None if limit is None else limit - count]
        if selected:
            check_undamaged(job.out, job.plan, shard)
            (_write_shard if format in MODULES else _write_items)(job, shard, selected)
            count += len(selected)
            if progress is not None:
                progress(count)
        if count == limit:
            break
    if keys is not None and not count:
        raise JobError(f"keys must match at least one item that is ok, got {list(keys)}", USAGE)
    return count


@dataclass(frozen=True)
class _ExportJob:
    """The job that is exported, and the options of the export."""

    out: Path
    to: Path
    format: str
    overwrite: bool
    differences: bool
    plan: Plan
    config: dict

    @classmethod
    def read(cls, out: Path, to: Path, format: str, overwrite: bool, differences: bool) -> _ExportJob:
        plan, config = Plan.read(out), read_config(out)
        if format not in ("safetensors", "npz") and plan.channels not in (1, 3):
            raise JobError(
                f"format must be safetensors or npz for frames with {plan.channels} channels, got {format}", USAGE
            )
        if to.resolve() in (out.resolve(), (out / "shards").resolve()):
            raise JobError(f"to must not be the job's folder, got {to}", USAGE)
        to.mkdir(parents=True, exist_ok=True)
        return cls(out, to, format, overwrite, differences, plan, config)

    def frames(self, shard: int, records: list[dict]) -> Tensor:
        return read_frames(self.out, self.config["format"], shard, records)

    @cached_property
    def file_names(self) -> FileNames:
        """File names of the items."""
        return FileNames(item.key for item in read_listing(existing_path(self.out / "items.jsonl")))

    @cached_property
    def method(self) -> str:
        """Family, rule, regime and changed settings.

        The title of a strip of ``Morphs`` has the same text.
        """
        # `len` is a placeholder for the model and is not called.
        lens = SteerableLens(len, **JobConfig.from_dict(self.config).lens_options)
        return ", ".join(method_words(lens.settings))

    def name(self, number: int) -> str:
        """Return the name or the number of a class.

        ``~n`` means that label n is absent.
        """
        if number < 0:
            return f"not {self.name(~number)}"
        return str(number) if self.plan.classes is None else class_name(number, self.plan.shown_classes)


def _matches(key: str, patterns: Sequence[str] | None) -> bool:
    return patterns is None or any(key == p or fnmatchcase(key, p) for p in patterns)


# --- Shards ----------------------------------------------------------------------------------------------------------


def _write_shard(job: _ExportJob, shard: int, records: list[dict]) -> None:
    listing = job.to / f"{shard_name(shard)}.jsonl"  # written last: if it exists, the shard is complete
    if listing.exists() and not job.overwrite:
        return
    frames = job.frames(shard, records)
    frames = frames if job.format == "safetensors" else as_8_bit(frames)
    records = [{**record, "row": row} for row, record in enumerate(records)]
    if job.format == "folder":  # one tree for all shards, so that a class is in one folder
        for _ in map_in_threads(lambda r: write_morph(job.to, r["key"], frames[r["row"]], overwrite=True), records):
            pass
    else:
        get_format(job.format).write(job.to, shard_name(shard), frames, records, {"config": job.config, "shard": shard})
    write_records(listing, records)


# --- Items -----------------------------------------------------------------------------------------------------------


def _write_items(job: _ExportJob, shard: int, records: list[dict]) -> None:
    """Write one file per item.

    Existing files are skipped before any frame is read.
    """
    paths = {r["key"]: job.to / job.file_names(r["key"], SUFFIXES[job.format]) for r in records}
    missing = [r for r in records if job.overwrite or not paths[r["key"]].exists()]
    if job.format != "npz":
        require_extra("plot", "matplotlib")  # for the font of captions; imported here, not in several threads at once
    for record in missing:
        paths[record["key"]].parent.mkdir(parents=True, exist_ok=True)

    def write(record: dict, frames: Tensor) -> None:
        with atomic_write(paths[record["key"]], durable=False) as file:
            _write_item(job, record, frames, file)

    if missing:
        frames = job.frames(shard, missing)
        frames = frames if job.format == "npz" else as_8_bit(frames)
        for _ in map_in_threads(lambda pair: write(*pair), zip(missing, frames)):
            pass


def _write_item(job: _ExportJob, record: dict, frames: Tensor, file: BinaryIO) -> None:
    if job.format == "npz":
        return np.savez(file, **_arrays(record, frames))
    data = _strip_data(job, record, frames)
    if job.format != "strip":
        return write_animation(tiled_frames(data), file, job.format)
    with DRAWING:
        draw_strips(data).savefig(file, format="png")


def _arrays(record: dict, frames: Tensor) -> dict[str, np.ndarray]:
    # None becomes NaN.
    numbers = {name: np.array(record[name], np.float64) for name in ("factors", "l2", "probability")}
    classes = {name: np.array(-1 if record[name] is None else record[name]) for name in ("label", "source", "target")}
    return {"frames": frames.numpy(), **numbers, **classes, "record": np.array(json.dumps(record))}


def _strip_data(job: _ExportJob, record: dict, frames: Tensor) -> StripData:
    """Return the data of a strip or an animation.

    They are taken from an item's record and stored frames.
    """
    pixels = frames.movedim(1, -1)
    pictures = (pixels[..., 0] if pixels.shape[-1] == 1 else pixels).contiguous().numpy()
    target, already, attained = record["target"], assess(record)["already_predicted"], record["attained"]
    probability = np.array([record["probability"]], np.float64)  # None becomes NaN
    reached = np.array([[p == target and not already for p in record["predictions"]]])
    count, start = len(frames), start_frame(record)
    maps, scale = difference_maps(pictures, start) if job.differences else (None, 0.0)
    return StripData(
        pictures=pictures[None],
        frames=list(range(count)),
        names=[pair_text(job.name(record["source"]), job.name(target))],
        remarks=[remark(None, already, attained is None or bool(np.all(attained)))],
        probability=probability,
        prediction=[_predictions(job, record)],
        reached=reached & np.isfinite(probability),
        l2=_table(record, "l2"),
        factors=_table(record, "factors"),
        amplitude_factors=_table(record, "amplitude_factors"),
        by_distance=job.config.get("factors") is None,
        title=job.method,
        note=strip_note(any(p is not None for p in record["predictions"]), 1, 1, count, count),
        maps=None if maps is None else [(maps, scale)],
    )


def _table(record: dict, name: str) -> Tensor | None:
    """Return a field of a record as a tensor [1, F].

    The result is None if the record does not have it.
    """
    return torch.tensor([record[name]], dtype=torch.float64, device="cpu") if name in record else None


def _predictions(job: _ExportJob, record: dict) -> list[str]:
    """Return each frame's prediction and its probability as text.

    The text is "" for a frame that predicts the target or was not scored.
    """
    count, target = len(record["predictions"]), record["target"]
    probabilities = record["prediction_probability"] or [None] * count
    pairs = zip(record["predictions"], probabilities)
    return ["" if c in (None, target) else predicted_text(job.name(c), math.nan if p is None else p) for c, p in pairs]

"""Exports complete shards to another format: a format of shards, or one file per item (animation, strip, arrays)."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from ..classifier.class_names import pair_text
from ..data.items import read_listing
from ..errors import OK, usage_error
from ..extras import require_extra
from ..io.atomic_io import atomic_write, existing_path
from ..io.output_dir import expand_home
from ..lens import SteerableLens
from ..morphs.container import method_words
from ..morphs.differences import difference_maps
from ..morphs.strips import StripData, draw_strips, predicted_text, remark, strip_note, tiled_frames, write_animation
from .config import JobConfig
from .export_folder import check_export_folder, describe_export, export_folder
from .folder import JobFolder
from .formats import FORMATS, get_format
from .formats.common import as_8_bit, map_in_threads
from .formats.folder import write_morph
from .formats.names import FileNames
from .records import write_records
from .shard import shard_name
from .success import missed_distances, start_frame

SUFFIXES = {"gif": ".gif", "webp": ".webp", "strip": ".png", "npz": ".npz"}
EXPORT_FORMATS = (*FORMATS, *SUFFIXES)
DRAWING = Lock()  # matplotlib is not thread-safe


def export(
    out: str | os.PathLike,
    to: str | os.PathLike,
    format: str,
    *,
    keys: Sequence[str] | None = None,
    limit: int | None = None,
    differences: bool = False,
) -> int:
    """Write the morphs of complete shards to another folder and format.

    One shard at a time is read. If the same export of the same job was interrupted, it is continued: existing files are
    skipped. For this, ``to/export.json`` has the options of the export, and hashes of the job and its shards.

    Parameters
    ----------
    out : path
        The job's folder. Incomplete shards and items whose status is not "ok" are skipped.
    to : path
        A new or empty folder, or one with the same export.
    format : {"safetensors", "wds", "folder", "gif", "webp", "strip", "npz"}
        With "safetensors" and "wds", a shard becomes ``to/00000.safetensors`` or ``to/00000.tar``, and
        ``to/00000.jsonl``. With "folder", an item becomes a folder of PNG images, ``to/cat/1.png/frame_00.png`` and so
        on, and the records of a shard are in ``to/00000.jsonl``. The other formats have one file per item. "gif" and
        "webp" (lossless) are animations that play forward and backward. "strip" is a PNG with all frames, as
        :meth:`steerlens_fast.Morphs.save` draws it. "npz" has arrays. The item ``cat/1.png`` becomes ``to/cat/1.gif``,
        unless another item would have the same file name (see
        :class:`~steerlens_fast.job.formats.names.FileNames`).
    keys : sequence of str, optional
        Export only items with these keys, or with keys that match these shell patterns; ``*`` also matches "/".
    limit : int, optional
        Export only the first ``limit`` items that are "ok" and match ``keys``.
    differences : bool
        Whether a strip has a second row, with the signed difference of each frame from the source.

    Returns
    -------
    int
        The number of selected items. All are in ``to`` now; some may have been there before.

    Raises
    ------
    JobError
        If ``format`` is unknown, ``out`` is not a job's folder, ``to`` has other files than those of this export, no
        item matches ``keys``, the format stores images but the frames have neither 1 nor 3 channels, ``differences``
        are requested of another format than "strip", or a shard is damaged.
    ImportError
        If an extra is not installed.

    Notes
    -----
    "safetensors" and "npz" keep the dtype of the frames; the other formats store 8-bit images.

    An ``npz`` file contains

    - ``frames`` [F, C, H, W];
    - ``factors`` and ``l2`` [F];
    - ``probability`` [F], with NaN for frames that were not scored;
    - ``label``, with -1 if there is none;
    - ``source`` and ``target``; with the task "multilabel", ``~n`` is the absence of label n;
    - ``record``, the whole record as JSON.
    """
    if format not in EXPORT_FORMATS:
        raise usage_error(f"format must be one of {', '.join(EXPORT_FORMATS)}, got {format!r}")
    if differences and format != "strip":
        raise usage_error(f"differences must not be requested with format {format!r}: only strips show them")
    job, to = JobFolder(expand_home(out)), expand_home(to)
    channels = job.plan.channels
    if format not in ("safetensors", "npz") and channels not in (1, 3):
        raise usage_error(f"format must be safetensors or npz for frames with {channels} channels, got {format}")
    if to.resolve() in (job.out.resolve(), (job.out / "shards").resolve()):
        raise usage_error(f"to must not be the job's folder, got {to}")
    shards = sorted(job.completed_shards().shards)
    options = {"format": format, "keys": None if keys is None else sorted(set(keys))}
    options |= {"limit": None if limit is None else int(limit), "differences": bool(differences)}
    description = describe_export(job, shards, options)
    check_export_folder(to, description)
    selection = _selected(job, shards, keys, limit)
    first = next(selection, None)
    if first is None:  # nothing is written, not even the folder
        if keys is not None:
            raise usage_error(f"keys must match at least one item that is ok, got {list(keys)}")
        return 0
    task, count = _Export(job, to, format, differences), 0
    with export_folder(to, description):
        for shard, records in chain([first], selection):
            job.check_undamaged(shard)
            (_write_shard if format in FORMATS else _write_items)(task, shard, records)
            count += len(records)
    return count


def _selected(
    job: JobFolder, shards: Sequence[int], keys: Sequence[str] | None, limit: int | None
) -> Iterator[tuple[int, list[dict]]]:
    """Yield each shard that has selected items, with their records."""
    count = 0
    for shard in shards:
        selected = [r for r in job.records(shard) if r["status"] == OK and _matches(r["key"], keys)]
        selected = selected[: None if limit is None else limit - count]
        if selected:
            yield shard, selected
        count += len(selected)
        if count == limit:
            return


@dataclass(frozen=True)
class _Export:
    """A job, and the options of its export."""

    job: JobFolder
    to: Path
    format: str
    differences: bool

    @cached_property
    def file_names(self) -> FileNames:
        """File names of the items."""
        return FileNames(item.key for item in read_listing(existing_path(self.job.out / "items.jsonl")))

    @cached_property
    def method(self) -> str:
        """The main settings, as in the title of a strip of ``Morphs``."""
        # `len` is a placeholder for the model and is not called.
        lens = SteerableLens(len, **JobConfig.from_dict(self.job.config).lens_options)
        return ", ".join(method_words(lens.settings))

    def class_name(self, number: int) -> str:
        """Return the class's name, or its number if classes have no names. ``~n`` (label n removed) is "not n"."""
        if number < 0:
            return f"not {self.class_name(~number)}"
        return str(number) if self.job.plan.classes is None else self.job.plan.class_name(number)


def _matches(key: str, patterns: Sequence[str] | None) -> bool:
    return patterns is None or any(key == p or fnmatchcase(key, p) for p in patterns)


# --- Shards ----------------------------------------------------------------------------------------------------------


def _write_shard(task: _Export, shard: int, records: list[dict]) -> None:
    listing = task.to / f"{shard_name(shard)}.jsonl"  # written last: if it exists, the shard is complete
    if listing.exists():
        return
    frames = task.job.frames(shard, records)
    frames = frames if task.format == "safetensors" else as_8_bit(frames)
    records = [{**record, "row": row} for row, record in enumerate(records)]
    if task.format == "folder":  # one tree for all shards, with the folders of the data
        for _ in map_in_threads(lambda r: write_morph(task.to, r["key"], frames[r["row"]], overwrite=True), records):
            pass
    else:
        metadata = {"config": task.job.config, "shard": shard}
        get_format(task.format).write(task.to, shard_name(shard), frames, records, metadata)
    write_records(listing, records)


# --- Items -----------------------------------------------------------------------------------------------------------


def _write_items(task: _Export, shard: int, records: list[dict]) -> None:
    """Write one file per item. Existing files are skipped before any frame is read."""
    paths = {r["key"]: task.to / task.file_names(r["key"], SUFFIXES[task.format]) for r in records}
    missing = [r for r in records if not paths[r["key"]].exists()]
    if task.format != "npz":
        require_extra("plot", "matplotlib")  # for the font of captions; imported here, not in several threads at once
    for record in missing:
        paths[record["key"]].parent.mkdir(parents=True, exist_ok=True)

    def write(record: dict, frames: Tensor) -> None:
        with atomic_write(paths[record["key"]], durable=False) as file:
            _write_item(task, record, frames, file)

    if missing:
        frames = task.job.frames(shard, missing)
        frames = frames if task.format == "npz" else as_8_bit(frames)
        for _ in map_in_threads(lambda pair: write(*pair), zip(missing, frames)):
            pass


def _write_item(task: _Export, record: dict, frames: Tensor, file: BinaryIO) -> None:
    if task.format == "npz":
        return np.savez(file, **_arrays(record, frames))
    data = _strip_data(task, record, frames)
    if task.format != "strip":
        return write_animation(tiled_frames(data), file, task.format)
    with DRAWING:
        draw_strips(data).savefig(file, format="png")


def _arrays(record: dict, frames: Tensor) -> dict[str, np.ndarray]:
    # None becomes NaN.
    numbers = {name: np.array(record[name], np.float64) for name in ("factors", "l2", "probability")}
    classes = {name: np.array(-1 if record[name] is None else record[name]) for name in ("label", "source", "target")}
    return {"frames": frames.numpy(), **numbers, **classes, "record": np.array(json.dumps(record))}


def _strip_data(task: _Export, record: dict, frames: Tensor) -> StripData:
    """Return the data of a strip or an animation, from an item's record and stored frames."""
    pixels = frames.movedim(1, -1)
    pictures = (pixels[..., 0] if pixels.shape[-1] == 1 else pixels).contiguous().numpy()
    target, already, attained = record["target"], record["already_predicted"], record["attained"]
    probability = np.array([record["probability"]], np.float64)  # None becomes NaN
    reached = np.array([[p == target and not already for p in record["predictions"]]])
    count, scored = len(frames), any(p is not None for p in record["predictions"])
    maps, scale = difference_maps(pictures, start_frame(record)) if task.differences else (None, 0.0)
    return StripData(
        pictures=pictures[None],
        frames=list(range(count)),
        names=[pair_text(task.class_name(record["source"]), task.class_name(target))],
        remarks=[remark(None, already, attained is None or bool(np.all(attained)))],
        probability=probability,
        prediction=[_predictions(task, record)],
        reached=reached & np.isfinite(probability),
        l2=_field(record, "l2"),
        factors=_field(record, "factors"),
        amplitude_factors=_field(record, "amplitude_factors"),
        by_distance=task.job.config.get("factors") is None,
        missed=[missed_distances(record, task.job.config)],
        title=task.method,
        note=strip_note(scored, samples=1, all_samples=1, frames=count, all_frames=count),
        maps=None if maps is None else [(maps, scale)],
    )


def _field(record: dict, name: str) -> Tensor | None:
    """Return a field of a record as a tensor [1, F]; None if the record does not have it."""
    return torch.tensor([record[name]], dtype=torch.float64, device="cpu") if name in record else None


def _predictions(task: _Export, record: dict) -> list[str]:
    """Return each frame's prediction and its probability as text.

    The text is "" for a frame whose prediction is the target, or that was not scored.
    """
    target, probabilities = record["target"], record["prediction_probability"]
    probabilities = [math.nan if p is None else p for p in probabilities or [None] * len(record["predictions"])]
    return [
        "" if predicted in (None, target) else predicted_text(task.class_name(predicted), p)
        for predicted, p in zip(record["predictions"], probabilities)
    ]

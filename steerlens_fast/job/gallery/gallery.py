"""Writes the gallery: a static page with some of a job's morphs.

A morph has two image files: one with all frames, and one with their differences from the source or, if the source is
no frame, from the frame nearest to it.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import torch
from torch import Tensor

from ...data.targets import LABEL, MAP
from ...errors import OK, REASONS, usage_error
from ...extras import require_extra
from ...io.html_page import render_page
from ...io.output_dir import check_is_folder, expand_home
from ...lens.schedule import DEFAULT_L2
from ...morphs.differences import difference_maps
from ..config import JobConfig
from ..folder import CompletedShards, JobFolder
from ..formats.common import as_8_bit, map_in_threads, replacing_folder, to_pil
from ..formats.wds import encode_lossless
from ..plan import Plan
from ..success import NOT_REACHED, REACHED, missed_distances, outcome_of, start_frame
from ..summary import labels_look_wrong, read_success

SETTINGS = ("model", "data", "target", "family", "rule", "regime", "objective")
DISTANCES = ("max_l2", "distances", "factors", "amplitude_factors")  # shown if they are set
OPTIONS = ("color", "steps", "smoothing", "phase_cap", "scales", "orientations", "task")  # shown if not the defaults
GENERATOR = '<meta name="generator" content="steerlens_fast gallery">'  # is in every page
IMAGE_NAME = re.compile(r'"((?:images|maps)/\d{8,}\.webp)"')  # in the data of the page
MAX_SIDE = 16_383  # maximum side of a WebP image, in pixels


def write_gallery(out: str | os.PathLike, *, sample: int = 48, to: str | os.PathLike | None = None) -> Path:
    """Write ``gallery/index.html`` and images of some morphs; an older gallery is replaced.

    Parameters
    ----------
    out : path
        The job's folder.
    sample : int
        Maximum number of morphs, and maximum number of failed items. They are evenly spaced over the data set.
    to : path, optional
        The folder for the gallery, by default ``gallery`` in ``out``. Another folder must be new, empty or a gallery's.

    Returns
    -------
    Path
        Path of the page. It has a summary of all morphs of complete shards, and examples, which readers can filter and
        sort. The page needs no server, and loads only the images next to it. The same morphs give the same bytes.

    Raises
    ------
    JobError
        If ``out`` is not a job's folder, ``to`` has files that are not a gallery's, the frames have neither 1 nor 3
        channels, or a shard is damaged.
    ImportError
        If an extra is not installed.
    """
    job = JobFolder(expand_home(out))
    to = job.out / "gallery" if to is None else _check_gallery_folder(expand_home(to))
    plan, config = job.plan, job.config
    if plan.channels not in (1, 3):
        raise usage_error(f"frames must have 1 channel (grey) or 3 (RGB) to be shown, got {plan.channels}")
    require_extra("cli", "PIL.Image")
    done = job.completed_shards()
    columns = max(1, min(plan.frames, MAX_SIDE // plan.size[1]))
    with replacing_folder(to) as folder:
        (folder / "images").mkdir()
        (folder / "maps").mkdir()
        examples = []
        for shard, records in _sampled(job, done, sample):
            job.check_undamaged(shard)
            examples += _write_examples(folder, job, shard, records, columns)
        success = read_success(job, done)
        about = {"facts": _facts(config, plan, done), **_counts(job, done), "success": success}
        as_labelled = success["labelled"] - (success["label_differs"] or 0)
        # If hardly any label is predicted, the class numbers of the data are probably not those of the model. With
        # target "label", labels must be classes of the model, and are compared in any case.
        about["compare_labels"] = config["target"] == LABEL or not labels_look_wrong(success["labelled"], as_labelled)
        shape = {"height": plan.size[0], "width": plan.size[1], "frames": plan.frames, "columns": columns}
        shape["channels"] = plan.channels
        (folder / "index.html").write_text(page({**about, **shape, "examples": examples}), encoding="utf-8")
    return to / "index.html"


def _check_gallery_folder(to: Path) -> Path:
    """Return ``to``; raise a JobError if it has files that do not belong to a gallery."""
    check_is_folder(to, "to")
    if (other := _foreign_file(to)) is not None:
        raise usage_error(f"to must be a new folder or a gallery's folder, got {to} with other files, e.g. {other}")
    to.parent.mkdir(parents=True, exist_ok=True)
    return to


def _foreign_file(to: Path) -> str | None:
    """Return the path in ``to`` of a file or folder that no gallery has written; None if there is none."""
    page = to / "index.html"
    text = page.read_text(encoding="utf-8", errors="replace") if page.is_file() else ""
    own = {"index.html", "images", "maps", *IMAGE_NAME.findall(text)} if GENERATOR in text else set()
    paths = (os.path.join(folder, name) for folder, folders, files in os.walk(to) for name in files + folders)
    return next((path for path in (os.path.relpath(path, to) for path in paths) if path not in own), None)


def _write_examples(folder: Path, job: JobFolder, shard: int, records: list[dict], columns: int) -> list[dict]:
    """Write frames and difference maps of some items of a shard; return the items' data for the page."""
    with_frames = [record for record in records if record["row"] is not None]
    frames = as_8_bit(job.frames(shard, with_frames)) if with_frames else []
    files: dict[int, dict] = {}

    def encode(pair: tuple[dict, Tensor]) -> tuple[int, bytes, bytes, float]:
        record, frames_of_item = pair
        maps, scale = edit_maps(frames_of_item, start_frame(record))
        return record["index"], *(encode_lossless(to_pil(strip(t, columns))) for t in (frames_of_item, maps)), scale

    for index, strip_bytes, map_bytes, scale in map_in_threads(encode, zip(with_frames, frames)):
        image, map_image = (f"{kind}/{index:08d}.webp" for kind in ("images", "maps"))
        (folder / image).write_bytes(strip_bytes)
        (folder / map_image).write_bytes(map_bytes)
        files[index] = {"image": image, "map": map_image, "scale": scale}
    return [_example(record, job.plan, job.config) | files.get(record["index"], {"image": None}) for record in records]


# --- Sampling ---------------------------------------------------------------------------------------------------------


def _sampled(job: JobFolder, done: CompletedShards, sample: int) -> Iterator[tuple[int, list[dict]]]:
    """Yield each shard that has examples, with their records. Other shards are read only if they have failed items."""
    # Lists have two entries, for morphs and for failed items. Each kind is numbered through all shards.
    sampled = [set(sample_indices(count, sample)) for count in (done.items - done.failed, done.failed)]
    starts = [0, 0]  # the numbers of the shard's first morph and failed item
    for shard in sorted(done.shards):
        by_status = _split_by_status(job.records(shard)) if shard in done.failed_shards else None
        counts = [job.plan.count(shard), 0] if by_status is None else [len(records) for records in by_status]
        chosen = [sorted(s & set(range(start, start + n))) for s, start, n in zip(sampled, starts, counts)]
        if any(chosen):
            by_status = by_status or _split_by_status(job.records(shard))
            selected = [
                records[number - start]
                for records, numbers, start in zip(by_status, chosen, starts)
                for number in numbers
            ]
            yield shard, sorted(selected, key=lambda record: record["index"])
        starts = [start + n for start, n in zip(starts, counts)]


def _split_by_status(records: list[dict]) -> tuple[list[dict], list[dict]]:
    """Return the records with status "ok", and the others."""
    return [r for r in records if r["status"] == OK], [r for r in records if r["status"] != OK]


def sample_indices(count: int, sample: int) -> list[int]:
    """Return ``sample`` of ``count`` indices, evenly spaced from the first to the last.

    Examples
    --------
    >>> sample_indices(10, 4), sample_indices(2, 4)
    ([0, 3, 6, 9], [0, 1])
    """
    if count <= sample:
        return list(range(count))
    return [i * (count - 1) // max(sample - 1, 1) for i in range(sample)]


# --- Data of the page -------------------------------------------------------------------------------------------------


def strip(frames: Tensor, columns: int) -> Tensor:
    """Arrange frames [F, C, H, W] in rows of ``columns`` frames.

    The result is [C, rows * H, columns * W].

    Examples
    --------
    >>> strip(torch.arange(3).reshape(3, 1, 1, 1), 2)
    tensor([[[0, 1],
             [2, 0]]])
    """
    rows = -(-len(frames) // columns)
    empty = frames.new_zeros(rows * columns - len(frames), *frames.shape[1:])
    c, h, w = frames.shape[1:]
    grid = torch.cat([frames, empty]).reshape(rows, columns, c, h, w)
    return grid.permute(2, 0, 3, 1, 4).reshape(c, rows * h, columns * w)


def edit_maps(frames: Tensor, start: int) -> tuple[Tensor, float]:
    """Return maps of how frames differ from frame ``start``.

    The maps are uint8 [F, 3, H, W]. The second result is their scale.
    """
    pixels = frames[:, 0] if frames.shape[1] == 1 else frames.movedim(1, -1)
    maps, scale = difference_maps(pixels.contiguous().numpy(), start)
    return torch.from_numpy(maps).movedim(-1, 1), scale


def _example(record: dict, plan: Plan, config: dict) -> dict:
    outcome = outcome_of(record)
    # False if the model's outputs for the source are missing, or may be NaN
    source_known = record["already_predicted"] is not None
    counted = outcome in (REACHED, NOT_REACHED)
    example = {
        "key": record["key"],
        "index": record["index"],
        "source": plan.class_name(record["source"]) if source_known else None,
        "target": plan.class_name(record["target"]),
        "label": plan.label_name(record["label"]),
        "status": record["status"],
        "outcome": outcome,
        "already_predicted": record["already_predicted"],
        "label_differs": record["label_differs"],
        **{name: counted and record[name] for name in ("fell_below_source", "fell_below_earlier")},
    }
    if record["status"] != OK:
        example["message"] = record.get("message") or REASONS.get(record["status"], "")
    if record["row"] is None:
        return example
    count = len(record["factors"])
    return example | {
        "predictions": [plan.class_name(p) for p in record["predictions"]],
        "prediction_probability": record["prediction_probability"] or [None] * count,
        "start": start_frame(record),
        "missed": missed_distances(record, config),
        **{name: record[name] for name in ("probability", "factors", "l2", "attained", "gradient_norm")},
    }


def _facts(config: dict, plan: Plan, done: CompletedShards) -> list[list[str]]:
    defaults = {f.name: f.default for f in fields(JobConfig)}
    changed = [name for name in OPTIONS if config.get(name, defaults[name]) != defaults[name]]
    distances = [name for name in DISTANCES if config.get(name) is not None]
    facts = [[_title(name), _setting(config.get(name), prefix=MAP)] for name in SETTINGS]
    facts += [[_title(name), _setting(config[name])] for name in (*changed, *distances)]
    facts += [] if distances else [[_title("max_l2"), f"{DEFAULT_L2} (default)"]]
    size = f"{plan.frames} of {plan.size[0]} × {plan.size[1]}, {'grey' if plan.channels == 1 else 'RGB'}"
    shards = f"{len(done.shards)} of {plan.shards} done"
    return [*facts, ["Frames", size], ["Shards", shards]]


def _title(name: str) -> str:
    """Return the title of an option, such as "Max L2"."""
    return name.capitalize().replace("_", " ").replace("l2", "L2")


def _setting(value, prefix: str = "") -> str:
    """Return a setting as text, as on the command line. The text of a mapping begins with ``prefix``."""
    if isinstance(value, dict):
        return prefix + ",".join(f"{a}={b}" for a, b in value.items())
    return ", ".join(map(_setting, value)) if isinstance(value, list) else str(value)


def _counts(job: JobFolder, done: CompletedShards) -> dict:
    reasons = Counter(record["status"] for record in job.records_of(done.failed_shards) if record["status"] != OK)
    failures = [[reason, REASONS.get(reason, ""), n] for reason, n in sorted(reasons.items())]
    return {"items": job.plan.items, "ok": done.items - done.failed, "failures": failures}


# --- The page ---------------------------------------------------------------------------------------------------------


def page(data: dict) -> str:
    """Render the page that shows ``data``. Text is escaped, and only local images can be loaded."""
    title = "Morphs of {Data}, {Model}".format(**dict(data["facts"])).encode(errors="replace").decode()
    return render_page(__package__, title, data, images="'self' file:")

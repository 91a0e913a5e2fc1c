"""A page to look at some of a job's morphs: static, self-contained, one strip of frames for each example."""

from __future__ import annotations

import html
import json
import os
import random
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor

from ...checks import check_int
from ...data.class_names import class_name
from ...data.targets import LABEL
from ...errors import OK, REASONS, USAGE, JobError
from ...extras import require_extra
from ...io.paths import output_folder
from ...morphs.differences import difference_maps
from ..formats.common import ahead, as_8_bit, replacing_folder, to_picture
from ..formats.wds import encode_lossless
from ..plan import Plan
from ..reader import read_config, read_frames
from ..report import CompletedShards, done_shards, labels_doubted, success_of
from ..shard import read_records, stem
from ..success import NOT_REACHED, REACHED, judge, outcome_of, start_frame

SETTINGS = {name: name.capitalize() for name in ("model", "data", "target", "family", "rule", "regime", "objective")}
DISTANCES = {
    "max_l2": "Max L2",
    "distances": "Distances",
    "factors": "Factors",
    "amplitude_factors": "Amplitude factors",
}  # if asked for
SIDE = 16_383  # at most, of a WebP


def write_gallery(out: Path, *, sample: int = 48, seed: int | None = None, to: Path | None = None) -> Path:
    """Write ``gallery/index.html`` and its images of some of the morphs that are done; what was there is replaced.

    Parameters
    ----------
    out : Path
        The job's output folder.
    sample : int
        How many morphs, and at most as many failed items; all where there are no more.
    seed : int, optional
        Which: drawn at random, the same for the same seed. By default evenly spaced over the data set.

    to : Path, optional
        The folder to write, in place of ``gallery`` in ``out``: a new one, or one that holds a gallery. Nothing is
        written to ``out`` then.

    Returns
    -------
    Path
        The page. It works from the disk and asks for nothing but the images beside it; the same morphs give the same
        bytes. Its head sums up the success of all morphs that are done; examples can be filtered by how they ended,
        sorted, and shown with their signed differences from the source.

    Raises
    ------
    JobError
        Where ``out`` is no job's folder, frames are not of 1 or 3 channels, or a shard is damaged.
    ImportError
        Naming the extra that is not installed.
    """
    out, sample = output_folder(out), check_int("sample", sample, 1, None)
    to = out / "gallery" if to is None else _own_folder(output_folder(to))
    plan, config = Plan.read(out), read_config(out)
    if plan.channels not in (1, 3):
        raise JobError(f"frames must have 1 channel (grey) or 3 (RGB) to be shown, got {plan.channels}", USAGE)
    require_extra("cli", "PIL.Image")
    done = done_shards(out, plan)
    columns = max(1, min(plan.frames, SIDE // plan.size[1]))
    with replacing_folder(to) as folder:
        (folder / "images").mkdir()
        (folder / "maps").mkdir()
        examples = []
        for shard, records in _sampled(out, plan, done, sample, seed):
            examples += _write_examples(folder, out, config, plan, shard, records, columns)
        success = success_of(out, plan, done)
        about = {"facts": _facts(config, plan, done), **_counts(out, plan, done), "success": success}
        agree = success["labelled"] - (success["label_differs"] or 0)
        about["compare_labels"] = config["target"] == LABEL or not labels_doubted(success["labelled"], agree)
        shape = {"height": plan.size[0], "width": plan.size[1], "frames": plan.frames, "columns": columns}
        shape["channels"] = plan.channels
        (folder / "index.html").write_text(page({**about, **shape, "examples": examples}), encoding="utf-8")
    return to / "index.html"


def _own_folder(to: Path) -> Path:
    """``to``, if nothing but a gallery is lost with what is there."""
    if os.path.lexists(to) and not (to.is_dir() and set(os.listdir(to)) <= {"index.html", "images", "maps"}):
        raise JobError(f"to must be a new folder, or a gallery's, got {to}", USAGE)
    to.parent.mkdir(parents=True, exist_ok=True)
    return to


def _write_examples(
    folder: Path, out: Path, config: dict, plan: Plan, shard: int, records: list[dict], columns: int
) -> list[dict]:
    """Write the frames and edit maps of some items of a shard; returns what the page shows of them."""
    with_frames = [record for record in records if record["row"] is not None]
    frames = as_8_bit(read_frames(out, config["format"], shard, with_frames)) if with_frames else []
    files: dict[int, dict] = {}

    def encode(pair: tuple[dict, Tensor]) -> tuple[int, bytes, bytes, float]:
        record, row = pair
        maps, scale = edit_maps(row, start_frame(record))
        return record["index"], *(encode_lossless(to_picture(strip(t, columns))) for t in (row, maps)), scale

    for index, pictures, maps, scale in ahead(encode, zip(with_frames, frames)):
        image, map_image = (f"{kind}/{index:08d}.webp" for kind in ("images", "maps"))
        (folder / image).write_bytes(pictures)
        (folder / map_image).write_bytes(maps)
        files[index] = {"image": image, "map": map_image, "scale": scale}
    return [_example(record, plan) | files.get(record["index"], {"image": None}) for record in records]


# --- Which -----------------------------------------------------------------------------------------------------------


def _sampled(
    out: Path, plan: Plan, done: CompletedShards, sample: int, seed: int | None
) -> Iterator[tuple[int, list[dict]]]:
    """The shards that have examples, with the records of these; no other shard is opened."""
    wanted = [set(places(count, sample, seed)) for count in (done.items - done.failed, done.failed)]
    first = [0, 0]  # of the shard: the place of its first morph among all morphs, of its first failure among all
    for shard in sorted(done.shards):
        kinds = _by_kind(out, shard) if shard in done.failing else None
        counts = [plan.count(shard), 0] if kinds is None else [len(kind) for kind in kinds]
        here = [sorted(w & set(range(f, f + n))) for w, f, n in zip(wanted, first, counts)]
        if any(here):
            kinds = kinds or _by_kind(out, shard)
            chosen = [kind[place - f] for kind, some, f in zip(kinds, here, first) for place in some]
            yield shard, sorted(chosen, key=lambda record: record["index"])
        first = [f + n for f, n in zip(first, counts)]


def _by_kind(out: Path, shard: int) -> tuple[list[dict], list[dict]]:
    """A shard's records: those that are ok, and the others."""
    records = read_records(out / "shards" / f"{stem(shard)}.jsonl")
    return [r for r in records if r["status"] == OK], [r for r in records if r["status"] != OK]


def places(count: int, sample: int, seed: int | None) -> list[int]:
    """``sample`` of ``count`` places: evenly spaced from the first to the last, or drawn.

    Examples
    --------
    >>> places(10, 4, None), places(2, 4, None), places(10, 1, None), len(places(10, 4, seed=1))
    ([0, 3, 6, 9], [0, 1], [0], 4)
    """
    if count <= sample:
        return list(range(count))
    if seed is not None:
        return sorted(random.Random(seed).sample(range(count), sample))
    return [i * (count - 1) // max(sample - 1, 1) for i in range(sample)]


# --- What is told ----------------------------------------------------------------------------------------------------


def strip(frames: Tensor, columns: int) -> Tensor:
    """Frames [F, C, H, W] beside each other, in rows of ``columns``: [C, rows * H, columns * W].

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
    """Pictures uint8 [F, 3, H, W] of the differences of frames [F, C, H, W] from frame ``start``, and their scale."""
    pixels = frames[:, 0] if frames.shape[1] == 1 else frames.movedim(1, -1)
    maps, scale = difference_maps(pixels.contiguous().numpy(), start)
    return torch.from_numpy(maps).movedim(-1, 1), scale


def _example(record: dict, plan: Plan) -> dict:
    named = lambda number: None if number is None else class_name(number, plan.classes)
    outcome, verdict = outcome_of(record), judge(record)
    judged = outcome in (REACHED, NOT_REACHED)
    example = {
        "key": record["key"],
        "index": record["index"],
        "source": named(record["source"] if verdict["already_predicted"] is not None else None),
        "target": named(record["target"]),
        "label": None if record["label"] is None else class_name(record["label"], plan.labels),
        "status": record["status"],
        "outcome": outcome if record["status"] == OK else "failed",
        "already_predicted": verdict["already_predicted"],
        "label_differs": verdict["label_differs"],
        **{name: judged and verdict[name] for name in ("fell_below_source", "fell_below_earlier")},
    }
    if record["status"] != OK:
        example["message"] = record.get("message") or REASONS.get(record["status"], "")
    if record["row"] is None:
        return example
    count = len(record["factors"])
    return example | {
        "predictions": [named(p) for p in record["predictions"]],
        "prediction_probability": record.get("prediction_probability") or [None] * count,  # older jobs have none
        "start": start_frame(record),
        **{name: record[name] for name in ("probability", "factors", "l2", "attained", "gradient_norm")},
    }


def _facts(config: dict, plan: Plan, done: CompletedShards) -> list[list[str]]:
    told = [[title, _told(config.get(name))] for name, title in SETTINGS.items()]
    told += [[title, _told(config[name])] for name, title in DISTANCES.items() if config.get(name) is not None]
    size = f"{plan.frames} of {plan.size[0]} × {plan.size[1]}, {'grey' if plan.channels == 1 else 'RGB'}"
    shards = f"{len(done.shards)} of {plan.shards} done"
    return [*told, ["Frames", size], ["Shards", shards]]


def _told(value) -> str:
    """A setting for people: numbers with commas between them, maps as the command line has them."""
    if isinstance(value, dict):
        return "map:" + ",".join(f"{a}={b}" for a, b in value.items())
    return ", ".join(map(_told, value)) if isinstance(value, list) else str(value)


def _counts(out: Path, plan: Plan, done: CompletedShards) -> dict:
    reasons = Counter()
    for shard in done.failing:
        reasons.update(r["status"] for r in read_records(out / "shards" / f"{stem(shard)}.jsonl") if r["status"] != OK)
    quarantined = [[reason, REASONS.get(reason, ""), n] for reason, n in sorted(reasons.items())]
    return {"items": plan.items, "ok": done.items - done.failed, "quarantined": quarantined}


# --- The page --------------------------------------------------------------------------------------------------------


def page(data: dict) -> str:
    """The page that shows ``data``: no text in it can become markup, and it may load its own images only."""
    template = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    style, script = (_hash(re.search(f"<{tag}>(.*?)</{tag}>", template, re.S)[1]) for tag in ("style", "script"))
    policy = f"default-src 'none'; img-src 'self' file:; style-src {style}; script-src {script}; "
    policy += "base-uri 'none'; form-action 'none'"
    title = "Morphs of {Data}, {Model}".format(**dict(data["facts"]))
    # "<" ends a script element, or begins a comment in it, wherever it stands
    text = json.dumps(data, sort_keys=True, separators=(",", ":")).replace("<", "\\u003c")
    parts = {"policy": policy, "title": html.escape(title.encode(errors="replace").decode()), "data": text}
    return re.sub(r"\{\{(\w+)\}\}", lambda m: parts[m[1]], template)


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"

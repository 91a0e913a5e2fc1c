"""Folders like those of finished jobs, for tests: no model is run."""

import math
from collections.abc import Callable
from pathlib import Path

import torch

from steerlens_fast.data.items import Item, write_listing
from steerlens_fast.errors import OK, REASONS
from steerlens_fast.io.atomic_io import write_json
from steerlens_fast.job.config import JobConfig
from steerlens_fast.job.formats import get_format
from steerlens_fast.job.plan import Plan
from steerlens_fast.job.records import write_records
from steerlens_fast.job.success import assess

CLASSES = ["zero", "one", "two", "three"]  # class names of the model
LABELS = ["nil", "uno", "due", "tre"]  # label names of the data
FAMILIES = ("csp-phase", "pixel")
NASTY = [  # keys that are unsafe as file names or in HTML, or that differ little
    "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">/</script>",
    "../../outside",
    "/absolute",
    "a",
    "a/frame_00.png",
    "a/frame_00%2Epng",
    "a.00",
    "a.gif/b",
    "a.json/b",
    "__meta__/x",
    "n" * 400,
    "n" * 399 + "m",
    "/".join(["deep"] * 300),
    "/".join(["deep"] * 299 + ["deeq"]),
    "zwölf 猫 %",
    "not\udc80text",
    "line\nbreak",
    "",
    "x//y",
    ".hidden",
    ".00000.tmp",
]


def morphs_of(n: int, frames: int = 6, channels: int = 3, size=(20, 17)) -> torch.Tensor:
    """Return random frames, uint8 [n, F, C, H, W]."""
    return torch.randint(0, 256, (n, frames, channels, *size), dtype=torch.uint8)


def record(index: int, key: str, frames: int, row: int | None, status: str = OK, scored: bool = True) -> dict:
    """Return the record of an item.

    The target becomes more likely from frame to frame, but its probabilities are None unless ``scored``. ``row`` is the
    item's place among the frames of its shard. If it is None, the item has no frames, because of ``status``.
    """
    source, target = index % 4, (index + 1) % 4
    record = {"key": key, "index": index, "path": f"images/{index}.png", "sha256": f"{index:064x}", "size": [20, 17]}
    record |= {"label": source, "status": status, "row": row}
    if row is None:
        names = ("target", "source", "predictions", "probability", "factors", "l2", "attained", "gradient_norm")
        record |= dict.fromkeys((*names, "prediction_probability")) | {"message": REASONS[status]}
        return record
    share = [f / (frames - 1) for f in range(frames)]
    rising = [round(1 / (1 + math.exp(6 - (9 + index % 3) * s)), 7) for s in share]
    return record | {
        "target": target,
        "source": source,
        "predictions": [(target if p > 0.5 else source) if scored else None for p in rising],
        "probability": rising if scored else [None] * frames,
        "prediction_probability": [max(p, round(1 - p, 7)) if scored else None for p in rising],
        "factors": [round(4 * s, 7) for s in share],
        "l2": [round(2.5 * s, 7) for s in share],
        "attained": True,
        "gradient_norm": 0.0123456,
    }


def make_job(
    out: Path,
    frames: torch.Tensor,
    keys: list[str],
    *,
    format: str = "safetensors",
    shard_size: int = 4,
    failed: tuple[int, ...] = (),
    unscored: tuple[int, ...] = (),
    classes: list[str] | None = CLASSES,
    change: Callable[[dict], dict] = dict,
    **config,
) -> list[dict]:
    """Write the folder of a job and return its records.

    Items at the indices ``failed`` have no frames, as if their files were truncated. Those at ``unscored`` have frames
    without probabilities. ``change`` is called with each record, and its result is written instead, together with the
    result of ``assess``.
    """
    (out / "shards").mkdir(parents=True)
    count, f, channels, *size = frames.shape
    job_config = JobConfig("images/", "timm:resnet18", format=format, frames=f, **config)
    write_json(out / "config.json", job_config.as_dict())
    items = (Item(i, key, f"images/{i}.png") for i, key in enumerate(keys))
    listing = write_listing(out / "items.jsonl", items, shard_size)
    rest = dict(threads=1, without_target=0, classes=classes, labels=LABELS, model={}, source={}, versions={})
    Plan(count, shard_size, shard_size, listing.offsets, listing.sha256, size, channels, f, **rest).write(out)
    records = []
    for shard in range(len(listing.offsets)):
        indices = range(shard * shard_size, min((shard + 1) * shard_size, count))
        good = [i for i in indices if i not in failed]
        rows = {i: row for row, i in enumerate(good)}
        shard_records = []
        for i in indices:
            status = OK if i in rows else "truncated"
            entry = change(record(i, keys[i], f, rows.get(i), status, i not in unscored))
            shard_records.append(entry | assess(entry))
        folder, stem = out / "shards", f"{shard:05d}"
        files = get_format(format).write(folder, stem, frames[good], shard_records, {"shard": shard})
        files |= write_records(folder / f"{stem}.jsonl", shard_records)
        num_failed = sum(r["status"] != OK for r in shard_records)
        counts = {"items": len(shard_records), "failed": num_failed}
        marker = {"shard": shard, "files": files, **counts, "seconds": {}}
        write_json(folder / f"{stem}.done.json", marker)
        records += shard_records
    return records


def make_jobs(folder: Path, families=FAMILIES, **options) -> tuple[list[Path], dict[str, torch.Tensor]]:
    """Write a job for each family, all with the same eight keys; return their folders and frames."""
    frames = {family: morphs_of(8, 3) for family in families}
    folders = [folder / f"job-{family}" for family in families]
    for family, out in zip(families, folders):
        make_job(out, frames[family], [f"photos/{n}.png" for n in range(8)], family=family, **options)
    return folders, frames

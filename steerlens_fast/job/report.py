"""Reports the state of a job's folder.

It finds complete shards, verifies files, and writes the summary files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..checks import is_int
from ..data.class_names import class_name
from ..data.decoding import is_narrow_range
from ..data.items import compact_json, read_listing
from ..data.resize import size_change
from ..data.targets import LABEL
from ..data.value_range import narrow_warning
from ..errors import OK, JobError
from ..io.atomic_io import atomic_write, existing_path, read_json, sha256_of, write_json
from ..io.output_dir import is_locked
from .plan import Plan
from .reader import read_config
from .shard import marker_path, read_records, shard_name
from .success import Tally, success_parts

NOT_DONE = "not done"
# A warning is given if there are at least MIN_LABELS labels, and the model predicts less than MIN_AGREEMENT of them.
MIN_LABELS, MIN_AGREEMENT = 20, 0.25
MIN_KEPT = 0.25  # of an image's area; images of which the crop keeps less are counted
MANIFEST_FIELDS = ("key", "index", "shard", "row", "status")


@dataclass
class CompletedShards:
    """The complete shards of a job, and the totals of their markers."""

    shards: set[int] = field(default_factory=set)
    items: int = 0
    failed: int = 0
    failed_shards: list[int] = field(default_factory=list)  # shards with failed items
    seconds: Counter = field(default_factory=Counter)
    bytes: int = 0


def completed_shards(out: Path, plan: Plan) -> CompletedShards:
    """Return the shards with a valid marker, and totals of these markers.

    A marker is not valid if it is damaged, or does not fit the number of items or the files' sizes.
    """
    done = CompletedShards()
    for shard in range(plan.shards):
        marker = read_marker(out, shard)
        if marker is None or not _has_all_files(out, plan, shard, marker):
            continue
        done.shards.add(shard)
        done.items += marker["items"]
        done.failed += marker["failed"]
        done.seconds.update(marker["seconds"])
        done.bytes += sum(file["bytes"] for file in marker["files"].values())
        if marker["failed"]:
            done.failed_shards.append(shard)
    return done


def read_marker(out: Path, shard: int) -> dict | None:
    """Read the marker of a shard.

    The result is None if it is missing or damaged.
    """
    try:
        marker = read_json(marker_path(out, shard))
        counts = [marker["items"], marker["failed"], *(file["bytes"] for file in marker["files"].values())]
        digests = [file["sha256"] for file in marker["files"].values()]
        Counter() + Counter(marker["seconds"])  # raises an exception if it is not a dict of numbers
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return None
    valid = all(map(is_int, counts)) and all(isinstance(digest, str) for digest in digests)
    return marker if valid and f"{shard_name(shard)}.jsonl" in marker["files"] else None


def _has_all_files(out: Path, plan: Plan, shard: int, marker: dict) -> bool:
    """Return whether a shard is complete.

    It must have all its items, and files of the sizes in its marker.
    """
    paths = _stored_files(out, marker)
    return marker["items"] == plan.count(shard) and all(
        _size(paths[name]) == file["bytes"] for name, file in marker["files"].items()
    )


def _stored_files(out: Path, marker: dict) -> dict[str, Path]:
    """Return the path of each file of a shard.

    If a process was killed while replacing a file, this is the path of the backup.
    """
    parts = {name: name.partition("/") for name in marker["files"]}  # a shard of format "folder" is one folder
    roots = {first: existing_path(out / "shards" / first) for first in {first for first, _, _ in parts.values()}}
    return {name: roots[first] / inner for name, (first, _, inner) in parts.items()}


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


def records(out: Path, shards) -> Iterator[dict]:
    """Iterate over the records of some shards, in order.

    The shard's number is added to each record.
    """
    for shard in sorted(shards):
        for record in read_records(out / "shards" / f"{shard_name(shard)}.jsonl"):
            yield {**record, "shard": shard}


def write_summary(out: Path, plan: Plan, last_run: dict) -> dict:
    """Write ``manifest.jsonl``, ``failed.jsonl`` and ``summary.json`` of the complete shards; return the summary.

    Notes
    -----
    The summary contains, among others:

    - ``attained``: the number of morphs that reach every requested distance; None if no distance was requested
    - ``labelled``: the number of morphs with a label; 0 for task "multilabel", where labels cannot be compared
    - ``as_labelled``: how many of these labels the model predicts for the source
    - ``enlarged``: the number of images that were enlarged to the model's size
    - ``mostly_cropped``: the number of images of which the crop keeps less than a quarter
    - ``target_is_label``: whether labels are the targets
    - ``success``: see :meth:`~steerlens_fast.job.success.Tally.as_dict`
    - ``seconds``: the time that each activity took, in all workers together
    - ``last_run``: the counts and the elapsed time of the last run
    """
    config = read_config(out)
    multilabel = config.get("task") == "multilabel"  # labels are not compared: an image may have several
    done, reasons, attained, as_labelled, tally = completed_shards(out, plan), Counter(), Counter(), Counter(), Tally()
    deep = narrow = enlarged = cropped = 0
    crop_pct = plan.model["crop_pct"]
    with atomic_write(out / "manifest.jsonl") as manifest, atomic_write(out / "failed.jsonl") as failed:
        for record in records(out, done.shards):
            reasons[record["status"]] += 1
            deep += record.get("value_range") is not None
            narrow += plan.range is None and is_narrow_range(record.get("value_range"))
            if record.get("size"):
                is_enlarged, kept = size_change(record["size"], plan.size, crop_pct)
                enlarged, cropped = enlarged + is_enlarged, cropped + (kept < MIN_KEPT)
            tally.add(record)
            manifest.write(_json_line({name: record[name] for name in MANIFEST_FIELDS}))
            if record["status"] == OK:
                attained[_attained(record)] += 1
                as_labelled[None if multilabel else _as_labelled(record)] += 1
            else:
                failed.write(_json_line({n: record[n] for n in (*MANIFEST_FIELDS, "path", "message")}))
    summary = {
        "complete": len(done.shards) == plan.shards,
        "items": plan.items,
        "done": done.items,
        "failed": done.failed,
        "reasons": {reason: n for reason, n in sorted(reasons.items()) if reason != OK},
        "attained": attained[True] if attained[True] + attained[False] else None,
        "labelled": as_labelled[True] + as_labelled[False],
        "as_labelled": as_labelled[True],
        "target_is_label": config["target"] == LABEL,
        "success": tally.as_dict(lambda number: class_name(number, plan.shown_classes)),
        "without_target": plan.without_target,
        "unused_entries": {reason: entries["count"] for reason, entries in plan.unused_entries.items()},
        "enlarged": enlarged,
        "mostly_cropped": cropped,
        "deep_images": deep,
        "narrow_range": narrow,
        "shards": plan.shards,
        "shards_done": len(done.shards),
        "bytes": done.bytes,
        "seconds": {activity: round(value, 3) for activity, value in sorted(done.seconds.items())},
        "last_run": last_run,
    }
    write_json(out / "summary.json", summary)
    return summary


def _attained(record: dict) -> bool | None:
    """Return whether a morph reaches all requested distances.

    The result is None if none was requested.
    """
    attained = record.get("attained")
    return all(attained) if isinstance(attained, list) else attained


def _as_labelled(record: dict) -> bool | None:
    """Return whether the model predicts the label for the source.

    The result is None without a label.
    """
    label = record.get("label")
    return None if label is None else label == record.get("source")


def format_summary(summary: dict) -> str:
    """Return a summary as one line of text.

    It has a warning if the model predicts few of the labels.

    Examples
    --------
    >>> summary = {"items": 9, "done": 9, "failed": 2, "reasons": {"empty": 2}, "attained": 6, "without_target": 3}
    >>> format_summary(summary)
    '7 of 9 images done, 2 failed (failed.jsonl): 2 empty; 6 of 7 reached the distance; 3 skipped: no target'
    """
    ok, failed = summary["done"] - summary["failed"], summary["failed"]
    parts = [f"all {ok} images done" if ok == summary["items"] else f"{ok} of {summary['items']} images done"]
    if failed:
        reasons = ", ".join(f"{n} {reason}" for reason, n in summary["reasons"].items())
        parts[0] += f", {failed} failed (failed.jsonl): {reasons}"
    if summary.get("attained") not in (None, ok):
        parts.append(f"{summary['attained']} of {ok} reached the distance")
    if "success" in summary:
        parts += success_parts(summary["success"], by_label=summary.get("target_is_label", False))
    if summary["without_target"]:
        parts.append(f"{summary['without_target']} skipped: no target")
    if summary.get("enlarged"):
        parts.append(f"{summary['enlarged']} enlarged")
    if summary.get("mostly_cropped"):
        parts.append(f"{summary['mostly_cropped']} cropped to less than a quarter")
    if summary.get("narrow_range"):
        parts.append(narrow_warning(summary["narrow_range"], summary["deep_images"]))
    if summary.get("unused_entries"):
        unused = ", ".join(f"{n} {reason}" for reason, n in summary["unused_entries"].items())
        parts.append(f"unused entries of the data: {unused}")
    labelled, as_labelled = summary.get("labelled", 0), summary.get("as_labelled", 0)
    if labels_look_wrong(labelled, as_labelled):
        parts.append(
            f"the model predicts {as_labelled} of {labelled} labels: check that they are numbered as its classes are"
        )
    return "; ".join(parts)


def labels_look_wrong(labelled: int, as_labelled: int) -> bool:
    """Return whether the model predicts suspiciously few of the labels.

    The labels may then be numbered differently from the model's classes.
    """
    return labelled >= MIN_LABELS and as_labelled < MIN_AGREEMENT * labelled


def read_success(out: Path, plan: Plan, done: CompletedShards) -> dict:
    """Return "success" from ``summary.json``.

    If the summary is missing or not up to date, this part is computed from the records.
    """
    try:
        summary = read_json(out / "summary.json")
        if (summary["done"], summary["failed"]) == (done.items, done.failed):
            return summary["success"]
    except (OSError, ValueError, TypeError, KeyError):
        pass  # there is no summary yet, or it was written by another version
    tally = Tally()
    for record in records(out, done.shards):
        tally.add(record)
    return tally.as_dict(lambda number: class_name(number, plan.shown_classes))


def read_summary(out: Path) -> dict | None:
    """Read the summary of a complete job.

    The result is None if the job is not complete, or if a file of :func:`write_summary` is missing.
    """
    try:
        summary = read_json(out / "summary.json")
    except (OSError, ValueError):
        return None
    complete = summary.get("complete") and all((out / name).exists() for name in ("manifest.jsonl", "failed.jsonl"))
    return summary if complete else None


def _json_line(record: dict) -> bytes:
    return compact_json(record).encode(errors="surrogateescape") + b"\n"


def verify(out: Path, plan: Plan) -> dict[int, str]:
    """Compare every file with its hash, and every key with ``items.jsonl``.

    Return the problems by shard.

    The problem of an incomplete shard is "not done". A problem of ``items.jsonl`` has the key -1.
    """
    problems, listing = {}, existing_path(out / "items.jsonl")
    if not listing.exists() or sha256_of(listing) != plan.listing_sha256:
        problems[-1] = "items.jsonl differs from the plan; --resume writes it again"
    for shard in range(plan.shards):
        problem = shard_problem(out, plan, shard, check_keys=-1 not in problems)
        if problem:
            problems[shard] = problem
    return problems


def shard_problem(out: Path, plan: Plan, shard: int, check_keys: bool) -> str | None:
    """Compare a shard's files with their hashes, and its keys with ``items.jsonl``.

    Return the problem, or None.
    """
    if not existing_path(marker_path(out, shard)).exists():
        return NOT_DONE
    marker = read_marker(out, shard)
    if marker is None:
        return "the marker is damaged"
    paths = _stored_files(out, marker)
    for name, file in marker["files"].items():
        if _size(paths[name]) is None:
            return f"{name} is missing"
        if sha256_of(paths[name]) != file["sha256"]:
            return f"{name} is damaged: its SHA-256 differs from the marker's"
    if not check_keys:
        return None
    keys = [record["key"] for record in read_records(out / "shards" / f"{shard_name(shard)}.jsonl")]
    planned = read_listing(existing_path(out / "items.jsonl"), plan.offsets[shard], plan.count(shard))
    return None if keys == [item.key for item in planned] else "its keys differ from the plan"


def check_undamaged(out: Path, plan: Plan, shard: int) -> None:
    """Raise a JobError if a file of a shard differs from its hash."""
    problem = shard_problem(out, plan, shard, check_keys=False)
    if problem:
        raise JobError(f'shard {shard} is damaged: {problem}; see "steerlens-fast verify {out}"')


def status_of(out: Path, plan: Plan) -> dict:
    """Return the progress of the job in ``out``.

    ``running`` is None if this cannot be determined. Nothing is written.
    """
    done = completed_shards(out, plan)
    return {
        "running": _running(out),
        "items": plan.items,
        "done": done.items,
        "failed": done.failed,
        "shards": plan.shards,
        "shards_done": len(done.shards),
        "bytes": done.bytes,
        "seconds": {activity: round(value, 3) for activity, value in sorted(done.seconds.items())},
    }


def _running(out: Path) -> bool | None:
    """Return whether a job or one of its ranks runs, which holds a lock.

    The result is None if this cannot be determined.
    """
    held = [is_locked(lock) for lock in (out / ".lock", *out.glob(".lock-rank-*"))]
    return any(held) or (None if None in held else False)

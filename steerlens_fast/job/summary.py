"""Writes a job's summary files, and formats the summary as text."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ..data.decoding import is_narrow_range
from ..data.items import compact_json
from ..data.resize import size_change
from ..data.sources.base import printable
from ..data.targets import LABEL
from ..data.value_range import narrow_warning
from ..errors import OK
from ..io.atomic_io import atomic_write, read_json, write_json
from .folder import CompletedShards, JobFolder, rounded_seconds
from .records import read_records
from .success import Tally, success_parts

# A warning is given if there are at least MIN_LABELS labels, and the model predicts less than MIN_AGREEMENT of them.
MIN_LABELS, MIN_AGREEMENT = 20, 0.25
MIN_KEPT = 0.25  # share of an image's area; images of which the crop keeps less are counted
MAX_SHOWN = 300  # characters of an example in a message
MANIFEST_FIELDS = ("key", "index", "shard", "row", "status")


def write_summary(job: JobFolder, last_run: dict) -> dict:
    """Write ``manifest.jsonl``, ``failed.jsonl`` and ``summary.json`` of the complete shards; return the summary.

    Notes
    -----
    The summary contains, among others:

    - ``attained``: the number of morphs that reach every requested distance; None if no distance was requested
      or no morph is ok
    - ``labelled``: the number of morphs with a label; 0 for task "multilabel"
    - ``as_labelled``: how many of these labels the model predicts for the source
    - ``deep_images``: the number of images of more than 8 bits
    - ``enlarged``: the number of images that were enlarged to the model's size
    - ``mostly_cropped``: the number of images of which the crop keeps less than a quarter
    - ``target_is_label``: whether labels are the targets
    - ``success``: see :meth:`~steerlens_fast.job.success.Tally.as_dict`
    - ``seconds``: the time that each activity took, in all workers together
    - ``last_run``: the counts and the elapsed time of the last run
    """
    plan, done, tally = job.plan, job.completed_shards(), Tally()
    reasons, attained = Counter(), Counter()
    deep = narrow = enlarged = cropped = 0
    crop_pct = plan.model["crop_pct"]
    with atomic_write(job.out / "manifest.jsonl") as manifest, atomic_write(job.out / "failed.jsonl") as failed:
        for record in job.records_of(done.shards):
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
            else:
                failed.write(_json_line({n: record[n] for n in (*MANIFEST_FIELDS, "path", "message")}))
    success = tally.as_dict(plan.class_name)
    # Labels of task "multilabel" are not compared, since an image may have several.
    labelled = 0 if job.config.get("task") == "multilabel" else success["labelled"]
    summary = {
        "complete": len(done.shards) == plan.shards,
        "items": plan.items,
        "done": done.items,
        "failed": done.failed,
        "reasons": {reason: n for reason, n in sorted(reasons.items()) if reason != OK},
        "attained": attained[True] if attained[True] + attained[False] else None,
        "labelled": labelled,
        "as_labelled": labelled - success["label_differs"] if labelled else 0,
        "target_is_label": job.config["target"] == LABEL,
        "success": success,
        "without_target": plan.without_target,
        "unused_entries": {reason: entries["count"] for reason, entries in plan.unused_entries.items()},
        "enlarged": enlarged,
        "mostly_cropped": cropped,
        "deep_images": deep,
        "narrow_range": narrow,
        "shards": plan.shards,
        "shards_done": len(done.shards),
        "bytes": done.bytes,
        "seconds": rounded_seconds(done),
        "last_run": last_run,
    }
    write_json(job.out / "summary.json", summary)
    return summary


def _attained(record: dict) -> bool | None:
    """Return whether a morph reaches all requested distances; None if none was requested."""
    attained = record.get("attained")
    return all(attained) if isinstance(attained, list) else attained


def format_summary(summary: dict) -> str:
    """Return a summary as one line of text.

    It has a warning if the model predicts few of the labels.

    Examples
    --------
    >>> summary = {"items": 9, "done": 9, "failed": 2, "reasons": {"empty": 2}, "attained": 6, "without_target": 3}
    >>> format_summary(summary)
    '9 of 9 images done, of which 2 failed (failed.jsonl): 2 empty; 6 of 7 reached the distance; 3 skipped: no target'
    """
    ok, failed = summary["done"] - summary["failed"], summary["failed"]
    all_ok = ok == summary["items"]
    parts = [f"all {ok} images done" if all_ok else f"{summary['done']} of {summary['items']} images done"]
    if failed:
        reasons = ", ".join(f"{n} {reason}" for reason, n in summary["reasons"].items())
        parts[0] += f", of which {failed} failed (failed.jsonl): {reasons}"
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
            f"the model predicts {as_labelled} of {labelled} labels: check that labels have the model's class numbers"
        )
    return "; ".join(parts)


def failure_example(out: Path, summary: dict) -> str:
    """Return the most frequent reason of failed items, with an example from ``failed.jsonl``; "" if none failed."""
    reasons = summary["reasons"]
    if not reasons:
        return ""
    reason = max(reasons, key=reasons.__getitem__)
    records = read_records(out / "failed.jsonl")
    record = next((record for record in records if record["status"] == reason), None)
    if record is None:  # the summary is that of another process
        return ""
    path, message = printable(record["path"]), printable(record["message"])
    message = message if path in message else f"{path}: {message}"
    return f"; most often {reason}, e.g. {message if len(message) <= MAX_SHOWN else message[: MAX_SHOWN - 3] + '...'}"


def labels_look_wrong(labelled: int, as_labelled: int) -> bool:
    """Return whether the model predicts suspiciously few of the labels.

    The labels may then be numbered differently from the model's classes.
    """
    return labelled >= MIN_LABELS and as_labelled < MIN_AGREEMENT * labelled


def read_success(job: JobFolder, done: CompletedShards) -> dict:
    """Return "success" from ``summary.json``.

    If the summary is missing or not up to date, this part is computed from the records.
    """
    try:
        summary = read_json(job.out / "summary.json")
        if (summary["done"], summary["failed"]) == (done.items, done.failed):
            return summary["success"]
    except (OSError, ValueError, TypeError, KeyError):
        pass  # there is no summary yet, or it was written by another version
    tally = Tally()
    for record in job.records_of(done.shards):
        tally.add(record)
    return tally.as_dict(job.plan.class_name)


def read_summary(out: Path) -> dict | None:
    """Read the summary of a complete job.

    The result is None if the job is not complete, if ``summary.json`` is damaged, or if a file of
    :func:`write_summary` is missing.
    """
    try:
        summary = read_json(out / "summary.json")
    except (OSError, ValueError):
        return None
    if not isinstance(summary, dict) or not isinstance(summary.get("failed"), int):
        return None
    complete = summary.get("complete") and all((out / name).exists() for name in ("manifest.jsonl", "failed.jsonl"))
    return summary if complete else None


def _json_line(record: dict) -> bytes:
    return compact_json(record).encode(errors="surrogateescape") + b"\n"

"""What an output folder holds: which shards are done, whether they are whole, and the files that sum them up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..checks import is_int
from ..data.class_names import class_name
from ..data.decoding import is_narrow_range
from ..data.items import compact_json, read_listing
from ..data.targets import LABEL
from ..errors import OK
from ..io.atomic_io import atomic_write, read_json, sha256_of, write_json
from ..io.output_dir import is_locked
from .depth import narrow_warning
from .plan import Plan
from .reader import read_config
from .shard import marker, read_records, stem
from .success import Tally, success_parts

NOT_DONE = "not done"
ENOUGH, DOUBTED = 20, 4  # labels to judge by; where fewer than a fourth are what the model says, they are doubted
BRIEF = ("key", "index", "shard", "row", "status")


@dataclass
class CompletedShards:
    """The shards of a job that are done, as their markers say."""

    shards: set[int] = field(default_factory=set)
    items: int = 0
    failed: int = 0
    failing: list[int] = field(default_factory=list)  # shards with failed items
    seconds: Counter = field(default_factory=Counter)
    bytes: int = 0


def done_shards(out: Path, plan: Plan) -> CompletedShards:
    """Read all markers; one that is damaged, or whose files are not there in their length, does not count."""
    done = CompletedShards()
    for shard in range(plan.shards):
        told = read_marker(out, shard)
        if told is None or not _plausible(out, plan, shard, told):
            continue
        done.shards.add(shard)
        done.items += told["items"]
        done.failed += told["failed"]
        done.seconds.update(told["seconds"])
        done.bytes += sum(file["bytes"] for file in told["files"].values())
        if told["failed"]:
            done.failing.append(shard)
    return done


def read_marker(out: Path, shard: int) -> dict | None:
    """What a shard's marker says; None where there is none that is whole."""
    try:
        told = read_json(marker(out, shard))
        counts = [told["items"], told["failed"], *(file["bytes"] for file in told["files"].values())]
        digests = [file["sha256"] for file in told["files"].values()]
        Counter() + Counter(told["seconds"])  # numbers by name
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return None
    sound = all(map(is_int, counts)) and all(isinstance(digest, str) for digest in digests)
    return told if sound and f"{stem(shard)}.jsonl" in told["files"] else None


def _plausible(out: Path, plan: Plan, shard: int, told: dict) -> bool:
    sizes = {name: file["bytes"] for name, file in told["files"].items()}
    return told["items"] == plan.count(shard) and all(_size(out / "shards" / name) == n for name, n in sizes.items())


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def records(out: Path, shards) -> Iterator[dict]:
    """The records of some shards, in order, with the shard's number."""
    for shard in sorted(shards):
        for record in read_records(out / "shards" / f"{stem(shard)}.jsonl"):
            yield {**record, "shard": shard}


def sum_up(out: Path, plan: Plan, last_run: dict) -> dict:
    """Write ``manifest.jsonl``, ``failed.jsonl`` and ``summary.json`` of what is done; returns the summary.

    ``attained`` counts the morphs that reach every distance asked for, None where none was; ``as_labelled`` those
    of the ``labelled`` whose label is what the model says (both need the same classes); ``success`` is that of
    :class:`~steerlens_fast.job.success.Tally`, ``target_is_label`` says whether each item's label was its target;
    ``seconds`` are those of all workers by what they were spent on, ``last_run`` tells of the clock on the wall.
    """
    config = read_config(out)
    of_labels = config.get("task") == "multilabel"  # an image may have others than its label
    done, reasons, attained, labelled, tally = done_shards(out, plan), Counter(), Counter(), Counter(), Tally()
    narrow = 0
    with atomic_write(out / "manifest.jsonl") as manifest, atomic_write(out / "failed.jsonl") as failed:
        for record in records(out, done.shards):
            reasons[record["status"]] += 1
            narrow += plan.range is None and is_narrow_range(record.get("values"))
            tally.add(record)
            manifest.write(_json_line({name: record[name] for name in BRIEF}))
            if record["status"] == OK:
                attained[_attained(record)] += 1
                labelled[None if of_labels else _as_labelled(record)] += 1
            else:
                failed.write(_json_line({n: record[n] for n in (*BRIEF, "path", "message")}))
    summary = {
        "complete": len(done.shards) == plan.shards,
        "items": plan.items,
        "done": done.items,
        "failed": done.failed,
        "reasons": {reason: n for reason, n in sorted(reasons.items()) if reason != OK},
        "attained": attained[True] if attained[True] + attained[False] else None,
        "labelled": labelled[True] + labelled[False],
        "as_labelled": labelled[True],
        "target_is_label": config["target"] == LABEL,
        "success": tally.as_dict(lambda number: class_name(number, plan.classes)),
        "dropped": plan.dropped,
        "left_out": {reason: told["count"] for reason, told in plan.left_out.items()},
        "narrow_range": narrow,
        "shards": plan.shards,
        "shards_done": len(done.shards),
        "bytes": done.bytes,
        "seconds": {what: round(value, 3) for what, value in sorted(done.seconds.items())},
        "last_run": last_run,
    }
    write_json(out / "summary.json", summary)
    return summary


def _attained(record: dict) -> bool | None:
    """Whether a morph reaches its distance, or all of them; None where none was asked for."""
    told = record.get("attained")
    return all(told) if isinstance(told, list) else told


def _as_labelled(record: dict) -> bool | None:
    """Whether the model says what the label does; None where there is none."""
    label = record.get("label")
    return None if label is None else label == record.get("source")


def said_of(summary: dict) -> str:
    """A summary in one line, for people; it doubts labels that the model hardly ever agrees with.

    How many morphs reached their target is in it where the summary has it ("success").

    Examples
    --------
    >>> said_of({"items": 9, "done": 9, "failed": 2, "reasons": {"empty": 2}, "attained": 6, "dropped": 3})
    '7 of 9 images done, 2 failed (failed.jsonl): 2 empty; 6 of 7 reached the distance; 3 left out: no target'
    """
    ok, failed = summary["done"] - summary["failed"], summary["failed"]
    said = [f"all {ok} images done" if ok == summary["items"] else f"{ok} of {summary['items']} images done"]
    if failed:
        reasons = ", ".join(f"{n} {reason}" for reason, n in summary["reasons"].items())
        said[0] += f", {failed} failed (failed.jsonl): {reasons}"
    if summary.get("attained") not in (None, ok):
        said.append(f"{summary['attained']} of {ok} reached the distance")
    if "success" in summary:
        said += success_parts(summary["success"], by_label=summary.get("target_is_label", False))
    if summary["dropped"]:
        said.append(f"{summary['dropped']} left out: no target")
    if summary.get("narrow_range"):
        said.append(narrow_warning(summary["narrow_range"], summary["done"]))
    if summary.get("left_out"):
        others = ", ".join(f"{n} {reason}" for reason, n in summary["left_out"].items())
        said.append(f"other entries of the data: {others}")
    labelled, as_labelled = summary.get("labelled", 0), summary.get("as_labelled", 0)
    if labels_doubted(labelled, as_labelled):
        said.append(f"the model agrees with {as_labelled} of {labelled} labels: are they of its classes, in its order?")
    return "; ".join(said)


def labels_doubted(labelled: int, as_labelled: int) -> bool:
    """Whether so few labels are what the model predicts that they may be numbers of other classes."""
    return labelled >= ENOUGH and DOUBTED * as_labelled < labelled


def success_of(out: Path, plan: Plan, done: CompletedShards) -> dict:
    """The "success" of ``summary.json``, where that is of the shards that are done; else from their records."""
    try:
        summary = read_json(out / "summary.json")
        if (summary["done"], summary["failed"]) == (done.items, done.failed):
            return summary["success"]
    except (OSError, ValueError, TypeError, KeyError):
        pass  # none yet, or one of an older version
    tally = Tally()
    for record in records(out, done.shards):
        tally.add(record)
    return tally.as_dict(lambda number: class_name(number, plan.classes))


def summed_up(out: Path) -> dict | None:
    """What :func:`sum_up` wrote of a complete job, if all of it is there."""
    try:
        summary = read_json(out / "summary.json")
    except (OSError, ValueError):
        return None
    whole = summary.get("complete") and all((out / name).exists() for name in ("manifest.jsonl", "failed.jsonl"))
    return summary if whole else None


def _json_line(record: dict) -> bytes:
    return compact_json(record).encode(errors="surrogateescape") + b"\n"


def verify(out: Path, plan: Plan) -> dict[int, str]:
    """Compare every file with its hash, and every key with the listing; what is wrong, by shard.

    Shards that are not done are wrong, too: "not done".
    """
    wrong, listing = {}, out / "items.jsonl"
    if not listing.exists() or sha256_of(listing) != plan.listing_sha256:
        wrong[-1] = "items.jsonl is not the one that was planned; --resume writes it again"
    for shard in range(plan.shards):
        problem = _problem(out, plan, shard, listed=-1 not in wrong)
        if problem:
            wrong[shard] = problem
    return wrong


def _problem(out: Path, plan: Plan, shard: int, listed: bool) -> str | None:
    if not marker(out, shard).exists():
        return NOT_DONE
    told = read_marker(out, shard)
    if told is None:
        return "the marker is damaged"
    for name, file in told["files"].items():
        path = out / "shards" / name
        if _size(path) is None:
            return f"{name} is missing"
        if sha256_of(path) != file["sha256"]:
            return f"{name} is damaged: its SHA-256 is not the marker's"
    if not listed:
        return None
    keys = [record["key"] for record in read_records(out / "shards" / f"{stem(shard)}.jsonl")]
    planned = read_listing(out / "items.jsonl", plan.offsets[shard], plan.count(shard))
    return None if keys == [item.key for item in planned] else "its keys are not those of the plan"


def status_of(out: Path, plan: Plan) -> dict:
    """How far the job in ``out`` is, and whether one is at work on it (None: it cannot be known); only reads."""
    done = done_shards(out, plan)
    return {
        "running": _running(out),
        "items": plan.items,
        "done": done.items,
        "failed": done.failed,
        "shards": plan.shards,
        "shards_done": len(done.shards),
        "bytes": done.bytes,
        "seconds": {what: round(value, 3) for what, value in sorted(done.seconds.items())},
    }


def _running(out: Path) -> bool | None:
    """Ranks share the job's own lock, and each has another."""
    held = [is_locked(lock) for lock in (out / ".lock", *out.glob(".lock-rank-*"))]
    return any(held) or (None if None in held else False)

"""A job's folder: its plan, complete shards, records and frames (``JobFolder``), and which files belong to a job."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path

from torch import Tensor

from ..checks import is_int
from ..errors import JobError, usage_error
from ..io.atomic_io import BACKUP_PATTERN, TEMPORARY_PATTERN, existing_path, read_json, sha256_of
from ..io.output_dir import check_is_folder, is_locked, read_saved
from .formats import get_format
from .plan import Plan
from .records import read_records
from .shard import marker_path, shard_name

FILES = ("summary.json", "failed.jsonl", "manifest.jsonl", "plan.json", "items.jsonl", "config.json")
FOLDERS = ("shards", "gallery")
REPLACED, REPLACING = ".replaced", ".replacing"  # folders of an old job, see replaced.py
# Other files in a job's folder, which are not deleted when a job is overwritten
OTHER_FILES = ("logs", ".lock", ".lock-*", ".planning", REPLACED, REPLACING)
RANK_LOCK = ".lock-rank-"  # beginning of the names of the ranks' locks
NOT_DONE = "not done"


@dataclass
class CompletedShards:
    """The complete shards of a job, and the totals of their markers."""

    shards: set[int] = field(default_factory=set)
    items: int = 0
    failed: int = 0
    failed_shards: list[int] = field(default_factory=list)  # shards with failed items
    seconds: Counter = field(default_factory=Counter)
    bytes: int = 0


class JobFolder:
    """Reads a job's folder, also while the job runs. Nothing is written.

    A file that a killed process was replacing is read from its backup.

    Parameters
    ----------
    out : Path
    plan : Plan, optional
        By default ``plan.json`` is read.

    Raises
    ------
    JobError
        If there is no plan, or it is damaged.
    """

    def __init__(self, out: Path, plan: Plan | None = None):
        self.out, self.plan = out, Plan.read(out) if plan is None else plan

    @cached_property
    def config(self) -> dict:
        """The contents of ``config.json``."""
        try:
            return read_saved(self.out / "config.json")
        except FileNotFoundError:
            raise usage_error(f"out must be a job's folder, got {self.out}, which has no config.json") from None

    def records(self, shard: int) -> list[dict]:
        """Read the records of a shard; raise a JobError if the file is damaged."""
        return read_records(self.out / "shards" / f"{shard_name(shard)}.jsonl")

    def records_of(self, shards: Iterable[int]) -> Iterator[dict]:
        """Iterate over the records of some shards, in order, each with the shard's number as "shard"."""
        for shard in sorted(shards):
            for record in self.records(shard):
                yield {**record, "shard": shard}

    def frames(self, shard: int, records: list[dict]) -> Tensor:
        """Read the frames [n, F, C, H, W] of some records of a shard; raise a JobError if the shard is damaged."""
        try:
            return get_format(self.config["format"]).read(self.out / "shards", shard_name(shard), records)
        except (OSError, ValueError) as error:
            hint = "run verify --discard, then morph --resume"
            raise JobError(f"shard {shard} cannot be read: {error}; {hint}") from error

    # --- Complete shards

    def completed_shards(self) -> CompletedShards:
        """Return the shards with a valid marker, and totals of these markers.

        A marker is not valid if it is damaged, or does not fit the number of items or the files' sizes.
        """
        done = CompletedShards()
        for shard in range(self.plan.shards):
            marker = self.marker(shard)
            if marker is None or marker["items"] != self.plan.count(shard) or not self._has_files_of(marker):
                continue
            done.shards.add(shard)
            done.items += marker["items"]
            done.failed += marker["failed"]
            done.seconds.update(marker["seconds"])
            done.bytes += sum(file["bytes"] for file in marker["files"].values())
            if marker["failed"]:
                done.failed_shards.append(shard)
        return done

    def marker(self, shard: int) -> dict | None:
        """Read the marker of a shard; None if it is missing or damaged."""
        try:
            marker = read_json(marker_path(self.out, shard))
            counts = [marker["items"], marker["failed"], *(file["bytes"] for file in marker["files"].values())]
            digests = [file["sha256"] for file in marker["files"].values()]
            seconds = list(marker["seconds"].values())
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
            return None
        valid = (
            all(map(is_int, counts))
            and all(isinstance(digest, str) for digest in digests)
            and all(isinstance(value, (int, float)) for value in seconds)
            and f"{shard_name(shard)}.jsonl" in marker["files"]
        )
        return marker if valid else None

    def _has_files_of(self, marker: dict) -> bool:
        """Return whether there are files of the sizes in a marker."""
        paths = self._paths(marker)
        return all(_size(paths[name]) == file["bytes"] for name, file in marker["files"].items())

    def _paths(self, marker: dict) -> dict[str, Path]:
        """Return the path of each file of a shard."""
        parts = {name: name.partition("/") for name in marker["files"]}
        # In the format "folder", the files of a shard are in one folder, and only this folder has a backup.
        stored = {
            first: existing_path(self.out / "shards" / first) for first in {first for first, *_ in parts.values()}
        }
        return {name: stored[first] / inner for name, (first, _, inner) in parts.items()}

    # --- Verification and status

    def verify(self) -> dict[int, str]:
        """Compare every file with its hash, and every key with ``items.jsonl``; return the problems by shard.

        The problem of an incomplete shard is ``NOT_DONE``. A problem of ``items.jsonl`` has the key -1.
        """
        problems, listing = {}, existing_path(self.out / "items.jsonl")
        if not listing.exists() or sha256_of(listing) != self.plan.listing_sha256:
            problems[-1] = "items.jsonl differs from the plan; --resume writes it again"
        for shard in range(self.plan.shards):
            problem = self._problem(shard) or (self._problem_of_keys(shard) if -1 not in problems else None)
            if problem:
                problems[shard] = problem
        return problems

    def check_undamaged(self, shard: int) -> None:
        """Raise a JobError if a file of a shard differs from its hash."""
        problem = self._problem(shard)
        if problem:
            raise JobError(f'shard {shard} is damaged: {problem}; see "steerlens-fast verify {self.out}"')

    def _problem(self, shard: int) -> str | None:
        """Return how a shard's files differ from those in its marker."""
        if not existing_path(marker_path(self.out, shard)).exists():
            return NOT_DONE
        marker = self.marker(shard)
        if marker is None:
            return "the marker is damaged"
        paths = self._paths(marker)
        for name, file in marker["files"].items():
            if _size(paths[name]) is None:
                return f"{name} is missing"
            if sha256_of(paths[name]) != file["sha256"]:
                return f"{name} is damaged: its SHA-256 differs from the marker's"
        return None

    def _problem_of_keys(self, shard: int) -> str | None:
        keys = [record["key"] for record in self.records(shard)]
        planned = self.plan.read_items(self.out, shard)
        return None if keys == [item.key for item in planned] else "its keys differ from the plan"

    def status(self) -> dict:
        """Return the progress of the job; ``running`` is None if this cannot be determined."""
        done = self.completed_shards()
        return {
            "running": self._running(),
            "items": self.plan.items,
            "done": done.items,
            "failed": done.failed,
            "shards": self.plan.shards,
            "shards_done": len(done.shards),
            "bytes": done.bytes,
            "seconds": rounded_seconds(done),
        }

    def _running(self) -> bool | None:
        """Return whether a job or one of its ranks holds a lock; None if this cannot be determined."""
        held = [is_locked(lock) for lock in (self.out / ".lock", *self.out.glob(f"{RANK_LOCK}*"))]
        return any(held) or (None if None in held else False)


def rounded_seconds(done: CompletedShards) -> dict[str, float]:
    """Return the time that each activity took, in all workers together."""
    return {activity: round(value, 3) for activity, value in sorted(done.seconds.items())}


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


# --- Files of a job ---------------------------------------------------------------------------------------------------


def has_plan(out: Path) -> bool:
    """Return whether the folder has a plan. Only a job with a plan can be resumed."""
    return existing_path(out / "plan.json").exists()


def has_complete_shard(out: Path) -> bool:
    """Return whether any shard of the job in ``out`` has a marker. Otherwise, replacing the job loses nothing."""
    return any((out / "shards").glob("*.done.json"))


def check_output_folder(out: Path, data) -> None:
    """Check that ``out`` may be used for a job.

    It must not be inside the data's folder. A folder without a plan may only have files of a job. If it has any, one of
    them must be .lock.
    """
    check_is_folder(out)
    if isinstance(data, (str, os.PathLike)) and os.path.isdir(data):
        if out.resolve().is_relative_to(Path(data).resolve()):
            raise usage_error(f"out must not be inside data, got {out} and {data}")
    names = [] if not out.exists() else os.listdir(out)
    job_names = (*FILES, *FOLDERS, *OTHER_FILES, TEMPORARY_PATTERN, BACKUP_PATTERN)
    others = [name for name in names if not any(fnmatch(name, pattern) for pattern in job_names)]
    if names and not has_plan(out) and (".lock" not in names or others):
        raise usage_error(
            f"out must be a new folder or a job's folder, got {out} with other files, e.g. {(others or names)[0]}"
        )


def clear(out: Path) -> None:
    """Delete the files of a job, except its logs and locks. Without a plan, delete only markers of shards."""
    if not has_plan(out):
        for marker in (out / "shards").glob("*.done.json"):  # without its plan, a shard is of no use
            marker.unlink()
        return
    Plan.read(out)  # raises if the folder is not a job's
    for name in FOLDERS:  # before the plan, so that no marker is left without a plan
        if (out / name).exists():
            shutil.rmtree(out / name)
    for name in FILES:
        (out / name).unlink(missing_ok=True)


def remove_temporary_files(out: Path) -> None:
    """Delete temporary files of killed processes. Errors are ignored, since files that remain do no harm."""
    for leftover in (*out.glob(TEMPORARY_PATTERN), *(out / "shards").glob(TEMPORARY_PATTERN)):
        with suppress(OSError):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()

"""The folder of an export. Its file ``export.json`` says of which job it is, and with which options."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path

from ..errors import usage_error
from ..io.atomic_io import TEMPORARY_PATTERN, existing_path, read_json, write_json
from ..io.output_dir import check_is_folder, describe_changes, hold_lock
from .folder import JobFolder
from .shard import shard_name

NAME, LOCK = "export.json", ".lock"
RULE = "to must be a new or empty folder, or one with the same export"


def describe_export(job: JobFolder, shards: Iterable[int], options: Mapping) -> dict:
    """Return the contents of ``export.json``.

    Plan and configuration alone do not identify frames: images can change without a new name, and ``--retry-failed``
    computes shards again. So the files of each complete shard are included, by their hashes in its marker.
    """
    digest = sha256(b"".join(existing_path(job.out / name).read_bytes() for name in ("plan.json", "config.json")))
    files = {shard_name(n): json.dumps((job.marker(n) or {}).get("files"), sort_keys=True) for n in shards}
    hashes = {name: sha256(text.encode()).hexdigest() for name, text in files.items()}
    return {"job": digest.hexdigest(), "options": dict(options), "shards": hashes}


@contextmanager
def export_folder(to: Path, description: dict) -> Iterator[None]:
    """Create or continue an export in ``to``: write its ``export.json``, and delete temporary files of killed exports.

    Raises
    ------
    JobError
        See :func:`check_export_folder`. Also if another process exports to this folder.
    """
    to.mkdir(parents=True, exist_ok=True)
    with hold_lock(to / LOCK):
        try:
            before = check_export_folder(to, description)  # again, since another process may have begun an export
            description = {**description, "shards": {**before.get("shards", {}), **description["shards"]}}
            if description != before:
                write_json(to / NAME, description)
            for leftover in to.rglob(TEMPORARY_PATTERN):
                with suppress(OSError):  # a file that remains does no harm
                    leftover.unlink()
            yield
        finally:
            with suppress(OSError):
                (to / LOCK).unlink()


def check_export_folder(to: Path, description: dict) -> dict:
    """Return the contents of ``export.json``, or {} for a new or empty folder.

    Raises
    ------
    JobError
        If ``to`` is not a folder, or has other files than those of this export.
    """
    check_is_folder(to, "to")
    before = _read(to)
    if before is None:
        names = sorted(os.listdir(to)) if to.exists() else []
        others = [name for name in names if name != LOCK and not fnmatch(name, TEMPORARY_PATTERN)]
        if others:
            raise usage_error(f"{RULE}, got {to} with other files, e.g. {others[0]}; use another --to")
        return {}
    difference = _difference(before, description)
    if difference:
        raise usage_error(f"{RULE}, got {to} with {difference}; use another --to, or delete this folder")
    return before


def _read(to: Path) -> dict | None:
    """Read ``export.json``; return None if there is none, or if it is another file of this name."""
    try:
        values = read_json(to / NAME)
        kinds = {name: type(value) for name, value in values.items()}
    except (OSError, ValueError, AttributeError):
        return None
    return values if kinds == {"job": str, "options": dict, "shards": dict} else None


def _difference(before: dict, now: dict) -> str:
    """Return what is different about the export in a folder; "" if it can be continued."""
    if before["job"] != now["job"]:
        return "an export of another job"
    changes = describe_changes(before["options"], now["options"])
    if changes:
        return f"an export with other options ({changes})"
    old, new = before["shards"], now["shards"]
    # Shards that were completed later are added. With a limit, that is an error, since other items could be the first.
    compared = old.keys() | new.keys() if now["options"]["limit"] is not None else old.keys() & new.keys()
    changed = sorted(name for name in compared if old.get(name) != new.get(name))
    return f"an export from before shard {changed[0]} was computed" if changed else ""

"""When a job is overwritten, keeps the old job until the first shard of the new one is complete.

Some mistakes in the options of the new job are found only when its first images are computed. Then the old job is moved
back. Until the first shard is complete, the files of the old job are in the folder ``.replaced``. While they are moved,
they are in ``.replacing``: if this folder exists when a job starts, a kill has interrupted the moves.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import NO_SPACE, USAGE, ModelError, to_job_error, usage_error
from ..io.atomic_io import sync_folder, temporary_path
from .folder import FILES, FOLDERS, REPLACED, REPLACING, has_complete_shard, has_plan

NAMES = ("plan.json", *FOLDERS, *FILES)  # the plan first: see restore
logger = logging.getLogger(__name__)


def set_aside(out: Path) -> None:
    """Move the files of the job in ``out`` to ``.replaced``."""
    for path in (out / name for name in NAMES):
        if path.is_symlink():
            raise usage_error(f"out must not have symbolic links when its job is overwritten, got {path}")
    _delete(out / REPLACED)
    (out / REPLACING).mkdir(exist_ok=True)
    _move(out, out / REPLACING)
    (out / REPLACING).rename(out / REPLACED)
    sync_folder(out)


def restore(out: Path) -> None:
    """Delete the new job, which has no complete shard, and move the old one back.

    If a kill interrupts this function, there is no new plan, so :func:`finish_moving` calls it again.
    """
    for name in NAMES:
        _delete(out / name)
    (out / REPLACED).rename(out / REPLACING)
    _move_back(out)


def finish_moving(out: Path) -> None:
    """Move the old job back if a kill has interrupted the moves, or has ended the new job before it had a plan."""
    if (out / REPLACING).exists():
        _move_back(out)
    elif (out / REPLACED).exists() and not has_plan(out):
        restore(out)


def discard_replaced(out: Path) -> None:
    """Delete the old job if the new job has a complete shard."""
    if (out / REPLACED).exists() and has_complete_shard(out):
        _delete_replaced(out)


@contextmanager
def restored_on_error(out: Path) -> Iterator[None]:
    """If the block, which computes shards, raises an error, decide what becomes of the old job.

    It is restored if an option or the model caused the error, since such a job cannot be resumed. If the disk is full,
    the old job is deleted. After other errors and signals, both are kept, and the new job can be resumed.
    """
    try:
        yield
    except Exception as error:
        if (out / REPLACED).exists() and not has_complete_shard(out):
            _settle(out, error)
        raise


def _settle(out: Path, error: Exception) -> None:
    code = to_job_error(error).code
    if code == USAGE or isinstance(error, ModelError):
        restore(out)
        logger.warning("%s has the old job again, since the new job failed before its first shard was complete", out)
    elif code == NO_SPACE:
        _delete_replaced(out)
        logger.warning("the old job in %s was deleted, because the disk is full; --resume continues the new job", out)
    else:
        logger.warning("--resume continues the new job in %s; until its first shard, %s has the old one", out, REPLACED)


def _delete_replaced(out: Path) -> None:
    # Renamed first, so that a kill leaves no part of a job in .replaced; jobs delete temporary files.
    temporary = temporary_path(out)
    (out / REPLACED).rename(temporary)
    shutil.rmtree(temporary, ignore_errors=True)


def _move_back(out: Path) -> None:
    _move(out / REPLACING, out)
    with suppress(OSError):  # if REPLACING has other files
        (out / REPLACING).rmdir()


def _move(source: Path, target: Path) -> None:
    for name in NAMES:
        if (source / name).exists():
            (source / name).rename(target / name)
    for folder in (source, target):
        sync_folder(folder)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

"""Keeps an overwritten job until the first shard of the new job is complete.

Some mistakes in the options of the new job are found only when its first images are computed. The old job is then moved
back.

The old job's files are in the folder ``.replaced``. While files are moved, this folder is named
``.replacing``. A job that finds ``.replacing`` moves all files back, since a kill has interrupted the move.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..io.atomic_io import sync_folder
from .folder import FILES, FOLDERS, REPLACED, REPLACING, has_complete_shard, has_plan

NAMES = (*FOLDERS, *FILES)
logger = logging.getLogger(__name__)


def set_aside(out: Path) -> None:
    """Move the files of the job in ``out`` to ``.replaced``."""
    _delete(out / REPLACED)  # if discard could not delete it
    folder = out / REPLACING
    folder.mkdir()
    for name in NAMES:
        if (out / name).exists():
            (out / name).rename(folder / name)
    sync_folder(folder)
    folder.rename(out / REPLACED)
    sync_folder(out)


def finish_moving(out: Path) -> None:
    """Move the old job back if a kill has interrupted a move, or if the new job has no plan."""
    folder = out / REPLACING
    if (out / REPLACED).exists() and not has_plan(out):
        (out / REPLACED).rename(folder)
    if not folder.exists():
        return
    for name in NAMES:
        if (folder / name).exists():
            _delete(out / name)
            (folder / name).rename(out / name)
    folder.rmdir()
    sync_folder(out)


def restore(out: Path) -> None:
    """Move the old job back, unless the new job has a complete shard."""
    if (out / REPLACED).exists() and not has_complete_shard(out):
        (out / REPLACED).rename(out / REPLACING)
        finish_moving(out)
        logger.warning("%s has the old job again, since the new job failed before its first shard was complete", out)


def discard(out: Path) -> None:
    """Delete the old job if the new job has a complete shard."""
    if (out / REPLACED).exists() and has_complete_shard(out):
        shutil.rmtree(out / REPLACED, ignore_errors=True)


@contextmanager
def restored_on_error(out: Path) -> Iterator[None]:
    """Move the old job back if the block raises an error.

    A signal is no error: if a scheduler ends the new job, it can be resumed.
    """
    try:
        yield
    except Exception:
        restore(out)
        raise


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

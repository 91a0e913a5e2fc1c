"""Files that are on the disk, whole, before anything says that they are; and the lock of an output folder."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from ..errors import USAGE, JobError
from .console import warn
from .tensor_files import replacing

UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)  # what file systems say that have no fsync
NO_LOCKS = (*UNSUPPORTED, errno.ENOLCK)  # and those that have no flock, or whose lock server cannot be reached

_warned: set[int | None] = set()


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """An open binary file that is ``path``, whole and on the disk, when the block ends well, and gone when not.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_write(Path(folder, "a")) as file:
    ...         _ = file.write(b"whole")
    ...     Path(folder, "a").read_bytes()
    b'whole'
    """
    with replacing(path) as temporary:
        with open(temporary, "xb") as file:
            yield file
            sync(file)
    sync_folder(path.parent)


def sync(file: BinaryIO) -> None:
    """Everything written so far is on the disk when this returns."""
    file.flush()
    _sync(file.fileno(), file.name)


def sync_folder(folder: Path) -> None:
    """The names in the folder, renamed ones too, are on the disk when this returns.

    Some file systems have no such call, or let nobody open a folder. Then a warning says so, and the job goes on: only
    a power cut could tell the difference, and what it takes is made again.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        if error.errno not in (*UNSUPPORTED, errno.EACCES, errno.EPERM, errno.EISDIR):
            raise
        _warn_of_sync(error, folder)
        return
    try:
        _sync(handle, folder)
    finally:
        os.close(handle)


def _sync(handle: int, path) -> None:
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise OSError(error.errno, error.strerror, str(path)) from error
        _warn_of_sync(error, path)


def _warn_of_sync(error: OSError, path) -> None:
    """Once in a process, not for each file."""
    if error.errno not in _warned:
        _warned.add(error.errno)
        what = f"{path} cannot be synchronised with its disk ({error.strerror})"
        warn(f"{what}: what is written there may be lost in a power cut; verify finds that, and resume makes it again")


def write_json(path: Path, value) -> None:
    """A JSON file, indented, whole and on the disk."""
    with atomic_write(path) as file:
        file.write(json.dumps(value, indent=1, ensure_ascii=False).encode(errors="surrogateescape") + b"\n")


def read_json(path: Path):
    """What :func:`write_json` wrote; ValueError where it is damaged."""
    return json.loads(path.read_bytes().decode(errors="surrogateescape"))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def locked(path: Path, *, shared: bool = False, wait: bool = False, needed: bool = False) -> Iterator[None]:
    """Hold the lock file ``path``, alone or with others; refuse where another process holds it, or wait for it.

    The kernel lets go of it when its holder dies, however that dies. On a file system without locks there is a warning
    that a second job would not be noticed, or, where the lock is ``needed``, an error.

    Raises
    ------
    JobError
        Naming who holds it, or the file that cannot be locked.
    OSError
        Naming the file, where it cannot be opened.
    """
    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    with open(path, "a+b", buffering=0) as file:
        try:
            _flock(file, how)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(200).decode(errors="replace").strip()
            raise JobError(f"{path.parent} is in use by another job ({holder})", USAGE) from None
        except OSError as error:
            _without_lock(path, error, needed)
        with suppress(OSError):  # a full disk: what is written is for the message above only
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield


def _flock(file: BinaryIO, how: int) -> None:
    """Try for a moment: :func:`is_locked` holds the lock, too, while it looks."""
    for _ in range(9):
        try:
            return fcntl.flock(file, how)
        except BlockingIOError:
            time.sleep(0.1)
    fcntl.flock(file, how)


def _without_lock(path: Path, error: OSError, needed: bool) -> None:
    """Warn that there is no lock, or raise where there must be one."""
    if error.errno not in NO_LOCKS:
        raise OSError(error.errno, error.strerror, str(path)) from error
    what = f"{path} cannot be locked, the file system has no locks ({error.strerror})"
    if needed:
        text = "processes that share a folder need them (on Lustre mount with flock, on NFS without nolock)"
        raise JobError(f"{what}: {text}; use another folder, or a single process") from error
    warn(f"{what}: a second job on {path.parent} would not be noticed, and must not be started")


def is_locked(path: Path) -> bool | None:
    """Whether another process holds the lock file ``path`` alone; None where that cannot be known.

    Nothing is written: a shared lock is tried for, through a file that is open for reading.
    """
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


TEMPORARY_PATTERN = f".{'[0-9a-f]' * 32}.tmp"  # how replacing() and its kin call what is not whole yet

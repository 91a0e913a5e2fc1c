"""Files that are on the disk, whole, before anything says that they are; and the lock of an output folder."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from ..morphs.files import replacing
from .outcome import USAGE, JobError


@contextmanager
def publishing(path: Path) -> Iterator[BinaryIO]:
    """An open binary file that is ``path``, whole and on the disk, when the block ends well, and gone when not.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with publishing(Path(folder, "a")) as file:
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
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """The names in the folder, renamed ones too, are on the disk when this returns."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value) -> None:
    """A JSON file, indented, whole and on the disk."""
    with publishing(path) as file:
        file.write(json.dumps(value, indent=1, ensure_ascii=False).encode(errors="surrogateescape") + b"\n")


def read_json(path: Path):
    """What :func:`write_json` wrote; ValueError where it is damaged."""
    return json.loads(path.read_bytes().decode(errors="surrogateescape"))


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def locked(path: Path, *, shared: bool = False, wait: bool = False) -> Iterator[None]:
    """Hold the lock file ``path``, alone or with others; refuse where another process holds it, or wait for it.

    The kernel lets go of it when its holder dies, however that dies.

    Raises
    ------
    JobError
        Naming who holds it.
    """
    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    with open(path, "a+b") as file:
        try:
            _flock(file, how)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(200).decode(errors="replace").strip()
            raise JobError(f"{path.parent} is in use by another job ({holder})", USAGE) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        file.flush()
        yield


def _flock(file: BinaryIO, how: int) -> None:
    """Try for a moment: :func:`in_use` holds the lock, too, while it looks."""
    for _ in range(9):
        try:
            return fcntl.flock(file, how)
        except BlockingIOError:
            time.sleep(0.1)
    fcntl.flock(file, how)


def in_use(path: Path) -> bool:
    """Whether somebody holds the lock file ``path``."""
    try:
        with open(path, "r+b") as file:  # for writing, too: NFS asks for that
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False

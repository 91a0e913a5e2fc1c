"""Atomic writes: a file appears under its name whole or not at all; JSON and SHA-256 of files."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from .console import warn

NO_FSYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)  # raised by file systems without fsync
NO_REPLACE = (errno.EEXIST, errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)  # EPERM: sshfs
STORAGE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE)
TEMPORARY_PATTERN = f".{'[0-9a-f]' * 32}.tmp"  # names of temporary files, for glob

_warned: set[int | None] = set()


@contextmanager
def atomic_write(path: str | os.PathLike, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a binary file that appears at ``path`` when the block ends, and is removed if the block raises.

    Parameters
    ----------
    path : str or os.PathLike
    durable : bool
        Whether to synchronise the file and its folder with the disk, so that a power cut cannot undo the write.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_write(Path(folder, "a")) as file:
    ...         _ = file.write(b"whole")
    ...     Path(folder, "a").read_bytes()
    b'whole'
    """
    with atomic_path(path) as temporary, open(temporary, "xb") as file:
        yield file
        if durable:
            sync_file(file)
    if durable:
        sync_folder(Path(path).parent)


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path that is renamed to ``path`` when the block ends, and removed if the block raises.

    For code that writes to a path; :func:`atomic_write` is for code that writes to an open file.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_path(Path(folder, "a")) as temporary:
    ...         _ = temporary.write_text("whole")
    ...     [file.name for file in Path(folder).iterdir()]
    ['a']
    """
    path = Path(path)
    if not path.parent.is_dir():  # the error of open() would name the temporary file
        raise FileNotFoundError(errno.ENOENT, "the folder to write into must exist", str(path.parent))
    temporary = path.with_name(f".{uuid4().hex}.tmp")  # not path + ".tmp", which may exceed the longest name allowed
    try:
        yield temporary
        _replace(temporary, path)
    except OSError as error:
        raise with_file_name(error, path, temporary) from error
    finally:
        with suppress(OSError):  # would hide the error that is being raised
            temporary.unlink(missing_ok=True)


def _replace(temporary: Path, path: Path) -> None:
    """Call ``os.replace``; on file systems that cannot rename over a file, rename the old file away first."""
    try:
        os.replace(temporary, path)
    except OSError as error:
        if error.errno not in NO_REPLACE or not path.is_file():
            raise
        old = path.with_name(f".{uuid4().hex}.tmp")
        try:
            os.rename(path, old)
        except OSError:
            raise error from None
        try:
            os.rename(temporary, path)
        except OSError:
            os.rename(old, path)
            raise
        with suppress(OSError):
            old.unlink()


def with_file_name(error: OSError, path: Path, temporary: Path | None = None) -> OSError:
    """Return an error that names ``path`` where ``error`` names its temporary file, or no file at all.

    Errors without a file name are only changed where a storage device raised them: others may concern another file.

    Examples
    --------
    >>> with_file_name(OSError(errno.ENOSPC, "full"), Path("a")).filename
    'a'
    >>> with_file_name(OSError(errno.EINVAL, "no such name", ".0.tmp/x:y"), Path("a"), Path(".0.tmp")).filename
    'a/x:y'
    """
    name = None if error.filename is None else os.fspath(error.filename)
    if name is None and error.errno in STORAGE_ERRORS:
        return OSError(error.errno, error.strerror, str(path))
    if temporary is not None and isinstance(name, str) and Path(name).is_relative_to(temporary):
        return OSError(error.errno, error.strerror, str(path / Path(name).relative_to(temporary)))
    return error


# --- Synchronisation with the disk ---


def sync_file(file: BinaryIO) -> None:
    """Flush a file, and wait until its bytes are on the disk."""
    file.flush()
    _fsync(file.fileno(), file.name)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder, renamed ones included, are on the disk.

    Where the file system has no fsync, or the folder cannot be opened, this only warns: a power cut may then lose
    files, which ``verify`` detects and a resumed job writes again.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        if error.errno not in (*NO_FSYNC, errno.EACCES, errno.EPERM, errno.EISDIR):
            raise
        _warn_once(error, folder)
        return
    try:
        _fsync(descriptor, folder)
    finally:
        os.close(descriptor)


def _fsync(descriptor: int, path) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_FSYNC:
            raise OSError(error.errno, error.strerror, str(path)) from error
        _warn_once(error, path)


def _warn_once(error: OSError, path) -> None:
    """Warn once per process and error number, not for each file."""
    if error.errno not in _warned:
        _warned.add(error.errno)
        what = f"{path} cannot be synchronised with its disk ({error.strerror})"
        warn(f"{what}: a power cut may lose what is written there; verify finds that, and resuming writes it again")


# --- JSON and SHA-256 ---


def write_json(path: Path, value) -> None:
    """Write an indented JSON file, atomically."""
    with atomic_write(path) as file:
        file.write(json.dumps(value, indent=1, ensure_ascii=False).encode(errors="surrogateescape") + b"\n")


def read_json(path: Path):
    """Return the value that :func:`write_json` wrote; ValueError where the file is damaged."""
    return json.loads(path.read_bytes().decode(errors="surrogateescape"))


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

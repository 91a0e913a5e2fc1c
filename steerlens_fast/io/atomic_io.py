"""Writes files atomically, so that no file is ever incomplete. Reads JSON; computes SHA-256."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from .console import warn

NO_FSYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)  # raised by file systems without fsync
# Raised by file systems that cannot rename a file to a name that exists, such as sshfs
NO_REPLACE = (errno.EEXIST, errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)
# Raised by file systems without hard links
NO_LINK = (errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK)
STORAGE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE)
TEMPORARY_PATTERN = f".{'[0-9a-f]' * 32}.tmp"  # names of temporary files, for glob
BACKUP_SUFFIX = ".steerlens-previous"  # no other program names its files like this
BACKUP_PATTERN = f".*{BACKUP_SUFFIX}"  # names of backups, for glob

_warned: set[int | None] = set()


@contextmanager
def atomic_write(path: str | os.PathLike, *, durable: bool = True, exclusive: bool = False) -> Iterator[BinaryIO]:
    """Open a binary file that appears at ``path`` only when complete.

    If the block raises an error, the file does not appear.

    Parameters
    ----------
    path : str or os.PathLike
    durable : bool
        Whether to flush the file and its folder to disk, so that a power cut cannot undo the write.
    exclusive : bool
        Whether to raise FileExistsError if the file exists, rather than to replace it. Of several processes that write
        a file, only one succeeds, also on network file systems (if they have hard links).

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_write(Path(folder, "a")) as file:
    ...         _ = file.write(b"complete")
    ...     Path(folder, "a").read_bytes()
    b'complete'
    """
    with atomic_path(path, exclusive=exclusive) as temporary, open(temporary, "xb") as file:
        yield file
        if durable:
            sync_file(file)
    if durable:
        sync_folder(Path(path).parent)


@contextmanager
def atomic_path(path: str | os.PathLike, *, exclusive: bool = False) -> Iterator[Path]:
    """Yield a temporary path that is renamed to ``path`` at the end.

    If the block raises an error, the temporary file is deleted. For ``exclusive``, see :func:`atomic_write`.

    This is for code that writes to a path. Unlike :func:`atomic_write`, it does not flush the file to disk.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_path(Path(folder, "a")) as temporary:
    ...         _ = temporary.write_text("complete")
    ...     [file.name for file in Path(folder).iterdir()]
    ['a']
    """
    path = Path(path)
    if not path.parent.is_dir():  # the error of open() would name the temporary file
        raise FileNotFoundError(errno.ENOENT, "the folder to write into must exist", str(path.parent))
    restore_backup(path, is_folder=False)
    temporary = temporary_path(path.parent)
    try:
        yield temporary
        _link(temporary, path) if exclusive else _replace(temporary, path)
    except OSError as error:
        raise with_file_name(error, path, temporary) from error
    finally:
        with suppress(OSError):  # an error here would hide the error that is being raised
            temporary.unlink(missing_ok=True)


def _link(temporary: Path, path: Path) -> None:
    """Call ``os.link``. If the file system has no hard links, rename the file instead."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in NO_LINK:
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        _replace(temporary, path)


def _replace(temporary: Path, path: Path) -> None:
    """Call ``os.replace``. If the file system cannot rename over a file, rename the old file first."""
    try:
        os.replace(temporary, path)
    except OSError as error:
        if error.errno not in NO_REPLACE or not path.is_file():
            raise
        replace_keeping_backup(temporary, path)
        with suppress(OSError):
            backup_path(path).unlink()


def replace_keeping_backup(temporary: Path, path: Path) -> None:
    """Rename ``path`` to its backup, and ``temporary`` to ``path``. The caller deletes the backup.

    If the process is killed in between, :func:`restore_backups` renames the backup back to ``path``.
    """
    backup = backup_path(path)
    os.rename(path, backup)
    try:
        sync_folder(path.parent)
        os.rename(temporary, path)
        sync_folder(path.parent)
    except BaseException:
        if not os.path.lexists(path):
            os.rename(backup, path)
        raise


def backup_path(path: Path) -> Path:
    """Return the path of a backup.

    A file or folder has this name while it is being replaced.

    Examples
    --------
    >>> backup_path(Path("out/plan.json")).name
    '.plan.json.steerlens-previous'
    """
    return path.with_name(f".{path.name}{BACKUP_SUFFIX}")


def restore_backup(path: Path, *, is_folder: bool) -> None:
    """Rename the backup of ``path``, which a killed process left, back to ``path``.

    If ``path`` exists, the backup is deleted instead.

    If ``is_folder``, only a folder is renamed or deleted, otherwise only a file.
    """
    backup = backup_path(path)
    # For a name that is too long, os.path.isdir returns False, whereas Path.is_dir raises an error.
    if not (os.path.isdir(backup) if is_folder else os.path.isfile(backup)):
        return
    if not os.path.lexists(path):
        os.rename(backup, path)
    elif is_folder and not backup.is_symlink():
        shutil.rmtree(backup)
    else:
        backup.unlink()


def restore_backups(*folders: Path) -> None:
    """Call :func:`restore_backup` for each backup in the folders. No other process may write to the folders."""
    for folder in folders:
        for backup in folder.glob(BACKUP_PATTERN):
            path = backup.with_name(backup.name[1:].removesuffix(BACKUP_SUFFIX))
            restore_backup(path, is_folder=backup.is_dir())


def refresh_names(folder: Path) -> None:
    """Make this machine see the files that other machines have written to a folder on a network file system.

    A client of NFS may assume for a minute that a file still does not exist. When it creates a file, it learns that
    the folder has changed, and looks up all names again.
    """
    temporary = temporary_path(folder)
    with suppress(OSError):
        temporary.touch()
        temporary.unlink()


def existing_path(path: Path) -> Path:
    """Return ``path``, or its backup if only the backup exists.

    This is for commands that only read, and must not rename the backup.
    """
    backup = backup_path(path)
    return backup if not os.path.exists(path) and os.path.exists(backup) else path


def with_file_name(error: OSError, path: Path, temporary: Path | None = None) -> OSError:
    """Return the error with ``path`` in place of the name of the temporary file.

    An error of the storage, such as a full disk, gets ``path`` also if it names no file. Other errors that name no file
    are returned unchanged: they may concern another file.

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


# --- Flushing to disk ---


def sync_file(file: BinaryIO) -> None:
    """Flush a file, and wait until its bytes are on the disk."""
    file.flush()
    _fsync(file.fileno(), file.name)


def temporary_path(folder: Path) -> Path:
    """Return a new path in a folder that matches ``TEMPORARY_PATTERN``.

    The name does not contain that of the final file, since file systems limit the length of names.
    """
    return folder / f".{uuid4().hex}.tmp"


def sync_folder(folder: Path) -> None:
    """Wait until the names of a folder's files are on the disk.

    If the file system has no fsync, or does not let this user open the folder, a warning is given: a power cut may
    then lose files. ``verify`` detects lost files, and a resumed job writes them again.
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
        what = f"{path} cannot be flushed to disk ({error.strerror})"
        warn(f"{what}: a power cut may lose files; 'verify' detects that, and '--resume' writes them again")


# --- JSON and SHA-256 ---


def write_json(path: Path, value, *, exclusive: bool = False) -> None:
    """Write an indented JSON file with :func:`atomic_write`."""
    with atomic_write(path, exclusive=exclusive) as file:
        file.write(json.dumps(value, indent=1, ensure_ascii=False).encode(errors="surrogateescape") + b"\n")


def read_json(path: Path):
    """Return the value that :func:`write_json` wrote, from the file or its backup.

    Raises
    ------
    ValueError
        If the file is damaged.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        data = existing_path(path).read_bytes()
    return json.loads(data.decode(errors="surrogateescape"))


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

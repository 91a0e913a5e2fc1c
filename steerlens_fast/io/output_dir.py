"""Output folders: creation, locks, and checks of resumed runs."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import JobError, usage_error
from .atomic_io import read_json, refresh_names
from .console import warn

# Raised by file systems without flock, or whose lock server cannot be reached
NO_LOCKS = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
LOCK_ATTEMPTS = 10  # attempts to lock an open file, a tenth of a second apart
REOPENINGS = 10  # attempts to open a lock file that other processes delete
NOT_COMPARED = ("trust_checkpoint",)  # may differ between a run and its resumption
MAX_SHOWN = 200  # characters of a value in a message

_lock_files: set[BinaryIO] = set()  # open lock files


# --- Creation ---


def expand_home(path: str | os.PathLike) -> Path:
    """Return a path with a leading ``~`` replaced by the home directory.

    Raises
    ------
    JobError
        If the path begins with the home directory of an unknown user.

    Examples
    --------
    >>> expand_home("~no-such-user/morphs")
    Traceback (most recent call last):
    steerlens_fast.errors.JobError: the path must be in the home directory of a known user, got ~no-such-user/morphs; for a folder of that name write ./~no-such-user
    """  # noqa: E501
    expanded = Path(os.path.expanduser(path))
    if str(expanded).startswith("~") and not os.path.lexists(expanded.parts[0]):
        hint = f"for a folder of that name write ./{expanded.parts[0]}"
        raise usage_error(f"the path must be in the home directory of a known user, got {expanded}; {hint}")
    return expanded


def check_is_folder(path: Path, name: str = "out") -> None:
    """Raise a JobError if ``path`` or one of its parents is a file.

    ``name`` is the name of ``path`` in the message.

    Examples
    --------
    >>> check_is_folder(Path("/dev/null/morphs"))
    Traceback (most recent call last):
    steerlens_fast.errors.JobError: out must be a folder, got /dev/null/morphs, but /dev/null is a file
    """
    for folder in (path, *path.parents):
        if os.path.isdir(folder):
            return
        if os.path.lexists(folder):
            kind = "a broken link" if os.path.islink(folder) else "a file"
            text = f"which is {kind}" if folder == path else f"but {folder} is {kind}"
            raise usage_error(f"{name} must be a folder, got {path}, {text}")


@contextmanager
def output_dir(out: Path, files: Iterable[str], is_kept: Callable[[BaseException], bool]) -> Iterator[None]:
    """Create a folder. If the block raises an error, delete what the run has created, unless ``is_kept``.

    Nothing is deleted if another process uses the folder.

    Parameters
    ----------
    out : pathlib.Path
    files : iterable of str
        Patterns of the files and folders that are deleted; folders only if they are empty.
    is_kept : callable
        Called with the error; returns whether the files must be kept, for example because the run has begun.
    """
    new_folders = [folder for folder in (out, *out.parents) if not folder.exists()]
    out.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException as error:
        with suppress(OSError):
            if not is_kept(error):
                _delete_unused(out, files)
        with suppress(OSError):  # folders that are not empty are kept
            for folder in new_folders:
                folder.rmdir()
        raise


def _delete_unused(out: Path, patterns: Iterable[str]) -> None:
    """Delete files; raise an OSError if another process uses the folder, or if a folder is not empty."""
    with open(out / ".lock", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for path in (path for pattern in patterns for path in sorted(out.glob(pattern))):
            path.rmdir() if path.is_dir() else path.unlink()


# --- Locks ---


@contextmanager
def hold_lock(path: Path, *, shared: bool = False, wait: bool = False, required: bool = False) -> Iterator[None]:
    """Hold a lock on the file ``path`` during the block.

    The operating system releases the lock when the process ends, also if it is killed. The block sees all files that
    earlier holders have written to the folder of ``path``.

    Parameters
    ----------
    path : pathlib.Path
    shared : bool
        Whether other processes may hold a shared lock at the same time.
    wait : bool
        Whether to wait for a lock that another process holds, rather than raise an error.
    required : bool
        Whether a file system without locks raises an error, rather than a warning.

    Raises
    ------
    JobError
        If another process holds the lock (the message names the process), or if a required lock is not possible.
    OSError
        If the lock file cannot be opened.
    """
    operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    for attempts_left in range(REOPENINGS, 0, -1):
        with open(path, "a+b", buffering=0) as file, _closed_in_children(file):
            try:
                _flock(file, operation)
            except BlockingIOError:
                file.seek(0)
                holder = file.read(200).decode(errors="replace").strip()
                raise usage_error(f"{path.parent} is in use by another run ({holder})") from None
            except OSError as error:
                _warn_unlocked(path, error, required)
            if attempts_left > 1 and not _still_refers_to(path, file):
                continue  # another process deleted the file before it was locked (output_dir)
            with suppress(OSError):  # e.g. a full disk: the text is only for the message above
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
            refresh_names(path.parent)
            yield
            return


def _still_refers_to(path: Path, file: BinaryIO) -> bool:
    """Return whether ``path`` still refers to ``file``; unreliable if the file system changes inode numbers."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


@contextmanager
def _closed_in_children(file: BinaryIO) -> Iterator[None]:
    """Close a file in the processes that this process forks during the block.

    Otherwise, a process that the user's model has started, for example, would hold the lock after this process ends.
    """
    _lock_files.add(file)
    try:
        yield
    finally:
        _lock_files.discard(file)


def _close_lock_files() -> None:
    for file in _lock_files:
        file.close()


os.register_at_fork(after_in_child=_close_lock_files)


def is_locked(path: Path) -> bool | None:
    """Return whether another process holds an exclusive lock on ``path``.

    The result is None if that cannot be determined.

    The lock file is only opened for reading, and a shared lock is tried.
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


def _flock(file: BinaryIO, operation: int) -> None:
    """Lock a file.

    This tries for a second, since another process may hold the lock for a moment in :func:`is_locked`.
    """
    for _ in range(LOCK_ATTEMPTS - 1):
        try:
            return fcntl.flock(file, operation)
        except BlockingIOError:
            time.sleep(0.1)
    fcntl.flock(file, operation)


def _warn_unlocked(path: Path, error: OSError, required: bool) -> None:
    """Warn that a file system has no locks. If the lock is required, raise an error."""
    if error.errno not in NO_LOCKS:
        raise OSError(error.errno, error.strerror, str(path)) from error
    problem = f"{path} cannot be locked: the file system does not support locking ({error.strerror})"
    if required:
        why = "processes that share a folder need locks (mount Lustre with flock, NFS without nolock)"
        raise JobError(f"{problem}: {why}; use another folder, or a single process") from error
    warn(f"{problem}: a second run in {path.parent} would not be detected, and must not be started")


# --- Resuming ---


def read_saved(path: Path) -> dict:
    """Read the plan or the configuration of an earlier run.

    Raises
    ------
    JobError
        If the file is damaged.
    FileNotFoundError
        If there is no file.
    """
    try:
        values = read_json(path)
    except ValueError as error:
        raise damaged(path, error) from error
    if not isinstance(values, dict):
        raise damaged(path, f"expected an object, got {type(values).__name__}")
    return values


def damaged(path: Path, problem) -> JobError:
    """Return the error for a file without which a run cannot be continued."""
    return JobError(f"{path} is damaged ({problem}): this run cannot be continued; use another --out")


def check_unchanged(before: Mapping, now: Mapping, what: str, **labels: str) -> None:
    """Raise a JobError that names every changed entry.

    Parameters
    ----------
    before, now : mapping
        Configurations or plans of the first run and of the run that resumes it; JSON-serialisable.
    what : str
        What is compared, for the message.
    **labels : str
        Names of entries in the message, where they differ from the keys.

    Examples
    --------
    >>> check_unchanged({"frames": 8}, {"frames": 12}, "the configuration")
    Traceback (most recent call last):
    steerlens_fast.errors.JobError: frames was 8 and is 12 now: the configuration cannot change on resuming; use --overwrite (in Python overwrite=True) or another --out
    """  # noqa: E501
    changes = describe_changes(before, now, **labels)
    if changes:
        hint = "use --overwrite (in Python overwrite=True) or another --out"
        raise usage_error(f"{changes}: {what} cannot change on resuming; {hint}")


def describe_changes(before: Mapping, now: Mapping, **labels: str) -> str:
    """Return text that names every changed entry, "" if there is none; for the parameters see :func:`check_unchanged`.

    Examples
    --------
    >>> describe_changes({"limit": 3}, {"limit": None})
    'limit was 3 and is null now'
    """
    before, now = (json.loads(json.dumps(mapping)) for mapping in (before, now))  # JSON turns tuples into lists
    names = sorted((before.keys() | now.keys()).difference(NOT_COMPARED))
    return ", ".join(
        f"{labels.get(name, name)} was {_shortened(before.get(name))} and is {_shortened(now.get(name))} now"
        for name in names
        if before.get(name) != now.get(name)
    )


def check_same_model(before: Mapping, now: Mapping) -> None:
    """Raise a JobError if two model descriptions differ.

    If weights have changed, the message contains the name of their file or, without a file, of the model.
    """
    source = before["spec"] if before["weights"] in (None, "random") else before["weights"]
    check_unchanged(before, now, "the model", sha256=f"the SHA-256 of {source}")


def _shortened(value) -> str:
    text = json.dumps(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."

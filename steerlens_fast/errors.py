"""Exceptions of jobs and of single items, and exit codes."""

from __future__ import annotations

import errno
import re
import tempfile

from .extras import MissingExtra
from .morph_status import MorphStatus

DONE, FATAL, USAGE, SOME_FAILED, TOO_MANY_FAILED, NO_SPACE = range(6)  # exit codes
INTERRUPTED, TERMINATED = 130, 143  # 128 + SIGINT, 128 + SIGTERM

# Explanations of file system errors that have unclear messages
EXPLANATIONS = {
    errno.EROFS: "the file system is mounted without write access",
    errno.EACCES: "this user may not read or write there",
    errno.EPERM: "this user may not do that, or the file system does not support it",
    errno.EIO: "the disk, or the connection to it, has failed",
    errno.ESTALE: "the network file system was unmounted or remounted",
    errno.EFBIG: "the file system or a limit (ulimit -f) does not allow files of this size: use a smaller shard size",
    errno.EMFILE: "this process may open no more files: raise ulimit -n, or use fewer decoders",
    errno.ENFILE: "this machine has too many open files",
    errno.ENOMEM: "this machine has no free memory",
    errno.ETIMEDOUT: "the connection to the file system timed out",
}

# Errors that concern a single file. All others, such as EIO and EMFILE, would also occur for other files.
FILE_ERRORS = (
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ),
    *(errno.EACCES, errno.EPERM, errno.ENXIO, errno.ENODEV, errno.EFBIG, errno.EOVERFLOW),
)

NO_THREAD = "can't start new thread"  # message of Python's RuntimeError

# The status of an item in the records of a job: OK, or the reason of its failure.
OK = MorphStatus.OK.key
NO_LABEL, NO_TARGET = "no-label", "no-target"
REASONS = {
    "unreadable": "the file or entry cannot be read",
    "empty": "the file or entry has no bytes",
    "not-an-image": "not a supported image format",
    "truncated": "the image file is incomplete",
    "corrupt": "the image file is damaged",
    "too-large": "more pixels or bytes than allowed",
    "unsupported": "an image mode without a defined conversion to 8 bits",
    "bad-array": "an array whose shape, type or range is not that of an image",
    NO_LABEL: "the data have no label for the image",
    NO_TARGET: "there is no target for the image or its label",
    "bad-label": "the label is neither a class number nor the name of a class of the data",
    "model-error": "the model raises an error for this image",
    # Items with the following reasons have frames, which stop changing at the failure.
    **{status.key: status.reason for status in MorphStatus if status},
}


VOLATILE_PATTERNS = (  # text that differs between runs
    (re.compile(r"<_io\.\w+ name=('[^']*'|\"[^\"]*\")[^<>]*>"), r"\1"),  # keeps the name in the repr of a file
    (re.compile(r" ?<_io\.\w+( object)?( at 0x[0-9a-fA-F]+)?>"), ""),  # removes the repr of a file in memory
    (re.compile(r"(,? at)? 0x[0-9a-fA-F]{6,16}\b"), ""),
    (re.compile(r"\b(pid|PID|process|Process|thread|Thread)([ =:-]+)[0-9]+\b"), r"\1\2..."),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d([.,]\d+)?"), "<time>"),
)


class BadItem(Exception):
    """An item that cannot be used; the job continues without it.

    Parameters
    ----------
    reason : str
        A key of ``REASONS``.
    message : str
        The cause. Text that differs between runs is removed, because the records that contain it are hashed.

    Examples
    --------
    >>> error = BadItem("empty", "0 bytes")
    >>> error.reason, str(error)
    ('empty', '0 bytes')
    """

    def __init__(self, reason: str, message: str):
        if reason not in REASONS:
            raise ValueError(f"reason must be one of {tuple(REASONS)}, got {reason!r}")
        super().__init__(remove_volatile_text(message))
        self.reason = reason

    def __reduce__(self):  # so that pickling keeps both arguments
        return BadItem, (self.reason, str(self))


def remove_volatile_text(text: str) -> str:
    """Remove text that differs between runs, such as addresses and times.

    Examples
    --------
    >>> remove_volatile_text("cannot identify image file <_io.BytesIO object at 0x7f05d1a2>")
    'cannot identify image file'
    >>> remove_volatile_text("closed: <_io.BufferedReader name='a.png'>, <Net object at 0x7f05d1a2>")
    "closed: 'a.png', <Net object>"
    >>> remove_volatile_text("process 4711 failed at 2026-11-28 19:30:53.123")
    'process ... failed at <time>'
    """
    for pattern, replacement in VOLATILE_PATTERNS:
        text = pattern.sub(replacement, text)
    try:
        folder = tempfile.gettempdir()
    except OSError:  # gettempdir found no folder
        return text
    return re.sub(re.escape(folder) + r"/tmp[a-z0-9_]{8}\b", "<temporary file>", text)


def describe_error(error: BaseException) -> str:
    """Return the type and message of an exception, for a record."""
    text = remove_volatile_text(str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class JobError(Exception):
    """An error that ends a job; ``code`` is the exit status of the command.

    Examples
    --------
    >>> JobError("option --size is required", USAGE).code
    2
    """

    def __init__(self, message: str, code: int = FATAL):
        super().__init__(message)
        self.code = code


def usage_error(message: str) -> JobError:
    """Return a JobError with the exit status for invalid arguments or data."""
    return JobError(message, USAGE)


class ModelError(JobError):
    """An error raised by a model. Its traceback is logged."""


def is_expected(error: BaseException) -> bool:
    """Return whether an error's message explains it without a traceback."""
    return isinstance(error, JobError) and not isinstance(error, ModelError)


def to_job_error(error: BaseException) -> JobError:
    """Convert any exception to a JobError with an exit code.

    Examples
    --------
    >>> to_job_error(OSError(errno.ENOSPC, "No space left on device")).code
    5
    """
    if isinstance(error, JobError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return JobError(f"no space left: {error}", NO_SPACE)
    text = str(error) or repr(error)
    if isinstance(error, SystemExit):
        text += ", raised by the model or the data with sys.exit()"
    if NO_THREAD in text:
        text += ": raise the limit on processes (ulimit -u), or use fewer workers, decoders and threads"
    if isinstance(error, OSError) and error.errno in EXPLANATIONS:
        text += f" ({EXPLANATIONS[error.errno]})"
    return JobError(text if isinstance(error, (OSError, MissingExtra)) else f"{type(error).__name__}: {text}")


def is_system_fault(error: BaseException) -> bool:
    """Return whether an error is caused by the storage, or by a limit such as that of threads or open files.

    Examples
    --------
    >>> is_system_fault(OSError(errno.EMFILE, "Too many open files")), is_system_fault(OSError("broken data stream"))
    (True, False)
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno not in FILE_ERRORS
    return NO_THREAD in str(error)


TORCHSCRIPT = "TorchScript interpreter"  # occurs in every error message of scripted and traced models


def cause_line(error: BaseException) -> str:
    """Return the line of an error message that states the cause.

    It is the first line. For TorchScript it is the last one, since the model's source code comes first.

    Examples
    --------
    >>> cause_line(RuntimeError("sizes differ\\nat line 3"))
    'sizes differ'
    """
    text = str(error).strip()
    return text.rpartition("\n")[2] if TORCHSCRIPT in text else text.partition("\n")[0]

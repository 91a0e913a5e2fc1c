"""How a job, and how one item of it, may end."""

from __future__ import annotations

import errno
import re
import tempfile

from .extras import MissingExtra

DONE, FATAL, USAGE, QUARANTINED, TOO_MANY_FAILURES, NO_SPACE = range(6)  # exit codes
INTERRUPTED, TERMINATED = 130, 143  # 128 + SIGINT, 128 + SIGTERM

# What an error of a file system means for a job, where its own words leave that open
MEANINGS = {
    errno.EROFS: "the file system is mounted without write access",
    errno.EACCES: "this user may not write or read there",
    errno.EPERM: "this user may not do that, or the file system cannot",
    errno.EIO: "the disk, or the connection to it, fails",
    errno.ESTALE: "the network file system was taken away, or mounted anew",
    errno.EFBIG: "the file system or a limit (ulimit -f) takes no file of this size: use a smaller shard size",
    errno.EMFILE: "this process may open no more files: raise ulimit -n, or use fewer decoders",
    errno.ENFILE: "this machine has too many open files",
}

NO_THREAD = "can't start new thread"  # of a RuntimeError of Python's

OK = "ok"
REASONS = {
    "unreadable": "the file or entry cannot be read",
    "empty": "there are no bytes",
    "not-an-image": "no image format that is known here",
    "truncated": "the image ends before it is whole",
    "corrupt": "the image's data are damaged",
    "too-large": "more pixels than allowed",
    "unsupported": "a kind of image with no agreed conversion to 8 bits",
    "bad-array": "an array of another shape, type or range than an image has",
    "no-label": "the data do not say which class it is",
    "model-error": "the model raises an error at this image",
    "gradient-not-finite": "the gradient at the source is not finite",
    "gradient-zero": "the gradient at the source is zero",
    "gradient-became-not-finite": "the gradient became infinite or NaN after the source",
    "overflow": "frames left the floating-point range: smaller factors are needed",
    "image-not-in-bounds": "the image is not finite, or not in bounds",
    "gradient-became-zero": "the gradient became zero after the source",
}
# Morphs.status -> reason; the items that have frames all the same: copies of the source, from where they failed on
MORPH_REASONS = (
    OK,
    "gradient-not-finite",
    "gradient-zero",
    "gradient-became-not-finite",
    "overflow",
    "image-not-in-bounds",
    "gradient-became-zero",
)


VOLATILE = (
    (re.compile(r"(,? at)? 0x[0-9a-fA-F]{6,16}\b"), ""),
    (re.compile(r"\b(pid|PID|process|Process|thread|Thread)([ =:-]+)[0-9]+\b"), r"\1\2..."),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d([.,]\d+)?"), "<time>"),
)


class BadItem(Exception):
    """One item that cannot be used; the job goes on without it.

    Parameters
    ----------
    reason : str
        A key of ``REASONS``.
    message : str
        What was seen, for people; :func:`remove_volatile_text` of it is kept, since records that are hashed hold it.

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

    def __reduce__(self):  # with both arguments: it travels between processes
        return BadItem, (self.reason, str(self))


def remove_volatile_text(text: str) -> str:
    """A message without what differs from run to run: addresses of objects, temporary files, processes, times.

    Examples
    --------
    >>> remove_volatile_text("cannot identify image file <_io.BytesIO object at 0x7f05d1a2>")
    'cannot identify image file <_io.BytesIO object>'
    >>> remove_volatile_text("process 4711 failed at 2026-11-28 19:30:53.123")
    'process ... failed at <time>'
    """
    for pattern, instead in VOLATILE:
        text = pattern.sub(instead, text)
    try:
        folder = tempfile.gettempdir()
    except OSError:  # there may be no folder for temporary files
        return text
    return re.sub(re.escape(folder) + r"/tmp[a-z0-9_]{8}\b", "<temporary file>", text)


def describe_error(error: Exception) -> str:
    """The type and the message of an exception that other code raised, for a record."""
    text = remove_volatile_text(str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class JobError(Exception):
    """A job that cannot go on; ``code`` is what the command exits with.

    Examples
    --------
    >>> JobError("option --size is required", USAGE).code
    2
    """

    def __init__(self, message: str, code: int = FATAL):
        super().__init__(message)
        self.code = code


class ModelError(JobError):
    """A model that raised: its traceback, which nobody but its owner understands, belongs in the log."""


def is_expected(error: BaseException) -> bool:
    """Whether its message says all; else a log should have its traceback."""
    return isinstance(error, JobError) and not isinstance(error, ModelError)


def to_job_error(error: BaseException) -> JobError:
    """The same error, with an exit code: a full disk has its own, what nobody foresaw is fatal.

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
    if NO_THREAD in text:
        text += ": raise the limit on processes (ulimit -u), or use fewer workers, decoders and threads"
    if isinstance(error, OSError) and error.errno in MEANINGS:
        text += f" ({MEANINGS[error.errno]})"
    return JobError(text if isinstance(error, (OSError, MissingExtra)) else f"{type(error).__name__}: {text}")

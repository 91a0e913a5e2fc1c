"""Writes text to stdout and stderr without raising errors. Errors of stdout are recorded for the exit status."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import warnings
from typing import TextIO


def write_line(text: str, stream: TextIO | None) -> OSError | None:
    """Write a line; return the error if that failed. No error is raised.

    The stream may be None, closed, on a full disk, or a pipe without a reader. Characters that it cannot encode are
    escaped.

    Examples
    --------
    >>> import io
    >>> stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    >>> write_line("3 → 8", stream), stream.buffer.getvalue()
    (None, b'3 \\\\u2192 8\\n')
    >>> write_line("not written", None)
    OSError(9, 'Bad file descriptor')
    """
    if stream is None:
        return _closed()
    try:
        try:
            print(text, file=stream, flush=True)
        except UnicodeEncodeError:
            encoding = getattr(stream, "encoding", None) or "ascii"
            print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
    except OSError as error:
        return error
    except ValueError:  # raised by a closed stream
        return _closed()
    return None


def _closed() -> OSError:
    return OSError(errno.EBADF, os.strerror(errno.EBADF))


_stdout_errors: list[OSError] = []


def write_stdout(text: str) -> None:
    """Write a line to stdout. An error does not stop the program; :func:`stdout_error` returns it later."""
    error = write_line(text, sys.stdout)
    if error is not None:
        _stdout_errors.append(error)


def stdout_error() -> OSError | None:
    """Return the first error in writing to stdout since the last call of this function; None if there was none."""
    errors = _stdout_errors.copy()
    _stdout_errors.clear()
    return errors[0] if errors else None


def write_stderr(text: str) -> None:
    """Write a line to stderr; errors are ignored."""
    write_line(text, sys.stderr)


def warn(text: str) -> None:
    """Issue a UserWarning; no error is raised if stderr cannot be written.

    Examples
    --------
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn("the folder cannot be flushed to disk")
    >>> caught[0].category
    <class 'UserWarning'>
    """
    with contextlib.suppress(OSError, ValueError):
        warnings.warn(text, UserWarning, stacklevel=2)


def open_closed_descriptors() -> None:
    """Open the null device for those of the standard streams (descriptors 0 to 2) that are closed.

    If stderr stayed closed, the next file that is opened could get its descriptor, and messages would be written to it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)


def flush_streams() -> None:
    """Flush stdout and stderr.

    A stream that cannot be flushed is redirected to the null device. Otherwise the interpreter would flush the stream
    again at exit, and exit with status 120.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError) as error:
            if stream is sys.stdout:
                _stdout_errors.append(error if isinstance(error, OSError) else _closed())
            with contextlib.suppress(OSError, ValueError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)

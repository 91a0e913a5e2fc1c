"""The command ``steerlens-fast``. Modules that only one subcommand needs are imported when it runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..errors import DONE, FATAL, INTERRUPTED, JobError, to_job_error
from ..extras import MissingExtra
from ..io.console import flush_streams, open_closed_descriptors, stdout_error, write_stderr, write_stdout
from ..version import __version__
from .demo import add_demo
from .evaluate import add_evaluate
from .jobs import add_jobs
from .morph import add_morph
from .options import CommandParser, as_sentence
from .rating import add_rating


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status.

    The status is 0 for complete, 1 for a fatal error, 2 for a usage error or changed inputs, 3 for complete
    with failed items, 4 for too many failed items, 5 for no space left, 130 for interrupted, and 143 for terminated.
    Errors found by argparse raise ``SystemExit(2)``.

    If the command succeeds but stdout cannot be written, the status is 5 for a full disk, otherwise 1. The error is
    reported on stderr, unless stdout is a pipe that its reader has closed.

    Examples
    --------
    >>> main(["info"])  # doctest: +ELLIPSIS
    version ...
    0
    """
    open_closed_descriptors()
    stdout_error()  # clears the error of an earlier call
    try:
        code = _run(_parser().parse_args(argv))
    except SystemExit as ended:  # raised by argparse
        raise SystemExit(_final_status(ended.code)) from None
    finally:
        flush_streams()
    return _final_status(code)


def _final_status(code: int) -> int:
    """Return the command's exit status.

    If the command succeeded but stdout cannot be written, this is the status of that error.
    """
    flush_streams()
    error = stdout_error()
    if error is None:
        return code
    if isinstance(error, BrokenPipeError):  # as in "| head"
        return code or FATAL
    write_stderr(f"steerlens-fast: stdout cannot be written: {error.strerror}")
    return code or to_job_error(error).code


def _run(arguments: argparse.Namespace) -> int:
    try:
        return arguments.run(arguments)
    except KeyboardInterrupt:
        _report(arguments, "interrupted")
        return INTERRUPTED
    except (JobError, OSError) as error:
        error = to_job_error(error)
        _report(arguments, error)
        return error.code
    except (MissingExtra, ValueError) as error:
        _report(arguments, error)
        return FATAL


def _report(arguments: argparse.Namespace, message) -> None:
    write_stderr(f"steerlens-fast {arguments.command}: {message}")


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="steerlens-fast",
        description="Shows which changes to an image separate two classes for a classifier, as motion in the complex "
        "steerable pyramid.",
    )
    parser.add_argument("--version", action="version", version=f"steerlens_fast {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_morph(commands)
    add_jobs(commands)
    add_evaluate(commands)
    add_rating(commands)
    add_demo(commands)
    _add_info(commands)
    return parser


def _add_info(commands) -> None:
    about = "print how the package was built: CPU levels, CUDA architectures, torch, compiler"
    commands.add_parser("info", help=about, description=as_sentence(about)).set_defaults(run=_info)


def _info(_: argparse.Namespace) -> int:
    from .. import build_info

    info = build_info()
    width = max(map(len, info)) + 2
    lines = [f"{name:{width}s}{value if value != '' else '-'}" for name, value in info.items()]
    write_stdout("\n".join(lines))
    return DONE

"""The command ``steerlens-fast``. Subcommands import what they need when they run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..io.console import flush_streams, open_closed_descriptors, write_stderr, write_stdout
from .demo import add_demo
from .evaluate import add_evaluate
from .jobs import add_jobs
from .morph import add_morph


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit status.

    0 all done, 1 fatal, 2 usage or another configuration than before, 3 done with items that failed, 4 too many items
    failed, 5 no space left, 130 interrupted, 143 terminated. Errors that argparse sees end in ``SystemExit(2)``.

    Examples
    --------
    >>> main(["info"])  # doctest: +ELLIPSIS
    version ...
    0
    """
    open_closed_descriptors()
    try:
        return _run(_parser().parse_args(argv))
    finally:
        flush_streams()


def _run(arguments: argparse.Namespace) -> int:
    from ..errors import INTERRUPTED, JobError, to_job_error
    from ..extras import MissingExtra

    said = lambda text: write_stderr(f"steerlens-fast {arguments.command}: {text}")
    try:
        return arguments.run(arguments)
    except KeyboardInterrupt:
        said("interrupted")
        return INTERRUPTED
    except (JobError, OSError) as error:
        error = to_job_error(error)
        said(error)
        return error.code
    except (MissingExtra, ValueError) as error:
        said(error)
        return 1


def _parser() -> argparse.ArgumentParser:
    from ..version import __version__

    parser = argparse.ArgumentParser(
        prog="steerlens-fast",
        description="What a classifier believes separates two classes, as motion in the complex steerable pyramid.",
    )
    parser.add_argument("--version", action="version", version=f"steerlens_fast {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_morph(commands)
    add_jobs(commands)
    add_evaluate(commands)
    add_demo(commands)
    _add_info(commands)
    return parser


def _add_info(commands) -> None:
    about = "tell what was built: CPU levels, CUDA architectures, torch, compiler"
    commands.add_parser("info", help=about, description=about).set_defaults(run=_info)


def _info(_: argparse.Namespace) -> int:
    from .. import build_info

    lines = [f"{name:14s}{value if value != '' else '-'}" for name, value in build_info().items()]
    return 0 if write_stdout("\n".join(lines)) else 1

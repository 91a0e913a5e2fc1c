"""``steerlens-fast morph``: the data-set job.

When a job is resumed, options that are not given have the values of the job.
"""

from __future__ import annotations

import argparse

from ..errors import DONE, INTERRUPTED
from ..io.console import write_stderr, write_stdout
from .options import CommandParser, OptionGroups, given_fields

GROUPS = {
    "data": "data and model",
    "method": "method (see SteerableLens)",
    "outputs": "outputs",
    "running": "running",
}
EXITS = """exit status: 0 complete; 1 fatal error; 2 usage error, or inputs that differ from the job's;
3 complete, but some items failed (see failed.jsonl); 4 more failures than --max-failures; 5 no space left; 130 Ctrl-C
(the first one finishes the shards that have begun, the second stops at once); 143 SIGTERM. --resume continues a job
that is not complete."""


def add_morph(commands) -> None:
    """Add the subcommand."""
    parser: CommandParser = commands.add_parser(
        "morph",
        help="morph a whole data set: shards of frames, records, a gallery",
        description="Morphs every image of a data set toward another class of a classifier. Writes the frames in files "
        "of many images (shards), records with the classifier's scores, and a gallery. If the job is killed, only the "
        "shards that it was computing are lost, and the same command with --resume continues it.",
        epilog=EXITS,
        argument_default=argparse.SUPPRESS,
        add_options=_add_options,
    )
    parser.set_defaults(run=_morph)


def _add_options(parser: argparse.ArgumentParser) -> None:
    from ..job.config import JobConfig, RunOptions
    from ..lens.settings import SETTINGS

    groups = OptionGroups(parser, GROUPS)
    groups.add_folder("outputs", "job")
    groups.add_fields(JobConfig)
    groups.add_fields(RunOptions)
    text = "use the family, rule, color, regime and distance that suit photographs; other options override them"
    groups.add("method", "--settings", choices=tuple(SETTINGS), help=text)
    text = "print what the job would do, and an estimate of its time from a few images; write nothing"
    groups.add("running", "--dry-run", action="store_true", help=text)


def _morph(arguments: argparse.Namespace) -> int:
    from ..data.paths import with_absolute_paths
    from ..job.config import JobConfig, RunOptions
    from ..job.dry_run import dry_run
    from ..job.run import run_job
    from ..job.summary import failure_example, format_summary

    options = with_absolute_paths(given_fields(JobConfig, arguments))
    options |= {"settings": arguments.settings} if "settings" in arguments else {}
    run_options = RunOptions(**given_fields(RunOptions, arguments))
    if "dry_run" in arguments:
        write_stdout("\n".join(dry_run(arguments.out, options, run_options)))
        return DONE
    outcome = run_job(arguments.out, options, run_options)
    summary = outcome.summary
    note = failure_example(arguments.out, summary) if summary["failed"] > summary["done"] / 2 else ""
    if run_options.engine == "env" and not summary["complete"] and outcome.code != INTERRUPTED:
        note += "; the other ranks compute the remaining shards"
    write_stderr(f"{arguments.out}: {format_summary(summary)}{note}")
    return outcome.code

"""``steerlens-fast rate`` and ``tally``: ratings of morphs by people."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path

from ..errors import DONE, usage_error
from ..io.argument_types import expanded_path, integer_from
from ..io.console import write_stderr, write_stdout
from ..io.progress import format_bytes
from .options import as_sentence


def add_rating(commands) -> None:
    """Add the subcommands."""
    about = "write a page for blind ratings of morphs by people"
    text = "The page needs no server, sends nothing, and saves a rater's answers as a file for the command tally."
    rate = commands.add_parser("rate", help=about, description=f"Writes {about.removeprefix('write ')}. {text}")
    add = rate.add_argument
    add("jobs", nargs="+", type=expanded_path, metavar="JOB", help="a job's folder; one job for each family to compare")
    add("--out", required=True, type=expanded_path, metavar="FORM", help="a new folder, for form.html and key.json")
    add("--count", type=integer_from(1), default=60, metavar="N", help="maximum number of images (default: 60)")
    text = "seed of the choice and order of images (default: 0)"
    add("--seed", type=integer_from(0), default=0, metavar="N", help=text)
    add("--show-source", action="store_true", help="show the source next to each image")
    add("--no-controls", action="store_true", help="show no unedited sources among the morphs")
    text = "a classifier that also predicts the classes of the images; MODEL is as for morph --model; can be repeated"
    add("--judge", action="append", default=[], metavar="MODEL", help=text)
    text = "load pickled judges and exported programs, which may run code from the file"
    add("--trust-checkpoint", action="store_true", help=text)
    rate.set_defaults(run=_rate)

    about = "summarise ratings: how often raters see the target, how natural the images look, how much raters agree"
    tally = commands.add_parser("tally", help=about, description=as_sentence(about))
    tally.add_argument("form", type=expanded_path, metavar="FORM", help="the folder that rate wrote")
    tally.add_argument("files", nargs="+", type=Path, metavar="FILE", help="files that raters saved")
    tally.add_argument("--json", action="store_true", help="print JSON in place of a table")
    tally.add_argument("--out", type=expanded_path, metavar="FILE", help="also write JSON to this file, replacing it")
    tally.set_defaults(run=_tally)


def _rate(arguments: argparse.Namespace) -> int:
    from ..rating import write_form

    options = {name: getattr(arguments, name) for name in ("count", "seed", "show_source", "trust_checkpoint")}
    options |= {"controls": not arguments.no_controls, "judges": arguments.judge}
    form = write_form(arguments.jobs, arguments.out, **options)
    for note in form.notes:
        write_stderr(f"steerlens-fast rate: {note}")
    size = format_bytes(form.page.stat().st_size)
    images = ", ".join(f"{n} {name}" for name, n in form.conditions.items())
    write_stdout(f"{form.page}: for raters, one file of {size} with {sum(form.conditions.values())} images: {images}")
    out = shlex.quote(str(arguments.out))
    write_stdout(f'{form.key}: not for raters; used by "steerlens-fast tally {out} ratings-*.json"')
    return DONE


def _tally(arguments: argparse.Namespace) -> int:
    from ..io.atomic_io import write_json
    from ..rating import table, tally

    if arguments.out is not None and arguments.out.is_dir():
        raise usage_error(f"--out must be a file, got {arguments.out}, which is a folder")
    result = tally(arguments.form, arguments.files)
    if arguments.out is not None:
        write_json(arguments.out, result)
    write_stdout(json.dumps(result, indent=1) if arguments.json else table(result))
    return DONE

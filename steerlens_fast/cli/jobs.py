"""``steerlens-fast status``, ``verify``, ``gallery`` and ``export``: commands on a job's folder."""

from __future__ import annotations

import argparse
import errno
import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from ..errors import DONE, FATAL, JobError, usage_error
from ..io.argument_types import expanded_path, integer_from
from ..io.console import write_stdout
from .options import as_sentence

FOLDER_HELP = "Give the job's folder as DIR or as --out DIR."


def add_jobs(commands) -> None:
    """Add the subcommands."""
    _add(commands, "status", "print the progress of a job; needs no write access", _status)
    about = "compare files with their hashes; exit status 1 if any differs or is missing; writes only with --discard"
    verify = _add(commands, "verify", about, _verify)
    text = "delete the markers of damaged shards, so that morph --resume computes these shards again"
    verify.add_argument("--discard", action="store_true", help=text)
    gallery = _add(commands, "gallery", "write a job's gallery again", _gallery)
    text = "maximum number of morphs, and also of failed items (default: 48 of each)"
    gallery.add_argument("--sample", type=integer_from(1), default=48, metavar="N", help=text)
    gallery.add_argument("--to", type=expanded_path, metavar="DIR", help="folder to write (default: gallery in DIR)")
    about = "write a job's morphs in another format; exit status 1 if there are none"
    _add(commands, "export", about, _export, add_options=_add_export_options)


def _add_export_options(parser: argparse.ArgumentParser) -> None:
    from ..job.export import EXPORT_FORMATS

    add = parser.add_argument
    add("--format", choices=EXPORT_FORMATS, help="format of the files; required")
    text = "folder to write: new, empty, or with the same export, which is continued (default: DIR-FORMAT, next to DIR)"
    add("--to", type=expanded_path, metavar="DIR", help=text)
    text = "export only items with these keys; a pattern like 'cat/*' matches several"
    add("--keys", nargs="+", metavar="PATTERN", help=text)
    add("--limit", type=integer_from(1), metavar="N", help="export only the first N items that are ok and match --keys")
    text = "add a row to strips that shows the differences from the source"
    add("--differences", action="store_true", help=text)


def _add(commands, name: str, about: str, run, add_options=None) -> argparse.ArgumentParser:
    description = as_sentence(about)
    parser = commands.add_parser(name, help=about, description=description, epilog=FOLDER_HELP, add_options=add_options)
    parser.add_argument("folder", nargs="?", type=expanded_path, metavar="DIR", help="the job's folder")
    parser.add_argument("--out", type=expanded_path, metavar="DIR", help="the job's folder, as in morph --out")
    parser.set_defaults(run=lambda arguments: run(_with_folder(arguments)))
    return parser


def _with_folder(arguments: argparse.Namespace) -> argparse.Namespace:
    """Return the arguments, with the job's folder in ``out``."""
    folders = [folder for folder in (arguments.folder, arguments.out) if folder is not None]
    command = f"steerlens-fast {arguments.command}"
    if not folders:
        more = " --format gif --to morphs-gif/" if arguments.command == "export" else ""
        raise usage_error(f'a job\'s folder must be given: "{command} morphs/{more}", or "{command} --out morphs/"')
    if len({os.path.abspath(folder) for folder in folders}) > 1:
        other = "; use --to for the folder to write" if "to" in vars(arguments) else ""
        raise usage_error(f"DIR and --out must both be the job's folder, got {folders[0]} and {folders[1]}{other}")
    arguments.out = folders[0]
    return arguments


def _status(arguments: argparse.Namespace) -> int:
    from ..job.folder import JobFolder

    write_stdout(json.dumps(JobFolder(arguments.out).status(), indent=1))
    return DONE


def _verify(arguments: argparse.Namespace) -> int:
    from ..io.atomic_io import restore_backups
    from ..io.output_dir import hold_lock
    from ..job.folder import JobFolder
    from ..job.shard import marker_path

    job = JobFolder(arguments.out)
    with hold_lock(job.out / ".lock") if arguments.discard else nullcontext():
        if arguments.discard:
            restore_backups(job.out, job.out / "shards")
        problems = job.verify()
        for shard, problem in problems.items():
            write_stdout(f"shard {shard}: {problem}" if shard >= 0 else problem)  # -1 is the key of items.jsonl
            if arguments.discard and shard >= 0:
                marker_path(job.out, shard).unlink(missing_ok=True)
    shards = job.plan.shards
    write_stdout(f"{shards - sum(s >= 0 for s in problems)} of {shards} shards are undamaged")
    if problems:
        write_stdout(_repair_commands(job.out, problems, arguments.discard))
    return FATAL if problems else DONE


def _repair_commands(out: Path, problems: dict[int, str], discarded: bool) -> str:
    """Return text with the commands that repair a job."""
    from ..job.folder import NOT_DONE

    commands, out = [], shlex.quote(str(out))
    if not discarded and any(shard >= 0 and problem != NOT_DONE for shard, problem in problems.items()):
        commands = [f'"steerlens-fast verify {out} --discard" deletes the markers of damaged shards']
    return "; then ".join([*commands, f'"steerlens-fast morph --out {out} --resume" computes missing shards'])


def _gallery(arguments: argparse.Namespace) -> int:
    from ..job.gallery import write_gallery

    with _hint_for_default_folder(arguments.to):
        write_stdout(str(write_gallery(arguments.out, sample=arguments.sample, to=arguments.to)))
    return DONE


def _export(arguments: argparse.Namespace) -> int:
    from ..job.export import EXPORT_FORMATS, export

    if arguments.format is None:
        command = f"steerlens-fast export {shlex.quote(str(arguments.out))} --format gif"
        raise usage_error(f'--format must be one of {", ".join(EXPORT_FORMATS)}, as in "{command}"')
    to = arguments.to or _default_export_folder(arguments.out, arguments.format)
    options = {name: getattr(arguments, name) for name in ("keys", "limit", "differences")}
    with _hint_for_default_folder(arguments.to):
        count = export(arguments.out, to, arguments.format, **options)
    write_stdout(f"{count} morphs in {to}{_missing_shards(arguments.out)}")
    return DONE if count else FATAL


def _missing_shards(out: Path) -> str:
    """Return text about a job's incomplete shards, which an export leaves out; "" if there are none."""
    from ..job.folder import JobFolder

    job = JobFolder(out)
    complete = len(job.completed_shards().shards)
    if complete == job.plan.shards:
        return ""
    command = f"steerlens-fast verify {shlex.quote(str(out))}"
    return f'; {complete} of {job.plan.shards} shards are complete, see "{command}"'


@contextmanager
def _hint_for_default_folder(to: Path | None) -> Iterator[None]:
    """Suggest --to in the error if the default folder cannot be written."""
    try:
        yield
    except OSError as error:
        if to is not None or error.errno not in (errno.EROFS, errno.EACCES):
            raise
        raise JobError(f"{error}: use --to DIR to write to another folder") from error


def _default_export_folder(out: Path, format: str) -> Path:
    """Return the default folder of an export.

    Examples
    --------
    >>> str(_default_export_folder(Path("runs/morphs"), "gif"))
    'runs/morphs-gif'
    """
    out = out if out.name not in ("", "..") else out.resolve()
    return out.with_name(f"{out.name}-{format}")

"""``steerlens-fast status``, ``verify``, ``gallery``, ``export``: what is asked of a job's folder afterwards."""

from __future__ import annotations

import argparse
import errno
import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from ..io.console import write_stdout
from .kinds import folder, int_from

EXPORTS = ("folder", "wds", "safetensors", "npz", "gif", "webp", "strip")
FOLDER = 'The job\'s folder is given as DIR, or as --out DIR, as in "steerlens-fast morph --out DIR".'


def add_jobs(commands) -> None:
    """Add the subcommands."""
    _add(commands, "status", "tell how far a job is; needs no write access", _status)
    about = "compare files with their hashes; exit status 1 where one differs; needs no write access without --discard"
    verify = _add(commands, "verify", about, _verify)
    verify.add_argument("--discard", action="store_true", help="drop damaged shards: --resume makes them again")
    gallery = _add(commands, "gallery", "write a job's gallery anew", _gallery)
    gallery.add_argument("--sample", type=int_from(1), default=48, metavar="N", help="examples (48)")
    gallery.add_argument("--to", type=folder, metavar="DIR", help="where to (default: gallery in the job's folder)")
    export = _add(commands, "export", "write a job's morphs in another form", _export)
    export.add_argument("--format", choices=EXPORTS, help="must be given")
    export.add_argument("--to", type=folder, metavar="DIR", help="where to (default: DIR-FORMAT, beside DIR)")
    export.add_argument("--keys", nargs="+", metavar="PATTERN", help="only these items: keys, or patterns like 'cat/*'")
    export.add_argument("--limit", type=int_from(1), metavar="N", help="only the first N of them")
    export.add_argument("--differences", action="store_true", help="strips: a row of differences from the source, too")


def _add(commands, name: str, about: str, run) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=about, description=about, epilog=FOLDER)
    parser.add_argument("folder", nargs="?", type=folder, metavar="DIR", help="a job's folder")
    parser.add_argument("--out", type=folder, metavar="DIR", help="the same")
    parser.set_defaults(run=lambda arguments: run(_with_folder(arguments)))
    return parser


def _with_folder(arguments: argparse.Namespace) -> argparse.Namespace:
    """The arguments with the job's folder as ``out``, whichever way it was given."""
    from ..errors import USAGE, JobError

    given = [folder for folder in (arguments.folder, arguments.out) if folder is not None]
    command = f"steerlens-fast {arguments.command}"
    if not given:
        more = " --format gif --to morphs-gif/" if arguments.command == "export" else ""
        raise JobError(f'a job\'s folder must be given: "{command} morphs/{more}", or "{command} --out morphs/"', USAGE)
    if len({os.path.abspath(folder) for folder in given}) > 1:
        other = "; --to says where to write" if "to" in vars(arguments) else ""
        raise JobError(f"DIR and --out must be the same folder, the job's, got {given[0]} and {given[1]}{other}", USAGE)
    arguments.out = given[0]
    return arguments


def _status(arguments: argparse.Namespace) -> int:
    from ..job.plan import Plan
    from ..job.report import status_of

    return 0 if write_stdout(json.dumps(status_of(arguments.out, Plan.read(arguments.out)), indent=1)) else 1


def _verify(arguments: argparse.Namespace) -> int:
    from ..io.output_dir import hold_lock
    from ..job.plan import Plan
    from ..job.report import verify
    from ..job.shard import marker

    plan = Plan.read(arguments.out)
    with hold_lock(arguments.out / ".lock") if arguments.discard else nullcontext():
        wrong = verify(arguments.out, plan)
        for shard, problem in wrong.items():
            write_stdout(f"shard {shard}: {problem}" if shard >= 0 else problem)
            if arguments.discard and shard >= 0:
                marker(arguments.out, shard).unlink(missing_ok=True)
    write_stdout(f"{plan.shards - sum(s >= 0 for s in wrong)} of {plan.shards} shards are whole")
    if wrong:
        write_stdout(_mending(arguments.out, wrong, arguments.discard))
    return 1 if wrong else 0


def _mending(out: Path, wrong: dict[int, str], discarded: bool) -> str:
    """What to do about what was found."""
    from ..job.report import NOT_DONE

    told, out = [], shlex.quote(str(out))
    if not discarded and any(shard >= 0 and problem != NOT_DONE for shard, problem in wrong.items()):
        told = [f'"steerlens-fast verify {out} --discard" drops what is damaged']
    return "; then ".join([*told, f'"steerlens-fast morph --out {out} --resume" makes what is missing'])


def _gallery(arguments: argparse.Namespace) -> int:
    from ..job.gallery import write_gallery

    with _hint_at_to(arguments.to):
        write_stdout(str(write_gallery(arguments.out, sample=arguments.sample, to=arguments.to)))
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from ..errors import USAGE, JobError
    from ..job.export import export

    if arguments.format is None:
        command = f"steerlens-fast export {shlex.quote(str(arguments.out))} --format gif"
        raise JobError(f'--format must be one of {", ".join(EXPORTS)}, as in "{command}"', USAGE)
    to = arguments.to or _beside(arguments.out, arguments.format)
    options = {name: getattr(arguments, name) for name in ("keys", "limit", "differences")}
    with _hint_at_to(arguments.to):
        count = export(arguments.out, to, arguments.format, **options)
    write_stdout(f"{count} morphs in {to}")
    return 0


@contextmanager
def _hint_at_to(to: Path | None) -> Iterator[None]:
    """Where the folder that is written to by default cannot be written, name the option for another one."""
    from ..errors import JobError

    try:
        yield
    except OSError as error:
        if to is not None or error.errno not in (errno.EROFS, errno.EACCES):
            raise
        raise JobError(f"{error}: use --to to write to another folder") from error


def _beside(out: Path, format: str) -> Path:
    """Where an export goes that is told no place.

    Examples
    --------
    >>> str(_beside(Path("runs/morphs"), "gif"))
    'runs/morphs-gif'
    """
    out = out if out.name not in ("", "..") else out.resolve()
    return out.with_name(f"{out.name}-{format}")

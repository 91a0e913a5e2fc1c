"""``steerlens-fast status``, ``verify``, ``gallery``, ``export``: what is asked of a job's folder afterwards."""

from __future__ import annotations

import argparse
import json
import shlex
from contextlib import nullcontext
from pathlib import Path

from .kinds import int_from

EXPORTS = ("folder", "wds", "safetensors", "npz", "gif", "webp", "strip")


def add_jobs(commands) -> None:
    """Add the subcommands."""
    _add(commands, "status", "tell how far a job is", _status)
    verify = _add(commands, "verify", "compare files with their hashes; exit status 1 where one differs", _verify)
    verify.add_argument("--discard", action="store_true", help="drop damaged shards: --resume makes them again")
    gallery = _add(commands, "gallery", "write a job's gallery anew", _gallery)
    gallery.add_argument("--sample", type=int_from(1), default=48, metavar="N", help="examples (48)")
    export = _add(commands, "export", "write a job's morphs in another form", _export)
    export.add_argument("--to", required=True, type=Path, metavar="DIR", help="where to")
    export.add_argument("--format", required=True, choices=EXPORTS)
    export.add_argument("--keys", nargs="+", metavar="PATTERN", help="only these items: keys, or patterns like 'cat/*'")
    export.add_argument("--limit", type=int_from(1), metavar="N", help="only the first N of them")
    export.add_argument("--differences", action="store_true", help="strips: a row of differences from the source, too")


def _add(commands, name: str, about: str, run) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=about, description=about)
    parser.add_argument("out", type=Path, metavar="DIR", help="a job's folder")
    parser.set_defaults(run=run)
    return parser


def _status(arguments: argparse.Namespace) -> int:
    from ..dataset.plan import Plan
    from ..dataset.report import status_of

    print(json.dumps(status_of(arguments.out, Plan.read(arguments.out)), indent=1))
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from ..dataset.durable import locked
    from ..dataset.plan import Plan
    from ..dataset.report import verify
    from ..dataset.shard import marker

    plan = Plan.read(arguments.out)
    with locked(arguments.out / ".lock") if arguments.discard else nullcontext():
        wrong = verify(arguments.out, plan)
        for shard, problem in wrong.items():
            print(f"shard {shard}: {problem}" if shard >= 0 else problem)
            if arguments.discard and shard >= 0:
                marker(arguments.out, shard).unlink(missing_ok=True)
    print(f"{plan.shards - sum(s >= 0 for s in wrong)} of {plan.shards} shards are whole")
    if wrong:
        print(_mending(arguments.out, wrong, arguments.discard))
    return 1 if wrong else 0


def _mending(out: Path, wrong: dict[int, str], discarded: bool) -> str:
    """What to do about what was found."""
    from ..dataset.report import NOT_DONE

    told, out = [], shlex.quote(str(out))
    if not discarded and any(shard >= 0 and problem != NOT_DONE for shard, problem in wrong.items()):
        told = [f'"steerlens-fast verify {out} --discard" drops what is damaged']
    return "; then ".join([*told, f'"steerlens-fast morph --out {out} --resume" makes what is missing'])


def _gallery(arguments: argparse.Namespace) -> int:
    from ..dataset.gallery import write_gallery

    print(write_gallery(arguments.out, sample=arguments.sample))
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from ..dataset.export import export

    options = {name: getattr(arguments, name) for name in ("keys", "limit", "differences")}
    count = export(arguments.out, arguments.to, arguments.format, **options)
    print(f"{count} morphs in {arguments.to}")
    return 0

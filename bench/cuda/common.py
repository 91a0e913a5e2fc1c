"""Paths, arguments and result files, shared by all phases."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS, BENCH = ROOT / "tests", ROOT / "bench"


def phase_arguments(about: str) -> argparse.Namespace:
    """Return the command-line arguments of a phase."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--out", type=Path, required=True, help="folder for results and logs")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="cpu: a dry run with small shapes")
    parser.add_argument("--seconds", type=float, default=120.0, help="time limit, after which the phase ends itself")
    args, args.rest = parser.parse_known_args()
    args.out.mkdir(parents=True, exist_ok=True)
    args.deadline = time.monotonic() + args.seconds
    return args


def write_result(out: Path, phase: str, result: dict) -> None:
    """Write the result of a phase to ``<phase>.json``, atomically."""
    path = out / f"{phase}.json"
    draft = path.with_suffix(".tmp")
    draft.write_text(as_text(result) + "\n")
    os.replace(draft, path)


def as_text(value, indent: int = 0) -> str:
    """Return JSON with one line for each entry of a list.

    Diffs of results are then readable.
    """
    pad = " " * (indent + 1)
    if isinstance(value, dict) and any(isinstance(v, (dict, list)) for v in value.values()) and indent < 2:
        rows = [f"{pad}{json.dumps(k)}: {as_text(v, indent + 1)}" for k, v in value.items()]
        return "{\n" + ",\n".join(rows) + "\n" + " " * indent + "}"
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(pad + json.dumps(v) for v in value) + "\n" + " " * indent + "]"
    return json.dumps(value)


def not_measured(why: str) -> dict:
    return {"not_measured": why}

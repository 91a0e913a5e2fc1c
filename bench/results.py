"""Reads and writes result files, bench/results/DATE-NAME.json. A written file has one line for each row."""

from __future__ import annotations

import json
from pathlib import Path

from steerlens_fast.io.atomic_io import atomic_write

ROWS = ("rows", "workloads")  # keys of the lists of rows
DIGITS = 4  # significant digits; no time is measured more precisely


def write(path: Path, result: dict) -> None:
    """Write a result file, atomically."""
    lists = {name: result[name] for name in ROWS if name in result}
    text = json.dumps(rounded(result) | {name: [] for name in lists}, indent=1)
    for name, rows in lists.items():
        lines = ",\n".join("  " + json.dumps(rounded(row)) for row in rows)
        text = text.replace(f'"{name}": []', f'"{name}": [\n{lines}\n ]')
    with atomic_write(path) as file:
        file.write((text + "\n").encode())


def rounded(value):
    """Round all floats in nested lists and dictionaries to ``DIGITS`` significant digits."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def read(path: Path) -> dict:
    return json.loads(Path(path).read_text())


def pictures(path: Path) -> Path:
    """Return the folder for the pictures of a result."""
    return path.with_suffix("")

"""Runs the data-set job on the demo's photographs, each with its own target."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from ..extras import require_extra
from ..io.atomic_io import atomic_write
from ..job import morph_dataset
from ..lens.settings import PHOTOGRAPHS as SETTINGS
from ..morphs.strips import to_pixels
from .job import as_typed, program
from .photographs import MODEL, NETWORKS

__all__ = ["as_typed", "morph_all"]


def morph_all(
    out: Path, result, *, max_l2: float = SETTINGS["max_l2"], frames: int = 8, progress: str = "auto"
) -> list[str]:
    """Morph the photographs as a data set.

    Return a command line that repeats the job.

    Writes the cropped photographs, ``photographs.csv`` with their targets, and the job's folder ``job``.

    Parameters
    ----------
    out : path
        Folder of the demo.
    result : PhotographsResult
        The result of :func:`~steerlens_fast.demo.photographs.run_photographs`.
    max_l2, frames
        As in :func:`~steerlens_fast.demo.photographs.run_photographs`.
    progress : {"auto", "bar", "lines", "json", "none"}
    """
    table = _write_table(out, result.examples)
    options = {"settings": "photographs", "max_l2": max_l2, "frames": frames, "steps": frames - 1}
    model = MODEL + NETWORKS[0]
    morph_dataset(str(table), model, out / "job", workers=0, overwrite=True, progress=progress, **options)
    arguments = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    return [program(), "morph", "--data", str(table), "--model", model, *arguments, "--out", str(out / "job-again")]


def _write_table(out: Path, examples) -> Path:
    """Write the photographs as PNG files, and a table of their targets."""
    folder, rows = out / "photographs", [["path", "target", "key"]]
    folder.mkdir(exist_ok=True)
    for example in examples:
        name = example.photograph.name
        pixels = to_pixels(example.morphs["phase"])[0, 0]
        with atomic_write(folder / f"{name}.png", durable=False) as file:
            require_extra("photographs", "PIL.Image").fromarray(pixels).save(file, format="PNG")
        rows.append([f"photographs/{name}.png", example.photograph.target, name])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    with atomic_write(out / "photographs.csv", durable=False) as file:
        file.write(text.getvalue().encode())
    return out / "photographs.csv"

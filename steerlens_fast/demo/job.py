"""Runs the data-set job on the digits or the photographs of the demos."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from ..extras import require_extra
from ..io.atomic_io import atomic_write
from ..io.tensor_files import write_tensors
from ..job import morph_dataset
from ..lens.settings import PHOTOGRAPHS as SETTINGS
from ..morphs.strips import to_pixels
from .photographs import MODEL, NETWORKS
from .shared import write_csv

PROGRAM = "steerlens-fast"
DIGITS_MODEL = "steerlens_fast.evaluate.presets.digits_data:classifier"


def morph_digits(out: Path, result, *, max_l2: float = 4.0, frames: int = 8, progress: str = "auto") -> list[str]:
    """Morph every test digit toward its runner-up class.

    Writes ``digits.safetensors`` (images and labels), ``classifier.safetensors`` (the checkpoint) and the job's folder
    ``job``.

    Parameters
    ----------
    out : path
        Folder of the demo.
    result : DemoResult
        The result of :func:`~steerlens_fast.demo.run_demo`.
    max_l2 : float
        L2 distance of the last frame.
    frames : int
        Number of frames of each morph.
    progress : {"auto", "bar", "lines", "json", "none"}

    Returns
    -------
    list of str
        A command line that repeats the job.
    """
    data, weights = out / "digits.safetensors", out / "classifier.safetensors"
    pixels = (result.digits.test_images * 255).round().byte()
    write_tensors(data, "Digits", {"images": pixels, "labels": result.digits.test_labels}, {})
    write_tensors(weights, "Classifier", result.model.state_dict(), {})
    options = {"weights": str(weights), "channels": 1, "family": "csp-joint", "rule": "polar"}
    options |= {"max_l2": max_l2, "frames": frames}
    return _morph(out, data, DIGITS_MODEL, options, progress)


def morph_photographs(
    out: Path, result, *, max_l2: float = SETTINGS["max_l2"], frames: int = 8, progress: str = "auto"
) -> list[str]:
    """Morph each photograph toward its target.

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

    Returns
    -------
    list of str
        A command line that repeats the job.
    """
    data, rows = out / "photographs.csv", [["path", "target", "key"]]
    (out / "photographs").mkdir(exist_ok=True)
    for example in result.examples:
        name = example.photograph.name
        source = to_pixels(example.morphs["phase"])[0, 0]
        with atomic_write(out / f"photographs/{name}.png", durable=False) as file:
            require_extra("photographs", "PIL.Image").fromarray(source).save(file, format="PNG")
        rows.append([f"photographs/{name}.png", example.photograph.target, name])
    with atomic_write(data, durable=False) as file:
        write_csv(rows, file)
    options = {"settings": "photographs", "max_l2": max_l2, "frames": frames, "steps": frames - 1}
    return _morph(out, data, MODEL + NETWORKS[0], options, progress)


def _morph(out: Path, data: Path, model: str, options: dict, progress: str) -> list[str]:
    """Run a job in the folder ``job``, and return a command line that repeats it."""
    morph_dataset(str(data), model, out / "job", workers=0, overwrite=True, progress=progress, **options)
    arguments = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    return [program(), "morph", "--data", str(data), "--model", model, *arguments, "--out", str(out / "job-again")]


def program() -> str:
    """Return the name of the command, or its path if the environment is not active."""
    beside = Path(sys.executable).parent / PROGRAM
    if shutil.which(PROGRAM) or not beside.exists():
        return PROGRAM
    return str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside)

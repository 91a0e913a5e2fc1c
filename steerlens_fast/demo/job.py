"""Runs the data-set job on the demo's test digits."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from ..io.tensor_files import write_tensors
from ..job import morph_dataset

PROGRAM = "steerlens-fast"
MODEL = "steerlens_fast.evaluate.presets.digits_data:classifier"


def morph_all(out: Path, result, *, max_l2: float = 4.0, frames: int = 8, progress: str = "auto") -> list[str]:
    """Morph every test digit toward its runner-up class.

    Return a command line that does the same.

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
    morph_dataset(str(data), MODEL, out / "job", workers=0, overwrite=True, progress=progress, **options)
    arguments = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    return [program(), "morph", "--data", str(data), "--model", MODEL, *arguments, "--out", str(out / "job-again")]


def program() -> str:
    """Return the name of the command, or its path.

    The path is returned if the environment is not active.
    """
    beside = Path(sys.executable).parent / PROGRAM
    if shutil.which(PROGRAM) or not beside.exists():
        return PROGRAM
    return str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside)


def as_typed(command: list[str]) -> str:
    """Return a command line as it is typed in a shell."""
    return shlex.join(command)

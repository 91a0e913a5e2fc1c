"""What the demos on digits and on photographs share: families, and the writing of files."""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import usage_error
from ..io.atomic_io import atomic_write, read_json, write_json
from ..io.output_dir import check_is_folder
from ..morphs import Morphs
from ..morphs.strips import tile, to_pixels, write_animation

FAMILIES = {"phase": "csp-phase", "joint": "csp-joint", "pixel": "pixel"}  # the keys are their names in the files
LABELS = {"phase": "phase", "joint": "phase +\namplitude", "pixel": "pixel"}
DPI = 110
MARKER, MARKER_CONTENT = "demo.json", {"generator": "steerlens_fast demo"}  # the file that identifies a demo's folder


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Store the seconds that the block takes in ``seconds[name]``."""
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


def prepare_folder(out: Path) -> None:
    """Create the demo's folder.

    Raises
    ------
    JobError
        If it is a file, or a folder with files but not a demo's.
    OSError
        If it cannot be written.
    """
    check_is_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    if (names := sorted(os.listdir(out))) and not _is_demo(out):
        raise usage_error(f"out must be a new folder or a demo's folder, got {out} with other files, e.g. {names[0]}")
    write_json(out / MARKER, MARKER_CONTENT)


def _is_demo(out: Path) -> bool:
    try:
        return read_json(out / MARKER) == MARKER_CONTENT
    except (OSError, ValueError):
        return False


def write_files(out: Path, writers: Mapping[str, Callable[[BinaryIO], object]], progress: Callable) -> list[Path]:
    """Write files to a folder, and return their paths.

    ``writers`` has a function for each file name, which writes the content to an open file. ``progress`` wraps the loop
    over files, as tqdm does.
    """
    for name, write in progress(writers.items()):
        with atomic_write(out / name, durable=False) as file:
            write(file)
    return [out / name for name in writers]


def write_figure(figure, file: BinaryIO) -> None:
    """Write a figure as PNG, without the version of matplotlib."""
    figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})


def write_csv(rows: Iterable, file: BinaryIO) -> None:
    """Write rows of a table in UTF-8."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    file.write(text.getvalue().encode())


def write_families_animation(
    morphs: Mapping[str, Morphs], caption: Callable[[float], str], file: BinaryIO, format: str
) -> None:
    """Write an animation of the morphs of one image by all families, side by side, forward then backward.

    Parameters
    ----------
    morphs : mapping from str to Morphs
        By family; each has one sample.
    caption : callable
        Returns the text for a probability of the target.
    file : BinaryIO
    format : {"gif", "webp"}
    """
    pictures = []
    for frame in range(next(iter(morphs.values())).frames.shape[1]):
        captions = [
            f"{LABELS[name].replace(chr(10), ' ')}\n{caption(m.target_probability[0, frame])}"
            for name, m in morphs.items()
        ]
        reached = [bool(m.reached[0, frame]) for m in morphs.values()]
        pictures.append(tile(np.stack([to_pixels(m)[0, frame] for m in morphs.values()]), captions, reached))
    write_animation(pictures, file, format)

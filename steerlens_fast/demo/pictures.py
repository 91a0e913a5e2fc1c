"""Writes the files of the demo on digits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ..extras import require_extra
from ..morphs import Morphs
from ..morphs.strips import MUTED, draw_panel, to_pixels
from .shared import LABELS, write_csv, write_families_animation, write_figure, write_files

# Imported here, so that a missing package is reported before any training.
Figure = require_extra("demo", "matplotlib.figure").Figure
require_extra("demo", "PIL.Image")


def write_all(out: Path, examples, progress: Callable) -> list[Path]:
    """Write a strip and an animation of each example, ``overview.png`` and ``probabilities.csv``."""
    writers: dict[str, Callable] = {}
    for example in examples:
        writers[f"{example.name}.png"] = lambda file, e=example: write_figure(strip(e), file)
        writers[f"{example.name}.gif"] = lambda file, e=example: animate(e, file)
    writers["overview.png"] = lambda file: write_figure(overview(examples), file)
    writers["probabilities.csv"] = lambda file: write_csv(_rows(examples), file)
    return write_files(out, writers, progress)


def _rows(examples) -> Iterator[list]:
    """Yield a header, and a row for each example, family and frame."""
    yield "source target test_index family frame factor l2 target_probability source_probability predicted".split()
    for e in examples:
        for name, m in e.morphs.items():
            for frame, (factor, l2, p) in enumerate(zip(m.factors[0], m.l2[0], m.probabilities[0])):
                numbers = (f"{x:.6g}" for x in (factor, l2, p[e.target], p[e.source]))
                yield [e.source, e.target, e.test_index, name, frame, *numbers, int(p.argmax())]


def _panel(axes, m: Morphs, frame: int, *, with_l2: bool = True) -> None:
    """Draw one frame of one sample."""
    text = f"{m.target_probability[0, frame]:.2f}" + (f"\nL2 {m.l2[0, frame]:.2f}" if with_l2 else "")
    draw_panel(axes, to_pixels(m)[0, frame], text, bool(m.reached[0, frame]))


def strip(example) -> Figure:
    """Return a figure of one example, with target probabilities and distances: families in rows, frames in columns."""
    columns = next(iter(example.morphs.values())).frames.shape[1]
    figure = Figure(figsize=(1.05 * columns + 1.0, 4.5), layout="constrained")
    grid = figure.subplots(len(example.morphs), columns, squeeze=False)
    for row, (name, morph) in zip(grid, example.morphs.items()):
        for frame, axes in enumerate(row):
            _panel(axes, morph, frame)
        row[0].set_ylabel(LABELS[name], fontsize=10, rotation=0, ha="right", va="center", labelpad=6)
    figure.suptitle(
        f"{example.source} → {example.target}   along one frozen gradient (test digit {example.test_index})",
        fontsize=12,
    )
    note = f"below each frame: probability of {example.target}, bold if the classifier predicts {example.target}"
    figure.supxlabel(note, fontsize=8, color=MUTED)
    return figure


def overview(examples) -> Figure:
    """Return a figure with all examples, one in each row.

    A row has all frames of the joint morph, and the last frames of the other families.
    """
    columns = examples[0].morphs["joint"].frames.shape[1]
    figure = Figure(figsize=(0.92 * (columns + 2) + 1.1, 1.13 * len(examples) + 0.8), layout="constrained")
    widths = [1] * columns + [0.25, 1, 1]
    grid = figure.subplots(len(examples), columns + 3, squeeze=False, gridspec_kw={"width_ratios": widths})
    for row, e in zip(grid, examples):
        for frame in range(columns):
            _panel(row[frame], e.morphs["joint"], frame, with_l2=False)
        row[columns].set_axis_off()
        for axes, name in zip(row[columns + 1 :], ("phase", "pixel")):
            _panel(axes, e.morphs[name], -1, with_l2=False)
        label = f"{e.source} → {e.target}"
        row[0].set_ylabel(label, fontsize=13, rotation=0, ha="right", va="center", labelpad=8)
    last = f"L2 {examples[0].morphs['joint'].l2[0, -1]:.1f}"
    grid[0, 0].set_title("test digit", fontsize=9)
    grid[0, columns // 2].set_title("phase + amplitude", fontsize=9)
    grid[0, columns - 1].set_title(last, fontsize=9)
    grid[0, columns + 1].set_title("phase only", fontsize=9)
    grid[0, columns + 2].set_title("pixels", fontsize=9)
    attained = all(bool(m.attained.all()) for e in examples for m in e.morphs.values())
    distances = (
        f"all last frames at the same distance, {last}"
        if attained
        else "some distances were not attained: see the strips"
    )
    note = f"below: probability of the target class; {distances}"
    figure.supxlabel(note, fontsize=8, color=MUTED)
    return figure


def animate(example, file) -> None:
    """Write a GIF of all families, with enlarged pixels."""
    caption = lambda probability: f"P({example.target}) = {probability:.2f}"
    write_families_animation(example.morphs, caption, file, "gif")

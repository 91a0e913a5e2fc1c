"""Writes the files of the demo on photographs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..extras import require_extra
from ..morphs.strips import MUTED, NOT_OK, REACHED, caption_style, draw_panel, to_pixels
from .shared import LABELS, write_csv, write_families_animation, write_figure, write_files

COLUMNS = 6  # frames in a strip
NOTE = "below each frame: lite0's probability of the target, bold if the target is predicted; "
NOTE += "right: what lite0 and two other networks predict for the last frame, and for the photograph (before)"

# Imported here, so that a missing package is reported before anything is computed.
Figure = require_extra("photographs", "matplotlib.figure").Figure
require_extra("photographs", "PIL.Image")


def write_all(out: Path, examples: Sequence, progress: Callable) -> list[Path]:
    """Write a strip and an animation of each example, figures with all of them, ``judges.csv`` and ``licences.txt``."""
    writers: dict[str, Callable] = {}
    for example in examples:
        title = example.photograph.title
        writers[f"{title}.png"] = lambda file, e=example: write_figure(strip(e), file)
        writers[f"{title}.webp"] = lambda file, e=example: animate(e, file)
    writers["phase.png"] = lambda file: write_figure(_all_by_phase(examples), file)
    writers["overview.png"] = lambda file: write_figure(overview(examples), file)
    writers["judges.csv"] = lambda file: write_csv(_rows(examples), file)
    writers["licences.txt"] = lambda file: file.write(_licences(examples).encode())
    return write_files(out, writers, progress)


def strip(example) -> Figure:
    """Return a figure of the morphs of one photograph."""
    rows = [(LABELS[family], example, family) for family in example.morphs]
    note = f"{NOTE}. Photograph: {example.photograph.credit}"
    return strips(rows, f"{example.source} → {example.photograph.target}", note)


def strips(rows: Sequence[tuple], title: str, note: str = NOTE) -> Figure:
    """Return a figure with a morph in each row.

    A row is (label, example, family). The predictions for the last frame are on the right.
    """
    _, example, family = rows[0]
    count = example.morphs[family].frames.shape[1]
    shown = sorted({round(n * (count - 1) / (COLUMNS - 1)) for n in range(COLUMNS)})
    figure = Figure(figsize=(1.55 * len(shown) + 3.1, 1.8 * len(rows) + 0.75), layout="constrained")
    widths = [1.0] * len(shown) + [1.35]
    grid = figure.subplots(len(rows), len(shown) + 1, squeeze=False, gridspec_kw={"width_ratios": widths})
    for axes, (label, example, family) in zip(grid, rows):
        morphs = example.morphs[family]
        pixels = to_pixels(morphs)[0]
        for panel, frame in zip(axes, shown):
            text = f"{morphs.target_probability[0, frame]:.2f}   L2 {morphs.l2[0, frame]:.1f}"
            draw_panel(panel, pixels[frame], text, bool(morphs.reached[0, frame]))
        axes[0].set_ylabel(label, fontsize=10, rotation=0, ha="right", va="center", labelpad=6)
        _draw_verdicts(axes[-1], example, family)
    figure.suptitle(title, fontsize=13)
    figure.supxlabel(note, fontsize=7, color=MUTED)
    return figure


def _all_by_phase(examples: Sequence) -> Figure:
    """Return a figure with the phase morph of each photograph."""
    rows = [(f"{_short(e.source)}\n→ {e.photograph.target}", e, "phase") for e in examples]
    return strips(rows, "phases of the luma, with a new gradient at each step")


def _draw_verdicts(axes, example, family: str) -> None:
    """Write what each network predicts for the last frame and for the photograph."""
    axes.set_axis_off()
    for n, (network, verdict) in enumerate(example.verdicts[family].items()):
        shown = f"{network}: {_short(verdict.predicted)} {verdict.probability:.2f}"
        style = {"color": REACHED, "weight": "bold"} if verdict.target_predicted else {"color": NOT_OK}
        y = 0.88 - 0.35 * n
        options = {"transform": axes.transAxes, "parse_math": False}
        axes.text(0.02, y, shown, fontsize=8, **style, **options)
        change = f"{example.photograph.target} {verdict.target_before:.2f} → {verdict.target_probability:.2f}"
        for k, line in enumerate((f"before: {_short(verdict.predicted_before)}", change), start=1):
            axes.text(0.02, y - 0.1 * k, line, fontsize=7, color=MUTED, **options)


def _short(name: str, width: int = 20) -> str:
    return name if len(name) <= width else name[: width - 1] + "…"


def overview(examples: Sequence) -> Figure:
    """Return a figure with all photographs and their last frames.

    Each row has one photograph. The predictions are below the images.
    """
    families = list(examples[0].morphs)
    size = (1.75 * (len(families) + 1) + 1.4, 2.1 * len(examples) + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(examples), len(families) + 1, squeeze=False)
    for row, example in zip(grid, examples):
        first = example.morphs[families[0]]
        draw_panel(row[0], to_pixels(first)[0, 0])
        verdicts = example.verdicts[families[0]].items()
        _write_below(row[0], [(f"{network}: {_short(v.predicted_before, 16)}", False) for network, v in verdicts])
        row[0].set_ylabel(
            f"→ {example.photograph.target}", fontsize=10, rotation=0, ha="right", va="center", labelpad=6
        )
        for axes, family in zip(row[1:], families):
            draw_panel(axes, to_pixels(example.morphs[family])[0, -1])
            verdicts = example.verdicts[family].items()
            _write_below(
                axes, [(f"{network}: {_short(v.predicted, 16)}", v.target_predicted) for network, v in verdicts]
            )
    grid[0, 0].set_title("photograph", fontsize=9)
    for axes, family in zip(grid[0, 1:], families):
        axes.set_title(LABELS[family].replace("\n", " "), fontsize=9)
    l2 = float(examples[0].morphs[families[0]].l2[0, -1])
    note = (
        f"photographs and last frames at L2 {l2:.1f}, and what the driver (lite0) and two other networks predict; "
        "bold: the target"
    )
    figure.supxlabel(note, fontsize=8, color=MUTED)
    return figure


def _write_below(axes, lines: Sequence[tuple[str, bool]]) -> None:
    """Write lines (text, whether it is the target) below a panel."""
    for n, (text, is_target) in enumerate(lines):
        options = {"transform": axes.transAxes, "parse_math": False} | caption_style(is_target)
        axes.text(0.5, -0.03 - 0.09 * n, text, fontsize=8, ha="center", va="top", **options)


def animate(example, file) -> None:
    """Write a lossless WebP animation of all families.

    The 256 colours of a GIF would change a photograph about half as much as the edit does.
    """
    caption = lambda probability: f"{example.photograph.target}: {probability:.2f}"
    write_families_animation(example.morphs, caption, file, "webp")


def _rows(examples: Sequence) -> Iterator[list]:
    """Yield a header, and a row for each photograph, family and network."""
    yield (
        "photograph source target family l2 network predicted_before predicted probability target_before "
        "target_after".split()
    )
    for e in examples:
        for family, verdicts in e.verdicts.items():
            l2 = f"{e.morphs[family].l2[0, -1]:.6g}"
            for network, v in verdicts.items():
                numbers = (f"{x:.6g}" for x in (v.probability, v.target_before, v.target_probability))
                named = (e.photograph.name, e.source, e.photograph.target, family, l2, network)
                yield [*named, v.predicted_before, v.predicted, *numbers]


def _licences(examples: Sequence) -> str:
    photographs = [example.photograph for example in examples]
    return "".join(f"{p.title}: {Path(p.file).name} of {p.package}, {p.credit}\n" for p in photographs)

"""What the demo writes: strips, an overview, animations and a table. Every file appears whole or not at all."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from ..extras import need

LABELS = {"phase": "phase", "joint": "phase +\namplitude", "pixel": "pixel"}
REACHED, NOT_YET = "#00695c", "#757575"  # text colours: the classifier says target, or does not
ANIMATION_ZOOM, ANIMATION_FRAME_MS, ANIMATION_HOLD_MS = 5, 110, 900

# Here, so that a missing package is found before the work begins.
Figure = need("demo", "matplotlib.figure").Figure
PIL = need("demo", "PIL.Image"), need("demo", "PIL.ImageDraw"), need("demo", "PIL.ImageFont")


def check_writable(out: Path) -> None:
    """Make the directory; raise OSError where it cannot be written."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out):
        pass


@contextmanager
def atomic(path: Path) -> Iterator[io.BytesIO]:
    """A buffer that becomes the file when the block ends well: written beside it, then renamed."""
    buffer = io.BytesIO()
    yield buffer
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(buffer.getvalue())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_all(out: Path, examples, progress: Callable) -> list[Path]:
    """Strips and animations of each example, ``overview.png`` and ``probabilities.csv``."""
    jobs: list[tuple[str, Callable]] = []
    for example in examples:
        jobs.append((f"{example.name}.png", lambda file, e=example: _save(strip(e), file)))
        jobs.append((f"{example.name}.gif", lambda file, e=example: animate(e, file)))
    jobs.append(("overview.png", lambda file: _save(overview(examples), file)))
    jobs.append(("probabilities.csv", lambda file: table(examples, file)))
    for name, write in progress(jobs):
        with atomic(out / name) as file:
            write(file)
    return [out / name for name, _ in jobs]


def _save(figure, file) -> None:
    figure.savefig(file, format="png", dpi=110, metadata={"Software": None})


# --- Table -----------------------------------------------------------------------------------------------------------


def table(examples, file) -> None:
    """One line per example, family and frame."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    head = "source target test_index family frame factor l2 target_probability source_probability predicted"
    writer.writerow(head.split())
    for e in examples:
        for name, m in e.morphs.items():
            for frame, (factor, l2, p) in enumerate(zip(m.factors, m.l2, m.probabilities)):
                numbers = (f"{x:.6g}" for x in (factor, l2, p[e.target], p[e.source]))
                writer.writerow([e.source, e.target, e.test_index, name, frame, *numbers, int(p.argmax())])
    text.flush()
    text.detach()


# --- Pictures --------------------------------------------------------------------------------------------------------


def _panel(axes, image: Tensor, morph, frame: int, target: int, *, with_l2: bool = True) -> None:
    _image(axes, image)
    p = morph.probabilities[frame]
    says = int(p.argmax())
    text = f"{p[target]:.2f}" + (f"\nL2 {morph.l2[frame]:.2f}" if with_l2 else "")
    style = {"color": REACHED, "weight": "bold"} if says == target else {"color": NOT_YET}
    axes.set_xlabel(text, fontsize=8, labelpad=2, **style)


def _image(axes, image: Tensor) -> None:
    axes.imshow(image.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def strip(example) -> Figure:
    """Rows: phase, phase and amplitude, pixel. Columns: frames, each with the target's probability and its distance."""
    columns = len(next(iter(example.morphs.values())).frames)
    figure = Figure(figsize=(1.05 * columns + 1.0, 4.5), layout="constrained")
    grid = figure.subplots(len(example.morphs), columns, squeeze=False)
    for row, (name, morph) in zip(grid, example.morphs.items()):
        for frame, axes in enumerate(row):
            _panel(axes, morph.frames[frame], morph, frame, example.target)
        row[0].set_ylabel(LABELS[name], fontsize=10, rotation=0, ha="right", va="center", labelpad=6)
    figure.suptitle(
        f"{example.source} → {example.target}   along one frozen gradient (test digit {example.test_index})",
        fontsize=12,
    )
    note = f"below each frame: probability of {example.target}, bold where the classifier says {example.target}"
    figure.supxlabel(note, fontsize=8, color=NOT_YET)
    return figure


def overview(examples) -> Figure:
    """One row for each example: the joint morph's frames, then the other families' last ones."""
    columns = len(examples[0].morphs["joint"].frames)
    figure = Figure(figsize=(0.92 * (columns + 2) + 1.1, 1.13 * len(examples) + 0.8), layout="constrained")
    widths = [1] * columns + [0.25, 1, 1]
    grid = figure.subplots(len(examples), columns + 3, squeeze=False, gridspec_kw={"width_ratios": widths})
    for row, e in zip(grid, examples):
        for frame in range(columns):
            m = e.morphs["joint"]
            _panel(row[frame], m.frames[frame], m, frame, e.target, with_l2=False)
        row[columns].set_axis_off()
        for axes, name in zip(row[columns + 1 :], ("phase", "pixel")):
            m = e.morphs[name]
            _panel(axes, m.frames[-1], m, -1, e.target, with_l2=False)
        label = f"{e.source} → {e.target}"
        row[0].set_ylabel(label, fontsize=13, rotation=0, ha="right", va="center", labelpad=8)
    last = f"L2 {examples[0].morphs['joint'].l2[-1]:.1f}"
    grid[0, 0].set_title("test digit", fontsize=9)
    grid[0, columns // 2].set_title("phase + amplitude", fontsize=9)
    grid[0, columns - 1].set_title(last, fontsize=9)
    grid[0, columns + 1].set_title("phase only", fontsize=9)
    grid[0, columns + 2].set_title("pixels", fontsize=9)
    note = f"below: probability of the target class; all last frames at the same distance, {last}"
    figure.supxlabel(note, fontsize=8, color=NOT_YET)
    return figure


def animate(example, file) -> None:
    """A GIF that goes to the target and back, the families side by side, pixels enlarged."""
    count = len(next(iter(example.morphs.values())).frames)
    pictures = [_animation_frame(example, frame) for frame in range(count)]
    there_and_back = [*range(count), *range(count - 2, 0, -1)]
    hold = {0: ANIMATION_HOLD_MS, count - 1: ANIMATION_HOLD_MS}
    first, *rest = [pictures[i] for i in there_and_back]
    durations = [hold.get(i, ANIMATION_FRAME_MS) for i in there_and_back]
    first.save(file, format="GIF", save_all=True, append_images=rest, duration=durations, loop=0, optimize=False)


def _animation_frame(example, frame: int):
    Image, ImageDraw, ImageFont = PIL
    side = ANIMATION_ZOOM * example.image.shape[-1]
    gap, caption = 8, 40
    canvas = Image.new("L", (len(example.morphs) * (side + gap) - gap, side + caption), 255)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    for i, (name, m) in enumerate(example.morphs.items()):
        pixels = (m.frames[frame] * 255).round().byte().numpy()
        digit = Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)
        canvas.paste(digit, (i * (side + gap), 0))
        text = (
            f"{LABELS[name].replace(chr(10), ' ')}\nP({example.target}) = {m.probabilities[frame, example.target]:.2f}"
        )
        draw.multiline_text((i * (side + gap) + side / 2, side + 3), text, 0, font, anchor="ma", align="center")
    return canvas

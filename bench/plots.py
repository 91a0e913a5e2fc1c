"""Draws a result of growth.py: a PNG for each axis (what was varied), with a log-log plot for each workload."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
from tables import exponent_of, growth_curves

# Colours that colour-blind readers can distinguish (Okabe & Ito); markers differ, too.
STYLE = {
    "ours": dict(label="steerlens_fast", color="#0072B2", marker="o", linewidth=2.2, zorder=4),
    "plain": dict(label="plain torch", color="#E69F00", marker="s", linewidth=1.6, zorder=3),
    "plenoptic": dict(label="plenoptic", color="#CC79A7", marker="^", linewidth=1.6, zorder=2),
    "ffts": dict(label="FFTs alone", color="#595959", marker="", linewidth=1.4, linestyle=(0, (4, 2)), zorder=1),
}
X_LABELS = {  # {0} to {3}: batch, channels, height, width
    "batch": "images of {1}x{2}x{3}",
    "size": "pixels a side, one grey image",
    "frames": "frames of {0}x{1}x{2}x{3}",
    "scales": "scales of {0}x{1}x{2}x{3}",
    "orientations": "orientations of {0}x{1}x{2}x{3}",
    "threads": "threads, {0}x{1}x{2}x{3}",
}
PANEL = 4.3, 3.6  # inches


def draw(result: dict, folder: Path) -> list[Path]:
    """Draw a picture for each axis and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    axes = dict.fromkeys(row["axis"] for row in result["rows"])
    return [draw_axis(result, axis, folder / f"{axis}.png") for axis in axes]


def draw_axis(result: dict, axis: str, path: Path) -> Path:
    curves = {work: by_who for (varied, work), by_who in growth_curves(result).items() if varied == axis}
    shape = next(row["shape"] for row in result["rows"] if row["axis"] == axis).split("x")
    figure = Figure(figsize=(PANEL[0] * len(curves), PANEL[1]), layout="constrained")
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for panel, (work, by_who) in zip(panels, curves.items()):
        draw_panel(panel, by_who)
        panel.set(title=work, xlabel=X_LABELS[axis].format(*shape))
        panel.legend(frameon=False, fontsize=8, loc="upper right" if axis == "threads" else "upper left")
    panels[0].set_ylabel("milliseconds")
    figure.savefig(path, dpi=130, metadata={"Software": None})  # no version, so that equal results give equal files
    return path


def draw_panel(panel, by_who: dict[str, list[tuple[int, float]]]) -> None:
    for who, style in STYLE.items():
        curve = by_who.get(who)
        if curve:
            fitted = exponent_of(curve)
            power = rf"  $n^{{{fitted[0]:.2f}}}$" if fitted else ""
            values, seconds = zip(*curve)
            milliseconds = [1e3 * s for s in seconds]
            panel.plot(values, milliseconds, **style | {"label": style["label"] + power}, markersize=4.5)
    panel.set(xscale="log", yscale="log")
    label_ticks(panel, [value for value, _ in by_who["ours"]])
    panel.grid(True, which="major", color="#dddddd", linewidth=0.7)
    panel.spines[["top", "right"]].set_visible(False)
    low, high = panel.get_ylim()
    panel.set_ylim(low, high * (high / low) ** 0.35)  # room for the legend


def label_ticks(panel, values: list[int]) -> None:
    """Label the ticks with plain numbers.

    x axis: the measured values, or every second one (always including the last) if there are 8 or more. y axis: 1, 2
    and 5 times powers of 10.
    """
    shown = [v for i, v in enumerate(values) if len(values) < 8 or (len(values) - i) % 2]
    panel.set_xticks(shown, [str(v) for v in shown])
    panel.xaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())

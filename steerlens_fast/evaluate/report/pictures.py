"""Figures of band probes and of samples, and the style of all figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...extras import require_extra
from .html import number, share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {
    "pixel": "#6b6b6b",
    "fourier": "#c77700",
    "csp-phase": "#00695c",
    "csp-amplitude": "#5c6bc0",
    "csp-joint": "#ad1457",
    "noise": "#b0b0b0",
    "true motion": "#000000",
}
QUIET = "#757575"


def new_figure(width: float, height: float) -> Figure:
    """Return a figure of the given size in inches. It is not registered with pyplot."""
    return require_extra("plot", "matplotlib.figure").Figure(figsize=(width, height), layout="constrained", dpi=150)


def style(axes, title: str = "") -> None:
    """Set the style of axes: a small title at the left, no frame."""
    axes.set_title(title, fontsize=9.5, loc="left")
    axes.tick_params(labelsize=8.5, length=2)
    axes.spines[["top", "right"]].set_visible(False)


def bands(probes: dict) -> Figure:
    """Return a figure of the band probes by scale and orientation.

    Their advantage is how much more a gradient step in one band changes the driver's margin than noise in it does.
    """
    table = np.array([[np.nan if c["value"] is None else c["value"] for c in row] for row in probes["advantage"]])
    positive, (rows, columns) = probes["positive"], table.shape
    figure = new_figure(1.35 * columns + 1.6, 0.62 * rows + 0.95)
    axes = figure.subplots()
    limit = float(np.nanmax(np.abs(table), initial=1e-12))
    drawn = axes.imshow(table, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    for s in range(rows):
        for k in range(columns):
            missing = np.isnan(table[s, k])
            text = "none" if missing else f"{number(float(table[s, k]))}\n{share(positive[s][k])}"
            dark = not missing and abs(table[s, k]) > 0.6 * limit
            axes.text(k, s, text, ha="center", va="center", fontsize=8, color="white" if dark else "#1c1e20")
    axes.set_yticks(range(rows), [f"scale {s}" for s in range(rows)])
    axes.set_xticks(range(columns), [f"{180 * k / columns:.3g}°" for k in range(columns)])
    style(axes)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(drawn, ax=axes)
    bar.set_label("margin advantage (logits)", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure


def strip_figure(strips: dict) -> Figure:
    """Return a figure of sources and edits.

    ``strips["rows"]`` has a tuple (label, source, edits) for each source. ``edits`` has a tuple (picture, caption,
    reached) for each of ``strips["families"]``.
    """
    families, rows = strips["families"], strips["rows"]
    figure = new_figure(1.08 * (len(families) + 1) + 0.9, 1.3 * len(rows) + 0.35)
    grid = figure.subplots(len(rows), len(families) + 1, squeeze=False)
    for axes_row, (label, source, edits) in zip(grid, rows):
        _picture(axes_row[0], source)
        axes_row[0].set_ylabel(label, fontsize=9, rotation=0, ha="right", va="center", labelpad=6, parse_math=False)
        for axes, family in zip(axes_row[1:], families):
            if family not in edits:
                axes.set_axis_off()
                continue
            picture, caption, reached = edits[family]
            _picture(axes, picture)
            text_style = {"fontweight": "bold", "color": "#00695c"} if reached else {"color": QUIET}
            axes.set_xlabel(caption, fontsize=7.5, labelpad=2, **text_style)
    for axes, name in zip(grid[0], ["source", *families]):
        axes.set_title(name, fontsize=9, color=QUIET if name in ("noise", "true motion") else "black")
    return figure


def _picture(axes, pixels: np.ndarray) -> None:
    """Draw pixels [C, H, W] uint8."""
    shown = pixels[0] if pixels.shape[0] == 1 else pixels.transpose(1, 2, 0)
    axes.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(linewidth=0.4, color="0.6")

"""The report's figures. Needs the extra ``steerlens_fast[plot]``."""

from __future__ import annotations

from collections.abc import Iterator
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
MIN_PROBABILITY = 1e-12  # lower limit of the axis; an arrow at the limit marks smaller values


def all_figures(summary: dict, strips: dict | None) -> Iterator[tuple[str, str, Figure]]:
    """Yield (name, caption, figure) for every part of the summary."""
    yield "measures", MEASURES, measures(summary)
    yield "coverage", COVERAGE, coverage(summary)
    if any("leakage" in entry for entry in summary["budgets"][0]["families"].values()):
        yield "consistency", CONSISTENCY, consistency(summary)
    if summary.get("groups"):
        yield "alignment", ALIGNMENT, alignments(summary)
    if summary.get("bands"):
        yield "bands", BANDS.format(**summary["bands"]), bands(summary["bands"])
    if strips and strips["rows"]:
        yield "strips", STRIPS, strip_figure(strips)


MEASURES = (
    "Three measures with 95 % intervals, at each distance, over the sources for which every family attained the "
    "distance. Left: the driver's probability of the target (median). Middle: share of sources for which all judges "
    "predict the target. Right: share of the edit's energy that a smooth warp of the source explains (median); hollow: "
    "without gain, filled: with gain. Grey names are controls."
)
COVERAGE = "Number of sources for which each family attained each distance, and for which all families did."
CONSISTENCY = (
    "Are the edited coefficients those of an image? (Medians with 95 % intervals.) Imaginary leakage: 0 if "
    "real and imaginary parts describe the same image, ½ if they describe unrelated images. Departure: share of the "
    "coefficients' edit that is lost when the edited image is analysed again. Clipping: share of the edit's energy "
    "that clipping removes."
)
ALIGNMENT = (
    "Edits compared with the true motion, for each kind of image, at the largest distance (medians with 95 % "
    "intervals). Above: cosine between the edit and the true derivative image. Below: the displacement measured by "
    "phases, divided by the true motion's displacement at the same L2 distance. A median is over the sources of the "
    "kind for which the family attained the distance. The number of these sources is in the tables "
    '"Compared with the true motion".'
)
BANDS = (
    "Single-band probes ({family}, L2 {l2:g}): the change of the margin by a step along the gradient, minus the mean "
    "change by {directions} steps of Gaussian noise in the same band. Each cell has the median over sources, and the "
    "number of sources for which this difference is positive, out of the sources that reached the distance within the "
    "band."
)
STRIPS = (
    "Rows: sources, evenly spaced or one of each kind. Columns: the source, and its edits at the largest distance. "
    "Below each edit: the driver's probability of the target, and how many judges predict it."
)


# --- Style ------------------------------------------------------------------------------------------------------------


def new_figure(width: float, height: float) -> Figure:
    """Return a figure of the given size in inches. It is not registered with pyplot."""
    return require_extra("plot", "matplotlib.figure").Figure(figsize=(width, height), layout="constrained", dpi=150)


def style(axes, title: str = "") -> None:
    """Set the style of axes: a small title at the left, no frame."""
    axes.set_title(title, fontsize=9.5, loc="left")
    axes.tick_params(labelsize=8.5, length=2)
    axes.spines[["top", "right"]].set_visible(False)


# --- Intervals -------------------------------------------------------------------------------------------------------


def _intervals(
    axes, families: dict, name: str, *, hollow: bool = False, shift: float = 0.0, lower: float | None = None
):
    """Draw a point and its interval for each family, from top to bottom."""
    for y, (family, entry) in enumerate(families.items()):
        interval = entry.get(name)
        if not interval or interval["value"] is None:
            continue
        value, low, high = (interval[k] if lower is None else max(interval[k], lower) for k in ("value", "low", "high"))
        colour = COLOURS.get(family, "#333333")
        axes.plot([low, high], [y + shift] * 2, color=colour, linewidth=1.6, solid_capstyle="butt", alpha=0.75)
        fill = "white" if hollow else colour
        mark = "o" if value == interval["value"] else "<"
        axes.plot(value, y + shift, mark, markersize=5.5, markeredgecolor=colour, markerfacecolor=fill, clip_on=False)


def _axis_start(budgets: list[dict]) -> float:
    """Return the power of ten at which the axis of probabilities begins.

    It is the largest power of ten below all intervals, but at least MIN_PROBABILITY.
    """
    each = (entry for budget in budgets for entry in (*budget["families"].values(), *budget["controls"].values()))
    lows = [entry["target_probability"]["low"] for entry in each if entry["target_probability"]["value"] is not None]
    return max(MIN_PROBABILITY, 10.0 ** np.floor(np.log10(max(min(lows, default=1e-3), MIN_PROBABILITY))))


def _rows(axes, families: dict, controls: dict, labelled: bool) -> None:
    axes.set_ylim(len(families) - 0.4, -0.6)
    axes.set_yticks(range(len(families)), list(families) if labelled else [""] * len(families))
    for label in axes.get_yticklabels():
        if label.get_text() in controls:
            label.set_color(QUIET)
    axes.grid(axis="x", color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)


def measures(summary: dict) -> Figure:
    """Return a figure of three measures, with a row per budget."""
    budgets = summary["budgets"]
    rows = len(budgets[0]["families"]) + len(budgets[0]["controls"])
    figure = new_figure(9.2, len(budgets) * (0.27 * rows + 0.75))
    grid, lower = figure.subplots(len(budgets), 3, squeeze=False), _axis_start(budgets)
    for row, budget in zip(grid, budgets):
        each = {**budget["families"], **budget["controls"]}
        about = f"L2 = {budget['l2']:.3g}: {budget['attainment']['common']} of {budget['attainment']['of']} sources"
        for n, axes in enumerate(row):
            _rows(axes, each, budget["controls"], labelled=n == 0)
        _intervals(row[0], each, "target_probability", lower=lower)
        row[0].set(xscale="log", xlim=(lower * 0.7, 1.4))
        _intervals(row[1], each, "jointly")
        row[1].set_xlim(left=0)
        _intervals(row[2], each, "warp", hollow=True, shift=-0.14)
        _intervals(row[2], each, "gain", shift=0.14)
        row[2].set_xlim(0, 1)
        style(row[0], f"{about}\ndriver's target probability")
        style(row[1], "all judges predict the target")
        style(row[2], "explained: ○ warp, ● warp + gain")
        if not summary["judges"]:
            row[1].text(0.5, 0.5, "no judges", transform=row[1].transAxes, ha="center", color=QUIET, fontsize=9)
    return figure


def coverage(summary: dict) -> Figure:
    """Return a figure of how many sources attained each budget. It has a bar for each family and one for all."""
    budgets = summary["budgets"]
    names = [*budgets[0]["attainment"]["by_family"], "in common"]
    figure = new_figure(9.2, 0.27 * len(names) + 0.75)
    for axes, budget in zip(figure.subplots(1, len(budgets), squeeze=False)[0], budgets):
        entry = budget["attainment"]
        counts = [*entry["by_family"].values(), entry["common"]]
        colours = [*(COLOURS.get(name, "#333333") for name in entry["by_family"]), "#1c1e20"]
        axes.barh(range(len(names)), counts, color=colours, height=0.6)
        for y, n in enumerate(counts):
            axes.text(n + 0.01 * entry["of"], y, f"{n}/{entry['of']}", va="center", fontsize=8)
        axes.set(xlim=(0, entry["of"] * 1.16), ylim=(len(names) - 0.4, -0.6))
        axes.set_yticks(range(len(names)), names if budget is budgets[0] else [""] * len(names))
        style(axes, f"sources that attained L2 = {budget['l2']:.3g}")
    return figure


def consistency(summary: dict) -> Figure:
    """Return a figure of leakage, departure and clipping.

    The paper "Confidence Is Not Evidence" recommends reporting them.
    """
    budget = summary["budgets"][0]
    panels = {
        "leakage": "imaginary leakage",
        "departure": "departure (○), after the clip (●)",
        "clipped_energy": "energy removed by clipping",
    }
    each = budget["families"]
    figure = new_figure(9.2, 0.27 * len(each) + 0.85)
    for n, (axes, (name, title)) in enumerate(zip(figure.subplots(1, 3), panels.items())):
        _rows(axes, each, {}, labelled=n == 0)
        if name == "departure":
            _intervals(axes, each, name, hollow=True, shift=-0.12)
            _intervals(axes, each, "departure_clipped", shift=0.12)
        else:
            _intervals(axes, each, name)
        axes.set_xlim(0, 1)
        for y, entry in enumerate(each.values()):
            if name not in entry:
                axes.text(0.02, y, "has no bands", va="center", fontsize=7.5, color=QUIET, style="italic")
        style(axes, f"L2 = {budget['l2']:.3g}\n{title}" if n == 0 else title)
    return figure


def alignments(summary: dict) -> Figure:
    """Return a figure of cosines and displacements for each kind."""
    groups = next(iter(summary["groups"].values()))  # groups of the first budget, which is the largest
    families = list(next(iter(groups.values())))
    figure = new_figure(9.2, 5.0)
    panels = {
        "alignment": "cosine with the true derivative",
        "recovered": "displacement by phase / true displacement",
    }
    for axes, (name, title) in zip(figure.subplots(2, 1, sharex=True), panels.items()):
        for n, family in enumerate(families):
            at = np.arange(len(groups)) + (n - (len(families) - 1) / 2) * 0.11
            entries = [groups[kind][family][name] for kind in groups]
            points = [(x, t) for x, t in zip(at, entries) if t["value"] is not None]
            colour = COLOURS.get(family, "#333333")
            for x, t in points:
                axes.plot([x, x], [t["low"], t["high"]], color=colour, linewidth=1.4, alpha=0.75)
            axes.plot(
                [x for x, _ in points], [t["value"] for _, t in points], "o", markersize=4.5, color=colour, label=family
            )
        axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
        axes.set_xticks(range(len(groups)), list(groups))
        style(axes, title)
        axes.grid(axis="y", color="0.93", linewidth=0.8)
        axes.set_axisbelow(True)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=len(families), fontsize=8, frameon=False
    )
    return figure


# --- Images -----------------------------------------------------------------------------------------------------------


def bands(probes: dict) -> Figure:
    """Return a figure of the band probes by scale and orientation.

    The advantage of a probe is how much more a gradient step in one band changes the driver's margin than noise does.
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

    ``strips["rows"]`` has a tuple (label, pixels, edits) for each source. ``edits`` maps each family with an edit to a
    tuple (pixels, caption, success). ``success`` says whether the edit has the distance, and the driver predicts the
    target.
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
            picture, caption, success = edits[family]
            _picture(axes, picture)
            text_style = {"fontweight": "bold", "color": "#00695c"} if success else {"color": QUIET}
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

"""The report: figures as PNG and SVG, and one static page that asks for nothing but these."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...data.class_names import class_name
from ...extras import require_extra
from ...io.atomic_io import atomic_write
from ..summary import read_results
from ..tasks import Work
from .figures import all_figures
from .html import number, page

SETTINGS = {"svg.hashsalt": "steerlens_fast", "svg.fonttype": "none", "font.family": "sans-serif"}


def write_report(out: Path, summary: dict, work: Work, frames: dict[str, dict[int, np.ndarray]]) -> Path:
    """Draw everything, and write ``index.html``.

    Parameters
    ----------
    out : Path
        The evaluation's folder, with ``results.jsonl`` in it.
    summary : dict
    work : Work
        Has the sources' images.
    frames : dict
        By family: the frames of the sources that are shown, [C, H, W] uint8.

    Returns
    -------
    Path
        The page.
    """
    matplotlib = require_extra("plot", "matplotlib")
    (out / "figures").mkdir(exist_ok=True)
    shown = []
    with matplotlib.rc_context(SETTINGS):
        for name, caption, figure in all_figures(summary, _strips(out, work, frames)):
            for kind, unstamped in (("png", {"Software": None}), ("svg", {"Date": None})):
                with atomic_write(out / "figures" / f"{name}.{kind}") as file:
                    figure.savefig(file, format=kind, metadata=unstamped)
            shown.append((name, caption))
    with atomic_write(out / "index.html") as file:
        file.write(page(summary, shown).encode(errors="replace"))
    return out / "index.html"


def _strips(out: Path, work: Work, frames: dict) -> dict:
    """What the figure of samples shows, with what driver and judges said."""
    largest = float(f"{max(work.budgets):.7g}")
    said = {}
    for record in read_results(out / "results.jsonl"):
        if record.get("budget") == largest and record["source"] in work.shown:
            said[record["family"], record["source"]] = record
    rows = []
    for n in sorted(work.shown):
        source = (work.chosen.images[n] * 255).round().byte().numpy()
        edits = {f: (frames[f][n], *_said(said[f, n])) for f in frames if n in frames[f]}
        target = next((said[f, n]["target"] for f in edits), None)
        named = lambda c: "" if c is None else class_name(c, work.chosen.classes)
        label = f"{named(int(work.chosen.predicted[n]))} → {named(target)}"
        rows.append((label if len(label) < 10 else label.replace(" → ", "\n→ "), source, edits))
    return {"families": list(frames), "rows": rows}


def _said(record: dict) -> tuple[str, bool]:
    if record["target_probability"] is None:
        return "no edit" if record["reason"] else "not finite", False
    judges = record.get("judges") or {}
    text = number(record["target_probability"])
    if judges:
        text += f"  {sum(map(bool, judges.values()))}/{len(judges)}"
    if not record["attained"]:
        text += f"\nL2 {record['l2']:.3g} only"
    return text, bool(record["driver"] and record["attained"])

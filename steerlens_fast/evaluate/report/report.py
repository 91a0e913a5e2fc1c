"""Writes the report: a static page and its figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from ...classifier.class_names import class_name, pair_text
from ...extras import require_extra
from ...io.atomic_io import atomic_write
from ...morphs.distance_text import distance_text
from ..summary import read_results
from ..tasks import TaskRunner
from .figures import all_figures
from .html import number, page

SETTINGS = {"svg.hashsalt": "steerlens_fast", "svg.fonttype": "none", "font.family": "sans-serif"}
# Options of savefig. PNG and SVG: no times and versions in the files. JPEG: small files.
OPTIONS: dict[str, dict] = {
    "png": {"metadata": {"Software": None}},
    "svg": {"metadata": {"Date": None}},
    "jpg": {"dpi": 110, "pil_kwargs": {"quality": 75}},
}
PHOTOGRAPH_SIDE = 96  # pixels; as PNG and SVG, figures of larger colour images have several megabytes


def is_photographs(images: Tensor) -> bool:
    """Return whether images [N, C, H, W] are in colour and large.

    Examples
    --------
    >>> import torch
    >>> is_photographs(torch.empty(2, 3, 224, 224)), is_photographs(torch.empty(2, 1, 224, 224))
    (True, False)
    """
    return images.shape[1] == 3 and max(images.shape[-2:]) > PHOTOGRAPH_SIDE


def write_report(out: Path, summary: dict, runner: TaskRunner, frames: dict[str, dict[int, np.ndarray]]) -> Path:
    """Draw the figures and write ``index.html``.

    Parameters
    ----------
    out : Path
        The evaluation's folder, with ``results.jsonl`` in it.
    summary : dict
    runner : TaskRunner
        The task runner, which has the images of the sources.
    frames : dict
        The frames [C, H, W] uint8 of the sources that are shown, by family and source.

    Returns
    -------
    Path
        The page.
    """
    matplotlib = require_extra("plot", "matplotlib")
    (out / "figures").mkdir(exist_ok=True)
    shown = []
    with matplotlib.rc_context(SETTINGS):
        for name, caption, figure in all_figures(summary, _strips(out, runner, frames)):
            suffixes = ("jpg",) if name == "strips" and is_photographs(runner.sources.images) else ("svg", "png")
            for suffix in suffixes:
                with atomic_write(out / "figures" / f"{name}.{suffix}") as file:
                    figure.savefig(file, format=suffix, **OPTIONS[suffix])
            shown.append((name, caption, suffixes))
    with atomic_write(out / "index.html") as file:
        file.write(page(summary, shown).encode(errors="replace"))
    return out / "index.html"


def _strips(out: Path, runner: TaskRunner, frames: dict) -> dict:
    """Return the pictures and captions of the figure "strips"."""
    largest = float(f"{max(runner.budgets):.7g}")  # rounded as in the records
    record_of = {}
    for record in read_results(out / "results.jsonl"):
        if record.get("budget") == largest and record["source"] in runner.shown:
            record_of[record["family"], record["source"]] = record
    rows = []
    for n in sorted(runner.shown):
        source = (runner.sources.images[n] * 255).round().byte().numpy()
        edits = {f: (frames[f][n], *_edit_caption(record_of[f, n])) for f in frames if n in frames[f]}
        target = next((record_of[f, n]["target"] for f in edits), None)
        name_of = lambda c: "" if c is None else class_name(c, runner.sources.classes)
        label = pair_text(name_of(int(runner.sources.predicted[n])), name_of(target))
        rows.append((label if len(label) < 10 else label.replace(" → ", "\n→ "), source, edits))
    return {"families": list(frames), "rows": rows}


def _edit_caption(record: dict) -> tuple[str, bool]:
    """Return the caption of an edit, and whether it is a success (see :func:`.strip_figure`)."""
    if record["target_probability"] is None:  # a failed morph has a reason; otherwise, the probability is not finite
        return "no edit" if record["reason"] else "not finite", False
    judges = record.get("judges") or {}
    text = number(record["target_probability"])
    if judges:
        text += f"  {sum(map(bool, judges.values()))}/{len(judges)}"
    if not record["attained"]:
        text += f"\nL2 {distance_text(record['l2'], [record['budget']])} only"
    return text, bool(record["driver_agrees"] and record["attained"])

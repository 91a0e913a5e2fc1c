"""Parts of the report's page: facts, tables, captions; all text escaped."""

from __future__ import annotations

from ..presets.published import SOURCE
from .html import count, difference, e, median, number, table

COLUMNS = {
    "target_probability": "driver: G",
    "driver": "driver says target",
    "jointly": "all judges",
    "warp": "E warp",
    "gain": "E warp + gain",
    "folded": "folds",
    "clipped_energy": "clipped",
    "leakage": "leakage",
    "departure": "departure",
    "alignment": "alignment",
}
COUNTED = ("driver", "jointly")  # as counts of sources
ALL = "all kinds"
GROUPED = {
    "alignment": "Cosine between the edit and the true derivative image",
    "recovered": "Displacement that phases tell, as a share of how far the true motion to the same distance goes",
    "displacement": "Displacement that phases tell, in units of the kind's own factor",
}
MEASURES = {"target_probability": "G", "jointly": "all judges", "warp": "E warp", "gain": "E warp + gain"}


def facts(summary: dict) -> str:
    """What was compared, over what."""
    config, sources = summary["config"], summary["sources"]
    why = lambda reason, told: f"{told['images']} {reason} ({told['why']})"
    left = ", ".join(why(*item) for item in sources["left_out"].items()) or "none"
    told = {
        "Classifier": config["driver"],
        "Judges": ", ".join(config["judges"]) or "none",
        "Data": config["data"],
        "Sources": f"{sources['chosen']} of the first {sources['looked_at']} images; left out: {left}",
        "Target": str(config["target"]),
        "Edits": f"{config['regime']}, {config['rule']} rule, {config['frames']} frames, {config['objective']}",
        "Intervals": f"95 %, {config['draws']:,} draws of sources, the same for every family and budget",
    }
    return "\n".join(f"<div><dt>{e(name)}</dt><dd>{e(value)}</dd></div>" for name, value in told.items())


def problems(summary: dict) -> str:
    """What a reader must know first."""
    if not summary["problems"]:
        return ""
    items = "".join(f"<li>{e(problem)}</li>" for problem in summary["problems"])
    return f'<section class="problems"><h2>Problems</h2><ul>{items}</ul></section>'


def budget(summary: dict, told: dict) -> str:
    """One budget's tables: families, then controls; their differences; kind by kind, where the data have kinds."""
    attained, controls = told["attainment"], told["controls"]
    each = {**told["families"], **controls}
    columns = [name for name in COLUMNS if any(name in measures for measures in each.values())]
    reached = {**attained["by_family"], **attained["by_control"]}
    rows = {}
    for family, measures in each.items():
        cells = (cell(name, measures, attained["common"]) for name in columns)
        rows[family] = [f"{reached[family]}/{attained['of']}", *cells]
    head = ["family", "attained", *(COLUMNS[name] for name in columns)]
    note = (
        f"Medians and counts over the {attained['common']} of {attained['of']} sources that every family brought there "
        "(of controls, grey, over those of them that the control brought there); below, 95 % intervals"
    )
    return (
        f'<section><h2>L2 = {told["l2"]:.4g}</h2><p class="note">{note}.</p>{table(head, rows, controls)}'
        f"{paired('Paired differences between families', told['paired'])}"
        f"{paired('Paired differences of families from controls', told['paired_with_controls'])}"
        f"{groups(summary, told)}</section>"
    )


def cell(name: str, measures: dict, common: int) -> str:
    """One measure of one family; each judge by itself below what all say."""
    found = measures.get(name)
    if name not in COUNTED:
        return median(found, common)
    return count(found) + (singly(measures) if name == "jointly" else "")


def paired(title: str, told: dict) -> str:
    """Differences over the same sources; those whose interval leaves out 0 are bold."""
    measures = [name for name in told if told[name]]
    if not measures:
        return ""
    names = list(dict.fromkeys(name for measure in measures for name in told[measure]))
    rows = {name.replace(" - ", " − "): [difference(told[m].get(name)) for m in measures] for name in names}
    head = ["families", *(COLUMNS[name] for name in measures)]
    return (
        f"<details><summary>{title}: medians (of the judges: means) over the same sources, with intervals and how many "
        f"sources there are, bold where the interval leaves out 0</summary>{table(head, rows)}</details>"
    )


def groups(summary: dict, told: dict) -> str:
    """By kind: alignment, displacement and its share of the true one, of every family and control."""
    kinds = (summary.get("groups") or {}).get(f"{told['l2']:.4g}")
    if not kinds:
        return ""
    each, text = {**told["families"], **told["controls"]}, ""
    for name, title in GROUPED.items():
        pooled = [ALL] if name in told["families"][next(iter(told["families"]))] else []  # what has units has none
        rows = {}
        for family, measures in each.items():
            found = [measures.get(name)] * len(pooled) + [of[family][name] for of in kinds.values()]
            rows[family] = map(median, found)
        text += f'<p class="note">{title}</p>{table(["family", *pooled, *kinds], rows, told["controls"])}'
    return (
        "<details><summary>Against the true motion, kind by kind: medians with intervals, over the sources of the kind "
        f"that the family brought there; all kinds, over the common sources</summary>{text}</details>"
    )


def bands(summary: dict) -> str:
    """Probes of every band: the advantage, the share above 0, and of how many sources."""
    told = summary.get("bands")
    if not told:
        return ""
    scales, orientations = (range(len(rows)) for rows in (told["advantage"], told["advantage"][0]))
    cell = lambda s, k: f"{median(told['advantage'][s][k])}<small>above 0: {count(told['positive'][s][k])}</small>"
    rows = {f"scale {s}": [cell(s, k) for k in orientations] for s in scales}
    head = ["", *(f"{180 * k / len(orientations):.3g}°" for k in orientations)]
    note = (
        f"{e(told['family'])} at L2 = {told['l2']:g}, {told['directions']} Gaussian directions: median margin "
        "advantage in logits, with its interval and the sources that could be moved so far in that band; below, for "
        "how many it is above 0"
    )
    return f'<section><h2>Single-band probes</h2><p class="note">{note}.</p>{table(head, rows)}</section>'


def singly(measures: dict) -> str:
    """What each judge says by itself."""
    told = measures.get("judges", {})
    counts = (f"{judge} {round(found['value'] * found['cases'])}" for judge, found in told.items() if found["cases"])
    return "".join(f"<small>{e(text)}</small>" for text in counts)


def published(summary: dict) -> str:
    """Ours beside the follow-up's, where data and options are those of the shipped experiment."""
    told = summary.get("published")
    if not told:
        return ""
    if why := told.get("left_out"):
        note = f"Left out, since this is not the preset as it ships: {e('; '.join(why))}."
        return f'<section><h2>Beside the follow-up</h2><p class="note">{note}</p></section>'
    measures, rows = told["measures"], {}
    for family in measures["warp"]["published"]:
        pairs = ((measures[m]["ours"].get(family), measures[m]["published"][family]) for m in MEASURES)
        rows[family] = [f"{number(ours)} <span class='theirs'>/ {number(theirs)}</span>" for ours, theirs in pairs]
    lines = []
    for m, name in MEASURES.items():
        agrees, differs = measures[m]["agrees"], measures[m]["differs"]
        said = f"{name}: {len(agrees)} of {len(agrees) + len(differs)} pairs of families in the published order"
        lines.append(f"<li>{said}. Not so: {e(', '.join(differs) or 'none')}.</li>")
    note = (
        f"Ours / published. {e(SOURCE)}. This is no reproduction: 8 × 8 digits upsampled to 32 × 32 in place of MNIST, "
        "networks and targets of our own, distances matched by RMS. Levels are not comparable; the order of families "
        "may be"
    )
    head = ["family", *(f"{name}, ours / published" for name in MEASURES.values())]
    return (
        f'<section><h2>Beside the follow-up</h2><p class="note">{note}. Ours at L2 = {told["l2"]:.4g}, over '
        f"{told['cases']} of {told['of']} sources.</p>{table(head, rows)}<ul>{''.join(lines)}</ul></section>"
    )


def figure(name: str, caption: str) -> str:
    """A figure with its caption, and a link to each form."""
    links = f'<a href="figures/{name}.svg">SVG</a>, <a href="figures/{name}.png">PNG</a>'
    image = f'<img src="figures/{name}.svg" alt="{e(name)}">'
    return f'<figure id="{name}">{image}<figcaption>{e(caption)} {links}</figcaption></figure>'

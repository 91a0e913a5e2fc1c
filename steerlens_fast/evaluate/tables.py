"""Parts of the report's page: facts, tables, captions; all text escaped."""

from __future__ import annotations

import html

from .published import SOURCE

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
MEASURES = {"target_probability": "G", "jointly": "all judges", "warp": "E warp", "gain": "E warp + gain"}


def number(value: float | None) -> str:
    """Three significant digits, as tables have them.

    Examples
    --------
    >>> number(0.9621), number(1.63e-05), number(0.0), number(None)
    ('.962', '1.6e-5', '0', '–')
    """
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if abs(value) < 1e-3:
        return f"{value:.1e}".replace("e-0", "e-").replace("-", "−", value < 0)
    text = f"{value:.4f}" if abs(value) < 1e-2 else f"{value:.3f}"
    return text.replace("0.", ".", 1).replace("-", "−") if abs(value) < 1 else text


def facts(summary: dict) -> str:
    """What was compared, over what."""
    config, sources = summary["config"], summary["sources"]
    left = ", ".join(f"{told['images']} {reason}" for reason, told in sources["left_out"].items()) or "none"
    told = {
        "Driver": config["driver"],
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
    """One budget's table: families, then controls."""
    attained = told["attainment"]
    each = {**told["families"], **told["controls"]}
    columns = [name for name in COLUMNS if any(name in measures for measures in each.values())]
    head = "".join(f"<th>{e(COLUMNS[name])}</th>" for name in columns)
    rows = []
    for family, measures in each.items():
        n = attained["by_family"].get(family)
        reached = "control" if n is None else f"{n}/{attained['of']}"
        cells = "".join(
            f"<td>{cell(measures.get(name), name in COUNTED)}{singly(name, measures)}</td>" for name in columns
        )
        kind = ' class="control"' if n is None else ""
        rows.append(f"<tr{kind}><th>{e(family)}</th><td>{reached}</td>{cells}</tr>")
    title = f"L2 = {told['l2']:.4g}"
    note = f"over the {attained['common']} of {attained['of']} sources that every family brought there"
    return (
        f'<section><h2>{title}</h2><p class="note">Medians and counts {note}; below, 95 % intervals.</p>'
        f'<div class="scroll"><table><thead><tr><th>family</th><th>attained</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{paired(told['paired'])}</section>"
    )


def paired(told: dict) -> str:
    """Differences between families over the same sources; those whose interval leaves out 0 are bold."""
    measures = [name for name in told if told[name]]
    names = list(told[measures[0]]) if measures else []
    if not names:
        return ""
    head = "".join(f"<th>{e(COLUMNS[name])}</th>" for name in measures)
    rows = []
    for name in names:
        cells = "".join(f"<td>{difference(told[measure].get(name))}</td>" for measure in measures)
        rows.append(f"<tr><th>{e(name.replace(' - ', ' − '))}</th>{cells}</tr>")
    return (
        "<details><summary>Paired differences: medians (of the judges: means) over the same sources, bold where the "
        f'interval leaves out 0</summary><div class="scroll"><table><thead><tr><th>families</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></details>"
    )


def difference(found: dict | None) -> str:
    """A signed value and its interval."""
    if not found or found["value"] is None:
        return "–"
    apart = found["low"] > 0 or found["high"] < 0
    text = number(found["value"])
    value = f"<strong>{text}</strong>" if apart else text
    return f"{value}<small>{number(found['low'])} to {number(found['high'])}</small>"


def cell(found: dict | None, counted: bool) -> str:
    """A value, its interval, and its denominator where it is a count."""
    if not found or found["value"] is None:
        return "–"
    low, high = number(found["low"]), number(found["high"])
    value = f"{round(found['value'] * found['cases'])}/{found['cases']}" if counted else number(found["value"])
    return f"{value}<small>{low} to {high}</small>"


def singly(name: str, measures: dict) -> str:
    """What each judge says by itself, below what all say."""
    told = measures.get("judges", {}) if name == "jointly" else {}
    counts = (f"{judge} {round(found['value'] * found['cases'])}" for judge, found in told.items() if found["cases"])
    return "".join(f"<small>{e(text)}</small>" for text in counts)


def published(summary: dict) -> str:
    """Ours beside the follow-up's, where the data are the shipped digits."""
    told = summary.get("published")
    if not told:
        return ""
    head = "".join(f"<th>{name}, ours</th><th>published</th>" for name in MEASURES.values())
    families = list(told["warp"]["published"])
    rows = []
    for family in families:
        pairs = ((told[m]["ours"].get(family), told[m]["published"][family]) for m in MEASURES)
        cells = "".join(f"<td>{number(a)}</td><td class='theirs'>{number(b)}</td>" for a, b in pairs)
        rows.append(f"<tr><th>{e(family)}</th>{cells}</tr>")
    lines = []
    for m, name in MEASURES.items():
        agrees, differs = told[m]["agrees"], told[m]["differs"]
        said = f"{name}: {len(agrees)} of {len(agrees) + len(differs)} pairs of families in the published order"
        lines.append(f"<li>{said}. Not so: {e(', '.join(differs) or 'none')}.</li>")
    return (
        f'<section><h2>Beside the follow-up</h2><p class="note">{e(SOURCE)}. This is no reproduction: 8 × 8 digits '
        "upsampled to 32 × 32 in place of MNIST, networks and targets of our own, distances matched by RMS. Levels are "
        "not comparable; the order of families may be.</p>"
        f'<div class="scroll"><table><thead><tr><th>family</th>{head}</tr></thead><tbody>{"".join(rows)}</tbody>'
        f"</table></div><ul>{''.join(lines)}</ul></section>"
    )


def figure(name: str, caption: str) -> str:
    """A figure with its caption, and a link to each form."""
    links = f'<a href="figures/{name}.svg">SVG</a>, <a href="figures/{name}.png">PNG</a>'
    image = f'<img src="figures/{name}.svg" alt="{e(name)}">'
    return f'<figure id="{name}">{image}<figcaption>{e(caption)} {links}</figcaption></figure>'


def e(text: str) -> str:
    """Escaped."""
    return html.escape(text.encode(errors="replace").decode())

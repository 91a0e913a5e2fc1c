"""Cells and tables of the report's page: numbers with their intervals and denominators; all text escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping


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


def interval(found: dict) -> str:
    """From where to where."""
    return f"{number(found['low'])} to {number(found['high'])}"


def median(found: dict | None, told: int | None = None) -> str:
    """A value and its interval; and of how many cases, unless that is ``told`` elsewhere.

    Examples
    --------
    >>> median({"value": 0.5, "low": 0.25, "high": 0.75, "cases": 9, "of": 10})
    '.500<small>.250 to .750</small><small>9 of 10</small>'
    """
    if not found or found["value"] is None:
        return "–" + (f"<small>0 of {found['of']}</small>" if found and told != 0 else "")
    counted = "" if found["cases"] == told else f"<small>{found['cases']} of {found['of']}</small>"
    return f"{number(found['value'])}<small>{interval(found)}</small>{counted}"


def count(found: dict | None) -> str:
    """A proportion as a count of its cases, with the proportion's interval."""
    if not found or found["value"] is None:
        return "–"
    return f"{round(found['value'] * found['cases'])}/{found['cases']}<small>{interval(found)}</small>"


def difference(found: dict | None) -> str:
    """A signed value, its interval and denominator; bold where the interval leaves out 0."""
    if not found or found["value"] is None:
        return median(found)
    apart = found["low"] > 0 or found["high"] < 0
    text = median(found)
    value, small, rest = text.partition("<small>")
    return f"<strong>{value}</strong>{small}{rest}" if apart else text


def table(head: Iterable[str], rows: Mapping[str, Iterable[str]], controls: Iterable[str] = ()) -> str:
    """A table that scrolls: titles, and by name rows of cells, which are markup already; grey those of controls."""
    controls, titles = set(controls), "".join(f"<th>{e(title)}</th>" for title in head)
    lines = []
    for name, cells in rows.items():
        kind = ' class="control"' if name in controls else ""
        lines.append(f"<tr{kind}><th>{e(name)}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    body = "".join(lines)
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'


def e(text: str) -> str:
    """Escaped."""
    return html.escape(text.encode(errors="replace").decode())

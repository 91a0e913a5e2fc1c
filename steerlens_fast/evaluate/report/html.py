"""The report's page, rendered from Jinja2 templates; all text is escaped."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files

from jinja2 import DictLoader, Environment, StrictUndefined

from ..presets.published import CITATION
from . import tables

TEMPLATES = ("page.html", "macros.html")


def number(value: float | None) -> str:
    """Format a number as the tables print it.

    It has three decimals; below 0.01 it has four, and below 0.001 two significant digits.

    Examples
    --------
    >>> number(-12.34), number(0.9621), number(0.00162), number(1.63e-05), number(0.0), number(None)
    ('−12.340', '.962', '.0016', '1.6e-5', '0', '–')
    """
    if value is None:
        return "–"
    if value == 0:
        return "0"
    sign, size = "−" if value < 0 else "", abs(value)
    if size < 1e-3:
        return sign + f"{size:.1e}".replace("e-0", "e-")
    return sign + (f"{size:.4f}" if size < 1e-2 else f"{size:.3f}").removeprefix("0")


def low_to_high(interval: dict) -> str:
    """Format the limits of an interval.

    Examples
    --------
    >>> low_to_high({"low": -0.25, "high": 0.5})
    '−.250 to .500'
    """
    return f"{number(interval['low'])} to {number(interval['high'])}"


def share(interval: dict) -> str:
    """Format a proportion as a count of its cases, since a percentage would round 299 of 300 to 100 %.

    Examples
    --------
    >>> share({"value": 0.25, "cases": 8})
    '2/8'
    """
    return f"{round(interval['value'] * interval['cases'])}/{interval['cases']}"


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return the environment with the report's templates, and the filters that they use."""
    sources = {name: files(__package__).joinpath(name).read_text(encoding="utf-8") for name in TEMPLATES}
    templates = Environment(loader=DictLoader(sources), autoescape=True, undefined=StrictUndefined)
    templates.filters |= {"number": number, "low_to_high": low_to_high, "share": share, **tables.FILTERS}
    templates.globals |= {
        "CITATION": CITATION,
        "GROUPED": tables.GROUPED,
        "PUBLISHED_MEASURES": tables.PUBLISHED_MEASURES,
    }
    return templates


def macro(name: str, *arguments) -> str:
    """Render one macro of ``macros.html``.

    Examples
    --------
    >>> macro("median", {"value": 0.5, "low": 0.25, "high": 0.75, "cases": 9, "of": 10})
    '.500<small>.250 to .750</small><small>9 of 10</small>'
    """
    return str(getattr(environment().get_template("macros.html").module, name)(*arguments))


def page(summary: dict, figures: list[tuple[str, str, Sequence[str]]]) -> str:
    """Render the page of a summary.

    Figures are given as (name, caption, formats), with formats such as ("svg", "png").

    The page's content security policy allows only its own style, and images from its own server or from files.
    """
    templates = environment()
    source, _, _ = templates.loader.get_source(templates, "page.html")
    style = sha256(re.search("<style>(.*?)</style>", source, re.S)[1].encode()).digest()
    policy = f"default-src 'none'; img-src 'self' file:; style-src 'sha256-{b64encode(style).decode()}'; "
    policy += "base-uri 'none'; form-action 'none'"
    versions = json.dumps(summary["about"]["versions"], indent=1)
    facts = tables.facts(summary)
    return templates.get_template("page.html").render(
        summary=summary, figures=figures, facts=facts, versions=versions, policy=policy
    )

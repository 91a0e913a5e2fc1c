"""Renders static pages from a Jinja2 template, a style, a script and data. The pages load nothing but images."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

from ..extras import require_extra


def render_page(package: str, title: str, data: dict, images: str) -> str:
    """Return a page, rendered from ``page.html``, ``page.css`` and ``page.js`` of a package.

    It also has the common style ``io/page.css``. All text is escaped.

    Parameters
    ----------
    package : str
        The package with the three files.
    title : str
    data : dict
        Embedded as JSON, for the script.
    images : str
        Sources of images that the page may load, in the notation of a content security policy. The page may not load
        anything else.

    Raises
    ------
    ImportError
        If Jinja2 is not installed.
    """
    jinja2, markup = require_extra("cli", "jinja2"), require_extra("cli", "markupsafe").Markup
    common_style, page_style = (
        files(name).joinpath("page.css").read_text(encoding="utf-8") for name in (__package__, package)
    )
    style, script = (
        markup(common_style + page_style),
        markup(files(package).joinpath("page.js").read_text(encoding="utf-8")),
    )
    policy = f"default-src 'none'; img-src {images}; style-src {_source(style)}; script-src {_source(script)}; "
    policy += "base-uri 'none'; form-action 'none'"
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "separators": (",", ":")}
    template = environment.from_string(files(package).joinpath("page.html").read_text(encoding="utf-8"))
    return template.render(policy=policy, title=title, style=style, script=script, data=data)


def _source(text: str) -> str:
    """Return the content-security-policy source of an inline element that contains ``text``."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"

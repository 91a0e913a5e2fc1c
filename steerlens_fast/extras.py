"""Optional packages: imported when first needed, with a message that tells how to install what is missing."""

from __future__ import annotations

import importlib
import re
from importlib.metadata import PackageNotFoundError, requires, version
from types import ModuleType

PACKAGE = "steerlens_fast"
NEED_TORCH = ("timm", "torchvision", "decode", "test", "bench", "dev")  # extras that bring what is built for one torch


class MissingExtra(ImportError):
    """An optional package is not installed."""


def require_extra(extra: str, module: str) -> ModuleType:
    """Import ``module``, or raise :class:`MissingExtra` naming ``extra`` and what it would have pip install.

    Examples
    --------
    >>> require_extra("demo", "json").loads("[1]")
    [1]
    >>> require_extra("hf", "no_such_package")
    Traceback (most recent call last):
    steerlens_fast.extras.MissingExtra: no_such_package is not installed: pip install datasets  # steerlens_fast[hf]
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or module).partition(".")[0]
        wanted = " ".join([*packages(extra), *([torch_pin()] if extra in NEED_TORCH else [])])
        told = f"{missing} is not installed: pip install {wanted}  # {PACKAGE}[{extra}]"
        raise MissingExtra(told, name=missing) from error


def torch_pin() -> str:
    """The installed torch as a requirement: beside others it keeps pip from replacing it.

    Examples
    --------
    >>> torch_pin()  # doctest: +ELLIPSIS
    'torch==...'
    """
    return f"torch=={version('torch')}"


def packages(extra: str) -> list[str]:
    """What an extra brings, as pip is asked for it; from the metadata of the installed package.

    Examples
    --------
    >>> packages("plot")
    ['matplotlib', '"pillow>=10.1"']
    """
    try:
        lines = requires(PACKAGE) or []
    except PackageNotFoundError:  # run from a source tree that is not installed
        lines = []
    found: dict[str, None] = {}  # in order, each once
    for line in lines:
        wanted, _, marker = (part.strip() for part in line.partition(";"))
        if not re.search(rf"""extra == ["']{extra}["']""", marker):
            continue
        inner = re.match(rf"{PACKAGE.replace('_', '[-_]')}\[(.*)\]", wanted)
        names = [name for part in inner[1].split(",") for name in packages(part)] if inner else [_quoted(wanted)]
        found.update(dict.fromkeys(names))
    return list(found) or [f"'{PACKAGE}[{extra}]'"]


def _quoted(requirement: str) -> str:
    """For a shell, to which > and [ mean something."""
    return requirement if re.fullmatch(r"[\w.-]+", requirement) else f'"{requirement}"'

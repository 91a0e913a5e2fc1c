"""Imports optional packages when they are needed; error messages say how to install missing ones."""

from __future__ import annotations

import importlib.util
import re
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from types import ModuleType

PACKAGE = "steerlens_fast"
# Extras with packages that are built for one version of torch
BUILT_FOR_ONE_TORCH = ("timm", "torchvision", "decode", "test", "bench", "dev")


class MissingExtra(ImportError):
    """An optional package is not installed."""


def require_extra(extra: str, module: str) -> ModuleType:
    """Import an optional module; raise :class:`MissingExtra` if it is missing.

    The message has the command that installs the packages of the extra.

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
        raise _missing(extra, (error.name or module).partition(".")[0]) from error


def extra_folder(extra: str, package: str) -> Path:
    """Return the folder of an optional package, without importing it.

    Raise :class:`MissingExtra` if it is missing.

    Examples
    --------
    >>> extra_folder("demo", "json").name
    'json'
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise _missing(extra, package)
    return Path(spec.submodule_search_locations[0])


def _missing(extra: str, package: str) -> MissingExtra:
    requirements = " ".join([*requirements_of(extra), *([torch_pin()] if extra in BUILT_FOR_ONE_TORCH else [])])
    return MissingExtra(f"{package} is not installed: pip install {requirements}  # {PACKAGE}[{extra}]", name=package)


def torch_pin() -> str:
    """Return the installed torch as a requirement, so that pip does not replace it.

    Examples
    --------
    >>> torch_pin()  # doctest: +ELLIPSIS
    'torch==...'
    """
    return f"torch=={version('torch')}"


def requirements_of(extra: str) -> list[str]:
    """Return the requirements of an extra, or the extra itself (``steerlens_fast[plot]``) if none are found.

    The requirements are in the metadata of steerlens_fast, if it is installed.

    Examples
    --------
    >>> requirements_of("plot")
    ['matplotlib', '"pillow>=10.1"']
    """
    try:
        lines = requires(PACKAGE) or []
    except PackageNotFoundError:  # a source tree that is not installed
        lines = []
    requirements: dict[str, None] = {}  # ordered, without duplicates
    for line in lines:
        requirement, _, marker = (part.strip() for part in line.partition(";"))
        if not re.search(rf"""extra == ["']{extra}["']""", marker):
            continue
        inner = re.match(rf"{PACKAGE.replace('_', '[-_]')}\[(.*)\]", requirement)
        parts = [r for part in inner[1].split(",") for r in requirements_of(part)] if inner else [_quoted(requirement)]
        requirements.update(dict.fromkeys(parts))
    return list(requirements) or [f"'{PACKAGE}[{extra}]'"]


def _quoted(requirement: str) -> str:
    """Quote a requirement for a shell, unless it is only a name."""
    return requirement if re.fullmatch(r"[\w.-]+", requirement) else f'"{requirement}"'

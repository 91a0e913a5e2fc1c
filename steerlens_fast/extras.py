"""Optional packages: imported when first needed, with a message that names the extra that brings them."""

from __future__ import annotations

import importlib
from types import ModuleType


class MissingExtra(ImportError):
    """An optional package is not installed."""


def need(extra: str, module: str) -> ModuleType:
    """Import ``module``, or raise :class:`MissingExtra` naming ``extra``.

    Examples
    --------
    >>> need("demo", "json").loads("[1]")
    [1]
    >>> need("demo", "no_such_package")
    Traceback (most recent call last):
    steerlens_fast.extras.MissingExtra: no_such_package is not installed: pip install "steerlens_fast[demo]"
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or module).partition(".")[0]
        raise MissingExtra(
            f'{missing} is not installed: pip install "steerlens_fast[{extra}]"', name=missing
        ) from error

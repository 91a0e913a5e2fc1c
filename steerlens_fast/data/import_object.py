"""Things in the user's own Python: ``pkg.mod:name``."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from functools import reduce

from ..errors import USAGE, JobError


def find(argument: str, name: str):
    """What ``pkg.mod:name`` names, for the argument of that name; JobError where there is no such thing.

    Found as ``python -m`` finds it: the working directory comes first.

    Examples
    --------
    >>> find("model", "math:pi")
    3.141592653589793
    """
    path, _, attribute = name.partition(":")
    _make_working_directory_importable()
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name and f"{path}.".startswith(f"{error.name}."):
            text = f"{argument} {name!r} must name a module that can be imported, got {path!r}: {error}"
            raise JobError(f"{text}, in the working directory or on PYTHONPATH", USAGE) from error
        raise failed(argument, name, f"importing {path}") from error
    except Exception as error:
        raise failed(argument, name, f"importing {path}") from error
    try:
        return reduce(getattr, attribute.split("."), module)
    except AttributeError as error:
        text = f"{argument} {name!r} must name something in {path}, got {attribute!r}: {error}"
        raise JobError(text, USAGE) from error


def failed(argument: str, name: str, what: str) -> JobError:
    """An error of the user's code, with its traceback."""
    return JobError(f"{argument} {name!r}: {what} failed\n{traceback.format_exc()}", USAGE)


def _make_working_directory_importable() -> None:
    # As ``python -m`` does, and as it is asked not to: a console script's sys.path begins with the script's folder.
    if not getattr(sys.flags, "safe_path", False) and not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())

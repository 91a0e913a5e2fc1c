"""Objects of the user's own Python, imported by name: ``pkg.mod:name``."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from functools import reduce

from ..errors import USAGE, JobError


def import_object(argument: str, name: str):
    """Import the object that ``pkg.mod:name`` names; the working directory is searched first, as by ``python -m``.

    Parameters
    ----------
    argument : str
        The argument that has the name, for messages.
    name : str

    Raises
    ------
    JobError
        Where there is no such module or object, or importing the module raises.

    Examples
    --------
    >>> import_object("model", "math:pi")
    3.141592653589793
    """
    path, _, attribute = name.partition(":")
    _make_working_directory_importable()
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name and f"{path}.".startswith(f"{error.name}."):
            text = f"{argument} {name!r} must name an importable module, got {path!r}: {error}"
            raise JobError(f"{text}, in the working directory or on PYTHONPATH", USAGE) from error
        raise user_code_error(argument, name, f"importing {path}") from error
    except (Exception, SystemExit) as error:
        raise user_code_error(argument, name, f"importing {path}") from error
    try:
        return reduce(getattr, attribute.split("."), module)
    except AttributeError as error:
        text = f"{argument} {name!r} must name an object in {path}, got {attribute!r}: {error}"
        raise JobError(text, USAGE) from error


def user_code_error(argument: str, name: str, what: str) -> JobError:
    """Return an error for an exception of the user's code, with its traceback."""
    return JobError(f"{argument} {name!r}: {what} failed\n{traceback.format_exc()}", USAGE)


def _make_working_directory_importable() -> None:
    # The sys.path of a console script begins with the script's folder. Python's option -P (safe_path) is respected.
    if not getattr(sys.flags, "safe_path", False) and not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())

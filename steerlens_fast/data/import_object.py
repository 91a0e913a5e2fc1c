"""Imports objects of the user's own code by name: ``pkg.mod:name``."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from functools import reduce

from ..errors import JobError, usage_error


def import_object(argument: str, name: str):
    """Import the object called ``pkg.mod:name``.

    If the working directory is not in ``sys.path``, it is put first, as by ``python -m``, unless Python runs with -P.

    Parameters
    ----------
    argument : str
        The option that has this value, for messages.
    name : str

    Raises
    ------
    JobError
        If the module or object does not exist, or importing the module raises an exception.

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
            expected = "an importable module, in the working directory or on PYTHONPATH"
            raise usage_error(f"{argument} {name!r} must name {expected}, got {path!r}: {error}") from error
        raise user_code_error(argument, name, f"importing {path}") from error
    except (Exception, SystemExit) as error:
        raise user_code_error(argument, name, f"importing {path}") from error
    try:
        return reduce(getattr, attribute.split("."), module)
    except AttributeError as error:
        raise usage_error(f"{argument} {name!r} must name an object in {path}, got {attribute!r}: {error}") from error


def user_code_error(argument: str, name: str, what: str) -> JobError:
    """Return a JobError for the exception that the user's code raised. The message contains its traceback."""
    return usage_error(f"{argument} {name!r}: {what} failed\n{traceback.format_exc()}")


def _make_working_directory_importable() -> None:
    # sys.path of a console script has the script's folder, not the working directory. Python's option -P (safe_path)
    # excludes the working directory.
    if not getattr(sys.flags, "safe_path", False) and not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())

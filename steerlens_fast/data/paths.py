"""Makes the paths in configurations absolute."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping

from .class_matching import NUMBERED
from .sources.idx import PREFIX as IDX
from .sources.idx import absolute_spec
from .sources.tars import expand_braces

# Options whose values may be paths; relative paths are relative to the working directory
PATH_OPTIONS = ("data", "labels", "weights", "model", "target", "driver", "judges", "judge_weights", "class_names")
# Values that are never paths, even if a file of that name exists
KEYWORDS = {
    "weights": ("random",),
    "judge_weights": ("random", "-"),
    "class_names": ("imagenet",),
    "labels": (NUMBERED,),
}
TARGET_SUFFIXES = (".csv", ".json")  # a target is a path only with one of these suffixes


def with_absolute_paths(options: Mapping) -> dict:
    """Return the options with absolute paths.

    ``~`` is expanded, and the names of files and folders that exist become absolute.
    """
    return {name: _absolute(name, value) if name in PATH_OPTIONS else value for name, value in options.items()}


def _absolute(name: str, value):
    if isinstance(value, (list, tuple)):
        return [_absolute(name, entry) for entry in value]
    if not isinstance(value, (str, os.PathLike)):
        return value
    value = os.fspath(value)
    if name == "data" and value.startswith(IDX):
        return absolute_spec(value)
    is_keyword = value in KEYWORDS.get(name, ()) or (name == "target" and not value.lower().endswith(TARGET_SUFFIXES))
    if not is_keyword:
        value = f"hf:{os.path.expanduser(value[3:])}" if value.startswith("hf:~") else os.path.expanduser(value)
    exists = os.path.exists(value) or (name == "data" and value.lower().endswith(".tar") and _matches_tars(value))
    return os.path.abspath(value) if exists and not is_keyword else value


def _matches_tars(pattern: str) -> bool:
    """Return whether a pattern matches any .tar file."""
    return any(os.path.exists(name) or glob.glob(name) for name in expand_braces(pattern))

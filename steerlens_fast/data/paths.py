"""Fields of configurations that name files, made absolute."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping

from ..io.paths import expand_home
from .sources.tars import expand

# Fields that may name a file, or some, relative to where the job or the evaluation began.
PATHS = ("data", "labels", "weights", "model", "target", "driver", "judges", "judge_weights")
WORDS = {"weights": ("random",), "judge_weights": ("random", "-")}  # which no file of that name makes a path
TABLES = (".csv", ".json")  # the only files that a target may name


def with_absolute_paths(asked: Mapping) -> dict:
    """The same fields; those that name a file, a folder or tars that are there do so from the root, ``~`` expanded."""
    return {name: _absolute(name, value) if name in PATHS else value for name, value in asked.items()}


def _absolute(name: str, value):
    if isinstance(value, (list, tuple)):
        return [_absolute(name, one) for one in value]
    if not isinstance(value, (str, os.PathLike)):
        return value
    value = os.fspath(value)
    is_word = value in WORDS.get(name, ()) or (name == "target" and not value.lower().endswith(TABLES))
    if not is_word:
        value = f"hf:{expand_home(value[3:])}" if value.startswith("hf:~") else expand_home(value)
    there = os.path.exists(value) or (name == "data" and value.lower().endswith(".tar") and _names_tars(value))
    return os.path.abspath(value) if there and not is_word else value


def _names_tars(pattern: str) -> bool:
    """Whether a pattern of tars, which is no file's name itself, means some."""
    return any(os.path.exists(name) or glob.glob(name) for name in expand(pattern))

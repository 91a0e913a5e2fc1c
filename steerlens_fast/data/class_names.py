"""Reads class names from files, and formats them for reports."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ..classifier.class_names import as_class_names
from ..errors import USAGE, JobError
from .tables import distinct_pairs


def class_name(number: int, classes: Sequence[str] | None) -> str:
    """Return the name of a class, or "class N" if it has none.

    The number ``~N`` means that label N is absent; its name is "not" and the name of class N.

    Examples
    --------
    >>> class_name(1, ["cat", "dog"]), class_name(2, ["cat", "dog"]), class_name(3, None)
    ('dog', 'class 2', 'class 3')
    >>> class_name(~1, ["cat", "dog"])
    'not dog'
    """
    if number < 0:
        return f"not {class_name(~number, classes)}"
    return str(classes[number]) if classes is not None and number < len(classes) else f"class {number}"


def read_class_names(path: str | os.PathLike) -> list[str]:
    """Read the names of a model's classes from a file.

    The file has one name per line or, if its suffix is .json, is JSON.

    JSON is a list of names, or an object from class number to name. Spaces around names are removed. Names must not be
    empty.

    Raises
    ------
    JobError
        If the file cannot be read, has an empty name or a class with two names, or contains other JSON.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
    ...     _ = file.write("cat\\ndog\\n")
    ...     file.flush()
    ...     read_class_names(file.name)
    ['cat', 'dog']
    """
    name = os.fspath(path)
    is_json = name.lower().endswith(".json")
    once = partial(distinct_pairs, f"class_names in {name} must name each class only once")
    try:
        text = Path(name).read_text(encoding="utf-8-sig")
        value = json.loads(text, object_pairs_hook=once) if is_json else None
    except (OSError, ValueError, RecursionError) as error:
        raise JobError(f"class_names must be a readable file, got {name}: {error}", USAGE) from error
    names = _names_in_json(name, value) if is_json else _names_in_lines(text)
    names = [entry.strip() for entry in names]
    if "" in names or not names:
        what = f"{'name for class' if is_json else 'line'} {names.index('') + (not is_json)}" if names else "file"
        expected = "a name for each class" if is_json else "one name on each line"
        raise JobError(f"class_names must have {expected}, got an empty {what} in {name}", USAGE)
    return names


def _names_in_json(file: str, value) -> list[str]:
    try:
        return as_class_names(f"class_names in {file}", value)
    except (TypeError, ValueError) as error:
        raise JobError(str(error), USAGE) from error


def _names_in_lines(text: str) -> list[str]:
    """Return the lines of a text. It is not split by str.splitlines, which also splits at characters such as U+2028."""
    return text.removesuffix("\n").split("\n") if text else []

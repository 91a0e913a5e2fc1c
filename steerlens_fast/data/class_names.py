"""Reads class names from files, and formats them for reports."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from ..classifier.class_names import as_class_names
from ..errors import USAGE, JobError


def class_name(number: int, classes: Sequence[str] | None) -> str:
    """Return the name of a class, or "class N" if it has none; the number ``~N`` means that label N is absent.

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
    """Read the names of a model's classes from a file: one name per line, or JSON if the suffix is .json.

    JSON is a list of names, or an object from class number to name. Names are stripped; a line must not be empty.

    Raises
    ------
    JobError
        If the file cannot be read, has an empty line, or contains other JSON.

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
    try:
        text = Path(name).read_text(encoding="utf-8-sig")
        if name.lower().endswith(".json"):
            return as_class_names(f"class_names in {name}", json.loads(text))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise JobError(f"class_names must be a readable file, got {name}: {error}", USAGE) from error
    except (TypeError, ValueError) as error:
        raise JobError(str(error), USAGE) from error
    lines = [line.strip() for line in text.splitlines()]
    if "" in lines or not lines:
        got = f"an empty line {lines.index('') + 1}" if lines else "an empty file"
        raise JobError(f"class_names must have one name on each line, got {got} in {name}", USAGE)
    return lines

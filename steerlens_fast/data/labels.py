"""Converts class labels to numbers.

The rules are the same for all sources, table columns and the command line.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from contextlib import suppress
from decimal import Decimal
from numbers import Real

from ..checks import shown
from ..errors import usage_error

NUMERAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
NOT_FINITE = ("nan", "inf", "infinity")  # texts, with or without a sign, that are numbers but not classes
LIMIT = 2**63
Class = int | str  # number or name of a class


def parse_class(value, where: str, what: str = "label") -> Class | None:
    """Return a value as a class number or class name.

    The result is None if there is no label.

    Whole numbers of any type are class numbers: ``3``, ``3.0``, ``"3"``, ``numpy.float32(3)``, a tensor of one value.
    Other texts are class names. None and empty texts mean that there is no label.

    Parameters
    ----------
    value : object
    where : str
        Location of the value, for messages, such as a file and line.
    what : str
        Name of the value, for messages.

    Raises
    ------
    JobError
        For all other values: fractions, NaN, negative numbers, numbers of 2^63 or more, bools, lists.

    Examples
    --------
    >>> [parse_class(value, "line 2") for value in ("10.0", 10.0, " cat ", "")]
    [10, 10, 'cat', None]
    >>> parse_class("1.5", "t.csv, line 2")
    Traceback (most recent call last):
    steerlens_fast.errors.JobError: t.csv, line 2: label must be a non-negative int, got 1.5
    """
    if value is None or (type(value) is int and 0 <= value < LIMIT):  # the most common case first
        return value
    value = _unwrapped(value)
    parsed = _parse_text(value.strip()) if isinstance(value, str) else _whole_number(value)
    if parsed is None or (isinstance(parsed, int) and not 0 <= parsed < LIMIT):
        is_numeral = isinstance(value, str) and NUMERAL.fullmatch(value.strip())
        got = value.strip() if is_numeral else repr(value)
        raise usage_error(f"{where}: {what} must be a non-negative int, got {got}")
    return None if parsed == "" else parsed


def class_number(value, where: str, numbers: dict[str, int], what: str = "label") -> int | None:
    """Return a value as a class number.

    The result is None if there is no label. ``numbers`` maps class names to numbers.

    Examples
    --------
    >>> class_number("dog", "line 2", {"cat": 0, "dog": 1}), class_number("7", "line 3", {})
    (1, 7)
    """
    parsed = parse_class(value, where, what)
    if isinstance(parsed, str):
        if parsed not in numbers:
            expected = f"one of {', '.join(map(repr, list(numbers)[:4]))} ..." if numbers else "a non-negative int"
            raise usage_error(f"{where}: {what} must be {expected}, got {shown(parsed)}")
        return numbers[parsed]
    return parsed


def sorted_class_names(labels: Iterable[tuple[str, object]], what: str = "labels") -> list[str] | None:
    """Return the sorted class names of a column.

    The index of a name is its class number. The result is None if the labels are numbers, or if there are none.

    Parameters
    ----------
    labels : iterable of (str, object)
        Location and value of each label.
    what : str
        Name of the values, for messages.

    Raises
    ------
    JobError
        If names and numbers are mixed, or a label is neither.

    Examples
    --------
    >>> sorted_class_names([("line 2", "dog"), ("line 3", ""), ("line 4", "cat")])
    ['cat', 'dog']
    """
    names, first_is_name = set(), None
    for where, value in labels:
        parsed = parse_class(value, where)
        if parsed is None:
            continue
        is_name = isinstance(parsed, str)
        if first_is_name is None:
            first_is_name, first_label = is_name, f"{value!r} in {where}"
        if is_name != first_is_name:
            raise usage_error(f"{where}: {what} must be all ints or all names, got {shown(value)} after {first_label}")
        if is_name:
            names.add(parsed)
    return sorted(names) or None


def _unwrapped(value):
    """Return the only value of an array as a Python number.

    Bytes become text (UTF-8), and other values are unchanged.
    """
    if hasattr(value, "item"):
        with suppress(TypeError, ValueError, RuntimeError):  # more than one value
            value = value.item()
    if isinstance(value, bytes):
        with suppress(UnicodeDecodeError):
            value = value.decode()
    return value


def _parse_text(text: str) -> Class | None:
    """Return a class number or name; None for a number that is not whole."""
    if NUMERAL.fullmatch(text):
        return _whole_number(Decimal(text))
    return None if text.lstrip("+-").lower() in NOT_FINITE else text


def _whole_number(value) -> int | None:
    """Return a value as an int; None if it is not a whole number."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        pass
    if not isinstance(value, (float, Decimal, Real)):
        return None
    if value != value or not -LIMIT <= value <= LIMIT:  # NaN, infinite, or too large for any class
        return None
    return int(value) if value == int(value) else None

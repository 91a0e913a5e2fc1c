"""What a class label is: one rule for every source, every column, and the command line."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from decimal import Decimal
from numbers import Rational, Real

from ..errors import USAGE, JobError

NUMERAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
NOT_A_NUMBER = ("nan", "inf", "infinity")  # as text, with or without a sign: what a number that is missing prints as
LIMIT = 2**63
Class = int | str  # a class's number, or its name


def parse_class(value, where: str, what: str = "label") -> Class | None:
    """The class that a value means: a number, a name, or None where there is no value.

    Whole numbers of any type are class numbers: ``3``, ``3.0``, ``"3"``, ``"3.0"``, ``numpy.float32(3)``, a tensor
    of one value. Other text is a class name, without the blanks around it. None and empty text are no label.

    Parameters
    ----------
    value : object
    where : str
        Where it stands, for the message: a file with its line and column, or an item.
    what : str
        What the value is called.

    Raises
    ------
    JobError
        For anything else: fractions, NaN, negative numbers, numbers from 2^63 on, bools, lists.

    Examples
    --------
    >>> [parse_class(value, "line 2") for value in ("10.0", 10.0, " cat ", "")]
    [10, 10, 'cat', None]
    >>> parse_class("1.5", "t.csv, line 2")
    Traceback (most recent call last):
    steerlens_fast.errors.JobError: t.csv, line 2: label must be an int from 0 on, got 1.5
    """
    if value is None or (type(value) is int and 0 <= value < LIMIT):  # as most are
        return value
    found = _text_class(value.strip()) if isinstance(value, str) else _whole_number(value)
    if found is None or (isinstance(found, int) and not 0 <= found < LIMIT):
        number = isinstance(value, str) and NUMERAL.fullmatch(value.strip())
        raise JobError(
            f"{where}: {what} must be an int from 0 on, got {value.strip() if number else repr(value)}", USAGE
        )
    return None if found == "" else found


def class_number(value, where: str, numbers: dict[str, int], what: str = "label") -> int | None:
    """The number of the class that a value means; ``numbers`` has those of the names.

    Examples
    --------
    >>> class_number("dog", "line 2", {"cat": 0, "dog": 1}), class_number("7", "line 3", {})
    (1, 7)
    """
    found = parse_class(value, where, what)
    if isinstance(found, str):
        if found not in numbers:
            known = f"one of {', '.join(map(repr, list(numbers)[:4]))} ..." if numbers else "an int from 0 on"
            raise JobError(f"{where}: {what} must be {known}, got {found!r}", USAGE)
        return numbers[found]
    return found


def sorted_class_names(labels: Iterable[tuple[str, object]]) -> list[str] | None:
    """The class names of a column, sorted, which numbers them; None where its labels are numbers.

    Parameters
    ----------
    labels : iterable of (str, object)
        Where each stands, and its value.

    Raises
    ------
    JobError
        Where some are names and some are numbers, or one is neither.

    Examples
    --------
    >>> sorted_class_names([("line 2", "dog"), ("line 3", ""), ("line 4", "cat")])
    ['cat', 'dog']
    """
    names, first = set(), None
    for where, value in labels:
        found = parse_class(value, where)
        if found is None:
            continue
        first = first or (where, value, isinstance(found, str))
        if isinstance(found, str) != first[2]:
            other = f"{first[1]!r} at {first[0]}"
            raise JobError(f"{where}: labels must be all ints or all names, got {value!r}; {other}", USAGE)
        if isinstance(found, str):
            names.add(found)
    return sorted(names) or None


def _text_class(text: str) -> Class | None:
    """None where it is a number that is not whole."""
    if NUMERAL.fullmatch(text):
        return _whole_number(Decimal(text))
    return None if text.lstrip("+-").lower() in NOT_A_NUMBER else text


def _whole_number(value) -> int | None:
    """None where it is none."""
    if hasattr(value, "item") and not isinstance(value, Real):  # numpy's and torch's scalars, arrays of one value
        try:
            value = value.item()
        except (TypeError, ValueError, RuntimeError):
            return None
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        pass
    if isinstance(value, str):  # numpy's text
        found = _text_class(value.strip())
        return found if isinstance(found, int) else None
    if not isinstance(value, (float, Decimal, Rational)) and not isinstance(value, Real):
        return None
    if value != value or not -LIMIT <= value <= LIMIT:  # NaN, infinite, or too large to be written out
        return None
    return int(value) if value == int(value) else None

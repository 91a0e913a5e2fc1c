"""Functions that convert the text of a command-line option to its value. argparse gets them as ``type``."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

from ..errors import JobError
from .output_dir import expand_home


def positive(text: str) -> float:
    """Parse a finite number above 0."""
    value = _float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def at_least_0(text: str) -> float:
    """Parse a finite number that is at least 0."""
    value = _float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {text!r}")
    return value


def _float(text: str) -> float:
    """Parse a finite number; return NaN for any other text."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def expanded_path(text: str) -> Path:
    """Parse a path. A leading ``~`` is the home directory; shells do not expand it in ``--out=~/x``."""
    try:
        return expand_home(text)
    except JobError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def integer_from(minimum: int) -> Callable[[str], int]:
    """Return a parser of integers of at least ``minimum``."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if value < minimum:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {minimum}, got {text!r}")
        return value

    return parse


def number_or_list(text: str) -> float | list[float]:
    """Parse a number, or several separated by commas.

    Examples
    --------
    >>> number_or_list("2"), number_or_list("0,1,2.5")
    (2.0, [0.0, 1.0, 2.5])
    """
    values = [_float(part) for part in text.split(",")]
    if any(map(math.isnan, values)):
        raise argparse.ArgumentTypeError(f"expected a number, or numbers like 0,1,2.5, got {text!r}")
    return values if "," in text else values[0]


def number_list(text: str) -> list[float]:
    """Parse a number, or several separated by commas, to a list.

    Examples
    --------
    >>> number_list("0.5")
    [0.5]
    """
    values = number_or_list(text)
    return values if isinstance(values, list) else [values]


def integer_list(text: str) -> list[int]:
    """Parse integers separated by commas."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected whole numbers like 0,1,2, got {text!r}") from None


def name_list(text: str) -> list[str]:
    """Parse names separated by commas.

    Examples
    --------
    >>> name_list("pixel, fourier")
    ['pixel', 'fourier']
    """
    return [name.strip() for name in text.split(",")]


def size(text: str) -> list[int]:
    """Parse an image size: ``224``, or ``240x320`` (H x W).

    Examples
    --------
    >>> size("224"), size("240x320")
    ([224, 224], [240, 320])
    """
    parts = text.lower().split("x")
    if not all(part.isdecimal() for part in parts) or len(parts) > 2:
        raise argparse.ArgumentTypeError(f"expected a size like 224 or 240x320 (H x W), got {text!r}")
    return [int(parts[0]), int(parts[-1])]


def value_range(text: str) -> str | list[float]:
    """Parse ``auto``, ``image``, or two numbers.

    Examples
    --------
    >>> value_range("0,4095"), value_range("auto")
    ([0.0, 4095.0], 'auto')
    """
    if text in ("auto", "image"):
        return text
    values = [_float(part) for part in text.split(",")]
    if len(values) != 2 or not values[0] < values[1]:
        raise argparse.ArgumentTypeError(f"expected LOW,HIGH with LOW < HIGH, auto or image, got {text!r}")
    return values


def key_values(text: str) -> dict:
    """Parse options such as ``order=3,synthesis=adjoint``.

    Values are ints, floats, true, false, or strings.

    Examples
    --------
    >>> key_values("order=3,width=0.5,tight_frame=true,synthesis=adjoint")
    {'order': 3, 'width': 0.5, 'tight_frame': True, 'synthesis': 'adjoint'}
    """
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(name and equals and value for name, equals, value in pairs):
        raise argparse.ArgumentTypeError(f"expected options like order=3,height=4, got {text!r}")
    return {name.strip(): _value(value.strip()) for name, _, value in pairs}


def _value(text: str):
    for number_type in (int, float):
        try:
            number = number_type(text)
        except ValueError:
            continue
        if not math.isfinite(number):
            raise argparse.ArgumentTypeError(f"expected finite numbers, got {text!r}")
        return number
    return {"true": True, "false": False}.get(text.lower(), text)


def or_none(parse: Callable[[str], object]) -> Callable[[str], object]:
    """Return a parser that also accepts "-", for which it returns None.

    Examples
    --------
    >>> or_none(size)("-") is None
    True
    """

    def parse_or_none(text: str):
        return None if text == "-" else parse(text)

    return parse_or_none

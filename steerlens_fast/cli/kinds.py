"""Kinds of arguments: what argparse calls types."""

from __future__ import annotations

import argparse
import math
from pathlib import Path


def positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def folder(text: str) -> Path:
    """A folder; a leading ``~`` is the home directory, also in ``--out=~/x``."""
    from ..io.paths import output_folder

    try:
        return output_folder(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def int_from(least: int):
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text!r}")
        return value

    return parse


def numbers(text: str) -> float | list[float]:
    """A number, or several with commas between them.

    Examples
    --------
    >>> numbers("2"), numbers("0,1,2.5")
    (2.0, [0.0, 1.0, 2.5])
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, or numbers like 0,1,2.5, got {text!r}") from None
    return values if "," in text else values[0]


def each(text: str) -> list[float]:
    """Numbers with commas between them, one for each channel.

    Examples
    --------
    >>> each("0.5")
    [0.5]
    """
    values = numbers(text)
    return values if isinstance(values, list) else [values]


def ints(text: str) -> list[int]:
    """Whole numbers with commas between them."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected whole numbers like 0,1,2, got {text!r}") from None


def size(text: str) -> list[int]:
    """``224``, or ``240x320`` (H x W).

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
    """``auto``, ``image``, or two numbers.

    Examples
    --------
    >>> value_range("0,4095"), value_range("auto")
    ([0.0, 4095.0], 'auto')
    """
    if text in ("auto", "image"):
        return text
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise argparse.ArgumentTypeError(f"expected LOW,HIGH with LOW < HIGH, auto or image, got {text!r}")
    return [low, high]


def options(text: str) -> dict:
    """``order=3,synthesis=adjoint``: values are ints, floats, true, false, or words.

    Examples
    --------
    >>> options("order=3,width=0.5,tight_frame=true,synthesis=adjoint")
    {'order': 3, 'width': 0.5, 'tight_frame': True, 'synthesis': 'adjoint'}
    """
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(name and equals and value for name, equals, value in pairs):
        raise argparse.ArgumentTypeError(f"expected options like order=3,height=4, got {text!r}")
    return {name.strip(): _value(value.strip()) for name, _, value in pairs}


def _value(text: str):
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)

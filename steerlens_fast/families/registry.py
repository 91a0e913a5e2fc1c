"""Families by name."""

from __future__ import annotations

from collections.abc import Sequence

from ..checks import check_choice
from ..pyramid import SteerablePyramid
from .csp import EDITS, CSPFamily
from .fourier import FourierFamily
from .pixel import PixelFamily
from .protocols import Family

FAMILIES = ("pixel", "fourier", *(f"csp-{edit}" for edit in EDITS))


def make_family(
    name: str,
    pyramid: SteerablePyramid | None,
    rule: str = "complex",
    scales: Sequence[int] | None = None,
    orientations: Sequence[int] | None = None,
) -> Family:
    """Return the family of a name in FAMILIES.

    Examples
    --------
    >>> from steerlens_fast import SteerablePyramid
    >>> from steerlens_fast.families import make_family
    >>> make_family("csp-joint", SteerablePyramid((32, 32)), "polar").edit
    'joint'
    """
    check_choice("family", name, FAMILIES)
    bands = dict(pyramid=pyramid, scales=scales, orientations=orientations)
    if name == "pixel":
        return PixelFamily(**bands)
    if name == "fourier":
        return FourierFamily(rule, **bands)
    return CSPFamily(edit=name.removeprefix("csp-"), rule=rule, **bands)

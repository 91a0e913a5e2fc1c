"""Edit families: the coordinates in which a gradient becomes a motion."""

from .csp import EDITS, CSPFamily, CSPMotion
from .fourier import FourierFamily
from .luma import LumaFamily
from .pixel import PixelFamily
from .protocols import Anchor, Family, Motion
from .registry import FAMILIES, make_family

__all__ = [
    "EDITS",
    "FAMILIES",
    "Anchor",
    "CSPFamily",
    "CSPMotion",
    "Family",
    "FourierFamily",
    "LumaFamily",
    "Motion",
    "PixelFamily",
    "make_family",
]

"""Edit families, which turn a gradient into a motion of the image.

A family makes a :class:`Motion` from an image and a gradient of the same shape. The motion renders frames::

    motion = family.prepare(image, gradient)      # gradient: d(loss) / d(image), of a loss summed over samples
    frames = motion.render([0.0, 1.0, 2.0])       # [F, ..., H, W]

To write a family of your own, see the README of this folder, and :mod:`.protocols` for all methods.
"""

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

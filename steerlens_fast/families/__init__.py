"""Edit families: the coordinates in which a gradient becomes a motion.

A family turns an image and one image-sized gradient into a :class:`Motion`, which renders frames for any factors::

    motion = family.prepare(image, gradient)      # gradient: d(loss to decrease) / d(image), summed over samples
    frames = motion.render([0.0, 1.0, 2.0])       # [F, ..., H, W]

A family of your own needs ``prepare``, and its motions ``render``; :mod:`.protocols` has the optional members.
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

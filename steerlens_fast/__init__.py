"""steerlens_fast: what a classifier believes separates two classes, as motion in the complex steerable pyramid."""

import torch  # noqa: F401  (loads libtorch before the extension that needs it)

from . import ops
from ._C import build_info
from .coefficients import Coefficients
from .families import CSPFamily, PixelFamily
from .pyramid import SteerablePyramid

__version__ = "0.1.0"
__all__ = ["CSPFamily", "Coefficients", "PixelFamily", "SteerablePyramid", "build_info", "ops"]

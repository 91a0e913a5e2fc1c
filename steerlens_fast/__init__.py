"""steerlens_fast: what a classifier believes separates two classes, as motion in the complex steerable pyramid."""

import torch  # noqa: F401  (loads libtorch before the extension that needs it)

from . import ops
from ._C import build_info
from .budget import factor_at_l2
from .coefficients import Coefficients
from .families import CSPFamily, PixelFamily
from .pyramid import SteerablePyramid

__version__ = "0.1.0"
__all__ = [
    "CSPFamily",
    "Coefficients",
    "PixelFamily",
    "SteerablePyramid",
    "build_info",
    "factor_at_l2",
    "ops",
    "plot_pyramid",
]


def __getattr__(name):
    if name == "plot_pyramid":  # matplotlib is an extra: only looked for when it is wanted
        from .plot import plot_pyramid

        return plot_pyramid
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The complex steerable pyramid."""

from .coefficients import Coefficients
from .module import SteerablePyramid

__all__ = ["Coefficients", "SteerablePyramid"]

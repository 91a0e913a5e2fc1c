"""The lens: from a classifier and images to morphs."""

from .lens import COLORS, SCORES, SteerableLens
from .regimes import REGIMES

__all__ = ["COLORS", "REGIMES", "SCORES", "SteerableLens"]

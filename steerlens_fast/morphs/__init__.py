"""Morphs: the result of a lens, its strips and animations."""

from .container import REASONS, Morphs

__all__ = ["REASONS", "Morphs"]

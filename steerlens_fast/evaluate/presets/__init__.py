"""Presets: the shipped experiments."""

from .presets import check_preset, preset

__all__ = ["check_preset", "preset"]

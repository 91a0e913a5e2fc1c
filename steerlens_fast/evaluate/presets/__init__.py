"""Presets: experiments that are part of the package."""

from .presets import check_preset, preset

__all__ = ["check_preset", "preset"]

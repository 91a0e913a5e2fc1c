"""Sources of images: folders, tables, tars, arrays, hub data sets, Python objects."""

from .base import Source
from .open import open_source

__all__ = ["Source", "open_source"]

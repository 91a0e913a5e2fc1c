"""Sources of images: folders, tables, tars, arrays, hub data sets, Python objects."""

from .open import Source, open_source

__all__ = ["Source", "open_source"]

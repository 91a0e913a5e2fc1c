"""Storage formats of shards: safetensors, webdataset tars, folders of PNG files."""

from .formats import MODULES, get_format

__all__ = ["MODULES", "get_format"]

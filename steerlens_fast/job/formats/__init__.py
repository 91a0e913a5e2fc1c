"""Storage formats of shards: safetensors, webdataset tars, folders of PNG files."""

from .formats import FORMATS, get_format

__all__ = ["FORMATS", "get_format"]

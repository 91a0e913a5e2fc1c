"""Formats of a shard: safetensors, webdataset tar, folder of PNG."""

from .formats import MODULES, get_format

__all__ = ["MODULES", "get_format"]

"""Formats of a shard: safetensors, webdataset tar, folder of PNG."""

from .formats import MODULES, format_named

__all__ = ["MODULES", "format_named"]

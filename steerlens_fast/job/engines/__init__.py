"""Engines: how shards are distributed to workers."""

from .engine import Engine, RunOptions, make_engine

__all__ = ["Engine", "RunOptions", "make_engine"]

"""Engines: how shards are distributed to workers."""

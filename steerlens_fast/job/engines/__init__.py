"""Engines: where shards are computed."""

"""Presets, the evaluations that are part of the package. Each has a module with its options, data and networks."""

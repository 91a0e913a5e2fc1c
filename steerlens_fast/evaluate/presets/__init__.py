"""Presets, the experiments that are part of the package. The module ``presets`` has their options."""

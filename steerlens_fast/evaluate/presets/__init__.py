"""Presets, the experiments that are part of the package.

Their options are in the module ``presets``.
"""

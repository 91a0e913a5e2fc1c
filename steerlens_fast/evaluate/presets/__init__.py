"""Presets: experiments that are part of the package; the module ``presets`` has their options."""

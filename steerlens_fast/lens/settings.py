"""Named settings of the lens, chosen by measurement for a kind of image."""

from __future__ import annotations

from collections.abc import Mapping

from ..checks import check_choice

# max_l2 is for images in [0, 1].
PHOTOGRAPHS = {"family": "csp-phase", "rule": "polar", "color": "luma", "regime": "persistent", "max_l2": 12.0}
SETTINGS: dict[str, dict] = {"photographs": PHOTOGRAPHS}  # measured in photographs.md


def with_settings(options: Mapping) -> dict:
    """Replace the option ``settings``, a name, by the settings with this name.

    Other options that are not None override these. ``distances`` and ``factors`` also replace ``max_l2``.

    Examples
    --------
    >>> with_settings({"settings": "photographs", "rule": "complex", "distances": [1, 2]})
    {'family': 'csp-phase', 'rule': 'complex', 'color': 'luma', 'regime': 'persistent', 'distances': [1, 2]}
    """
    explicit = {name: value for name, value in options.items() if name != "settings"}
    if options.get("settings") is None:
        return explicit
    named = SETTINGS[check_choice("settings", options["settings"], tuple(SETTINGS))]
    overridden = any(explicit.get(name) is not None for name in ("max_l2", "distances", "factors"))
    named = {name: value for name, value in named.items() if not (overridden and name == "max_l2")}
    return named | {name: value for name, value in explicit.items() if value is not None or name not in named}

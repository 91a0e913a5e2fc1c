"""The experiments that are part of the package: ``steerlens-fast evaluate --preset NAME``."""

from __future__ import annotations

from ...extras import require_extra
from . import digits, shapes

_MODULES = {"digits": digits, "shapes": shapes}


def check_preset(name: str) -> None:
    """Raise MissingExtra if the preset needs a package that is not installed."""
    if name == "digits":
        require_extra("demo", "sklearn.datasets")


# The distances with the same RMS change on the presets' 32 x 32 pixels as the follow-up's L2 = 2 and 1 on 28 x 28.
FOLLOW_UP_BUDGETS = (2 / 28 * 32, 1 / 28 * 32)


def preset(name: str) -> dict:
    """Return the fields of a preset's :class:`EvaluationConfig`.

    The driver has standard training, like the follow-up's; the robust network is a judge. Targets do not depend on
    any network: they are the next digit, or the other class of the same kind. When these choices were made, only the
    medians and the transfer with each of the three digit networks as driver were known (``bench/digits.py``).

    Examples
    --------
    >>> preset("digits")["driver"], preset("shapes")["sources"]
    ('steerlens_fast.evaluate.presets.digits:plain_cnn', 280)
    """
    module = _MODULES[name].__name__
    spec = lambda name: f"{module}:{name}"
    fields = {"data": spec("test_set"), "driver": spec("plain_cnn"), "judges": [spec("robust_cnn"), spec("mlp")]}
    fields |= {"channels": 1, "threads": 1, "distances": FOLLOW_UP_BUDGETS}
    if name == "digits":
        return fields | {"target": digits.NEXT, "sources": 300}
    return fields | {"target": shapes.OTHER, "sources": shapes.TESTING * len(shapes.KINDS)}


PRESETS = tuple(_MODULES)

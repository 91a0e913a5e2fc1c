"""The presets by name, for ``steerlens-fast evaluate --preset NAME``."""

from __future__ import annotations

from collections.abc import Mapping

from . import digits, fashion, mnist, photographs, shapes

# Each module has the fields of its configuration as OPTIONS. Its function check(fields) raises an error if packages or
# files are missing.
_MODULES = {"digits": digits, "shapes": shapes, "mnist": mnist, "fashion": fashion, "photographs": photographs}
PRESETS = tuple(_MODULES)


def with_preset(name: str, overrides: Mapping) -> dict:
    """Return the fields of a preset; ``overrides`` replace them.

    For the preset "fashion", ``data`` is a folder of IDX files, which has both the training and the test images.

    Raises
    ------
    MissingExtra
        If a package that the preset needs is not installed.
    JobError
        If a file that the preset needs does not exist.

    Examples
    --------
    >>> with_preset("shapes", {"max_l2": 3.0})["max_l2"], "distances" in with_preset("shapes", {"max_l2": 3.0})
    (3.0, False)
    """
    fields = preset(name) | dict(overrides)
    if "max_l2" in overrides and "distances" not in overrides:  # max_l2 and distances exclude each other
        del fields["distances"]
    if name == "fashion":
        fields["data"] = fashion.data_spec(fields["data"])
    _MODULES[name].check(fields)
    return fields


def preset(name: str) -> dict:
    """Return the fields of a preset's :class:`EvaluationConfig`.

    The drivers have standard training, as in the paper "Confidence Is Not Evidence". The target is the next class or,
    for shapes, the other class of the same kind, so it does not depend on any network. Only photographs, which have no
    labels, are edited toward the driver's runner-up.

    Examples
    --------
    >>> preset("digits")["driver"], preset("shapes")["sources"], preset("mnist")["distances"]
    ('steerlens_fast.evaluate.presets.digits:plain_cnn', 280, (2.0, 1.0))
    """
    return dict(_MODULES[name].OPTIONS)

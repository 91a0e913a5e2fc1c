"""The experiments that are part of the package: ``steerlens-fast evaluate --preset NAME``."""

from __future__ import annotations

from collections.abc import Mapping

from ...extras import require_extra
from . import digits, fashion, mnist, photographs, shapes

_MODULES = {"digits": digits, "shapes": shapes, "mnist": mnist, "fashion": fashion, "photographs": photographs}
PRESETS = tuple(_MODULES)
JUDGES = {
    "digits": ("robust_cnn", "mlp"),
    "shapes": ("robust_cnn", "mlp"),
    "mnist": ("strided_cnn", "mlp"),
    "fashion": ("strided_cnn", "normalised_cnn"),
}

# L2 distances in "Confidence Is Not Evidence" ("the follow-up") are 2 and 1 for 28 x 28 pixels. These distances have
# the same RMS change for the 32 x 32 pixels of digits and shapes.
FOLLOW_UP_BUDGETS = (2 / 28 * 32, 1 / 28 * 32)


def with_preset(name: str, overrides: Mapping) -> dict:
    """Return the fields of a preset, replaced by ``overrides``.

    For the preset "fashion", ``data`` is a folder of IDX files, which has both the training and the test images.

    Raises
    ------
    MissingExtra
        If a package that the preset needs is not installed.
    JobError
        If its files do not exist.

    Examples
    --------
    >>> with_preset("shapes", {"max_l2": 3.0})["max_l2"], "distances" in with_preset("shapes", {"max_l2": 3.0})
    (3.0, False)
    """
    fields = preset(name) | dict(overrides)
    if "max_l2" in overrides and "distances" not in overrides:
        del fields["distances"]
    if name == "fashion":
        fields["data"] = fashion.data_spec(fields["data"])
        fashion.check(fields["data"])
    elif name == "photographs":
        photographs.check(data_given="data" in overrides)
    elif name == "mnist":
        mnist.file()
    elif name == "digits":
        require_extra("demo", "sklearn.datasets")
    return fields


def preset(name: str) -> dict:
    """Return the fields of a preset's :class:`EvaluationConfig`.

    The drivers have standard training, as in "Confidence Is Not Evidence". The target is the next class or, for shapes,
    the other class of the same kind, so it does not depend on any network. Photographs have no labels, so their target
    is the driver's runner-up.

    The options for digits were chosen when only medians and transfer had been measured (``bench/digits.py``), so
    they were not tuned for the other measures.

    Examples
    --------
    >>> preset("digits")["driver"], preset("shapes")["sources"], preset("mnist")["distances"]
    ('steerlens_fast.evaluate.presets.digits:plain_cnn', 280, (2.0, 1.0))
    """
    spec = lambda function: f"{_MODULES[name].__name__}:{function}"
    if name == "photographs":
        return _photographs(spec("test_set"))
    judges = list(map(spec, JUDGES[name]))
    fields = {"data": spec("test_set"), "driver": spec("plain_cnn"), "judges": judges}
    fields |= {"channels": 1, "threads": 1, "distances": FOLLOW_UP_BUDGETS, "target": digits.NEXT, "sources": 300}
    if name == "shapes":
        fields |= {"target": shapes.OTHER, "sources": shapes.TESTING * len(shapes.KINDS)}
    elif name == "mnist":
        fields |= {"distances": mnist.DISTANCES}
    elif name == "fashion":
        fields |= {"data": fashion.data_spec(), "distances": fashion.DISTANCES}
    return fields


def _photographs(data: str) -> dict:
    """Return the fields for photographs.

    There are fewer probe directions and smaller batches, since the networks are slow.
    """
    driver, *judges = photographs.NETWORKS
    fields = {"data": data, "driver": driver, "judges": judges, "select": "agree", "target": "runner-up"}
    fields |= {"distances": photographs.DISTANCES, "probe_directions": 4, "batch_size": 4}
    return fields | photographs.OPTIONS

"""The preset "digits": scikit-learn's handwritten digits at 32 x 32, and three classifiers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from torch import nn
from torch.utils.data import StackDataset

from ...extras import require_extra
from . import digits_data, networks

NEXT = "map:" + ",".join(f"{d}={(d + 1) % 10}" for d in range(10))
# Before these options were chosen, predictions of driver and judges had been measured for these digits
# (bench/quality/digits.py), but no other measure of an evaluation.
OPTIONS = {
    "data": f"{__name__}:test_set",
    "driver": f"{__name__}:plain_cnn",
    "judges": (f"{__name__}:robust_cnn", f"{__name__}:mlp"),
    "channels": 1,
    "threads": 1,
    "distances": digits_data.DISTANCES,
    "target": NEXT,
    "sources": 300,
    "order": "data",  # the test images are not sorted by class
}


def check(options: Mapping) -> None:
    """Raise MissingExtra if scikit-learn is not installed."""
    require_extra("demo", "sklearn.datasets")


@lru_cache(maxsize=1)
def data() -> digits_data.LabelledImages:
    """Return the digits for training and for testing. They are those of the demo with seed 0."""
    return digits_data.load(0)


def test_set() -> StackDataset:
    """Return the test digits."""
    return data().test_set()


def robust_cnn() -> nn.Module:
    """Train the robust CNN, in about ten seconds; see :mod:`.networks`."""
    return networks.robust_cnn(data())


def plain_cnn() -> nn.Module:
    """Train the plain CNN; see :mod:`.networks`."""
    return networks.plain_cnn(data())


def mlp() -> nn.Module:
    """Train the MLP; see :mod:`.networks`."""
    return networks.mlp(data())

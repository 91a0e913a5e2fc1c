"""The preset "digits": scikit-learn's handwritten digits at 32 x 32, and three classifiers."""

from __future__ import annotations

from functools import lru_cache

from torch import nn
from torch.utils.data import StackDataset

from . import digits_data, networks

NEXT = "map:" + ",".join(f"{d}={(d + 1) % 10}" for d in range(10))


@lru_cache(maxsize=1)
def data() -> digits_data.LabelledImages:
    """Return the digits for training and for testing.

    They are those of the demo with seed 0.
    """
    return digits_data.load(0)


def test_set() -> StackDataset:
    """Return the test digits, which no classifier was trained on."""
    dataset = StackDataset((data().test_images * 255).round().byte(), data().test_labels.tolist())
    dataset.labels, dataset.classes = data().test_labels.tolist(), [str(d) for d in range(10)]
    return dataset


def robust_cnn() -> nn.Module:
    """Train the robust CNN, in about ten seconds; see :mod:`.networks`."""
    return networks.robust_cnn(data())


def plain_cnn() -> nn.Module:
    """Train the plain CNN; see :mod:`.networks`."""
    return networks.plain_cnn(data())


def mlp() -> nn.Module:
    """Train the MLP; see :mod:`.networks`."""
    return networks.mlp(data())

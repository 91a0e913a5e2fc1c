"""The preset "digits": scikit-learn's handwritten digits at 32 x 32, three classifiers of them."""

from __future__ import annotations

from functools import lru_cache

from torch import nn
from torch.utils.data import StackDataset

from . import digits_data, networks

NEXT = "map:" + ",".join(f"{d}={(d + 1) % 10}" for d in range(10))


@lru_cache(maxsize=1)
def data() -> digits_data.Digits:
    """The demo's split, seed 0."""
    return digits_data.load(0)


def test_set() -> StackDataset:
    """The test digits, of which no classifier has seen any."""
    found = StackDataset((data().test_images * 255).round().byte(), data().test_labels.tolist())
    found.labels, found.classes = data().test_labels.tolist(), [str(d) for d in range(10)]
    return found


def robust_cnn() -> nn.Module:
    """Trained here, in some ten seconds; see :mod:`.networks`."""
    return networks.robust_cnn(data())


def plain_cnn() -> nn.Module:
    """See :mod:`.networks`."""
    return networks.plain_cnn(data())


def mlp() -> nn.Module:
    """See :mod:`.networks`."""
    return networks.mlp(data())

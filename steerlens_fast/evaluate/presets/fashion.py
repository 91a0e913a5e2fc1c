"""The preset "fashion": all of Fashion-MNIST, as IDX files, and three classifiers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import lru_cache

import torch
from torch import Tensor, nn

from ...data.sources.idx import PREFIX, absolute_spec, idx_files, read_idx, split_spec
from ...errors import JobError, usage_error
from . import networks
from .digits import NEXT
from .digits_data import FOLLOW_UP_DISTANCES, LabelledImages
from .training import Recipe, current_run, trained

DEBIAN = "/usr/share/datasets/fashion-mnist"
INSTALL = "apt install dataset-fashion-mnist, or name the folder of the files: --data FOLDER"
MINIMUM = 0.9  # required test accuracy
CLASSES = ["T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]


def data_spec(folder: str | os.PathLike | None = None) -> str:
    """Return the data source of a folder's test images.

    ``folder`` may also be ``idx:FOLDER#part``; the part is ignored. The default is the folder of Debian's package. The
    path of a folder that exists is made absolute.

    Examples
    --------
    >>> data_spec(), data_spec("idx:my/files#test")
    ('idx:/usr/share/datasets/fashion-mnist#test', 'idx:my/files#test')
    """
    return absolute_spec(f"{PREFIX}{split_spec(DEBIAN if folder is None else os.fspath(folder))[0]}#test")


OPTIONS = {
    "data": data_spec(),
    "driver": f"{__name__}:plain_cnn",
    "judges": (f"{__name__}:strided_cnn", f"{__name__}:normalised_cnn"),
    "channels": 1,
    "threads": 1,
    "distances": FOLLOW_UP_DISTANCES,  # as for MNIST, which has images of this size, too
    "target": NEXT,
    "sources": 300,
    "order": "data",  # the test images are not sorted by class
}


def check(options: Mapping) -> None:
    """Raise JobError unless the folder of the data has images and labels for training and testing."""
    for part in ("train", "test"):
        try:
            _files(options["data"], part)
        except JobError as error:
            raise usage_error(f"{error}; {INSTALL}") from error


def _files(spec: str, part: str) -> dict[str, str]:
    folder = split_spec(spec)[0]
    files = idx_files(f"{PREFIX}{folder}#{part}")
    if "labels" not in files:
        raise usage_error(f"data must have the labels of {files['images']}, got none")
    return files


@lru_cache(maxsize=1)
def data(spec: str) -> LabelledImages:
    """Return the images and labels of a folder, as uint8.

    Fashion-MNIST has 60,000 images for training and 10,000 for testing.
    """
    train, test = _read(spec, "train"), _read(spec, "test")
    if train[0].shape[1:] != test[0].shape[1:]:
        shapes = [list(images.shape[1:]) for images, _ in (train, test)]
        text = f"data must have test images of the shape of the training images, {shapes[0]}, got {shapes[1]}"
        raise usage_error(text)
    return LabelledImages(*train, *test)


def _read(spec: str, part: str) -> tuple[Tensor, Tensor]:
    files = _files(spec, part)
    images, labels = (torch.tensor(read_idx(files[kind], kind), device="cpu") for kind in ("images", "labels"))
    if len(images) != len(labels):
        text = f"labels must have one entry for each of {len(images)} images, got {len(labels)} in {files['labels']}"
        raise usage_error(text)
    if int(labels.max()) >= len(CLASSES):
        raise usage_error(f"labels must be 0 to {len(CLASSES) - 1}, got {int(labels.max())} in {files['labels']}")
    return images[:, None], labels.long()


def plain_cnn() -> nn.Module:
    """Train three 3 x 3 convolutions with pooling. This takes about one and a half minutes of CPU time."""
    recipe = Recipe(5, "flip", MINIMUM, batch=125, rate=8e-3, seed=1)
    return _trained("plain_cnn", lambda side: networks.pooling_network(side, 10, width=16), recipe)


def strided_cnn() -> nn.Module:
    """Train two convolutions with stride 2 and two linear layers. This takes about a minute of CPU time."""
    recipe = Recipe(6, "flip", MINIMUM, batch=250, rate=6e-3, seed=2)
    return _trained("strided_cnn", lambda side: networks.strided_network(side, 10), recipe)


def normalised_cnn() -> nn.Module:
    """Train three convolutions with batch normalisation, in about two minutes of CPU time."""
    recipe = Recipe(8, "flip", MINIMUM, batch=250, rate=2e-2, seed=3)
    return _trained("normalised_cnn", lambda side: networks.normalised_network(10), recipe)


def _trained(name: str, make: Callable[[int], nn.Module], recipe: Recipe) -> nn.Module:
    """Train a network on the evaluation's data if these are IDX files, otherwise on Debian's files."""
    spec = current_run().data
    images = data(spec if spec.startswith(PREFIX) else data_spec())
    model = trained(name, lambda: make(images.train_images.shape[-1]), images, recipe)
    model.class_names = CLASSES
    return model

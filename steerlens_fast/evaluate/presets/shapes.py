"""The preset "shapes": synthetic images with a known true motion.

There are seven kinds of images of 32 x 32, with two classes per kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from . import networks
from .digits_data import DISTANCES, LabelledImages
from .synthetic import KINDS, SyntheticImages, synthetic_images

SIZE = 32
TRAINING, TESTING = 200, 40  # images of each kind
# The classes 2k and 2k + 1 are of the same kind: 0=1, 1=0, 2=3, 3=2, ...
OTHER_OF_KIND = "map:" + ",".join(f"{2 * k}={2 * k + 1},{2 * k + 1}={2 * k}" for k in range(len(KINDS)))
OPTIONS = {
    "data": f"{__name__}:test_set",
    "driver": f"{__name__}:plain_cnn",
    "judges": (f"{__name__}:robust_cnn", f"{__name__}:mlp"),
    "channels": 1,
    "threads": 1,
    "distances": DISTANCES,
    "target": OTHER_OF_KIND,
    "sources": TESTING * len(KINDS),
    "order": "data",  # the kinds alternate
}


def check(options: Mapping) -> None:
    """Do nothing: the images need no packages or files."""


class Shapes:
    """A map-style data set of (image, label) with a known true motion.

    See :mod:`steerlens_fast.evaluate.ground_truth`.

    Each image shows the value of a factor, such as a position. Class ``2 k`` is kind k with a factor below 0, and class
    ``2 k + 1`` is kind k with a factor above 0. Kinds alternate, so that any seven consecutive items have all kinds.

    Parameters
    ----------
    count : int
        Number of images of each kind.
    seed : int
    """

    classes = [f"{kind} {side}" for kind in KINDS for side in ("-", "+")]

    def __init__(self, count: int, seed: int):
        self.kinds: list[SyntheticImages] = [synthetic_images(k, count, size=SIZE, seed=seed) for k in KINDS]
        pixels = torch.stack([kind.images() for kind in self.kinds], 1)  # [count, kinds, 1, H, W]
        labels = torch.stack([2 * k + kind.labels for k, kind in enumerate(self.kinds)], 1)
        self.pixels, self.labels = (pixels.flatten(0, 1) * 255).round().byte(), labels.flatten().tolist()

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, n: int) -> tuple[Tensor, int]:
        return self.pixels[n], self.labels[n]

    def derivative(self, numbers: Sequence[int]) -> Tensor:
        """Return d(image)/d(factor), [n, 1, H, W], toward the other class."""
        images = [self._one(n) for n in numbers]
        return torch.cat([image.toward.view(-1, 1, 1, 1) * image.derivative() for image in images])

    def moved(self, numbers: Sequence[int], l2: float) -> tuple[Tensor, Tensor]:
        """Return images [n, 1, H, W] moved by the true motion to an L2 distance, and the change of the factor [n]."""
        images, changes = zip(*(self._one(n).moved(l2) for n in numbers))
        return torch.cat(images), torch.cat(changes)

    def group(self, n: int) -> str:
        """Return the kind of an image."""
        return tuple(KINDS)[n % len(KINDS)]

    def _one(self, n: int) -> SyntheticImages:
        place, kind = divmod(n, len(KINDS))
        return self.kinds[kind][place : place + 1]


def test_set() -> Shapes:
    """Return the shapes that no classifier was trained on."""
    return Shapes(TESTING, seed=1)


@lru_cache(maxsize=1)
def data() -> LabelledImages:
    """Return the training images and the images of :func:`test_set`, with their labels."""
    parts = []
    for shapes in (Shapes(TRAINING, seed=0), test_set()):
        parts += [shapes.pixels.float() / 255, torch.tensor(shapes.labels, device="cpu")]
    return LabelledImages(*parts)


def robust_cnn() -> nn.Module:
    """Train the robust CNN; see :mod:`.networks`."""
    return networks.robust_cnn(data())


def plain_cnn() -> nn.Module:
    """Train the plain CNN; see :mod:`.networks`."""
    return networks.plain_cnn(data())


def mlp() -> nn.Module:
    """Train the MLP; see :mod:`.networks`."""
    return networks.mlp(data())

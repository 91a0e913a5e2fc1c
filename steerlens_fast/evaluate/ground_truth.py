"""Data sets that know the true motion from class to class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Truth(Protocol):
    """What a data set has that knows the answer; ``numbers`` are its indices. All images are [n, C, H, W] in [0, 1]."""

    def derivative(self, numbers: Sequence[int]) -> Tensor:
        """[n, C, H, W]: d(image)/d(factor), toward the class that the image is to be morphed toward."""

    def moved(self, numbers: Sequence[int], l2: float) -> tuple[Tensor, Tensor]:
        """The true motion: images at that L2 distance from their sources, and by how much the factor has changed."""

    def group(self, number: int) -> str:
        """Of which kind an item is."""


class GroundTruth:
    """What a data set knows, as an evaluation shows its images: in RGB, what is grey is the same in every channel.

    Parameters
    ----------
    truth : Truth
    channels : int
        Of the images; those of the data set, or any where those are one.

    Examples
    --------
    >>> from steerlens_fast.evaluate.presets.shapes import Shapes
    >>> known = GroundTruth(Shapes(2, seed=0), channels=3)
    >>> moved, by = known.moved([0], l2=0.5)
    >>> source = known.truth.pixels[:1] / 255
    >>> moved.shape, round((moved - source).norm().item(), 2)  # L2 over all channels
    (torch.Size([1, 3, 32, 32]), 0.5)
    """

    def __init__(self, truth: Truth, channels: int):
        self.truth, self.channels = truth, channels

    def derivative(self, numbers: Sequence[int]) -> Tensor:
        """See :class:`Truth`."""
        return self._shown(self.truth.derivative(numbers))

    def moved(self, numbers: Sequence[int], l2: float) -> tuple[Tensor, Tensor]:
        """See :class:`Truth`."""
        copies = self.channels / self.truth.derivative(numbers[:1]).shape[1]
        images, by = self.truth.moved(numbers, l2 / copies**0.5)
        return self._shown(images), by

    def group(self, number: int) -> str:
        """See :class:`Truth`."""
        return self.truth.group(number)

    def _shown(self, images: Tensor) -> Tensor:
        return images.expand(-1, self.channels, -1, -1)


def ground_truth_of(source, number: int, image: Tensor, cropped: bool) -> tuple[GroundTruth | None, str | None]:
    """What the data of a source know, where they do; and why that cannot be compared with, where it cannot.

    Parameters
    ----------
    source : Source
    number : int
        Of an item.
    image : Tensor [C, H, W]
        The item, as classifiers see it.
    cropped : bool
        Whether the images are cropped.
    """
    truth = getattr(source, "data", None)
    if not isinstance(truth, Truth):
        return None, None
    channels, *size = truth.derivative([number]).shape[1:]
    if size == list(image.shape[1:]) and channels in (1, len(image)) and not cropped:
        return GroundTruth(truth, len(image)), None
    told, got = ("x".join(map(str, shape)) for shape in ((channels, *size), image.shape))
    got += ", cropped" * cropped
    return None, f"the data know the true motion of images {told}, but are shown as {got}: it is not compared with"

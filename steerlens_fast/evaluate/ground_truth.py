"""Data sets with a known true motion from class to class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from ..data.sources import Source


@runtime_checkable
class TrueMotionData(Protocol):
    """The interface of a data set with a known true motion.

    The motion leads from one class to another.

    ``number`` and ``numbers`` are indices of items, and images are [n, C, H, W] in [0, 1]. The *factor* of an image
    is the number that the motion changes, such as the position of a bar. (A morph's factors multiply a step instead.)
    """

    def derivative(self, numbers: Sequence[int]) -> Tensor:
        """Return d(image)/d(factor), [n, C, H, W], with the sign of a change toward the target class."""

    def moved(self, numbers: Sequence[int], l2: float) -> tuple[Tensor, Tensor]:
        """Move images by the true motion, to an L2 distance.

        The results are the moved images, and by how much the factor has changed toward the target class, [n].
        """

    def group(self, number: int) -> str:
        """Return the kind of an item; results are grouped by kind."""


class GroundTruth:
    """Adapts a true motion to the number of channels of an evaluation.

    A single channel is repeated.

    Parameters
    ----------
    truth : TrueMotionData
    channels : int
        Channels of the evaluation's images.

    Examples
    --------
    >>> from steerlens_fast.evaluate.presets.shapes import Shapes
    >>> truth = GroundTruth(Shapes(2, seed=0), channels=3)
    >>> moved, by = truth.moved([0], l2=0.5)
    >>> source = truth.truth.pixels[:1] / 255
    >>> moved.shape, round((moved - source).norm().item(), 2)  # L2 over all channels
    (torch.Size([1, 3, 32, 32]), 0.5)
    """

    def __init__(self, truth: TrueMotionData, channels: int):
        self.truth, self.channels = truth, channels

    def derivative(self, numbers: Sequence[int]) -> Tensor:
        """See :class:`TrueMotionData`."""
        return self._with_channels(self.truth.derivative(numbers))

    def moved(self, numbers: Sequence[int], l2: float) -> tuple[Tensor, Tensor]:
        """See :class:`TrueMotionData`."""
        copies = self.channels / self.truth.derivative(numbers[:1]).shape[1]
        images, by = self.truth.moved(numbers, l2 / copies**0.5)
        return self._with_channels(images), by

    def group(self, number: int) -> str:
        """See :class:`TrueMotionData`."""
        return self.truth.group(number)

    def _with_channels(self, images: Tensor) -> Tensor:
        return images.expand(-1, self.channels, -1, -1)


def ground_truth_of(
    data_source: Source, number: int, image: Tensor, cropped: bool, color: str
) -> tuple[GroundTruth | None, str | None]:
    """Return the true motion of a data set, or a message why edits cannot be compared with it.

    Both are None if the data have no true motion.

    Parameters
    ----------
    data_source : Source
    number : int
        Index of an item.
    image : Tensor [C, H, W]
        The item as it is passed to classifiers.
    cropped : bool
        Whether the images are cropped.
    color : str
        With "grey", images are converted to grey, and a true motion in colour is not.
    """
    truth = getattr(data_source, "data", None)
    if not isinstance(truth, TrueMotionData):
        return None, None
    channels, *size = truth.derivative([number]).shape[1:]
    converted = color == "grey" and channels > 1
    if size == list(image.shape[1:]) and channels in (1, len(image)) and not cropped and not converted:
        return GroundTruth(truth, len(image)), None
    expected, got = ("x".join(map(str, shape)) for shape in ((channels, *size), image.shape))
    got += ", cropped" * cropped + ", converted to grey" * converted
    return None, f"the true motion is known for images {expected}, got {got}: edits are not compared with it"

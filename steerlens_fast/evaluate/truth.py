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


def truth_of(source) -> Truth | None:
    """The data set of a source, where it knows the answer."""
    data = getattr(source, "data", None)
    return data if isinstance(data, Truth) else None

"""``MorphStatus``: how the morph of one image ended."""

from __future__ import annotations

from enum import IntEnum


class MorphStatus(IntEnum):
    """A value of ``Morphs.status``: 0 if the morph succeeded, otherwise what went wrong.

    Attributes
    ----------
    reason : str
        What went wrong, as text; "" for ``OK``.
    key : str
        The status in the records of a job.

    Examples
    --------
    >>> MorphStatus(2).reason, MorphStatus(2).key
    ('the gradient at the source is zero', 'gradient-zero')
    """

    reason: str

    def __new__(cls, value: int, reason: str = ""):
        """Make the member with its reason."""
        member = int.__new__(cls, value)
        member._value_, member.reason = value, reason
        return member

    OK = 0, ""
    GRADIENT_NOT_FINITE = 1, "the gradient at the source is not finite"
    GRADIENT_ZERO = 2, "the gradient at the source is zero"
    GRADIENT_BECAME_NOT_FINITE = 3, "a later gradient is not finite"
    OVERFLOW = 4, "frames exceed the floating-point range: use smaller factors"
    IMAGE_NOT_IN_BOUNDS = 5, "the image is not finite, or not in bounds"
    GRADIENT_BECAME_ZERO = 6, "a later gradient is zero"
    GRADIENT_TOO_SMALL = 7, "the gradient is too small: no factor in the floating-point range reaches the distance"

    @property
    def key(self) -> str:
        return self.name.lower().replace("_", "-")

"""The interfaces of edit families and their motions. A family of your own needs only ``prepare`` and ``render``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ..checks import Factors

Bounds = tuple[float, float] | None


class Motion(Protocol):
    """An image and how it moves. ``image`` and ``gradient`` are the tensors it was prepared from."""

    @property
    def image(self) -> Tensor: ...

    @property
    def gradient(self) -> Tensor: ...

    def render(self, factors: Factors, amplitude_factors: Factors | None = None, bounds: Bounds = None) -> Tensor:
        """Return frames [F, ..., H, W] at multiples of the one-step motion, clipped to ``bounds`` after synthesis."""


def check_frames(frames: Tensor, motion: Motion, count: int) -> Tensor:
    """Return the frames of ``motion.render``, which may be user code; raise if they are not [count, B, ...]."""
    expected = (count, *motion.image.shape)
    if not isinstance(frames, Tensor) or frames.shape != expected:
        got = list(frames.shape) if isinstance(frames, Tensor) else type(frames).__name__
        raise ValueError(f"render must return frames [F, B, ...], here {list(expected)}, got {got} of {motion!r:.200}")
    return frames


class Family(Protocol):
    """A way to turn a gradient into a motion."""

    def prepare(self, image: Tensor, gradient: Tensor) -> Motion:
        """Return the motion of ``image`` [..., H, W] along ``-gradient``, a tensor of the same shape."""


@runtime_checkable
class PiecewiseMotion(Protocol):
    """A motion that can be split into pieces of some samples each, which keep their analysis for many renders."""

    def pieces(self) -> Iterator[tuple[slice, Motion]]:
        """Yield (samples, their motion), in pieces small enough that what they keep fits the caches.

        A piece's ``speed()``, if it has one, returns about how fast the L2 distances of its samples [B] grow with
        small factors, or None.
        """


class PhaseMotion(Protocol):
    """A motion of phases, which can be limited by a ``phase_cap``."""

    def largest_phase_step(self) -> Tensor:
        """Return the largest |phase step| of each sample at factor 1, in radians: [B]."""


class AnchoringFamily(Protocol):
    """A family that can edit coordinates anchored at the source, for the persistent regime."""

    def anchor(self, image: Tensor) -> Anchor:
        """Return the source ``image`` [B, ..., H, W] at coordinates 0."""


class Anchor(Protocol):
    """A source image and the coordinates reached so far."""

    def toward(self, gradient: Tensor) -> Motion:
        """Return the motion from the current image along ``-gradient``, which was taken there."""

    def advance(self, gradient: Tensor, factors: Factors, amplitude_factors: Factors | None = None) -> None:
        """Move the coordinates, in place, by one factor [1] or [1, B] of the motion :meth:`toward` ``gradient``."""

    def frame(self, bounds: Bounds = None) -> Tensor:
        """Return the current image [..., H, W], clipped to ``bounds`` after synthesis."""


# --- Families that compute each plane on its own: see PlaneMotion ---


class PreparedPlanes(Protocol):
    """Analysis and step of a batch of planes, computed once."""

    def frames(self, b: Tensor, a: Tensor) -> Tensor:
        """Return frames [F, n, H, W] at factors [F, 1] or [F, n]; the image of a complex frame is its real part."""

    def largest_phase(self) -> Tensor:
        """Return the largest |phase step| of each plane, in radians: [n]."""

    def squared_speed(self) -> Tensor:
        """Return about the square of each plane's L2 distance at a small factor, over the factor squared: [n].

        Optional: where a search for a distance begins.
        """


class PlaneFamily(Protocol):
    """The methods of a family that :class:`PlaneMotion` calls."""

    def prepare_planes(self, image: Tensor, gradient: Tensor, *state: Tensor) -> PreparedPlanes:
        """Compute analysis and step of planes [n, H, W], starting at the coordinates ``state`` if there are any."""

    def frame_bytes(self, dtype: torch.dtype) -> int:
        """Return the memory that rendering one frame of one plane takes."""

    def prepared_bytes(self, dtype: torch.dtype) -> int:
        """Return the memory that the result of :meth:`prepare_planes` takes for one plane."""

"""The interfaces of edit families and their motions.

A family makes a motion from an image and a gradient. A motion moves *coordinates* of the image, such as phases or
pixels: it renders frames in which these coordinates are changed by multiples of one step.

A family of your own needs only ``Family.prepare``, and its motions only the members of ``Motion``. The other methods
are for options of the lens (``phase_cap``, the regime "persistent"), or make a motion faster.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..checks import Factors, shown
from ..ops import FramesAtL2, StepTaken

Bounds = tuple[float, float] | None


class Motion(Protocol):
    """An image, and the step along which it moves.

    ``gradient`` is the gradient of the loss to decrease, or only the part of it that moves the image.
    """

    @property
    def image(self) -> Tensor: ...

    @property
    def gradient(self) -> Tensor: ...

    def render(self, factors: Factors, amplitude_factors: Factors | None = None, bounds: Bounds = None) -> Tensor:
        """Return frames [F, ..., H, W]: the image, moved by ``factors`` times one step.

        Amplitudes move by ``amplitude_factors`` if they are given. Frames are clipped to ``bounds`` if these are given.
        This package's motions raise a ValueError for ``amplitude_factors`` if no amplitudes move.
        """


def check_frames(frames: Tensor, motion: Motion, count: int) -> Tensor:
    """Return ``frames``. Raise unless they are [count, B, ...]: a user may have written ``render``."""
    expected = (count, *motion.image.shape)
    if not isinstance(frames, Tensor) or frames.shape != expected:
        got = list(frames.shape) if isinstance(frames, Tensor) else type(frames).__name__
        raise ValueError(f"render must return frames [F, B, ...] = {list(expected)}, got {got} from {shown(motion)}")
    return frames


@dataclass(frozen=True)
class DistanceSearch:
    """The distances that frames of B samples must have, and settings of the search for their factors.

    A sample has F frames: F - M frames before the first distance, then one at each of M distances. See
    :func:`steerlens_fast.ops.morph_planes_to_l2`.
    """

    max_l2: Tensor  # [M, B], the distances
    tolerances: Tensor  # [M, B], largest errors of the distances
    # [B], largest factors without overflow: finfo.max, divided by the scale if the lens has scaled a sample's gradient
    dtype_max_factors: Tensor
    shares: Tensor  # [F - M], factors of the first frames, divided by the factor at the first distance
    phase_cap: float  # the user's limit of phase steps, in radians; inf if there is none
    phase_limit: float  # largest phase step with accurate float32 sines, in radians
    speed_share: float  # estimate of (speed of the image) / (speed of the coefficients), where a speed is L2 / factor
    iterations: int  # largest number of tried factors for each distance


@runtime_checkable
class DistanceMotion(Protocol):
    """A motion with an op that computes all frames at given distances."""

    def frames_at_l2(
        self, search: DistanceSearch, bounds: Bounds = None, base: Tensor | None = None
    ) -> FramesAtL2 | None:
        """Return the frames, or None if the op does not support these images.

        ``base`` [B, C, H, W] is given if the motion's images are the luma of RGB images: ``base`` are these RGB images,
        and frames are ``base`` plus, in each channel, the change of the luma.
        """


@dataclass(frozen=True)
class StepExtent:
    """The length of one step of B samples: given as ``factors``, or as distances in ``limits``."""

    source: Tensor  # [B, C, H, W], images from which distances are measured
    position: Tensor  # [B, C, H, W], the images before the step
    phase_cap: float  # largest phase step, in radians; inf if there is no limit
    factors: Tensor | None = None  # [2, B], of the phase step and of the amplitude step
    limits: Tensor | None = None  # [4, B], rows: distances, tolerances, dtype_max_factors, first factors to try
    options: Mapping[str, float] = field(default_factory=dict)  # options of the search, see advance_planes


@runtime_checkable
class SteppingMotion(Protocol):
    """A motion with an op that takes one step, by given factors or to a given distance."""

    def take_step(self, extent: StepExtent, bounds: Bounds = None, base: Tensor | None = None) -> StepTaken | None:
        """Return the step, or None if the op does not support these images.

        See :class:`DistanceMotion` for ``base``.
        """


class Family(Protocol):
    """Makes motions: decides which coordinates of an image a gradient moves."""

    def prepare(self, image: Tensor, gradient: Tensor) -> Motion:
        """Return the motion of ``image`` [..., H, W] along ``-gradient``.

        ``gradient``, a tensor like ``image``, is d(loss)/d(image), where the loss is summed over samples.
        """


@runtime_checkable
class PiecewiseMotion(Protocol):
    """A motion that can be split into pieces of a few samples.

    A piece is analysed once, and can then be rendered several times, as a search for a distance needs.
    """

    def pieces(self) -> Iterator[tuple[slice, Motion]]:
        """Yield (slice of samples, motion of these samples).

        The analysis and step of a piece fit the caches. A piece may have a method ``speed()``, which returns None or an
        estimate [B] of d(L2 distance) / d(factor) at factor 0, from which a search starts.
        """


class PhaseMotion(Protocol):
    """A motion of phases, which a ``phase_cap`` can limit."""

    def largest_phase_step(self) -> Tensor:
        """Return the largest absolute phase step of each sample [B], in radians."""


class Anchor(Protocol):
    """A source image, and how much its coordinates have changed so far, for the lens's regime "persistent".

    Each step adds to these changes. The changed image is never decomposed again.
    """

    def toward(self, gradient: Tensor) -> Motion:
        """Return the motion of the current image along ``-gradient``."""

    def advance(self, gradient: Tensor, factors: Factors, amplitude_factors: Factors | None = None) -> None:
        """Move the coordinates by one step along ``-gradient``, with factors [1] or [1, B]."""

    def frame(self, bounds: Bounds = None) -> Tensor:
        """Return the current image [..., H, W], clipped to ``bounds`` after synthesis."""


@runtime_checkable
class SteppingAnchor(Protocol):
    """An :class:`Anchor` with an op that takes one step, by given factors or to a given distance."""

    def take_step(
        self, gradient: Tensor, extent: StepExtent, bounds: Bounds = None, base: Tensor | None = None
    ) -> StepTaken | None:
        """Move the coordinates in place along ``-gradient``, and return the step.

        Return None, and move nothing, if the op does not support these images.
        """


class AnchoringFamily(Protocol):
    """A family that supports the regime "persistent"."""

    def anchor(self, image: Tensor) -> Anchor:
        """Return the anchor of the source ``image`` [B, ..., H, W]."""


# --- For families that compute each plane (channel of an image) independently of the others, see PlaneMotion ---


class PreparedPlanes(Protocol):
    """Analysis and step of a batch of n planes."""

    def frames(self, b: Tensor, a: Tensor) -> Tensor:
        """Return frames [F, n, H, W].

        Phase factors ``b`` and amplitude factors ``a`` are both [F, 1] or both [F, n]. If frames are complex, only
        their real parts are used.
        """

    def largest_phase(self) -> Tensor:
        """Return the largest absolute phase step of each plane [n], in radians."""

    def squared_speed(self) -> Tensor:
        """Return an estimate [n] of each plane's (L2 distance / factor) squared, at a small factor.

        This method is optional. A search for a distance estimates its first factor from it.
        """


class PlaneFamily(Protocol):
    """What :class:`PlaneMotion` uses of a family."""

    @property
    def moves_amplitude(self) -> bool: ...

    def prepare_planes(self, image: Tensor, gradient: Tensor, *state: Tensor) -> PreparedPlanes:
        """Return analysis and step of planes [n, H, W].

        The step starts at the coordinates ``state``, see :class:`AnchorPlaneFamily`; by default, at those of ``image``.
        """

    def frame_bytes(self, dtype: torch.dtype) -> int:
        """Return the bytes that rendering one frame of one plane takes."""

    def prepared_bytes(self, dtype: torch.dtype) -> int:
        """Return the bytes that the result of :meth:`prepare_planes` takes for one plane."""


class AnchorPlaneFamily(PlaneFamily, Protocol):
    """The methods of a family that :class:`PlaneAnchor` calls.

    ``analysis`` is the result of :meth:`analyze`. ``state`` are the coordinates of n planes, relative to the source:
    for each shape of :meth:`coordinate_shapes`, a tensor ``[n, *shape]`` of phase changes if phases move, then one of
    changes of log amplitudes if amplitudes move.
    """

    @property
    def moves_phase(self) -> bool: ...

    def coordinate_shapes(self) -> list[torch.Size]:
        """Return the shapes of the coordinates of one plane."""

    def analyze(self, image: Tensor) -> Any:
        """Return the analysis of planes [n, H, W]."""

    def step_from(self, analysis: Any, gradient: Tensor, state: Sequence[Tensor]) -> Any:
        """Return the step of planes at ``state``: PreparedPlanes that also have a method ``advance(b, a)``."""

    def image_at(self, analysis: Any, state: Sequence[Tensor]) -> Tensor:
        """Return the images [n, H, W] at ``state``."""

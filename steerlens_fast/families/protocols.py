"""The interfaces of edit families and their motions. A family of your own needs only ``prepare`` and ``render``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..checks import Factors
from ..ops import FramesAtL2, StepTaken

Bounds = tuple[float, float] | None


class Motion(Protocol):
    """An image and how it moves. ``gradient`` is that of the loss to decrease, or its part that moves the image."""

    @property
    def image(self) -> Tensor: ...

    @property
    def gradient(self) -> Tensor: ...

    def render(self, factors: Factors, amplitude_factors: Factors | None = None, bounds: Bounds = None) -> Tensor:
        """Return frames [F, ..., H, W]: the image after ``factors`` times one step, clipped to ``bounds``.

        ``amplitude_factors``, by default the same, apply to amplitudes, ``factors`` to everything else.
        """


def check_frames(frames: Tensor, motion: Motion, count: int) -> Tensor:
    """Return the frames of ``motion.render`` (possibly user code); raise an error if they are not [count, B, ...]."""
    expected = (count, *motion.image.shape)
    if not isinstance(frames, Tensor) or frames.shape != expected:
        got = list(frames.shape) if isinstance(frames, Tensor) else type(frames).__name__
        raise ValueError(f"render must return frames [F, B, ...] = {list(expected)}, got {got} from {motion!r:.200}")
    return frames


@dataclass(frozen=True)
class L2Limits:
    """Distances that frames of B samples should have, M for each sample, and limits of the search for their factors."""

    max_l2: Tensor  # [M, B], distances of the last M frames
    tolerances: Tensor  # [M, B]
    range_ends: Tensor  # [B], the largest factors that can be represented
    shares: Tensor  # [F - M], of the first frames: shares of the factor at the first distance
    phase_cap: float  # largest phase steps, in radians: that of the user, and that of accurate phases
    phase_limit: float
    speed_share: float  # see morph_planes_to_l2
    iterations: int


@runtime_checkable
class DistanceMotion(Protocol):
    """A motion that may be able to compute all frames at given distances by one op."""

    def frames_at_l2(self, limits: L2Limits, bounds: Bounds = None, base: Tensor | None = None) -> FramesAtL2 | None:
        """Return the frames, or None if no op takes this motion.

        ``base`` [B, C, H, W] are images to whose channels the change is added, in place of the motion's own image.
        """


@dataclass(frozen=True)
class StepExtent:
    """How far one refreshed step of B samples goes: by given factors, or to distances."""

    source: Tensor  # [B, C, H, W], from which distances are measured
    position: Tensor  # [B, C, H, W], the present images
    phase_cap: float  # largest phase step, in radians
    factors: Tensor | None = None  # [2, B], of the phase and of the amplitude step
    limits: Tensor | None = None  # [4, B]: distances, tolerances, largest factors, first factors
    options: Mapping[str, float] = field(default_factory=dict)  # of the search: see advance_planes


@runtime_checkable
class SteppingMotion(Protocol):
    """A motion that may be able to take a refreshed step by one op."""

    def refreshed_step(self, extent: StepExtent, bounds: Bounds = None, base: Tensor | None = None) -> StepTaken | None:
        """Return the step, or None if no op takes this motion. ``base`` is as for :class:`DistanceMotion`."""


@runtime_checkable
class SteppingAnchor(Protocol):
    """An anchor that may be able to take a step by one op."""

    def refreshed_step(
        self, gradient: Tensor, extent: StepExtent, bounds: Bounds = None, base: Tensor | None = None
    ) -> StepTaken | None:
        """Move the coordinates in place along ``-gradient`` and return the step, or return None if no op does it."""


class Family(Protocol):
    """The coordinates in which a gradient becomes a motion."""

    def prepare(self, image: Tensor, gradient: Tensor) -> Motion:
        """Return the motion of ``image`` [..., H, W] along ``-gradient``.

        ``gradient`` is d(loss to decrease) / d(image), summed over samples: a tensor like ``image``.
        """


@runtime_checkable
class PiecewiseMotion(Protocol):
    """A motion that can be split into pieces of a few samples, each analysed once and rendered several times."""

    def pieces(self) -> Iterator[tuple[slice, Motion]]:
        """Yield (samples, their motion), in pieces whose analysis and step fit the caches.

        A piece may have a method ``speed()`` that returns an estimate of d(L2 distance) / d(factor) at factor 0 for
        each sample, [B], or None if it is unknown.
        """


class PhaseMotion(Protocol):
    """A motion of phases, which can be limited by a ``phase_cap``."""

    def largest_phase_step(self) -> Tensor:
        """Return the largest |phase step| of each sample at factor 1, in radians: [B]."""


class AnchoringFamily(Protocol):
    """A family with coordinates relative to the source, for the persistent regime."""

    def anchor(self, image: Tensor) -> Anchor:
        """Return the anchor of a source ``image`` [B, ..., H, W], at coordinates 0."""


class Anchor(Protocol):
    """A source image and the coordinates reached so far."""

    def toward(self, gradient: Tensor) -> Motion:
        """Return the motion from the current image along ``-gradient``, the gradient at this image."""

    def advance(self, gradient: Tensor, factors: Factors, amplitude_factors: Factors | None = None) -> None:
        """Move the coordinates in place: by one frame's factors, [1] or [1, B], times the step along ``-gradient``."""

    def frame(self, bounds: Bounds = None) -> Tensor:
        """Return the current image [..., H, W], clipped to ``bounds`` after synthesis."""


# --- Families that compute each plane independently of the others: see PlaneMotion ---


class PreparedPlanes(Protocol):
    """Analysis and step of a batch of n planes, computed once."""

    def frames(self, b: Tensor, a: Tensor) -> Tensor:
        """Return frames [F, n, H, W] at phase factors ``b`` and amplitude factors ``a``, both [F, 1] or both [F, n].

        Frames may be complex; then only their real parts count.
        """

    def largest_phase(self) -> Tensor:
        """Return the largest |phase step| of each plane, in radians: [n]."""

    def squared_speed(self) -> Tensor:
        """Return an estimate of each plane's squared speed, (L2 distance / factor)^2 at a small factor: [n].

        Optional. The search for a distance starts from it.
        """


class PlaneFamily(Protocol):
    """The methods of a family that :class:`PlaneMotion` calls."""

    def prepare_planes(self, image: Tensor, gradient: Tensor, *state: Tensor) -> PreparedPlanes:
        """Compute analysis and step of planes [n, H, W], starting at the coordinates ``state`` if they are given."""

    def frame_bytes(self, dtype: torch.dtype) -> int:
        """Return the bytes that rendering one frame of one plane takes."""

    def prepared_bytes(self, dtype: torch.dtype) -> int:
        """Return the bytes that the result of :meth:`prepare_planes` takes for one plane."""


class AnchorPlaneFamily(PlaneFamily, Protocol):
    """The methods of a family that :class:`PlaneAnchor` calls.

    ``analysis`` is the result of :meth:`analyze`. ``state`` contains the coordinates of the same planes: for each shape
    of :meth:`coordinate_shapes`, the phases, then the log amplitudes, if they move.
    """

    @property
    def moves_phase(self) -> bool: ...

    @property
    def moves_amplitude(self) -> bool: ...

    def coordinate_shapes(self) -> list[torch.Size]:
        """Return the shapes of the coordinates of one plane."""

    def analyze(self, image: Tensor) -> Any:
        """Return the analysis of planes [n, H, W]."""

    def step_from(self, analysis: Any, gradient: Tensor, state: Sequence[Tensor]) -> Any:
        """Return the step of planes at the coordinates ``state``: PreparedPlanes that also have ``advance(b, a)``."""

    def image_at(self, analysis: Any, state: Sequence[Tensor]) -> Tensor:
        """Return the images [n, H, W] at the coordinates ``state``."""

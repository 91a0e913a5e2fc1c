"""What an edit family is, and what all of ours share: factors, clipping, and work in cache-sized tiles."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from .. import checks
from ..checks import Factors, factor_table
from ..memory import chunks, is_untraced, new_output, store
from ..pyramid.transforms import needs_no_derivative, real_images

Bounds = tuple[float, float] | None


class Motion(Protocol):
    """An image, and how it moves. ``image`` and ``gradient`` are the tensors it was prepared from."""

    @property
    def image(self) -> Tensor: ...

    @property
    def gradient(self) -> Tensor: ...

    def render(self, factors: Factors, amplitude_factors: Factors | None = None, bounds: Bounds = None) -> Tensor:
        """Frames [F, ..., H, W] at these multiples of the one-step motion, clipped to ``bounds`` after synthesis."""


class Family(Protocol):
    """How a gradient becomes a motion. These two methods, ``prepare`` and its result's ``render``, are all it takes."""

    def prepare(self, image: Tensor, gradient: Tensor) -> Motion:
        """The motion of ``image`` [..., H, W] along ``-gradient``, a tensor of the same shape."""


@runtime_checkable
class HoldingMotion(Protocol):
    """A motion that can be taken apart into pieces of some samples which keep their analysis for many renders."""

    def pieces(self) -> Iterator[tuple[slice, Motion]]:
        """(which samples, their motion), small enough that what they keep fits in the caches."""


class PhaseMotion(Protocol):
    """A motion of phases, which a ``phase_cap`` can bound."""

    def largest_phase_step(self) -> Tensor:
        """[B]: the largest |phase step| of each sample at factor 1, in radians."""


class AnchoringFamily(Protocol):
    """A family whose edits can be coordinates anchored at the source, for the persistent regime."""

    def anchor(self, image: Tensor) -> Anchor:
        """The source ``image`` [B, ..., H, W] at coordinates 0."""


class Anchor(Protocol):
    """A source and the coordinates reached so far."""

    def toward(self, gradient: Tensor) -> Motion:
        """The motion from here along ``-gradient``, taken at the image reached."""

    def advance(self, gradient: Tensor, factors: Factors, amplitude_factors: Factors | None = None) -> None:
        """Move the coordinates, in place: one factor [1] or [1, B] of the motion :meth:`toward` ``gradient``."""

    def frame(self, bounds: Bounds = None) -> Tensor:
        """The image reached [..., H, W], clipped to ``bounds`` after synthesis."""


def rendered(motion: Motion, b: Tensor, a: Tensor | None, bounds: Bounds) -> Tensor:
    """Frames [F, B, ...] of a motion, ours or a user's, at factors [F] or [F, B]; ValueError where they are none."""
    frames = motion.render(b, a, bounds=bounds)
    wanted = (len(b), *motion.image.shape)
    if not isinstance(frames, Tensor) or frames.shape != wanted:
        got = list(frames.shape) if isinstance(frames, Tensor) else type(frames).__name__
        raise ValueError(f"render must return frames [F, B, ...], here {list(wanted)}, got {got} of {motion!r:.200}")
    return frames


# --- Factors and clipping ---


def factor_pair(factors: Factors, amplitude_factors: Factors | None, image: Tensor) -> tuple[Tensor, Tensor]:
    """Phase and amplitude factors of the planes of ``image``, both [F, 1] or both [F, N]."""
    b = factor_table("factors", factors, image)
    a = b if amplitude_factors is None else factor_table("amplitude_factors", amplitude_factors, image)
    if a.shape[0] != b.shape[0]:
        raise ValueError(f"amplitude_factors must have {len(b)} frames like factors, got {len(a)}")
    return torch.broadcast_tensors(b, a)


def clip(frames: Tensor, bounds: Bounds) -> Tensor:
    """Frames that nobody else holds, real and clipped; in place where no derivative is wanted."""
    if frames.is_complex():
        frames = real_images(frames.flatten(0, -3)).unflatten(0, frames.shape[:-2])
    if bounds is None:
        return frames
    return frames.clamp(*bounds) if frames.requires_grad else frames.clamp_(*bounds)


def of_planes(factors: Tensor, at: slice) -> Tensor:
    """Factors [F, 1] or [F, N] of some planes."""
    return factors if factors.shape[1] == 1 else factors[:, at]


def planes(t: Tensor) -> Tensor:
    """[..., H, W] -> [N, H, W], also where N is 0."""
    return t.reshape(math.prod(t.shape[:-2]), *t.shape[-2:])


def check_pair(image: Tensor, gradient: Tensor, shape: tuple[int, int] | None = None) -> tuple[Tensor, Tensor]:
    """Image and gradient of one shape, dtype and device."""
    image, gradient = checks.check_image("image", image, shape), checks.check_image("gradient", gradient, shape)
    checks.check_same("gradient", gradient, "image", image)
    return image, gradient


# --- Motions that are computed plane by plane ---


class Moving(Protocol):
    """Analysis and step of some planes, done once."""

    def frames(self, b: Tensor, a: Tensor) -> Tensor:
        """Frames [F, n, H, W] at factors [F, 1] or [F, n]; of complex ones the real part counts."""

    def largest_phase(self) -> Tensor:
        """[n]: the largest |phase step| of each plane, in radians."""


class PlaneFamily(Protocol):
    """What :class:`PlaneMotion` needs of its family."""

    def moving(self, image: Tensor, gradient: Tensor, *state: Tensor) -> Moving:
        """Analysis and step of planes [n, H, W], from the coordinates ``state`` where there are any."""

    def frame_bytes(self, dtype: torch.dtype) -> int:
        """Memory that rendering one frame of one plane takes."""

    def moving_bytes(self, dtype: torch.dtype) -> int:
        """Memory that :meth:`moving` keeps of one plane."""


@dataclass(frozen=True, eq=False, repr=False)
class PlaneMotion:
    """The motion of images [..., H, W], rendered in tiles of some planes and some frames."""

    family: PlaneFamily
    image: Tensor
    gradient: Tensor
    state: tuple[Tensor, ...] = ()  # coordinates [N, ...] of the planes, in the persistent regime
    held: Moving | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.family}, image {list(self.image.shape)})"

    def render(self, factors: Factors, amplitude_factors: Factors | None = None, bounds: Bounds = None) -> Tensor:
        """Frames [F, ..., H, W].

        Parameters
        ----------
        factors : sequence of float, Tensor [F] or [F, *leading]
            Multiples b_j of the phase step, for all planes or, with the image's leading dimensions (or the first few of
            them), for each. Where only amplitudes move: multiples a_j of the amplitude step.
        amplitude_factors : likewise, optional
            a_j, by default the same as ``factors``.
        bounds : (float, float), optional
            Clip the frames, after synthesis.

        Raises
        ------
        TypeError, ValueError
            For factors that are not finite or do not fit.
        """
        bounds = checks.check_bounds(bounds)
        b, a = factor_pair(factors, amplitude_factors, self.image)
        frames = self._render(b, a, bounds)
        return frames.reshape(b.shape[0], *self.image.shape)

    def pieces(self) -> Iterator[tuple[slice, PlaneMotion]]:
        """See :class:`HoldingMotion`."""
        per_sample = self.image.shape[1:-2].numel()
        size = per_sample * self.family.moving_bytes(self.image.dtype)
        for at in chunks(len(self.image), size, self.image.device):
            of_planes = slice(at.start * per_sample, at.stop * per_sample)
            piece = replace(
                self, image=self.image[at], gradient=self.gradient[at], state=tuple(t[of_planes] for t in self.state)
            )
            yield at, replace(piece, held=self.family.moving(*piece._planes()))

    def largest_phase_step(self) -> Tensor:
        """See :class:`PhaseMotion`."""
        lead = self.image.shape[:-2]
        if not lead.numel():
            return self.image.new_zeros(lead[:1])
        largest = torch.cat([self._moving(at).largest_phase() for at in self._plane_tiles()])
        return largest.reshape(lead[0] if lead else 1, -1).amax(1)

    def _planes(self) -> tuple[Tensor, ...]:
        return planes(self.image), planes(self.gradient), *self.state

    def _moving(self, at: slice) -> Moving:
        if self.held is not None:
            return self.held
        return self.family.moving(*(t[at] for t in self._planes()))

    def _plane_tiles(self) -> list[slice]:
        """As many planes as fit with one frame of each: one for every thread, if need be. Frames come in blocks."""
        count = self.image.shape[:-2].numel()
        if self.held is not None:
            return [slice(0, count)]
        dtype = self.image.dtype
        size = self.family.frame_bytes(dtype) + self.family.moving_bytes(dtype)
        return chunks(count, size, self.image.device)

    def _render(self, b: Tensor, a: Tensor, bounds: Bounds) -> Tensor:
        """Frames [F, N, H, W] of all planes."""
        image, gradient, *_ = self._planes()
        whole = torch.compiler.is_compiling() or not image.shape[0] or not b.shape[0]
        if whole or not needs_no_derivative(image, gradient, b, a):
            by_planes: dict[int, list[Tensor]] = {}
            for at, _, frames in self._tiles(b, a, whole):
                by_planes.setdefault(at.start, []).append(clip(frames, bounds))
            return torch.cat([torch.cat(frames) for frames in by_planes.values()], 1)
        out = new_output((len(b), *image.shape), image.dtype, image.device)
        if out.is_cuda:  # to read the factors would wait for the device: all frames move, several in one store
            for at, f, frames in self._tiles(b, a):
                store(out[f, at], frames, bounds)
            return out
        moving = self._moving_frames(b, a)
        for j in set(range(len(b))) - set(moving):
            store(out[j], image, bounds)
        for at, f, frames in self._tiles(b[moving], a[moving]) if moving else ():
            for j, piece in zip(moving[f], frames):
                store(out[j, at], piece, bounds)
        return out

    def _moving_frames(self, b: Tensor, a: Tensor) -> list[int]:
        """Which frames are not the source, as those of factor 0 are; all where factors cannot be read at once."""
        if b.device.type != "cpu" or self.state or not is_untraced():
            return list(range(len(b)))
        return ((b != 0).any(1) | (a != 0).any(1)).nonzero()[:, 0].tolist()

    def _tiles(self, b: Tensor, a: Tensor, whole: bool = False) -> Iterator[tuple[slice, slice, Tensor]]:
        """(planes, frames, their pixels [f, n, H, W])."""
        image = planes(self.image)
        count, frames = image.shape[0], b.shape[0]
        by_planes = [slice(0, count)] if whole else self._plane_tiles()
        size = self.family.frame_bytes(image.dtype)
        for at in by_planes:
            if not count or not frames:
                yield at, slice(0, frames), image.expand(frames, *image.shape).clone()
                return
            moving = self._moving(at)
            blocks = [slice(0, frames)] if whole else chunks(frames, (at.stop - at.start) * size, image.device)
            for f in blocks:
                yield at, f, moving.frames(of_planes(b[f], at), of_planes(a[f], at))

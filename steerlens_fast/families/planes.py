"""``PlaneMotion``, the motion of families that compute each image plane (channel) independently.

Work is split so that its data fit the caches: a *piece* is some samples, a *tile* is some frames of some planes, and a
*block* is some frames. ``memory.chunks`` chooses their sizes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .. import checks
from ..checks import Factors
from ..memory import chunks, is_untraced, new_output, store
from ..pyramid.backend import may_write_in_place
from .protocols import Bounds, PlaneFamily, PreparedPlanes
from .shared import check_amplitude_factors, clip, factor_pair, factors_of_planes, flatten_planes

# Size of a piece, as a multiple of the size that memory.chunks chooses. Pieces of two photographs are faster than
# pieces of one, since two threads can share six planes evenly, but not three. They still fit a cache of 32 MiB:
# coefficients and phase steps of two RGB images of 224 x 224 pixels take 18 MiB.
CHUNKS_PER_PIECE = 2


@dataclass(frozen=True, eq=False, repr=False)
class PlaneMotion:
    """A motion of images [..., H, W] that is rendered in tiles."""

    family: PlaneFamily
    image: Tensor
    gradient: Tensor
    state: tuple[Tensor, ...] = ()  # the planes' coordinates relative to the source, see AnchorPlaneFamily
    prepared: PreparedPlanes | None = None  # analysis and step of all planes, if already computed

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.family}, image {list(self.image.shape)})"

    def render(self, factors: Factors, amplitude_factors: Factors | None = None, bounds: Bounds = None) -> Tensor:
        """Return frames: the image, moved by ``factors`` times one step.

        Parameters
        ----------
        factors : sequence of float, or Tensor [F] or [F, *leading]
            Factors of the phase step: one for each frame, or one for each frame and index in ``leading``, the first
            dimensions of the image, such as [B] or [B, C].
        amplitude_factors : like ``factors``, optional
            Factors of the amplitude step, by default ``factors``. Must be None if no amplitudes move.
        bounds : (float, float), optional
            Limits to which frames are clipped after synthesis.

        Returns
        -------
        Tensor [F, ..., H, W]
            float64 for float64 images, otherwise float32.

        Raises
        ------
        TypeError, ValueError
            If factors or bounds are not finite numbers, factors have the wrong shape, or there are
            ``amplitude_factors`` but no amplitudes move.
        """
        bounds = checks.check_bounds(bounds)
        check_amplitude_factors(amplitude_factors, self.family.moves_amplitude)
        b, a = factor_pair(factors, amplitude_factors, self.image)
        return self._render(b, a, bounds).reshape(b.shape[0], *self.image.shape)

    def pieces(self) -> Iterator[tuple[slice, PlaneMotion]]:
        """See :class:`PiecewiseMotion`."""
        if self.prepared is not None:
            yield slice(0, len(self.image)), self
            return
        per_sample = self.image.shape[1:-2].numel()
        size = per_sample * self.family.prepared_bytes(self.image.dtype) // CHUNKS_PER_PIECE
        for at in chunks(len(self.image), size, self.image.device):
            plane_slice = slice(at.start * per_sample, at.stop * per_sample)
            state = tuple(t[plane_slice] for t in self.state)
            piece = replace(self, image=self.image[at], gradient=self.gradient[at], state=state)
            yield at, piece._prepared_once()

    def _prepared_once(self) -> PlaneMotion:
        """Return this motion with its analysis and step, so that several renders share them."""
        return replace(self, prepared=self.family.prepare_planes(*self._planes()))

    def speed(self) -> Tensor | None:
        """See :class:`PiecewiseMotion`."""
        squared_speed = None if self.state else getattr(self.prepared, "squared_speed", None)
        return None if squared_speed is None else squared_speed().reshape(len(self.image), -1).sum(1).sqrt()

    def largest_phase_step(self) -> Tensor:
        """See :class:`PhaseMotion`."""
        lead = self.image.shape[:-2]
        if not lead.numel():
            return self.image.new_zeros(lead[:1])
        largest = torch.cat([self._prepare(at).largest_phase() for at in self._plane_slices()])
        return largest.reshape(lead[0] if lead else 1, -1).amax(1)

    def _planes(self) -> tuple[Tensor, ...]:
        return flatten_planes(self.image), flatten_planes(self.gradient), *self.state

    def _prepare(self, at: slice) -> PreparedPlanes:
        if self.prepared is not None:
            return self.prepared
        return self.family.prepare_planes(*(t[at] for t in self._planes()))

    def _plane_slices(self) -> list[slice]:
        """Return slices of planes for the tiles. A slice fits the caches together with one frame of its planes."""
        count = self.image.shape[:-2].numel()
        if self.prepared is not None:
            return [slice(0, count)]
        dtype = self.image.dtype
        size = self.family.frame_bytes(dtype) + self.family.prepared_bytes(dtype)
        return chunks(count, size, self.image.device)

    def _render(self, b: Tensor, a: Tensor, bounds: Bounds) -> Tensor:
        """Return frames [F, N, H, W] of all planes."""
        image, gradient, *_ = self._planes()
        in_one_pass = torch.compiler.is_compiling() or not image.shape[0] or not b.shape[0]
        if in_one_pass or not may_write_in_place(image, gradient, b, a):
            by_planes: dict[int, list[Tensor]] = {}  # first plane of a tile -> frames
            for at, _, frames in self._tiles(b, a, in_one_pass):
                by_planes.setdefault(at.start, []).append(clip(frames, bounds))
            return torch.cat([torch.cat(frames) for frames in by_planes.values()], 1)
        out = new_output((len(b), *image.shape), image.dtype, image.device)
        if out.is_cuda:  # reading the factors would wait for the GPU, so frames at factor 0 are rendered, too
            for at, f, frames in self._tiles(b, a):
                store(out[f, at], frames, bounds)
            return out
        moving = self._moving_frames(b, a)
        for j in set(range(len(b))) - set(moving):
            store(out[j], image, bounds)
        for at, f, frames in self._tiles(b[moving], a[moving]) if moving else ():
            for j, frame in zip(moving[f], frames):
                store(out[j, at], frame, bounds)
        return out

    def _moving_frames(self, b: Tensor, a: Tensor) -> list[int]:
        """Return the indices of frames that may differ from the image: those with a factor other than 0.

        All frames are returned if the coordinates have changed already (``state``), or if reading the factors would
        wait for a device or break a trace.
        """
        if b.device.type != "cpu" or self.state or not is_untraced():
            return list(range(len(b)))
        return ((b != 0).any(1) | (a != 0).any(1)).nonzero()[:, 0].tolist()

    def _tiles(self, b: Tensor, a: Tensor, in_one_pass: bool = False) -> Iterator[tuple[slice, slice, Tensor]]:
        """Yield tiles: (slice of planes, slice of frames, frames [f, n, H, W])."""
        image = flatten_planes(self.image)
        count, num_frames = image.shape[0], b.shape[0]
        plane_slices = [slice(0, count)] if in_one_pass else self._plane_slices()
        size = self.family.frame_bytes(image.dtype)
        for at in plane_slices:
            if not count or not num_frames:
                yield at, slice(0, num_frames), image.expand(num_frames, *image.shape).clone()
                return
            prepared = self._prepare(at)
            bytes_of_frame = (at.stop - at.start) * size
            blocks = [slice(0, num_frames)] if in_one_pass else chunks(num_frames, bytes_of_frame, image.device)
            for f in blocks:
                yield at, f, prepared.frames(factors_of_planes(b[f], at), factors_of_planes(a[f], at))

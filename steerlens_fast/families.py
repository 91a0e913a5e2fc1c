"""Edit families: the coordinates in which a gradient becomes a motion.

A family turns an image and one image-sized gradient into a :class:`Motion`, which renders frames for any factors::

    motion = family.prepare(image, gradient)      # gradient: d(loss to decrease) / d(image), summed over samples
    frames = motion.render([0.0, 1.0, 2.0])       # [F, ..., H, W]

Any object with these two methods is a family.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from . import checks, ops
from .bank import Bank, Part, band_spectra, merge_spectra, needs_no_derivative, split_spectrum
from .checks import Factors, factor_table
from .memory import chunks, new_output, store
from .pyramid import SteerablePyramid

EDITS = ("phase", "amplitude", "joint")


class Motion(Protocol):
    """An image, and how it moves. ``image`` and ``gradient`` are the tensors it was prepared from."""

    image: Tensor
    gradient: Tensor

    def render(self, factors: Factors, amplitude_factors: Factors | None = None, bounds=None) -> Tensor:
        """Frames [F, ..., H, W] at these multiples of the one-step motion, clipped to ``bounds`` after synthesis."""


class Family(Protocol):
    """How a gradient becomes a motion."""

    def prepare(self, image: Tensor, gradient: Tensor) -> Motion:
        """The motion of ``image`` [..., H, W] along ``-gradient``, a tensor of the same shape."""


@dataclass(frozen=True)
class PixelFamily:
    """The plain gradient step in image space: frame j is ``image - factor_j * eps * gradient``.

    Examples
    --------
    >>> import torch
    >>> motion = PixelFamily().prepare(torch.zeros(1, 8, 8), torch.ones(1, 8, 8))
    >>> motion.render([0.0, 2.0])[:, 0, 0, 0]
    tensor([ 0., -2.])
    """

    eps: float = 1.0

    def __post_init__(self):
        checks.check_number("eps", self.eps)

    def prepare(self, image: Tensor, gradient: Tensor) -> PixelMotion:
        """See :class:`Family`."""
        image, gradient = checks.check_image("image", image), checks.check_image("gradient", gradient)
        checks.check_same("gradient", gradient, "image", image)
        return PixelMotion(image, gradient, self.eps)


@dataclass(frozen=True, eq=False)
class PixelMotion:
    """The motion of :class:`PixelFamily`."""

    image: Tensor
    gradient: Tensor
    eps: float

    def render(self, factors: Factors, amplitude_factors: Factors | None = None, bounds=None) -> Tensor:
        """See :class:`Motion`. There is no amplitude here; ``amplitude_factors`` must be None."""
        if amplitude_factors is not None:
            raise ValueError("amplitude_factors must be None for the pixel family, which has one coordinate")
        b = factor_table("factors", factors, self.image).unflatten(1, (-1, *[1] * (self.image.dim() - 1)))
        if b.shape[1] > 1:
            b = b.reshape(len(b), *self.image.shape[:-2], 1, 1)
        return _clip(self.image - self.eps * b * self.gradient, checks.check_bounds(bounds))


@dataclass(frozen=True)
class CSPFamily:
    """Motion in the complex steerable pyramid: phase, amplitude or both move, the residuals stay.

    Parameters
    ----------
    pyramid : SteerablePyramid
        Decides filters and synthesis.
    edit : {"phase", "amplitude", "joint"}
        Which coordinates move.
    rule : {"complex", "polar"}
        How coefficients and gradient become a step; see :func:`steerlens_fast.ops.step`.
    eps : float
        Length of the infinitesimal step.
    floor : float
        Coefficients below this fraction of their band's largest amplitude do not move.
    scales, orientations : sequence of int, optional
        Only these bands move.

    Examples
    --------
    >>> import torch
    >>> family = CSPFamily(SteerablePyramid((32, 32)), "joint")
    >>> image, gradient = torch.rand(2, 3, 32, 32), torch.randn(2, 3, 32, 32)
    >>> frames = family.prepare(image, gradient).render([0.0, 0.5, 1.0], bounds=(0, 1))
    >>> frames.shape
    torch.Size([3, 2, 3, 32, 32])
    >>> bool((frames[0] - image).abs().max() < 3e-6)
    True
    """

    pyramid: SteerablePyramid
    edit: str = "phase"
    rule: str = "complex"
    eps: float = 1.0
    floor: float = 1e-6
    scales: Sequence[int] | None = None
    orientations: Sequence[int] | None = None

    def __post_init__(self):
        if not isinstance(self.pyramid, SteerablePyramid):
            raise TypeError(f"pyramid must be a SteerablePyramid, got {type(self.pyramid).__name__}")
        checks.check_choice("edit", self.edit, EDITS)
        checks.check_choice("rule", self.rule, tuple(ops.RULES))
        checks.check_number("eps", self.eps)
        checks.check_number("floor", self.floor, above=0.0, closed=True)
        self.parts  # noqa: B018  (checks scales and orientations)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The bands that move."""
        keep = self.pyramid._check_orientations(self.orientations)
        scales = self.pyramid._check_scales(self.scales)
        return () if keep == () else tuple(Part(s, keep) for s in scales)

    def prepare(self, image: Tensor, gradient: Tensor) -> CSPMotion:
        """See :class:`Family`. Nothing is computed yet: rendering works through the planes in cache-sized pieces."""
        shape = self.pyramid.image_shape
        image, gradient = checks.check_image("image", image, shape), checks.check_image("gradient", gradient, shape)
        checks.check_same("gradient", gradient, "image", image)
        return CSPMotion(self, image, gradient)


@dataclass(frozen=True, eq=False)
class CSPMotion:
    """The motion of :class:`CSPFamily`."""

    family: CSPFamily
    image: Tensor
    gradient: Tensor

    def render(self, factors: Factors, amplitude_factors: Factors | None = None, bounds=None) -> Tensor:
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
        b = factor_table("factors", factors, self.image)
        a = b if amplitude_factors is None else factor_table("amplitude_factors", amplitude_factors, self.image)
        if len(a) != len(b):
            raise ValueError(f"amplitude_factors must have {len(b)} frames like factors, got {len(a)}")
        a, b = torch.broadcast_tensors(a, b)
        lead = self.image.shape[:-2]
        planes = lambda t: t.reshape(lead.numel(), *t.shape[-2:])
        frames = self._render(planes(self.image), planes(self.gradient), b, a, bounds)
        return frames.reshape(len(b), *lead, *frames.shape[-2:])

    def _render(self, image: Tensor, gradient: Tensor, b: Tensor, a: Tensor, bounds) -> Tensor:
        """Planes [N, H, W] -> frames [F, N, H, W], in tiles of some planes and some frames."""
        whole = torch.compiler.is_compiling() or not len(image) or not len(b) or not self.family.parts
        planes = [slice(0, len(image))] if whole else self._pieces(image, len(b))
        tiles = ((at, *tile) for at in planes for tile in self._tiles(image, gradient, b, a, at, whole))
        inputs = (image, gradient, a, b)
        if whole or not needs_no_derivative(*inputs):
            by_planes: dict[int, list[Tensor]] = {}
            for at, _, frames in tiles:
                by_planes.setdefault(at.start, []).append(_clip(frames, bounds))
            return torch.cat([torch.cat(frames) for frames in by_planes.values()], 1)
        out = new_output((len(b), *image.shape), image.dtype, image.device)
        for at, f, frames in tiles:
            for frame, piece in zip(out[f, at], _clip(frames, bounds)):
                store(frame, piece)
        return out

    def _pieces(self, image: Tensor, frames: int) -> list[slice]:
        return chunks(len(image), frames * self._frame_bytes(image), image.device)

    def _frame_bytes(self, image: Tensor) -> int:
        return Bank(self.family.pyramid.geometry, "real", self.family.parts).plane_bytes(image.dtype)

    def _tiles(self, image, gradient, b, a, at: slice, whole: bool) -> Iterator[tuple[slice, Tensor]]:
        """(frames' slice, frames [f, n, H, W]) of the planes ``at``."""
        factors = lambda t: t if t.shape[1] == 1 else t[:, at]
        image, gradient, b, a = image[at], gradient[at], factors(b), factors(a)
        if not self.family.parts or not len(image) or not len(b):
            yield slice(0, len(b)), image.expand(len(b), *image.shape).clone()
            return
        blocks = [slice(0, len(b))] if whole else chunks(len(b), len(image) * self._frame_bytes(image), image.device)
        render = prepare_planes(self.family, image, gradient)
        for f in blocks:
            yield f, render(b[f], a[f])


# --- Rendering some planes ---


def prepare_planes(family: CSPFamily, image: Tensor, gradient: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Analysis and step of planes [n, H, W], once; gives the function that renders frames [F, n, H, W] of factors."""
    geometry = family.pyramid.geometry
    bank = Bank(geometry, family.pyramid.synthesis, family.parts)
    spectrum = torch.fft.rfft2(image)
    coefficients = split_spectrum(Bank(geometry, "analysis", family.parts), spectrum)
    gradients = split_spectrum(bank, torch.fft.rfft2(gradient))
    moving = [(c, *_step(family, c, g)) for c, g in zip(coefficients, gradients)]
    kept = spectrum, bank.kept_mask(image)

    def render(b: Tensor, a: Tensor) -> Tensor:
        bands = (_extrapolate(family, *m, b, a) for m in moving)
        return merge_spectra(bank, band_spectra(bank, bands), kept).unflatten(0, (-1, len(image)))

    return render


def _step(family: CSPFamily, coefficients: Tensor, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
    phase, amplitude = ops.step(coefficients, gradient, family.eps, family.rule, family.floor)
    return (phase if family.edit != "amplitude" else None), (amplitude if family.edit != "phase" else None)


def _extrapolate(family: CSPFamily, c: Tensor, phase, amplitude, b: Tensor, a: Tensor) -> Tensor:
    both = family.pyramid.synthesis == "adjoint"
    return ops.extrapolate(c, phase, amplitude, b, a, family.rule, both).flatten(0, 1)


def _clip(frames: Tensor, bounds: tuple[float, float] | None) -> Tensor:
    if bounds is None:
        return frames
    return frames.clamp(*bounds) if frames.requires_grad else frames.clamp_(*bounds)

"""The paper's family: motion in the complex steerable pyramid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import checks, ops
from ..pyramid import SteerablePyramid, backend
from ..pyramid.transforms import (
    Bank,
    Part,
    band_spectra,
    merge_spectra,
    needs_no_derivative,
    pair_spectra,
    split_image,
    split_spectrum,
)
from .anchor import PlaneAnchor, moved_coordinates, reached
from .bandpass import moving_parts
from .protocols import Bounds, PlaneMotion, check_pair, planes

EDITS = tuple(ops.EDITS)


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

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was expected and what came.

    Examples
    --------
    >>> import torch
    >>> from steerlens_fast import CSPFamily, SteerablePyramid
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

    def __post_init__(self) -> None:
        if not isinstance(self.pyramid, SteerablePyramid):
            raise TypeError(f"pyramid must be a SteerablePyramid, got {type(self.pyramid).__name__}")
        checks.check_choice("edit", self.edit, EDITS)
        checks.check_choice("rule", self.rule, tuple(ops.RULES))
        object.__setattr__(self, "eps", checks.check_number("eps", self.eps))
        object.__setattr__(self, "floor", checks.check_number("floor", self.floor, above=0.0, closed=True))
        self.parts  # noqa: B018  (checks scales and orientations)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The bands that move."""
        return moving_parts(self.pyramid, self.scales, self.orientations)

    def prepare(self, image: Tensor, gradient: Tensor) -> CSPMotion:
        """See :class:`Family`. Nothing is computed yet: rendering works through the planes in cache-sized pieces."""
        image, gradient = check_pair(image, gradient, self.pyramid.image_shape)
        return CSPMotion(self, image, gradient)

    def anchor(self, image: Tensor) -> PlaneAnchor:
        """See :class:`AnchoringFamily`: phase change in [-pi, pi], change of the log amplitude in [-1, 1].

        Examples
        --------
        >>> import torch
        >>> from steerlens_fast import CSPFamily, SteerablePyramid
        >>> anchor = CSPFamily(SteerablePyramid((16, 16))).anchor(torch.rand(2, 3, 16, 16))
        >>> for _ in range(3):  # three refreshed gradients
        ...     anchor.advance(torch.randn(2, 3, 16, 16), [0.1])
        >>> anchor.frame((0, 1)).shape
        torch.Size([2, 3, 16, 16])
        """
        return PlaneAnchor(self, checks.check_image("image", image, self.pyramid.image_shape), CSPMotion)

    # --- Some planes [n, H, W] at a time: see PlaneFamily ---

    def source(self, image: Tensor) -> CSPSource:
        """The analysis of planes."""
        return CSPSource(self, image)

    def moving(self, image: Tensor, gradient: Tensor, *state: Tensor) -> CSPMoving:
        """Analysis and step of planes, from the coordinates ``state`` where there are any."""
        return CSPMoving(self.source(image), gradient, state)

    def advance(self, source: CSPSource, gradient: Tensor, state: Sequence[Tensor], b: Tensor, a: Tensor) -> None:
        """Moves the coordinates ``state`` of planes, in place, by one step with factors [1, 1] or [1, n]."""
        moved = CSPMoving(source, gradient, state).moved(b, a)
        for old, new in zip(state, (t for pair in moved for t in pair if t is not None)):
            old.copy_(new)

    def anchored(self, source: CSPSource, state: Sequence[Tensor]) -> Tensor:
        """Images [n, H, W] at the coordinates ``state``."""
        return anchored_images(source, split_state(self, state))[0]

    def morph_planes(self, image: Tensor, gradient: Tensor, b: Tensor, a: Tensor, bounds: Bounds) -> Tensor:
        """Frames [F, n, H, W] of planes that :func:`backend.plane_ops_supported`, in one pass."""
        bank, analysis = self.bank(), Bank(self.pyramid.geometry, "analysis", self.parts)
        filters = analysis.panel_filters(kept=True), bank.panel_filters(), bank.heights, bank.split_turns[0]
        how = self.edit, self.rule, not bank.paired, self.eps, self.floor, bounds
        return ops.morph_planes(image, gradient, b, a, *filters, *how)

    def bank(self) -> Bank:
        """The synthesis of the bands that move; its split is the gradient's analysis."""
        return Bank(self.pyramid.geometry, self.pyramid.synthesis, self.parts)

    def frame_bytes(self, dtype: torch.dtype) -> int:
        """Memory that rendering one frame of one plane takes."""
        return Bank(self.pyramid.geometry, "real", self.parts).plane_bytes(dtype)

    def moving_bytes(self, dtype: torch.dtype) -> int:
        """Memory that coefficients and step of one plane take."""
        return 4 * dtype.itemsize * sum(shape.numel() for shape in self.coordinate_shapes())

    def coordinate_shapes(self) -> list[torch.Size]:
        """[K, h, w] of every scale that moves."""
        return [torch.Size(self.bank().band_shape(part)) for part in self.parts]

    @property
    def moves_phase(self) -> bool:
        return self.edit != "amplitude"

    @property
    def moves_amplitude(self) -> bool:
        return self.edit != "phase"


class CSPMotion(PlaneMotion):
    """The motion of :class:`CSPFamily`."""

    def _render(self, b: Tensor, a: Tensor, bounds: Bounds) -> Tensor:
        """Frames [F, N, H, W] of all planes; where one op can do all of it, by that."""
        geometry, moves = self.family.pyramid.geometry, self.held is None and not self.state and self.family.parts
        if moves and all(backend.plane_ops_supported(geometry, planes(t)) for t in (self.image, self.gradient)):
            if needs_no_derivative(self.image, self.gradient, b, a):
                return self.family.morph_planes(*self._planes(), b, a, bounds)
        return super()._render(b, a, bounds)


class CSPSource:
    """The coefficients of some planes, and how to make images of edited ones."""

    def __init__(self, family: CSPFamily, image: Tensor):
        self.family, self.bank, self.image = family, family.bank(), image
        analysis = Bank(family.pyramid.geometry, "analysis", family.parts)
        self.by_planes = backend.plane_ops_supported(analysis.geometry, image)
        if not family.parts:
            self.coefficients, self.kept = [], None
        elif self.by_planes:
            *self.coefficients, kept = analysis.split_planes(image, kept=True)
            self.kept = kept[:, 0]
        else:
            spectrum = self.bank.transform(image)
            self.coefficients = list(split_spectrum(analysis, spectrum))
            self.kept = spectrum, self.bank.kept_mask(image)

    def gradients(self, gradient: Tensor) -> Iterable[Tensor]:
        """d/dc of a loss whose gradient in the image is ``gradient``, scale by scale."""
        if not self.family.parts:
            return ()
        return self.bank.split_planes(gradient) if self.by_planes else split_image(self.bank, gradient)

    def step(self, c: Tensor, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Phase and amplitude step, None where that coordinate does not move."""
        family = self.family
        phase, amplitude = ops.step(c, gradient, family.eps, family.rule, family.floor)
        return (phase if family.moves_phase else None), (amplitude if family.moves_amplitude else None)

    def images(self, bands: Iterable[Tensor], frames: int) -> Tensor:
        """Frames [F, n, H, W] of each scale's coefficients in this form; of complex ones the real part counts."""
        if not self.family.parts:
            return self.image.expand(frames, *self.image.shape).clone()
        flat = (band.flatten(0, 1) for band in bands)
        if self.by_planes:
            images = self.bank.merge_planes(list(flat), self.form, self.kept)
        else:
            spectra = pair_spectra(flat) if self.bank.paired else band_spectra(self.bank, flat)
            images = merge_spectra(self.bank, spectra, self.kept)
        return images.unflatten(0, (frames, self.image.shape[0]))

    @property
    def form(self) -> str:
        """What the synthesis reads of coefficients [F, n, K, h, w]: real parts in pairs, or both quadratures."""
        return "pairs" if self.bank.paired else "both"


class CSPMoving:
    """See :class:`Moving`; anchored at coordinates (phase, log amplitude; scale by scale) where ``state`` has some."""

    def __init__(self, source: CSPSource, gradient: Tensor, state: Sequence[Tensor] = ()):
        self.source, self.state, self.anchored = source, split_state(source.family, state), bool(state)
        bands = zip(source.coefficients, source.gradients(gradient), self.state)
        self.steps = [source.step(reached(c, *at)[0] if self.anchored else c, g) for c, g, at in bands]

    def frames(self, b: Tensor, a: Tensor) -> Tensor:
        """See :class:`Moving`."""
        if self.anchored:
            each = (self.moved(b[j : j + 1], a[j : j + 1]) for j in range(len(b)))
            return torch.cat([anchored_images(self.source, coordinates) for coordinates in each])
        how = self.source.family.rule, self.source.form
        bands = zip(self.source.coefficients, self.steps)
        return self.source.images((ops.extrapolate(c, *step, b, a, *how) for c, step in bands), b.shape[0])

    def moved(self, b: Tensor, a: Tensor) -> list[tuple[Tensor | None, Tensor | None]]:
        """(delta, eta) of each scale after one step with factors [1, 1] or [1, n]."""
        bands = zip(self.source.coefficients, self.state, self.steps)
        return [moved_coordinates(*band, b, a, self.source.family.rule) for band in bands]

    def largest_phase(self) -> Tensor:
        """See :class:`Moving`."""
        largest = [phase.abs().amax((-3, -2, -1)) for phase, _ in self.steps if phase is not None]
        return torch.stack(largest).amax(0) if largest else self.source.image.new_zeros(len(self.source.image))


# --- Coordinates anchored at the source: c = c0 exp(eta + i delta) ---


def split_state(family: CSPFamily, state: Sequence[Tensor]) -> list[tuple[Tensor | None, Tensor | None]]:
    """Coordinates as :class:`PlaneAnchor` keeps them -> (delta, eta) of each scale."""
    if not state:
        return [(None, None)] * len(family.parts)
    each = iter(state)
    return [
        (next(each) if family.moves_phase else None, next(each) if family.moves_amplitude else None)
        for _ in family.parts
    ]


def anchored_images(source: CSPSource, coordinates: Iterable[tuple[Tensor | None, Tensor | None]]) -> Tensor:
    """The one frame [1, n, H, W] at these coordinates."""
    return source.images((reached(c, *at, source.form) for c, at in zip(source.coefficients, coordinates)), 1)

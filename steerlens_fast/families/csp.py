"""``CSPFamily`` moves coefficients of the complex steerable pyramid (CSP), as in the paper."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from .. import checks, ops
from ..ops import FramesAtL2, StepTaken
from ..pyramid import SteerablePyramid
from ..pyramid.backend import Backend, choose_backend, cpu_plane_ops_exist, forward_backend
from ..pyramid.bank import Bank, Part
from ..pyramid.spectra import band_spectra, image_spectrum, merge_spectra, pair_spectra, split_image, split_spectrum
from .anchor import PlaneAnchor, edited_coefficients, moved_coordinates
from .bandpass import moving_parts
from .planes import PlaneMotion
from .protocols import Bounds, DistanceSearch, StepExtent
from .shared import check_image_and_gradient, flatten_planes

EDITS = tuple(ops.EDITS)


@dataclass(frozen=True)
class CSPFamily:
    """Motion of phases, amplitudes or both in the complex steerable pyramid.

    The residuals of the pyramid do not move.

    Parameters
    ----------
    pyramid : SteerablePyramid
        The pyramid of the coefficients. Its ``synthesis`` renders the frames.
    edit : {"phase", "amplitude", "joint"}
        Which coordinates move.
    rule : {"complex", "polar"}
        How coefficients and gradient become a step; see :func:`steerlens_fast.ops.step`.
    eps : float
        Factor of the gradient in one step.
    floor : float
        Coefficients below this fraction of their band's largest amplitude do not move.
    scales, orientations : sequence of int, optional
        Scales and orientations that move, by default all.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid; the message names it and what was expected.

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
    _parts: tuple[Part, ...] = field(init=False, repr=False, compare=False)
    _analysis_bank: Bank = field(init=False, repr=False, compare=False)
    _synthesis_bank: Bank = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.pyramid, SteerablePyramid):
            raise TypeError(f"pyramid must be a SteerablePyramid, got {type(self.pyramid).__name__}")
        checks.check_choice("edit", self.edit, EDITS)
        checks.check_choice("rule", self.rule, tuple(ops.RULES))
        set_field = partial(object.__setattr__, self)
        set_field("eps", checks.check_number("eps", self.eps))
        set_field("floor", checks.check_number("floor", self.floor, above=0.0, closed=True))
        set_field("_parts", moving_parts(self.pyramid, self.scales, self.orientations))
        set_field("_analysis_bank", Bank(self.pyramid.geometry, "analysis", self._parts))
        set_field("_synthesis_bank", Bank(self.pyramid.geometry, self.pyramid.synthesis, self._parts))

    # torch.compile(dynamic=True) turns ints in stored parts into SymInts, so parts and banks are made anew when traced.

    @property
    def parts(self) -> tuple[Part, ...]:
        """The bands that move: one :class:`Part` for each scale."""
        if torch.compiler.is_compiling():
            return moving_parts(self.pyramid, self.scales, self.orientations)
        return self._parts

    @property
    def analysis_bank(self) -> Bank:
        """The analysis of the bands that move."""
        if torch.compiler.is_compiling():
            return Bank(self.pyramid.geometry, "analysis", self.parts)
        return self._analysis_bank

    @property
    def synthesis_bank(self) -> Bank:
        """The synthesis of the bands that move.

        Its adjoint maps d(loss)/d(image) to d(loss)/d(coefficients).
        """
        if torch.compiler.is_compiling():
            return Bank(self.pyramid.geometry, self.pyramid.synthesis, self.parts)
        return self._synthesis_bank

    def prepare(self, image: Tensor, gradient: Tensor) -> CSPMotion:
        """See :class:`Family`. This method only checks its arguments; ``render`` computes everything."""
        image, gradient = check_image_and_gradient(image, gradient, self.pyramid.image_shape)
        return CSPMotion(self, image, gradient)

    def anchor(self, image: Tensor) -> CSPAnchor:
        """See :class:`AnchoringFamily`. In total, phases change by at most pi radians, log amplitudes by at most 1.

        Examples
        --------
        >>> import torch
        >>> from steerlens_fast import CSPFamily, SteerablePyramid
        >>> anchor = CSPFamily(SteerablePyramid((16, 16))).anchor(torch.rand(2, 3, 16, 16))
        >>> for _ in range(3):  # three steps with new gradients
        ...     anchor.advance(torch.randn(2, 3, 16, 16), [0.1])
        >>> anchor.frame((0, 1)).shape
        torch.Size([2, 3, 16, 16])
        """
        return CSPAnchor(self, checks.check_image("image", image, self.pyramid.image_shape), CSPMotion)

    # --- For n planes [n, H, W] at a time, see PlaneFamily and AnchorPlaneFamily ---

    def analyze(self, image: Tensor) -> CSPAnalysis:
        """Compute the coefficients of planes [n, H, W]."""
        return CSPAnalysis(self, image)

    def prepare_planes(self, image: Tensor, gradient: Tensor, *state: Tensor) -> CSPStep:
        """Compute analysis and step of planes, see :class:`PlaneFamily`."""
        return CSPStep(self.analyze(image), gradient, state)

    def step_from(self, analysis: CSPAnalysis, gradient: Tensor, state: Sequence[Tensor]) -> CSPStep:
        """Compute the step of planes with a known analysis, starting at the coordinates ``state``."""
        return CSPStep(analysis, gradient, state)

    def image_at(self, analysis: CSPAnalysis, state: Sequence[Tensor]) -> Tensor:
        """Return the images [n, H, W] at the coordinates ``state``."""
        return analysis.image_at(split_state(self, state))[0]

    def frame_bytes(self, dtype: torch.dtype) -> int:
        """Return the bytes that rendering one frame of one plane takes, with real bands."""
        # Complex bands (synthesis "adjoint") take twice as much. They are not counted, so that all syntheses have tiles
        # of the same size (planes.py).
        return Bank(self.pyramid.geometry, "real", self.parts).plane_bytes(dtype)

    def prepared_bytes(self, dtype: torch.dtype) -> int:
        """Return the bytes of a plane's coefficients and steps."""
        # 4 numbers for each coefficient: real and imaginary part, phase step, amplitude step.
        return 4 * dtype.itemsize * sum(shape.numel() for shape in self.coordinate_shapes())

    def coordinate_shapes(self) -> list[torch.Size]:
        """Return the shape [K, h, w] of each scale that moves."""
        return [torch.Size(self.synthesis_bank.band_shape(part)) for part in self.parts]

    @property
    def moves_phase(self) -> bool:
        return self.edit != "amplitude"

    @property
    def moves_amplitude(self) -> bool:
        return self.edit != "phase"


class CSPMotion(PlaneMotion):
    """The motion of :class:`CSPFamily`."""

    def _render(self, b: Tensor, a: Tensor, bounds: Bounds) -> Tensor:
        """Return frames [F, N, H, W] of all planes, by one op if possible."""
        family = self.family
        image, gradient, *_ = self._planes()
        use_plane_ops = self._plane_ops_available(image, gradient, b, a)
        if isinstance(self.prepared, CSPPlaneStep):
            if use_plane_ops:
                return self.prepared.render(b, a, bounds)
            # Derivatives are needed, and move_planes has none.
            return replace(self, prepared=None)._render(b, a, bounds)
        if self.prepared is not None or not use_plane_ops:
            return super()._render(b, a, bounds)
        options = *plane_options(family, image), family.eps, family.floor
        return ops.morph_planes(image, gradient, b, a, *options, bounds)

    def _prepared_once(self) -> CSPMotion:
        image, gradient, *_ = self._planes()
        if not (self._plane_ops_available(image, gradient) and cpu_plane_ops_exist(image)):
            return super()._prepared_once()
        return replace(self, prepared=CSPPlaneStep(self.family, image, gradient))

    def frames_at_l2(
        self, search: DistanceSearch, bounds: Bounds = None, base: Tensor | None = None
    ) -> FramesAtL2 | None:
        """See :class:`DistanceMotion`."""
        image, gradient, *_ = self._planes()
        if not (self._plane_ops_available(image, gradient) and cpu_plane_ops_exist(image)):
            return None
        if base is not None:
            base = flatten_planes(base)
        family, planes_per_sample = self.family, self.image.shape[1:-2].numel()
        tensors = search.max_l2, search.tolerances, search.dtype_max_factors, search.shares
        options = *plane_options(family, image), family.eps, family.floor, bounds
        return ops.morph_planes_to_l2(
            image,
            gradient,
            planes_per_sample,
            *tensors,
            *options,
            base=base,
            phase_cap=search.phase_cap,
            phase_limit=search.phase_limit,
            speed_share=search.speed_share,
            iterations=search.iterations,
        )

    def take_step(self, extent: StepExtent, bounds: Bounds = None, base: Tensor | None = None) -> StepTaken | None:
        """See :class:`SteppingMotion`."""
        return take_step(self, extent, bounds, base)

    def _plane_ops_available(self, *planes_and_factors: Tensor) -> bool:
        """Return whether the ops on whole planes can compute all frames. These ops take no ``state``."""
        if self.state or not self.family.parts:
            return False
        return choose_backend(self.family.pyramid.geometry, *planes_and_factors) is Backend.PLANE_OPS


class CSPAnchor(PlaneAnchor):
    """A :class:`PlaneAnchor` that also takes steps by one op, see :class:`SteppingAnchor`."""

    def take_step(
        self, gradient: Tensor, extent: StepExtent, bounds: Bounds = None, base: Tensor | None = None
    ) -> StepTaken | None:
        """Take a step, see :class:`SteppingAnchor`."""
        image, gradient = check_image_and_gradient(self.image, gradient)
        taken = take_step(CSPMotion(self.family, image, gradient, self.state), extent, bounds, base)
        if taken is not None:
            self.cached_step = None  # the step started at the previous coordinates
        return taken


def take_step(motion: CSPMotion, extent: StepExtent, bounds: Bounds, base: Tensor | None) -> StepTaken | None:
    """Take one step of a motion with one op, or return None if no op supports these images.

    The op changes the coordinates ``motion.state`` in place, if there are any.
    """
    family, (image, gradient) = motion.family, motion._planes()[:2]
    if not (family.parts and image.numel() and cpu_plane_ops_exist(image)):
        return None
    if choose_backend(family.pyramid.geometry, image, gradient) is not Backend.PLANE_OPS:
        return None
    source, position = (flatten_planes(t).contiguous() for t in (extent.source, extent.position))
    return ops.advance_planes(
        image,
        gradient,
        motion.state,
        motion.image.shape[1:-2].numel(),
        source,
        position,
        *plane_options(family, image),
        family.eps,
        family.floor,
        bounds,
        factors=extent.factors,
        limits=extent.limits,
        base=None if base is None else flatten_planes(base),
        phase_cap=extent.phase_cap,
        **extent.options,
    )


def plane_options(family: CSPFamily, image: Tensor) -> tuple[list[Tensor], list[Tensor], int, str, str, bool]:
    """Return arguments of the ops on whole planes: analysis, synthesis, i_power, edit, rule, complex_bands."""
    synthesis = family.synthesis_bank
    masks = family.analysis_bank.plane_masks(image, with_residual=True), synthesis.plane_masks(image)
    i_power = family.pyramid.geometry.analysis_i_power  # the analysis multiplies bands by i ** i_power
    return *masks, i_power, family.edit, family.rule, not synthesis.paired


class CSPPlaneStep:
    """Coefficients and step of planes, by the ops on whole planes; see :class:`PreparedPlanes`."""

    def __init__(self, family: CSPFamily, image: Tensor, gradient: Tensor):
        self.image, self.options = image, plane_options(family, image)
        results = ops.step_planes(image, gradient, *self.options, family.eps, family.floor)
        self.coefficients, self.squared_speeds, self.largest_phases = results  # the last two are [n, bands]

    def render(self, b: Tensor, a: Tensor, bounds: Bounds) -> Tensor:
        """Return frames [F, n, H, W] at factors [F, 1] or [F, n], clipped."""
        return ops.move_planes(self.image, self.coefficients, b, a, *self.options, bounds)

    def frames(self, b: Tensor, a: Tensor) -> Tensor:
        """See :class:`PreparedPlanes`."""
        return self.render(b, a, None)

    def largest_phase(self) -> Tensor:
        """See :class:`PreparedPlanes`."""
        return self.largest_phases.amax(1)

    def squared_speed(self) -> Tensor:
        """See :class:`PreparedPlanes`."""
        return self.squared_speeds.sum(1)


class CSPAnalysis:
    """The coefficients of a batch of planes, and the synthesis of edited coefficients.

    ``residual`` is the part of the planes that does not move: planes [n, H, W] for ``Bank.merge_planes``, or (spectra,
    mask) for ``merge_spectra``. It is None if no band moves; frames then are the image.
    """

    def __init__(self, family: CSPFamily, image: Tensor):
        self.family, self.synthesis_bank, self.image = family, family.synthesis_bank, image
        self.factor_one = torch.ones(1, 1, dtype=image.dtype, device=image.device)
        self.use_plane_ops = forward_backend(family.pyramid.geometry, image) is Backend.PLANE_OPS
        if not family.parts:
            self.coefficients, self.residual = [], None
        elif self.use_plane_ops:
            *self.coefficients, residual = family.analysis_bank.split_planes(image, with_residual=True)
            self.residual = residual[:, 0]
        else:
            spectrum = image_spectrum(self.synthesis_bank, image)
            self.coefficients = list(split_spectrum(family.analysis_bank, spectrum))
            self.residual = spectrum, self.synthesis_bank.residual_mask(image)

    def gradients(self, gradient: Tensor) -> Iterable[Tensor]:
        """Return d(loss)/dc, scale by scale, from d(loss)/d(image)."""
        if not self.family.parts:
            return ()
        if self.use_plane_ops:
            return self.synthesis_bank.split_planes(gradient)
        return split_image(self.synthesis_bank, gradient)

    def step(self, c: Tensor, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return (phase step, amplitude step), with None for a coordinate that does not move."""
        family = self.family
        phase, amplitude = ops.step(c, gradient, family.eps, family.rule, family.floor)
        return (phase if family.moves_phase else None), (amplitude if family.moves_amplitude else None)

    def images(self, bands: Iterable[Tensor], num_frames: int) -> Tensor:
        """Synthesize frames [F, n, H, W] from the coefficients of each scale, in the form :attr:`form`.

        The frames may be complex, see :func:`merge_spectra`. Callers use only their real parts.
        """
        if not self.family.parts:
            return self.image.expand(num_frames, *self.image.shape).clone()
        flat = (band.flatten(0, 1) for band in bands)
        if self.use_plane_ops:
            images = self.synthesis_bank.merge_planes(list(flat), self.form, self.residual)
        else:
            spectra = pair_spectra(flat) if self.synthesis_bank.paired else band_spectra(self.synthesis_bank, flat)
            images = merge_spectra(self.synthesis_bank, spectra, self.residual)
        return images.unflatten(0, (num_frames, self.image.shape[0]))

    def image_at(self, coordinates: Iterable[tuple[Tensor | None, Tensor | None]]) -> Tensor:
        """Return one frame [1, n, H, W] at the coordinates (delta, eta) of each scale."""
        bands = zip(self.coefficients, coordinates)
        edited = (edited_coefficients(c, delta, eta, self.form, self.factor_one) for c, (delta, eta) in bands)
        return self.images(edited, 1)

    @property
    def form(self) -> str:
        """The form in which the synthesis reads the coefficients of frames; see :func:`ops.extrapolate`."""
        return "pairs" if self.synthesis_bank.paired else "complex"


class CSPStep:
    """Coefficients and step of planes, by separate ops; see :class:`PreparedPlanes`.

    The step starts at the coordinates ``state`` of a :class:`PlaneAnchor`; by default, at the unchanged planes.
    """

    def __init__(self, analysis: CSPAnalysis, gradient: Tensor, state: Sequence[Tensor] = ()):
        self.analysis, self.state, self.anchored = analysis, split_state(analysis.family, state), bool(state)
        bands = zip(analysis.coefficients, self.state, analysis.gradients(gradient))
        self.steps = []
        for c, (delta, eta), g in bands:
            current = edited_coefficients(c, delta, eta, factor_one=analysis.factor_one)[0] if self.anchored else c
            self.steps.append(analysis.step(current, g))

    def frames(self, b: Tensor, a: Tensor) -> Tensor:
        """See :class:`PreparedPlanes`."""
        if self.anchored:
            coordinates = (self.moved(b[j : j + 1], a[j : j + 1]) for j in range(len(b)))
            return torch.cat([self.analysis.image_at(of_frame) for of_frame in coordinates])
        options = self.analysis.family.rule, self.analysis.form
        bands = zip(self.analysis.coefficients, self.steps)
        return self.analysis.images((ops.extrapolate(c, *step, b, a, *options) for c, step in bands), b.shape[0])

    def moved(self, b: Tensor, a: Tensor) -> list[tuple[Tensor | None, Tensor | None]]:
        """Return the coordinates (delta, eta) of each scale after one step."""
        bands = zip(self.analysis.coefficients, self.state, self.steps)
        return [moved_coordinates(*band, b, a, self.analysis.family.rule) for band in bands]

    def advance(self, b: Tensor, a: Tensor) -> None:
        """Move the coordinates in place by one step, with factors [1, 1] or [1, n]."""
        bands = zip(self.analysis.coefficients, self.state, self.steps)
        for c, (delta, eta), step in bands:
            _, moved_eta = moved_coordinates(c, (delta, eta), step, b, a, self.analysis.family.rule, in_place=True)
            if eta is not None and moved_eta is not None:
                eta.copy_(moved_eta)  # delta was written in place

    def largest_phase(self) -> Tensor:
        """See :class:`PreparedPlanes`."""
        largest = [phase.abs().amax((-3, -2, -1)) for phase, _ in self.steps if phase is not None]
        image = self.analysis.image
        return torch.stack(largest).amax(0) if largest else image.new_zeros(len(image))

    def squared_speed(self) -> Tensor:
        """See :class:`PreparedPlanes`."""
        image, polar = self.analysis.image, self.analysis.family.rule == "polar"
        total = image.new_zeros(len(image))
        for c, (phase, amplitude) in zip(self.analysis.coefficients, self.steps):
            energy = c.real.square() + c.imag.square()
            squares = [] if phase is None else [energy * phase.square()]
            if amplitude is not None:
                squares.append(amplitude.square() * (energy if polar else 1))
            # With the weight h w / (2 H W), coefficients of the default pyramid have the energy of the image. For tight
            # frames and without downsampling, the weight is wrong and the estimate rougher; see ops.step_planes.
            coefficients_per_pixel = c.shape[2:].numel() / image.shape[1:].numel()
            for t in squares:
                total += coefficients_per_pixel / 2 * t.sum((1, 2, 3))
        return total


def split_state(family: CSPFamily, state: Sequence[Tensor]) -> list[tuple[Tensor | None, Tensor | None]]:
    """Return the coordinates (delta, eta) of each scale from the tensors ``state`` of a :class:`PlaneAnchor`.

    A coordinate that does not move is None.
    """
    if not state:
        return [(None, None)] * len(family.parts)
    tensors = iter(state)
    return [
        (next(tensors) if family.moves_phase else None, next(tensors) if family.moves_amplitude else None)
        for _ in family.parts
    ]

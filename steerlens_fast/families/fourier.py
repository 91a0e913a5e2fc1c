"""``FourierFamily`` moves phases of the Fourier transform of the whole image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from .. import checks, ops
from ..pyramid import SteerablePyramid
from .anchor import PlaneAnchor, edited_coefficients, moved_coordinates
from .bandpass import band_weights, check_restriction
from .planes import PlaneMotion
from .shared import check_image_and_gradient


@dataclass(frozen=True)
class FourierFamily:
    """Motion of the phases of the Fourier transform ``rfft2(image)``.

    Phases at frequency 0, and at Nyquist frequencies along an axis, do not move.

    Parameters
    ----------
    rule : {"complex", "polar"}
        How coefficients and gradient become a step; see :func:`steerlens_fast.ops.step`.
    eps : float
        Factor of the gradient in one step.
    floor : float
        Coefficients below this fraction of the spectrum's largest amplitude do not move.
    pyramid : SteerablePyramid, optional
        The pyramid that ``scales`` and ``orientations`` belong to; required with them.
    scales, orientations : sequence of int, optional
        Only frequencies of these bands move: the gradient of each frequency is multiplied by the sum of the bands'
        squared filters.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid; the message names it and what was expected.

    Notes
    -----
    The phases of frequencies k and -k of a real image are opposite, so both move together. Therefore, the gradient with
    respect to the spectrum X is d(loss)/dX_k = 2 rfft2(gradient)_k / (H W).

    Examples
    --------
    >>> import torch
    >>> from steerlens_fast import FourierFamily
    >>> image, gradient = torch.rand(2, 3, 32, 32), torch.randn(2, 3, 32, 32)
    >>> frames = FourierFamily().prepare(image, gradient).render([0.0, 1.0])
    >>> frames.shape
    torch.Size([2, 2, 3, 32, 32])
    >>> bool((frames[1].mean((-2, -1)) - image.mean((-2, -1))).abs().max() < 1e-6)  # means do not change
    True
    """

    rule: str = "complex"
    eps: float = 1.0
    floor: float = 1e-6
    pyramid: SteerablePyramid | None = None
    scales: Sequence[int] | None = None
    orientations: Sequence[int] | None = None

    @property
    def moves_amplitude(self) -> bool:
        return False

    def __post_init__(self) -> None:
        checks.check_choice("rule", self.rule, tuple(ops.RULES))
        object.__setattr__(self, "eps", checks.check_number("eps", self.eps))
        object.__setattr__(self, "floor", checks.check_number("floor", self.floor, above=0.0, closed=True))
        check_restriction(self.pyramid, self.scales, self.orientations)

    def prepare(self, image: Tensor, gradient: Tensor) -> PlaneMotion:
        """See :class:`Family`. The argument ``amplitude_factors`` of ``render`` must be None: no amplitudes move."""
        image, gradient = check_image_and_gradient(image, gradient, self.pyramid.image_shape if self.pyramid else None)
        return PlaneMotion(_FourierPlaneFamily(self, *image.shape[-2:]), image, gradient)

    def anchor(self, image: Tensor) -> PlaneAnchor:
        """See :class:`AnchoringFamily`. In total, a phase changes by at most pi radians."""
        image = checks.check_image("image", image, self.pyramid.image_shape if self.pyramid else None)
        return PlaneAnchor(_FourierPlaneFamily(self, *image.shape[-2:]), image)

    def weights(self, like: Tensor) -> Tensor:
        """Return the factors [H, W//2+1] by which ``rfft2(gradient)`` is multiplied.

        They are 2 / (H W), times the sum of the squared filters if bands are chosen, and 0 where phases do not move.
        """
        H, W = like.shape[-2:]
        moving = torch.ones(H, W // 2 + 1, dtype=like.dtype, device=like.device)
        if self.scales is not None or self.orientations is not None:
            assert self.pyramid is not None  # checked in __post_init__
            moving = band_weights(like, self.pyramid, self.scales, self.orientations).clone()
        moving[:1, :1] = 0  # a slice, since assigning to [0, 0] would wait for a GPU
        if H % 2 == 0:
            moving[H // 2] = 0
        if W % 2 == 0:
            moving[:, W // 2] = 0
        return moving * (2 / (H * W))


@dataclass(frozen=True)
class _FourierPlaneFamily:
    """A :class:`FourierFamily` for planes of one size, see :class:`AnchorPlaneFamily`."""

    family: FourierFamily
    height: int
    width: int

    moves_phase = True
    moves_amplitude = False

    def __repr__(self) -> str:
        return repr(self.family)

    def analyze(self, image: Tensor) -> Tensor:
        """Return spectra [n, 1, H, W//2+1], as the only band."""
        return torch.fft.rfft2(image)[:, None]

    def prepare_planes(self, image: Tensor, gradient: Tensor, *state: Tensor) -> _FourierStep:
        """Compute spectrum and step of planes."""
        return _FourierStep(self, self.analyze(image), gradient, *state)

    def step_from(self, analysis: Tensor, gradient: Tensor, state: Sequence[Tensor]) -> _FourierStep:
        """Compute the step of planes with known spectra, starting at the phase changes ``state``."""
        return _FourierStep(self, analysis, gradient, *state)

    def image_at(self, analysis: Tensor, state: Sequence[Tensor]) -> Tensor:
        """Return the images [n, H, W] at the phase changes ``state``."""
        return self.images(edited_coefficients(analysis, state[0], None))[0]

    def images(self, spectra: Tensor) -> Tensor:
        """Return frames [F, n, H, W] of spectra [F, n, 1, H, W//2+1]."""
        return torch.fft.irfft2(spectra[:, :, 0], s=(self.height, self.width))

    def frame_bytes(self, dtype: torch.dtype) -> int:
        """Return the bytes of spectrum and image of one frame."""
        return 2 * dtype.itemsize * self.height * (self.width + 2)

    def prepared_bytes(self, dtype: torch.dtype) -> int:
        """Return an upper bound of the bytes of spectrum and step of one plane."""
        return self.frame_bytes(dtype)

    def coordinate_shapes(self) -> list[torch.Size]:
        """Return the shape of the only band, [1, H, W//2+1]."""
        return [torch.Size((1, self.height, self.width // 2 + 1))]


class _FourierStep:
    """Spectra and step of planes, see :class:`PreparedPlanes`.

    The step starts at the phase changes ``state``, by default 0.
    """

    def __init__(
        self, plane_family: _FourierPlaneFamily, spectra: Tensor, gradient: Tensor, state: Tensor | None = None
    ):
        self.plane_family, self.spectra, self.state = plane_family, spectra, state
        current = spectra if state is None else edited_coefficients(spectra, state, None)[0]
        family = plane_family.family
        gradients = torch.fft.rfft2(gradient)[:, None] * family.weights(gradient)
        self.phase, _ = ops.step(current, gradients, family.eps, family.rule, family.floor)

    def moved(self, b: Tensor) -> Tensor:
        """Return the phase changes after one step with factors [1, 1] or [1, n]."""
        rule = self.plane_family.family.rule
        # Amplitude factors (the second b) and the rule are not used, since amplitudes do not move
        return cast(Tensor, moved_coordinates(self.spectra, (self.state, None), (self.phase, None), b, b, rule)[0])

    def advance(self, b: Tensor, a: Tensor) -> None:
        """Move the phases in place by one step, with factors ``b`` [1, 1] or [1, n]."""
        cast(Tensor, self.state).copy_(self.moved(b))

    def frames(self, b: Tensor, a: Tensor) -> Tensor:
        """See :class:`PreparedPlanes`."""
        if self.state is None:  # amplitude factors (the second b) are not used
            return self.plane_family.images(ops.extrapolate(self.spectra, self.phase, None, b, b, "complex", "complex"))
        edited = (edited_coefficients(self.spectra, self.moved(b[j : j + 1]), None) for j in range(len(b)))
        return torch.cat([self.plane_family.images(spectra) for spectra in edited])

    def largest_phase(self) -> Tensor:
        """See :class:`PreparedPlanes`."""
        return self.phase.abs().amax((-3, -2, -1))

    def squared_speed(self) -> Tensor:
        """See :class:`PreparedPlanes`. The speed is exact by Parseval's theorem."""
        squares = (self.spectra.real.square() + self.spectra.imag.square()) * self.phase.square()
        # Each column but the first counts twice, for frequency k and for -k. If W is even, the last column (the Nyquist
        # frequency) must not count twice, but it does not move.
        energy = 2 * squares.sum((-3, -2, -1)) - squares[..., 0].sum((-2, -1))
        return energy / (self.plane_family.height * self.plane_family.width)

"""The Fourier family: phases of the whole image's spectrum, the global counterpart of the pyramid's local ones."""

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
from .shared import check_pair


@dataclass(frozen=True)
class FourierFamily:
    """Motion of the phases of ``rfft2(image)``; DC and every frequency with a Nyquist component stay.

    Parameters
    ----------
    rule : {"complex", "polar"}
        How coefficients and gradient become a step; see :func:`steerlens_fast.ops.step`.
    eps : float
        Length of the infinitesimal step.
    floor : float
        Coefficients below this fraction of the spectrum's largest amplitude do not move.
    pyramid : SteerablePyramid, optional
        The pyramid of ``scales`` and ``orientations``.
    scales, orientations : sequence of int, optional
        Only frequencies of these bands move, each as far as the bands' squared responses let its gradient through.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid; the message names it and what was expected.

    Notes
    -----
    A frequency k and its mirror -k are one coordinate of a real image: d(loss)/dX_k = 2 rfft2(gradient)_k / (H W).

    Examples
    --------
    >>> import torch
    >>> from steerlens_fast import FourierFamily
    >>> image, gradient = torch.rand(2, 3, 32, 32), torch.randn(2, 3, 32, 32)
    >>> frames = FourierFamily().prepare(image, gradient).render([0.0, 1.0])
    >>> frames.shape
    torch.Size([2, 2, 3, 32, 32])
    >>> bool((frames[1].mean((-2, -1)) - image.mean((-2, -1))).abs().max() < 1e-6)  # DC stays
    True
    """

    rule: str = "complex"
    eps: float = 1.0
    floor: float = 1e-6
    pyramid: SteerablePyramid | None = None
    scales: Sequence[int] | None = None
    orientations: Sequence[int] | None = None

    def __post_init__(self) -> None:
        checks.check_choice("rule", self.rule, tuple(ops.RULES))
        object.__setattr__(self, "eps", checks.check_number("eps", self.eps))
        object.__setattr__(self, "floor", checks.check_number("floor", self.floor, above=0.0, closed=True))
        check_restriction(self.pyramid, self.scales, self.orientations)

    def prepare(self, image: Tensor, gradient: Tensor) -> FourierMotion:
        """See :class:`Family`."""
        image, gradient = check_pair(image, gradient, self.pyramid.image_shape if self.pyramid else None)
        return FourierMotion(_FourierPlanes(self, *image.shape[-2:]), image, gradient)

    def anchor(self, image: Tensor) -> PlaneAnchor:
        """See :class:`AnchoringFamily`: phase change in [-pi, pi]."""
        image = checks.check_image("image", image, self.pyramid.image_shape if self.pyramid else None)
        return PlaneAnchor(_FourierPlanes(self, *image.shape[-2:]), image, FourierMotion)

    def weights(self, like: Tensor) -> Tensor:
        """Return the gradient's factors [H, W//2+1]: 2 / (H W) times the response, but 0 at DC and Nyquist."""
        H, W = like.shape[-2:]
        moving = torch.ones(H, W // 2 + 1, dtype=like.dtype, device=like.device)
        if self.scales is not None or self.orientations is not None:
            assert self.pyramid is not None  # checked in __post_init__
            moving = band_weights(like, self.pyramid, self.scales, self.orientations).clone()
        moving[:1, :1] = 0  # a slice: assigning to the element [0, 0] would copy from the host and synchronise
        if H % 2 == 0:
            moving[H // 2] = 0
        if W % 2 == 0:
            moving[:, W // 2] = 0
        return moving * (2 / (H * W))


class FourierMotion(PlaneMotion):
    """The motion of :class:`FourierFamily`."""


@dataclass(frozen=True)
class _FourierPlanes:
    """A Fourier family for images of one size; see :class:`PlaneFamily`."""

    family: FourierFamily
    height: int
    width: int

    moves_phase = True
    moves_amplitude = False

    def __repr__(self) -> str:
        return repr(self.family)

    def analyze(self, image: Tensor) -> Tensor:
        """Return spectra [n, 1, H, W//2+1]: one band."""
        return torch.fft.rfft2(image)[:, None]

    def prepare_planes(self, image: Tensor, gradient: Tensor, *state: Tensor) -> _FourierStep:
        """Compute spectrum and step of planes."""
        return _FourierStep(self, self.analyze(image), gradient, *state)

    def step_from(self, source: Tensor, gradient: Tensor, state: Sequence[Tensor]) -> _FourierStep:
        """Compute the step of planes whose spectra are known, starting at the phases ``state``."""
        return _FourierStep(self, source, gradient, *state)

    def image_at(self, source: Tensor, state: Sequence[Tensor]) -> Tensor:
        """Return the images [n, H, W] at the phases ``state``."""
        return self.images(edited_coefficients(source, state[0], None))[0]

    def images(self, spectra: Tensor) -> Tensor:
        """Return frames [F, n, H, W] of spectra [F, n, 1, H, W//2+1]."""
        return torch.fft.irfft2(spectra[:, :, 0], s=(self.height, self.width))

    def frame_bytes(self, dtype: torch.dtype) -> int:
        """Return the memory of spectrum and image of one frame."""
        return 2 * dtype.itemsize * self.height * (self.width + 2)

    def prepared_bytes(self, dtype: torch.dtype) -> int:
        """Return the memory of spectrum and step of one plane."""
        return self.frame_bytes(dtype)

    def coordinate_shapes(self) -> list[torch.Size]:
        """Return [1, H, W//2+1], of the one band."""
        return [torch.Size((1, self.height, self.width // 2 + 1))]


class _FourierStep:
    """See :class:`PreparedPlanes`."""

    def __init__(self, family: _FourierPlanes, source: Tensor, gradient: Tensor, state: Tensor | None = None):
        self.family, self.source, self.state = family, source, state
        at = source if state is None else edited_coefficients(source, state, None)[0]
        settings = family.family
        gradients = torch.fft.rfft2(gradient)[:, None] * settings.weights(gradient)
        self.phase, _ = ops.step(at, gradients, settings.eps, settings.rule, settings.floor)

    def moved(self, b: Tensor) -> Tensor:
        """Return the phases after one step with factors [1, 1] or [1, n]."""
        rule = self.family.family.rule
        return cast(Tensor, moved_coordinates(self.source, (self.state, None), (self.phase, None), b, b, rule)[0])

    def advance(self, b: Tensor, a: Tensor) -> None:
        """Move the phases of the planes, in place."""
        cast(Tensor, self.state).copy_(self.moved(b))

    def frames(self, b: Tensor, a: Tensor) -> Tensor:
        """See :class:`PreparedPlanes`."""
        if self.state is None:
            return self.family.images(ops.extrapolate(self.source, self.phase, None, b, b, "complex", "complex"))
        spectra = (edited_coefficients(self.source, self.moved(b[j : j + 1]), None) for j in range(len(b)))
        return torch.cat([self.family.images(one) for one in spectra])

    def largest_phase(self) -> Tensor:
        """See :class:`PreparedPlanes`."""
        return self.phase.abs().amax((-3, -2, -1))

    def squared_speed(self) -> Tensor:
        """See :class:`PreparedPlanes`: by Parseval's theorem; columns but the first stand for two."""
        squares = (self.source.real.square() + self.source.imag.square()) * self.phase.square()
        both = 2 * squares.sum((-3, -2, -1)) - squares[..., 0].sum((-2, -1))
        return both / (self.family.height * self.family.width)

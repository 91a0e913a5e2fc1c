"""``PixelFamily`` moves pixels against the gradient. It is the baseline for other families."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import checks
from ..checks import Factors, factor_table
from ..memory import new_output, store
from ..pyramid import SteerablePyramid
from ..pyramid.backend import may_write_in_place
from .bandpass import band_pass, check_restriction
from .protocols import Bounds
from .shared import check_amplitude_factors, check_image_and_gradient, clip


@dataclass(frozen=True)
class PixelFamily:
    """Motion of pixels: frame j is ``image - factor_j * eps * gradient``.

    Parameters
    ----------
    eps : float
        Factor of the gradient in one step.
    pyramid : SteerablePyramid, optional
        The pyramid that ``scales`` and ``orientations`` belong to; required with them.
    scales, orientations : sequence of int, optional
        Only these bands of the gradient move the image: the gradient's spectrum is multiplied by the sum of
        the bands' squared filters.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid; the message names it and what was expected.

    Examples
    --------
    >>> import torch
    >>> motion = PixelFamily().prepare(torch.zeros(1, 8, 8), torch.ones(1, 8, 8))
    >>> motion.render([0.0, 2.0])[:, 0, 0, 0]
    tensor([ 0., -2.])
    """

    eps: float = 1.0
    pyramid: SteerablePyramid | None = None
    scales: Sequence[int] | None = None
    orientations: Sequence[int] | None = None

    @property
    def moves_amplitude(self) -> bool:
        return False

    def __post_init__(self) -> None:
        object.__setattr__(self, "eps", checks.check_number("eps", self.eps))
        check_restriction(self.pyramid, self.scales, self.orientations)

    def prepare(self, image: Tensor, gradient: Tensor) -> PixelMotion:
        """See :class:`Family`."""
        image, gradient = check_image_and_gradient(image, gradient, self.pyramid.image_shape if self.pyramid else None)
        return PixelMotion(image, band_pass(gradient, self.pyramid, self.scales, self.orientations), self.eps)

    def anchor(self, image: Tensor) -> PixelAnchor:
        """See :class:`AnchoringFamily`. The coordinates are the pixels, which may change by any amount."""
        return PixelAnchor(self, checks.check_image("image", image, self.pyramid.image_shape if self.pyramid else None))


@dataclass(frozen=True, eq=False, repr=False)
class PixelMotion:
    """The motion of :class:`PixelFamily`."""

    image: Tensor
    gradient: Tensor  # restricted to the family's bands
    eps: float

    def render(self, factors: Factors, amplitude_factors: Factors | None = None, bounds: Bounds = None) -> Tensor:
        """See :class:`Motion`. ``amplitude_factors`` must be None."""
        check_amplitude_factors(amplitude_factors, moves_amplitude=False)
        bounds, table = checks.check_bounds(bounds), factor_table("factors", factors, self.image)
        lead = self.image.shape[:-2] if table.shape[1] != 1 else (1,) * (self.image.dim() - 2)
        if not may_write_in_place(self.image, self.gradient, table):
            table = table.reshape(table.shape[0], *lead, 1, 1)
            return clip(torch.addcmul(self.image, table, self.gradient, value=-self.eps), bounds)
        out = new_output((len(table), *self.image.shape), self.image.dtype, self.image.device)
        for out_frame, row in zip(out, table):
            frame = torch.addcmul(self.image, row.reshape(*lead, 1, 1), self.gradient, value=-self.eps)
            store(out_frame, frame, bounds)
        return out


class PixelAnchor:
    """The current image of a morph of pixels, see :class:`Anchor`."""

    def __init__(self, family: PixelFamily, image: Tensor):
        self.family, self.current = family, image.detach().clone()

    def toward(self, gradient: Tensor) -> PixelMotion:
        """See :class:`Anchor`."""
        return self.family.prepare(self.current, gradient)

    def advance(self, gradient: Tensor, factors: Factors, amplitude_factors: Factors | None = None) -> None:
        """See :class:`Anchor`."""
        self.current = self.toward(gradient).render(factors, amplitude_factors)[0]

    def frame(self, bounds: Bounds = None) -> Tensor:
        """See :class:`Anchor`."""
        return clip(torch.clone(self.current), checks.check_bounds(bounds))

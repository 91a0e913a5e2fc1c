"""``LumaFamily`` applies another family to the luma (brightness) of RGB images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from .. import checks
from ..checks import Factors
from ..memory import chunks, new_output, scratch_chunks, store
from ..ops import FramesAtL2, StepTaken
from ..pyramid.backend import may_write_in_place
from .protocols import (
    Anchor,
    AnchoringFamily,
    Bounds,
    DistanceMotion,
    DistanceSearch,
    Family,
    Motion,
    PhaseMotion,
    PiecewiseMotion,
    StepExtent,
    SteppingAnchor,
    SteppingMotion,
)
from .shared import check_image_and_gradient, clip, factor_pair

WEIGHTS = (0.299, 0.587, 0.114)  # weights of R, G and B in ITU-R BT.601
# Size of a block of rendered frames, by device, as a multiple of the size that memory.chunks chooses; 1 on other
# devices. Each block repeats the analysis, so larger blocks are faster on a CPU.
CHUNKS_PER_BLOCK = {"cpu": 4}


def luma(image: Tensor) -> Tensor:
    """Return the luma Y = 0.299 R + 0.587 G + 0.114 B of RGB images.

    Images [..., 3, H, W] have a luma [..., 1, H, W].

    Examples
    --------
    >>> import torch
    >>> from steerlens_fast.families.luma import luma
    >>> round(float(luma(torch.ones(3, 1, 1))), 6)
    1.0
    """
    red, green, blue = image.unbind(-3)
    return torch.add(torch.add(red * WEIGHTS[0], green, alpha=WEIGHTS[1]), blue, alpha=WEIGHTS[2]).unsqueeze(-3)


@dataclass(frozen=True)
class LumaFamily:
    """Motion of the luma of RGB images by another family.

    The change of the luma is added to R, G and B.

    Parameters
    ----------
    family : Family
        The family that moves the luma Y. It gets the gradient d(loss)/dY, the sum of the gradient over the channels.

    Raises
    ------
    TypeError
        If ``family`` has no method ``prepare``.

    Notes
    -----
    Y is the luma of ITU-R BT.601. Chroma does not change, except where a channel is clipped to its bounds.

    Examples
    --------
    >>> import torch
    >>> from steerlens_fast import LumaFamily, PixelFamily
    >>> image, gradient = torch.full((1, 3, 8, 8), 0.5), torch.randn(1, 3, 8, 8)
    >>> frame = LumaFamily(PixelFamily()).prepare(image, gradient).render([0.1])[0]
    >>> bool((frame[:, 0] - frame[:, 1]).abs().max() < 1e-6)  # still grey
    True
    """

    family: Family

    def __post_init__(self) -> None:
        if not callable(getattr(self.family, "prepare", None)):
            raise TypeError(f"family must have prepare(image, gradient), got {type(self.family).__name__}")

    def prepare(self, image: Tensor, gradient: Tensor) -> LumaMotion:
        """See :class:`Family`. Images are [..., 3, H, W]."""
        image, gradient = check_image_and_gradient(_check_rgb(image), gradient)
        y = luma(image)
        return LumaMotion(image, gradient, y, self.family.prepare(y, gradient.sum(-3, keepdim=True)))

    @property
    def moves_amplitude(self) -> bool:
        """Whether amplitudes move, so that ``amplitude_factors`` have a meaning."""
        return getattr(self.family, "moves_amplitude", True)

    @property
    def anchor(self) -> Callable[[Tensor], LumaAnchor]:
        """See :class:`AnchoringFamily`. Raises an AttributeError if ``family`` has no ``anchor``."""
        anchor = cast(AnchoringFamily, self.family).anchor
        return lambda image: LumaAnchor(anchor, _check_rgb(image))


@dataclass(frozen=True, eq=False, repr=False)
class LumaMotion:
    """The motion of :class:`LumaFamily`."""

    image: Tensor
    gradient: Tensor
    y: Tensor  # the image's luma
    motion: Motion

    def render(self, factors: Factors, amplitude_factors: Factors | None = None, bounds: Bounds = None) -> Tensor:
        """See :class:`Motion`."""
        bounds = checks.check_bounds(bounds)
        image, y = self.image, self.y
        as_argument = lambda table: table[:, 0] if table.shape[1] == 1 else table.reshape(len(table), *y.shape[:-2])
        b, a = map(as_argument, factor_pair(factors, amplitude_factors, y))  # [F] or [F, ...], as render takes them
        render = lambda f: self.motion.render(b[f], None if amplitude_factors is None else a[f])
        frame = lambda moved_y: image + (moved_y - y)
        if not may_write_in_place(image, self.gradient, b, a):
            return clip(frame(render(slice(None))), bounds)
        out = new_output((len(b), *image.shape), image.dtype, image.device)
        multiple = CHUNKS_PER_BLOCK.get(y.device.type, 1)
        for f in chunks(len(b), y.numel() * y.itemsize // multiple, y.device):
            for out_frame, moved_y in zip(out[f], render(f)):
                self._store_frame(out_frame, moved_y, bounds)
        return out

    def _store_frame(self, out: Tensor, moved_y: Tensor, bounds: Bounds) -> None:
        """Write one frame to ``out``: the image plus the change of its luma."""
        samples = lambda t: t.reshape(-1, *t.shape[-3:])
        out, image, moved_y, y = map(samples, (out, self.image, moved_y, self.y))
        for at in scratch_chunks(image):
            store(out[at], image[at] + (moved_y[at] - y[at]), bounds)

    def pieces(self) -> Iterator[tuple[slice, LumaMotion]]:
        """See :class:`PiecewiseMotion`."""
        if not isinstance(self.motion, PiecewiseMotion):
            yield slice(0, len(self.image)), self
            return
        for at, motion in self.motion.pieces():
            yield at, LumaMotion(self.image[at], self.gradient[at], self.y[at], motion)

    def frames_at_l2(
        self, search: DistanceSearch, bounds: Bounds = None, base: Tensor | None = None
    ) -> FramesAtL2 | None:
        """See :class:`DistanceMotion`."""
        if base is not None or not isinstance(self.motion, DistanceMotion):
            return None
        return self.motion.frames_at_l2(search, bounds, self.image)

    def take_step(self, extent: StepExtent, bounds: Bounds = None, base: Tensor | None = None) -> StepTaken | None:
        """See :class:`SteppingMotion`."""
        if base is not None or not isinstance(self.motion, SteppingMotion):
            return None
        return self.motion.take_step(extent, bounds, self.image)

    def speed(self) -> Tensor | None:
        """See :class:`PiecewiseMotion`. The speed is sqrt(3) times that of the luma, since three channels change."""
        speed = getattr(self.motion, "speed", lambda: None)()
        return None if speed is None else math.sqrt(3) * speed

    @property
    def largest_phase_step(self) -> Callable[[], Tensor]:
        """See :class:`PhaseMotion`. Raises an AttributeError if ``motion`` has no phases."""
        return cast(PhaseMotion, self.motion).largest_phase_step


class LumaAnchor:
    """An RGB image and the anchor of its luma, see :class:`Anchor`."""

    def __init__(self, anchor: Callable[[Tensor], Anchor], image: Tensor):
        self.image, self.y = image, luma(image)
        self.anchor = anchor(self.y)
        self.luma_gradient: tuple[Tensor, Tensor] | None = None  # (a gradient, its sum over channels)

    def toward(self, gradient: Tensor) -> LumaMotion:
        """See :class:`Anchor`."""
        _, gradient = check_image_and_gradient(self.image, gradient)
        return LumaMotion(self.image, gradient, self.y, self.anchor.toward(self._gradient_of_luma(gradient)))

    def take_step(
        self, gradient: Tensor, extent: StepExtent, bounds: Bounds = None, base: Tensor | None = None
    ) -> StepTaken | None:
        """See :class:`SteppingAnchor`."""
        if base is not None or not isinstance(self.anchor, SteppingAnchor):
            return None
        _, gradient = check_image_and_gradient(self.image, gradient)
        return self.anchor.take_step(self._gradient_of_luma(gradient), extent, bounds, self.image)

    def advance(self, gradient: Tensor, factors: Factors, amplitude_factors: Factors | None = None) -> None:
        """See :class:`Anchor`. The anchor of the luma checks the gradient."""
        self.anchor.advance(self._gradient_of_luma(gradient), factors, amplitude_factors)
        self.luma_gradient = None

    def frame(self, bounds: Bounds = None) -> Tensor:
        """See :class:`Anchor`."""
        return clip(self.image + (self.anchor.frame() - self.y), checks.check_bounds(bounds))

    def _gradient_of_luma(self, gradient: Tensor) -> Tensor:
        """Return d(loss)/dY.

        The tensor is cached, because the anchor of the luma finds its cached step by the identity of the gradient.
        """
        if self.luma_gradient is None or self.luma_gradient[0] is not gradient:
            self.luma_gradient = gradient, gradient.sum(-3, keepdim=True)
        return self.luma_gradient[1]


def _check_rgb(image: Tensor) -> Tensor:
    image = checks.check_image("image", image)
    if image.dim() < 3 or image.shape[-3] != 3:
        raise ValueError(f"image must have shape [..., 3, H, W] (RGB) for its luma, got {list(image.shape)}")
    return image

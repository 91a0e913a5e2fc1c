"""Colour: any family on the luma of RGB images; chroma stays as it is."""

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
from ..pyramid.backend import is_recorded
from .protocols import Anchor, AnchoringFamily, Bounds, Family, Motion, PhaseMotion, PiecewiseMotion
from .shared import check_pair, clip, factor_pair

WEIGHTS = (0.299, 0.587, 0.114)  # of R, G, B: ITU-R BT.601
BLOCK_PASSES = {"cpu": 4}  # passes per block of frames, else 1; more on a CPU, where each block repeats the analysis


def luma(image: Tensor) -> Tensor:
    """Return Y = 0.299 R + 0.587 G + 0.114 B of images [..., 3, H, W]: [..., 1, H, W].

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
    """Another family's motion, of the luma of RGB images: Y's change is added to all three channels, so chroma stays.

    Parameters
    ----------
    family : Family
        The family that moves the luma, along d(loss)/dY: the sum of the gradient over the channels.

    Notes
    -----
    Y of ITU-R BT.601. Where a channel is clipped to its bounds, chroma does change.

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
        """See :class:`Family`; images [..., 3, H, W]."""
        image, gradient = check_pair(_check_rgb(image), gradient)
        y = luma(image)
        return LumaMotion(image, gradient, y, self.family.prepare(y, gradient.sum(-3, keepdim=True)))

    @property
    def anchor(self) -> Callable[[Tensor], LumaAnchor]:
        """See :class:`AnchoringFamily`; an AttributeError if the other family has none."""
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
        table = lambda t: t[:, 0] if t.shape[1] == 1 else t.reshape(t.shape[0], *y.shape[:-2])
        b, a = map(table, factor_pair(factors, amplitude_factors, y))
        render = lambda f: self.motion.render(b[f], None if amplitude_factors is None else a[f])
        frame = lambda moved: image + (moved - y)
        if is_recorded(image, self.gradient, b, a):
            return clip(frame(render(slice(None))), bounds)
        out = new_output((len(b), *image.shape), image.dtype, image.device)
        passes = BLOCK_PASSES.get(y.device.type, 1)
        for f in chunks(len(b), y.numel() * y.itemsize // passes, y.device):
            for whole, moved in zip(out[f], render(f)):
                self._add(whole, moved, bounds)
        return out

    def _add(self, whole: Tensor, moved: Tensor, bounds: Bounds) -> None:
        """Write one frame to ``whole``: the image plus the change of its luma in all channels."""
        samples = lambda t: t.reshape(-1, *t.shape[-3:])
        whole, image, moved, y = map(samples, (whole, self.image, moved, self.y))
        for at in scratch_chunks(image):
            store(whole[at], image[at] + (moved[at] - y[at]), bounds)

    def pieces(self) -> Iterator[tuple[slice, LumaMotion]]:
        """See :class:`PiecewiseMotion`."""
        if not isinstance(self.motion, PiecewiseMotion):
            yield slice(0, len(self.image)), self
            return
        for at, motion in self.motion.pieces():
            yield at, LumaMotion(self.image[at], self.gradient[at], self.y[at], motion)

    def speed(self) -> Tensor | None:
        """See :class:`PiecewiseMotion`: the luma's change is in all three channels."""
        speed = getattr(self.motion, "speed", lambda: None)()
        return None if speed is None else math.sqrt(3) * speed

    @property
    def largest_phase_step(self) -> Callable[[], Tensor]:
        """See :class:`PhaseMotion`; an AttributeError if the other family's motion has none."""
        return cast(PhaseMotion, self.motion).largest_phase_step


class LumaAnchor:
    """See :class:`Anchor`."""

    def __init__(self, anchor: Callable[[Tensor], Anchor], image: Tensor):
        self.image, self.y = image, luma(image)
        self.anchor = anchor(self.y)
        self.luma_gradient: tuple[Tensor, Tensor] | None = None  # a gradient, and its sum over channels

    def toward(self, gradient: Tensor) -> LumaMotion:
        """See :class:`Anchor`."""
        _, gradient = check_pair(self.image, gradient)
        return LumaMotion(self.image, gradient, self.y, self.anchor.toward(self._of_luma(gradient)))

    def advance(self, gradient: Tensor, factors: Factors, amplitude_factors: Factors | None = None) -> None:
        """See :class:`Anchor`."""
        self.anchor.advance(self._of_luma(gradient), factors, amplitude_factors)
        self.luma_gradient = None

    def frame(self, bounds: Bounds = None) -> Tensor:
        """See :class:`Anchor`."""
        return clip(self.image + (self.anchor.frame() - self.y), checks.check_bounds(bounds))

    def _of_luma(self, gradient: Tensor) -> Tensor:
        """Return the gradient in the luma: the same tensor for the same gradient, whose step the anchor caches."""
        if self.luma_gradient is None or self.luma_gradient[0] is not gradient:
            self.luma_gradient = gradient, gradient.sum(-3, keepdim=True)
        return self.luma_gradient[1]


def _check_rgb(image: Tensor) -> Tensor:
    image = checks.check_image("image", image)
    if image.dim() < 3 or image.shape[-3] != 3:
        raise ValueError(f"image must have shape [..., 3, H, W] (RGB) for its luma, got {list(image.shape)}")
    return image

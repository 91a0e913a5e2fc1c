"""Edits images with one family, and keeps the unclipped images and edited coefficients, which the measures need."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .. import ops
from ..classifier import Classifier
from ..families import CSPFamily, LumaFamily, make_family
from ..families.anchor import edited_coefficients
from ..families.csp import split_state
from ..families.luma import luma
from ..families.shared import flatten_planes
from ..lens import SteerableLens
from ..lens.schedule import count_frames, steps_per_frame
from ..morphs import Morphs
from ..pyramid import Coefficients, SteerablePyramid
from .config import EvaluationConfig


def gradient_steps(frames: int | None, steps: int | None) -> int:
    """Return how many gradients a morph takes to reach its budget, in regimes with several gradients.

    It is the smallest multiple of ``frames - 1`` that is at least ``steps`` (default 11).

    Examples
    --------
    >>> gradient_steps(None, None), gradient_steps(4, None), gradient_steps(3, 5)
    (11, 12, 6)
    """
    intervals = count_frames(frames, steps) - 1
    return intervals * steps_per_frame(steps, intervals)


@dataclass(frozen=True)
class Edits:
    """Edits of N sources at one budget.

    Attributes
    ----------
    morphs : Morphs
    frame : Tensor [N, C, H, W]
        The last frame, clipped.
    unclipped : Tensor [N, C, H, W]
        The last frame before clipping.
    source : Tensor [N, c, H, W] or None
        The images (or their luma) whose coefficients were edited: the sources or, in the regime "live", the images
        before the last step. None for families without a pyramid.
    coefficients : Coefficients or None
        The edited coefficients of these images.
    """

    morphs: Morphs
    frame: Tensor
    unclipped: Tensor
    source: Tensor | None
    coefficients: Coefficients | None

    @property
    def clipped(self) -> Tensor:
        """The last frame (or its luma) [N, c, H, W], like ``source``."""
        only_luma = self.source is not None and self.source.shape[1] != self.frame.shape[1]
        return luma(self.frame) if only_luma else self.frame


class RecordingFamily:
    """Wraps a family and records the last ``Motion`` or ``Anchor`` (``families/protocols.py``) that it made."""

    def __init__(self, family):
        self.family, self.motion, self.anchored = family, None, None

    def __repr__(self) -> str:
        return repr(self.family)

    def prepare(self, image: Tensor, gradient: Tensor):
        """See :class:`Family`."""
        self.motion = self.family.prepare(image, gradient)
        return self.motion

    def anchor(self, image: Tensor):
        """See :class:`AnchoringFamily`."""
        self.anchored = self.family.anchor(image)
        return self.anchored

    def image(self, factor: Tensor) -> Tensor:
        """Return the unclipped images of the recorded anchor or, if there is none, of the motion at a factor [N].

        An anchor has the total change of the coefficients, so it needs no factor (``families/anchor.py``).
        """
        return self.anchored.frame() if self.anchored is not None else self.motion.render(factor[None])[0]


def make_edits(
    config: EvaluationConfig,
    family: str,
    driver: Classifier,
    pyramid: SteerablePyramid,
    images: Tensor,
    target,
    max_l2: float,
) -> Edits:
    """Edit images [N, C, H, W] with one family, along the driver's gradient, to one L2 distance."""
    options = config.lens_options(family)
    rule, color = options.pop("rule"), options.pop("color")
    inner = RecordingFamily(make_family(family, pyramid, rule))
    only_luma = color != "rgb" and images.shape[1] == 3  # with "grey", the images are grey already
    outer = RecordingFamily(LumaFamily(inner)) if only_luma else inner
    options |= {"family": outer, "pyramid": None, "color": "rgb"}
    lens = SteerableLens(driver.model, **options)
    lens.classifier = driver  # the driver has its own preprocessing, task and seed
    lens.warn_about_results = False  # the summary reports what the lens would warn about
    frames, steps, live = config.frames, config.steps, config.regime == "live"
    if live:  # one frame per step, so that the last two frames give the factor of the last step
        steps = gradient_steps(frames, steps)
        frames = steps + 1
    morphs = lens.morph(images, target, max_l2=max_l2, frames=frames, steps=steps, score="last")
    factor = morphs.factors[:, -1] - (morphs.factors[:, -2] if live else 0)
    return Edits(morphs, morphs.frames[:, -1].contiguous(), outer.image(factor), *_coefficients(inner, factor))


def _coefficients(recorded: RecordingFamily, factor: Tensor) -> tuple[Tensor | None, Coefficients | None]:
    """Return ``source`` and ``coefficients`` of :class:`Edits`."""
    family = recorded.family
    if not isinstance(family, CSPFamily):
        return None, None
    if recorded.anchored is not None:
        image = recorded.anchored.image
        steps = split_state(family, recorded.anchored.state)  # here, all changes since the source
        edit = lambda c, step: edited_coefficients(c, *step)[0]
    else:
        image = recorded.motion.image
        prepared = family.prepare_planes(flatten_planes(image), flatten_planes(recorded.motion.gradient))
        by_plane = factor.to(image.dtype).repeat_interleave(image.shape[1])[None]  # for phases and for amplitudes
        steps = prepared.steps
        edit = lambda c, step: ops.extrapolate(c, *step, by_plane, by_plane, family.rule, "complex")[0]
    with torch.no_grad():
        plain = family.pyramid(image)
        flat = [band.flatten(0, 1) for band in plain.bands]  # [planes, K, h, w], as families have them
        bands = [edit(c, step).unflatten(0, image.shape[:2]) for c, step in zip(flat, steps)]
    return image, replace(plain, bands=tuple(bands))

"""Options of the lens that jobs and evaluations share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..classifier.objectives import OBJECTIVES
from ..classifier.outputs import TASKS
from ..io.argument_types import at_least_0, key_values, positive
from ..io.base_config import BaseConfig, option
from ..ops import RULES
from .lens import COLORS
from .regimes import REGIMES


@dataclass(frozen=True, kw_only=True)
class LensConfig(BaseConfig):
    """Options of a lens and of its morphs.

    Parameters
    ----------
    task, rule, regime, objective, color, pyramid, phase_cap, smoothing
        See :class:`steerlens_fast.SteerableLens`.
    frames, steps, max_l2, distances
        See :meth:`steerlens_fast.SteerableLens.morph`. Here ``max_l2`` is one float, and ``distances`` are the same for
        all images.
    """

    task: str = option(
        "multiclass",
        group="method",
        choices=TASKS,
        passed_to="lens",
        help="what the model's outputs are: one score per class, one logit per image, or one logit per label",
    )
    rule: str = option(
        "complex",
        group="method",
        choices=tuple(RULES),
        passed_to="lens",
        help="how coefficients and gradient become a step",
    )
    regime: str = option(
        "frozen",
        group="method",
        choices=REGIMES,
        passed_to="lens",
        help="when the gradient is computed: once at the source, or again at every step",
    )
    objective: str = option(
        "nll", group="method", choices=tuple(OBJECTIVES), passed_to="lens", help="the loss that a morph decreases"
    )
    color: str = option(
        "rgb",
        group="method",
        choices=COLORS,
        passed_to="lens",
        help="edit each channel, the luma, or images converted to grey",
    )
    pyramid: Mapping | None = option(
        None,
        group="method",
        metavar="K=V,...",
        type=key_values,
        passed_to="lens",
        help="options of the pyramid, e.g. order=3,height=4,synthesis=adjoint",
    )
    phase_cap: float | None = option(
        None,
        group="method",
        metavar="RADIANS",
        type=positive,
        passed_to="lens",
        help="upper bound of the phase changes by one gradient, in radians",
    )
    smoothing: Mapping | None = option(
        None,
        group="method",
        metavar="K=V,...",
        type=key_values,
        passed_to="lens",
        help="average each gradient over noisy copies of the image (SmoothGrad), e.g. noise=0.1,samples=8,seed=0, "
        "where noise is the standard deviation for images in [0, 1]. shift=2,scale=0.1,flip=true also moves the copies",
    )
    frames: int | None = option(
        None,
        group="method",
        metavar="N",
        minimum=2,
        passed_to="morph",
        help="frames of each morph, including the source (default: 12, but at most steps + 1; with --distances: their "
        "number + 1)",
    )
    steps: int | None = option(
        None,
        group="method",
        metavar="N",
        minimum=1,
        passed_to="morph",
        help="number of gradients in the regimes persistent and live, at least one for each frame after the source "
        "(default: 11, or more for more frames)",
    )
    max_l2: float | None = option(
        None,
        group="method",
        metavar="L2",
        type=at_least_0,
        passed_to="morph",
        help="L2 distance of the last frame from the source (default: 2)",
    )
    distances: Sequence[float] | None = option(
        None,
        group="method",
        metavar="L2",
        type=at_least_0,
        nargs="+",
        passed_to="morph",
        help="several L2 distances, one frame at each, e.g. 1 2 4",
    )

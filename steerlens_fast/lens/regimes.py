"""The regimes, which decide when gradients are computed, and what each step changes.

========== =================== ============================================================
regime     gradients           each step changes
========== =================== ============================================================
frozen     1, at the source    the source, by multiples of one step
live       1 for each step     the image after the previous step, which is decomposed again
persistent 1 for each step     the source's coefficients, by changes that add up
========== =================== ============================================================

If possible, one compiled op searches for the factors and renders the frames. Otherwise, a frame is rendered at each
factor that the search tries.

In the code, ``b`` are phase factors, and ``a`` are amplitude factors or None if they equal ``b``. A *budget* is a
distance to reach.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice

import torch
from torch import Tensor

from ..families import Anchor, Family, LumaFamily, Motion
from ..families.protocols import (
    Bounds,
    DistanceMotion,
    DistanceSearch,
    PiecewiseMotion,
    StepExtent,
    SteppingAnchor,
    SteppingMotion,
    check_frames,
)
from ..families.shared import clip
from ..memory import chunks, new_output, rows, store
from ..ops import FramesAtL2, StepTaken
from ..pyramid.backend import cpu_plane_ops_exist
from .gradient_provider import LossGradient, where_good
from .l2_search import (
    ITERATIONS,
    PHASE_LIMIT,
    SPEED_SHARE,
    SearchResult,
    factor_at_l2,
    l2_from,
    search_factors,
    search_piece,
    tolerance_at,
)
from .schedule import Schedule, Step

REGIMES = ("frozen", "persistent", "live")
# A step from distance d to distance r is at most this many times as long as a step perpendicular to the change so far,
# whose length is sqrt(r² - d²). So one bad gradient cannot move the image far sideways.
MAX_STEP_RATIO = 2.0
SEARCH_OPTIONS = {
    "phase_limit": PHASE_LIMIT,
    "speed_share": SPEED_SHARE,
    "max_step_ratio": MAX_STEP_RATIO,
    "iterations": ITERATIONS,
}
# A *piece* is a few samples that are analysed at once. Its frames are rendered in blocks of a quarter of the size that
# memory.chunks chooses, since the piece's coefficients are in the caches, too.
BLOCKS_PER_CHUNK = 4


# Maps (image [B, C, H, W], frame number) to the gradient. The frame number is None if the image is not a frame.
GradientFn = Callable[[Tensor, int | None], LossGradient]
# Called with a mask [B] of the samples that stop because their gradient is too small to reach their distance.
OnTooSmall = Callable[[Tensor], None]


@dataclass
class MorphState:
    """The inputs of one morph, and its results so far, for all regimes."""

    family: Family
    source: Tensor
    schedule: Schedule
    bounds: Bounds
    phase_cap: float | None
    on_too_small: OnTooSmall
    factors: list[Tensor] = field(default_factory=list)  # [f, B] of each block of f frames: sums of the steps' factors
    amplitude_factors: list[Tensor] = field(default_factory=list)  # empty if they equal the factors
    attained: list[Tensor] = field(default_factory=list)  # for each budget, which samples [B] attained it

    def append_factors(self, b: Tensor, a: Tensor | None = None) -> None:
        """Append the factors [f, B] of the next frames."""
        self.factors.append(b)
        if a is not None:
            self.amplitude_factors.append(a)

    def source_frame(self) -> Tensor:
        """Return the frame of factor 0, the clipped source [1, B, C, H, W]."""
        return clip(self.source.clone(), self.bounds)[None]


def frozen(state: MorphState, gradient: GradientFn, block_size: int | None = None) -> Iterator[Tensor]:
    """Yield frames from one gradient at the source, in blocks [f, B, C, H, W].

    A block has ``block_size`` frames, by default all.
    """
    at_source = gradient(state.source, 0 if state.schedule.starts_at_source else None)
    loss_gradient, scale = _scaled_up(at_source, state.schedule)
    motion, to_budgets = state.family.prepare(state.source, loss_gradient), state.schedule.budgets is not None
    if to_budgets and block_size is None and isinstance(motion, PiecewiseMotion) and len(state.source):
        frames = _render_by_one_op(state, motion, scale)
        yield _render_to_budgets(state, motion, scale) if frames is None else frames
        return
    motion = motion if block_size is None else _with_analysis(motion)
    if to_budgets:
        b, a = _factors_to_budgets(state, motion, scale), None
    else:
        b, a = _capped(state, motion, state.schedule.factors, state.schedule.amplitude_factors)
    state.append_factors(_scaled(b, scale), a)
    count = b.shape[0]
    for start in range(0, count, block_size or max(count, 1)):
        at = slice(start, min(start + (block_size or count), count))
        frames = motion.render(rows(b, at), None if a is None else rows(a, at), bounds=state.bounds)
        yield check_frames(frames, motion, at.stop - start)


def _factors_to_budgets(state: MorphState, motion: Motion, scale: Tensor | None) -> Tensor:
    """Search for all budgets, and return the factors [F, B] of all frames.

    The gradients were multiplied by ``scale`` [B].
    """
    max_factor, reached = _largest_factor(state, motion), []
    for budget in state.schedule.budgets:
        factor, attained, small = _factor_at_budget(state, motion, budget, max_factor, scale)
        reached.append(factor)
        state.attained.append(attained)
        state.on_too_small(small)
    return state.schedule.factors_to(torch.stack(reached))


def _factor_at_budget(
    state: MorphState, motion: Motion, budget: Tensor, max_factor: Tensor | None, scale: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (factors, whether they attain the distances, whether gradients are too small), each [B].

    A gradient is too small if the distance would need a factor that is out of the dtype's range.
    """
    by_op = _frames_at_l2(state, motion, scale, budget[None], shares=budget.new_empty(0))
    if by_op is not None:  # the same factors, bit for bit, as in _render_by_one_op
        return by_op.factors[0], by_op.attained[0], by_op.out_of_range[0]
    dtype_max_factor = _dtype_max_factor(state.source, 0.0, scale)
    limits = {"max_factor": max_factor, "dtype_max_factor": dtype_max_factor}
    factor, _, attained, small = search_factors(motion, budget, state.bounds, source=state.source, **limits)
    return factor, attained, small


def _render_to_budgets(state: MorphState, motion: PiecewiseMotion, scale: Tensor | None) -> Tensor:
    """Search the factors and render all frames [F, B, C, H, W], piece by piece. Each piece is analysed once."""
    source, schedule = state.source, state.schedule
    out = new_output((schedule.frames, *source.shape), source.dtype, source.device)
    dtype_max_factor, factors, results = _dtype_max_factor(source, 0.0, scale), [], []
    for at, piece in motion.pieces():
        of_piece = _search_budgets(state, piece, at, dtype_max_factor[at])
        factors.append(schedule.factors_to(torch.stack([r.factor for r in of_piece])))
        _write_frames(out[:, at], piece, factors[-1], of_piece, state.bounds)
        results.append([replace(r, frame=None) for r in of_piece])
        del piece, of_piece  # so that the next piece reuses this memory, which is in the caches
    state.append_factors(_scaled(torch.cat(factors, 1), scale))
    for of_budget in zip(*results):
        state.attained.append(torch.cat([r.attained for r in of_budget]))
        state.on_too_small(torch.cat([r.out_of_range for r in of_budget]))
    return out


def _render_by_one_op(state: MorphState, motion: Motion, scale: Tensor | None) -> Tensor | None:
    """Search the factors and return all frames [F, B, C, H, W] with one op.

    Return None if no op supports this motion.
    """
    schedule = state.schedule
    by_op = _frames_at_l2(state, motion, scale, schedule.budgets, schedule.shares_of_factor())
    if by_op is None:
        return None
    state.append_factors(_scaled(by_op.factors, scale))
    for attained, out_of_range in zip(by_op.attained, by_op.out_of_range):
        state.attained.append(attained)
        state.on_too_small(out_of_range)
    return by_op.frames.view(-1, *state.source.shape)


def _frames_at_l2(
    state: MorphState, motion: Motion, scale: Tensor | None, budgets: Tensor, shares: Tensor
) -> FramesAtL2 | None:
    """Return frames that one op renders, or None if no op supports this motion.

    The last M frames are at the distances ``budgets`` [M, B]. The factors of the other frames are ``shares``
    of the factor at the first distance.
    """
    if not isinstance(motion, DistanceMotion) or not len(state.source):
        return None
    search = DistanceSearch(
        max_l2=budgets,
        tolerances=tolerance_at(budgets),
        dtype_max_factors=_dtype_max_factor(state.source, 0.0, scale),
        shares=shares,
        phase_cap=math.inf if state.phase_cap is None else state.phase_cap,
        phase_limit=PHASE_LIMIT,
        speed_share=SPEED_SHARE,
        iterations=ITERATIONS,
    )
    return motion.frames_at_l2(search, state.bounds)


def _search_budgets(state: MorphState, piece: Motion, at: slice, dtype_max_factor: Tensor) -> list[SearchResult]:
    """Return the search results, with frames, of the samples ``at`` for each budget."""
    limits = {"max_factor": _largest_factor(state, piece), "dtype_max_factor": dtype_max_factor}
    search = partial(search_piece, piece, bounds=state.bounds, source=state.source[at], **limits, keep_frame=True)
    return [search(budget[at]) for budget in state.schedule.budgets]


def _write_frames(out: Tensor, piece: Motion, b: Tensor, results: list[SearchResult], bounds: Bounds) -> None:
    """Write a piece's frames at factors [F, n] to ``out``.

    The last frames are those that the search has rendered.
    """
    count = len(b) - len(results)
    for f in chunks(count, BLOCKS_PER_CHUNK * out[0].numel() * out.itemsize, out.device):
        frames = check_frames(piece.render(b[f], None, bounds=bounds), piece, f.stop - f.start)
        for to, frame in zip(out[f], frames):
            store(to, frame)
    for to, result in zip(out[count:], results):
        store(to, result.frame)


def _with_analysis(motion: Motion) -> Motion:
    """Return the motion's piece if there is only one, else the motion itself.

    A piece keeps its coefficients, so that rendering several blocks of frames analyses the image once.
    """
    pieces = list(islice(motion.pieces(), 2)) if isinstance(motion, PiecewiseMotion) else []
    return pieces[0][1] if len(pieces) == 1 else motion


def live(state: MorphState, gradient: GradientFn) -> Iterator[Tensor]:
    """Yield frames one by one. Each step decomposes the current image."""
    return _step_by_step(state, gradient, _LivePosition(state))


def persistent(state: MorphState, gradient: GradientFn) -> Iterator[Tensor]:
    """Yield frames one by one. Each step changes the source's coefficients further."""
    return _step_by_step(state, gradient, _PersistentPosition(state.family.anchor(state.source), state.bounds))


class _LivePosition:
    """The position of a live morph: the current image."""

    def __init__(self, state: MorphState):
        self.family, self.bounds, self.image = state.family, state.bounds, state.source

    def step_by_op(self, gradient: Tensor, extent: StepExtent) -> StepTaken | None:
        """Take a step with one op, or return None if no op supports this case."""
        if extent.limits is None:  # with given factors, a render is one op already
            return None
        motion = self.motion_along(gradient)
        taken = motion.take_step(extent, self.bounds) if isinstance(motion, SteppingMotion) else None
        if taken is not None:
            self.image = taken.frames.view(self.image.shape)
        return taken

    def motion_along(self, gradient: Tensor) -> Motion:
        """Return the motion from this position along ``-gradient``."""
        return self.family.prepare(self.image, gradient)

    def move(self, motion: Motion, gradient: Tensor, b: Tensor, a: Tensor | None) -> Tensor:
        """Move by factors [B] of this motion, and return the new image."""
        frames = motion.render(b[None], None if a is None else a[None], bounds=self.bounds)
        self.image = check_frames(frames, motion, 1)[0]
        return self.image


class _PersistentPosition:
    """The position of a persistent morph: how much the source's coefficients have changed."""

    def __init__(self, anchor: Anchor, bounds: Bounds):
        self.anchor, self.bounds = anchor, bounds

    def step_by_op(self, gradient: Tensor, extent: StepExtent) -> StepTaken | None:
        """See :class:`_LivePosition`. One op is faster for given factors, too: ``move`` needs several ops."""
        anchor = self.anchor
        return anchor.take_step(gradient, extent, self.bounds) if isinstance(anchor, SteppingAnchor) else None

    def motion_along(self, gradient: Tensor) -> Motion:
        """See :class:`_LivePosition`."""
        return self.anchor.toward(gradient)

    def move(self, motion: Motion, gradient: Tensor, b: Tensor, a: Tensor | None) -> Tensor:
        """See :class:`_LivePosition`."""
        self.anchor.advance(gradient, b[None], None if a is None else a[None])
        return self.anchor.frame(self.bounds)


class _GradientSteps:
    """Takes the gradient steps of a morph, each with one op if possible."""

    def __init__(self, state: MorphState, position: _LivePosition | _PersistentPosition):
        self.state, self.position = state, position
        # Sums [B] of the factors of all steps so far
        self.b = torch.zeros_like(state.source[:, 0, 0, 0])
        self.a = None if state.schedule.amplitude_factors is None else self.b
        self.image = state.source
        # [B], factor of the last step times the largest |value| of its gradient; None at first, and for given factors
        self.last_move: Tensor | None = None

    def factors(self) -> tuple[Tensor, Tensor | None]:
        """Return the sums of factors so far, as the factors [1, B] of one frame."""
        return self.b[None], None if self.a is None else self.a[None]

    def take(self, step: Step, loss_gradient: LossGradient) -> None:
        """Take a step along ``-loss_gradient``."""
        gradient, scale = _scaled_up(loss_gradient, self.state.schedule)
        size = None if step.budget is None else _scaled(loss_gradient.largest, scale).double()
        start = None if size is None or self.last_move is None else self.last_move / size
        dtype_max_factor = None if step.budget is None else _dtype_max_factor(self.b, self.b, scale)
        moves = None if loss_gradient.all_good else loss_gradient.largest > 0
        taken = self._by_op(step, gradient, dtype_max_factor, start)
        if taken is None:
            taken = self._by_renders(step, gradient, dtype_max_factor, start, moves)
        self.image, db, da = taken
        # If the gradient is 0, the image does not change, and the factor that was found is arbitrary.
        db, da = where_good(moves, db, 0.0), None if da is None else where_good(moves, da, 0.0)
        # The next step's first factor is this product, divided by the size of the next gradient.
        self.last_move = None if size is None else db * size
        self.b = self.b + _scaled(db, scale)
        self.a = None if da is None else self.a + _scaled(da, scale)

    def _by_op(
        self, step: Step, gradient: Tensor, dtype_max_factor: Tensor | None, start: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None] | None:
        """Take a step with one op, or return None if no op supports this case.

        Return (next image, phase factors, amplitude factors or None if they are the same).
        """
        state = self.state
        if not cpu_plane_ops_exist(state.source):
            return None
        cap = math.inf if state.phase_cap is None else state.phase_cap
        extent = partial(StepExtent, state.source, self.image, cap)
        if dtype_max_factor is None:
            a = step.factor if step.amplitude_factor is None else step.amplitude_factor
            taken = self.position.step_by_op(gradient, extent(factors=torch.stack([step.factor, a])))
        else:
            # The first factor to try; 0 if unknown, so that the op estimates it
            first = torch.zeros_like(dtype_max_factor) if start is None else start.to(dtype_max_factor.dtype)
            limits = torch.stack([step.budget, _step_tolerance(step.budget), dtype_max_factor, first])
            taken = self.position.step_by_op(gradient, extent(limits=limits, options=SEARCH_OPTIONS))
        if taken is None:
            return None
        if step.budget is not None:
            state.on_too_small(taken.out_of_range)
        b, a = taken.factors
        return taken.frames.view(state.source.shape), b, None if step.amplitude_factor is None else a

    def _by_renders(
        self, step: Step, gradient: Tensor, dtype_max_factor: Tensor | None, start: Tensor | None, moves: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Take a step, with a render for each factor that is tried.

        Return what :meth:`_by_op` returns. Samples that are not in ``moves`` [B] have factor 0; None means all samples.
        """
        motion = self.position.motion_along(gradient)
        if dtype_max_factor is None:
            b, a = _given_factors(self.state, motion, step)
        else:
            b, a = _budget_factors(self.state, motion, step, self.image, dtype_max_factor, start), None
        b, a = where_good(moves, b, 0.0), None if a is None else where_good(moves, a, 0.0)
        return self.position.move(motion, gradient, b, a), b, a


def _step_by_step(
    state: MorphState, gradient: GradientFn, position: _LivePosition | _PersistentPosition
) -> Iterator[Tensor]:
    """Yield frames one by one, with a new gradient at each step."""
    stepper, next_frame = _GradientSteps(state, position), int(state.schedule.starts_at_source)
    frame_number = next_frame - 1 if next_frame else None  # number of the frame that equals the current image
    steps = state.schedule.steps
    if not steps:
        gradient(stepper.image, frame_number)  # determines targets, outputs and status, although nothing moves
    if next_frame:
        state.append_factors(*stepper.factors())
        yield state.source_frame()
    for step in steps:
        stepper.take(step, gradient(stepper.image, frame_number))
        frame_number = None
        if step.ends_frame:
            if step.budget is not None:
                state.attained.append(_is_attained(state, stepper.image, step.budget))
            state.append_factors(*stepper.factors())
            yield stepper.image[None]
            next_frame, frame_number = next_frame + 1, next_frame


def _given_factors(state: MorphState, motion: Motion, step: Step) -> tuple[Tensor, Tensor | None]:
    """Return the given factors [B] of one step, scaled down to the phase cap."""
    a = None if step.amplitude_factor is None else step.amplitude_factor[None]
    b, a = _capped(state, motion, step.factor[None], a)
    return b[0], None if a is None else a[0]


def _budget_factors(
    state: MorphState, motion: Motion, step: Step, image: Tensor, dtype_max_factor: Tensor, start: Tensor | None
) -> Tensor:
    """Return the factors [B] at which one step reaches its distance, or its largest length.

    ``dtype_max_factor`` [B] are the largest factors without overflow, and ``start`` [B] the first factors to try.
    """
    if start is not None:
        limits = torch.finfo(image.dtype)
        start = torch.where(start > 0, start.clamp(limits.tiny, limits.max), 1.0).to(image.dtype)
    tolerance = _step_tolerance(step.budget)
    b, _, _, small = search_factors(
        motion,
        step.budget,
        state.bounds,
        tolerance,
        start=start,
        max_factor=_largest_factor(state, motion),
        dtype_max_factor=dtype_max_factor,
        source=state.source,
    )
    state.on_too_small(small)
    present_l2 = l2_from(image[None], state.source)[0]
    longest = MAX_STEP_RATIO * (step.budget.square() - present_l2.square()).clamp(min=0).sqrt()
    return _shortened(state, motion, b, image, longest.maximum(tolerance), tolerance)


def _shortened(
    state: MorphState, motion: Motion, b: Tensor, image: Tensor, longest: Tensor, tolerance: Tensor
) -> Tensor:
    """Return factors [B], reduced where the frame's distance from ``image`` exceeds ``longest`` [B]."""
    frames = check_frames(motion.render(b[None], None, bounds=state.bounds), motion, 1)
    distance = l2_from(frames, image)[0]
    far = (distance > longest) & (b > 0)  # at factor 0 the distance is only the reconstruction error
    if not bool(far.any()):
        return b
    max_factor, start = torch.where(far, b, 0.0), torch.where(far, b / 2, 1.0)
    near, _, _ = factor_at_l2(
        motion, longest, state.bounds, tolerance, start=start, max_factor=max_factor, source=image
    )
    return torch.where(far, near, b)


def _scaled_up(gradient: LossGradient, schedule: Schedule) -> tuple[Tensor, Tensor | None]:
    """Scale up gradients [B, ...] that are too small for a search for distances.

    Return the gradients, and the powers of two [B] by which they were multiplied; None if all are known to be 1.

    With the rule "complex", a step is the difference between a coefficient (of order 1) before and after the gradient
    is subtracted, so a gradient below the rounding error (the dtype's eps) would be lost. Such a gradient is scaled to
    about sqrt(eps): there, rounding is small, and the step is almost proportional to the gradient.
    """
    values = gradient.values
    if schedule.budgets is None:
        return values, None
    size, limits = gradient.largest, torch.finfo(values.dtype)
    tiny = (size > 0) & (size < limits.eps)
    if size.device.type == "cpu" and not bool(tiny.any()):
        return values, None
    power = size / torch.frexp(size).mantissa  # the power of two above the size
    new_size = 2.0 ** round(math.log2(limits.eps) / 2)
    scale = torch.where(tiny, (new_size / power).clamp(max=1 / limits.tiny), 1.0)
    return values * scale.view(-1, *[1] * (values.dim() - 1)), scale


def _scaled(values: Tensor, scale: Tensor | None) -> Tensor:
    """Return values [..., B] times the powers of two that :func:`_scaled_up` returned."""
    return values if scale is None else values * scale


def _dtype_max_factor(like: Tensor, reached: Tensor | float, scale: Tensor | None) -> Tensor:
    """Return the largest factors [B] that can be added to ``reached`` without overflow.

    They are factors of gradients that :func:`_scaled_up` multiplied by ``scale`` [B].
    """
    largest = torch.finfo(like.dtype).max - reached
    if scale is None:
        return largest if isinstance(largest, Tensor) else like.new_full(like.shape[:1], largest)
    return largest / scale


def _is_attained(state: MorphState, image: Tensor, budget: Tensor) -> Tensor:
    """Return which images [B] are at the distance ``budget`` [B], up to the tolerance."""
    return (l2_from(image[None], state.source)[0] - budget).abs() <= tolerance_at(budget)


def _step_tolerance(budget: Tensor) -> Tensor:
    """Return the tolerance [B] of one step.

    It is a hundredth of the tolerance of a frame, since errors grow with later steps, but at least 8 times the rounding
    error of the distance.
    """
    return (tolerance_at(budget) / 100).maximum(8 * torch.finfo(budget.dtype).eps * budget)


def _largest_factor(state: MorphState, motion: Motion) -> Tensor | None:
    """Return the factor [B] at which the largest phase step reaches the cap; None without a cap."""
    if state.phase_cap is None:
        return None
    if not callable(getattr(motion, "largest_phase_step", None)):
        expected = "None for a family whose motions lack largest_phase_step()"
        raise ValueError(f"phase_cap must be {expected}, got {state.phase_cap}")
    return state.phase_cap / motion.largest_phase_step()


def _capped(state: MorphState, motion: Motion, b: Tensor, a: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return factors [F, B], scaled down per sample so that no phase step exceeds the cap."""
    if state.phase_cap is None:
        return b, a
    largest = _largest_factor(state, motion)
    scale = (largest / b.abs().amax(0)).nan_to_num(nan=1.0, posinf=1.0).clamp(max=1)
    return b * scale, None if a is None else a * scale


def check_regime(regime: str, family: Family) -> None:
    """Raise if the regime is "persistent" and the family has no method ``anchor``."""
    if regime == "persistent" and not callable(getattr(family, "anchor", None)):
        unsupported = getattr(family, "family", family) if isinstance(family, LumaFamily) else family
        name = type(unsupported).__name__
        raise ValueError(f"family must have anchor(image) for regime 'persistent', got {name}, which has none")

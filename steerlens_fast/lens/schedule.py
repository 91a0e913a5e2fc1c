"""Schedules say at which factors or distances the frames of a morph are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..checks import Factors, check_int, shown, to_device_async

DEFAULT_L2 = 2.0  # as a multiple of the range of the bounds; distances.md gives the reason
FRAMES, STEPS = 12, 11  # default numbers


@dataclass(frozen=True)
class Step:
    """One gradient step of the regimes "live" and "persistent"."""

    factor: Tensor | None = None  # [B]
    amplitude_factor: Tensor | None = None  # [B]
    budget: Tensor | None = None  # [B], distance from the source after the step
    ends_frame: bool = True  # whether the image after the step is a frame


@dataclass(frozen=True)
class Schedule:
    """Where the F frames of B samples are: at factors [F, B], or at distances.

    ``budgets`` [M, B] are the distances of the last frame (M = 1), or of all frames after the source (M = F - 1).
    """

    frames: int
    factors: Tensor | None = None
    amplitude_factors: Tensor | None = None
    budgets: Tensor | None = None
    one_frame_per_budget: bool = False  # if False, there is a single budget, the distance of the last frame
    starts_at_source: bool = True  # whether the first frame has factor 0 for every sample
    moves_toward_target: bool = True  # whether some factor or distance is positive
    steps_per_frame: int = 1  # number of gradients from one frame to the next

    @cached_property
    def steps(self) -> list[Step]:
        """All gradient steps in order, for the regimes "live" and "persistent"."""
        return self._budget_steps() if self.budgets is not None else self._factor_steps()

    def _budget_steps(self) -> list[Step]:
        budgets = self.budgets if self.one_frame_per_budget else self._shares(self.budgets)[1:] * self.budgets
        steps, low = [], torch.zeros_like(budgets[0])
        for high in budgets:
            for part in range(1, self.steps_per_frame + 1):
                last = part == self.steps_per_frame
                budget = high if last else torch.lerp(low, high, part / self.steps_per_frame)
                steps.append(Step(budget=budget, ends_frame=last))
            low = high
        return steps

    def _factor_steps(self) -> list[Step]:
        # A frame's factor minus that of the frame before (0 before the first frame) is divided equally among its steps.
        count = self.steps_per_frame
        parts = lambda t: torch.diff(t, dim=0, prepend=torch.zeros_like(t[:1]))[int(self.starts_at_source) :] / count
        b = parts(self.factors)
        a = [None] * len(b) if self.amplitude_factors is None else parts(self.amplitude_factors)
        return [Step(*pair, ends_frame=part == count) for pair in zip(b, a) for part in range(1, count + 1)]

    def factors_to(self, reached: Tensor) -> Tensor:
        """Return the factors [F, B] of all frames from the factors [M, B] that reach the budgets."""
        if self.one_frame_per_budget:
            return torch.cat([torch.zeros_like(reached[:1]), reached])
        return self._shares(reached) * reached

    def shares_of_factor(self) -> Tensor:
        """Return the factors of the F - M frames without a budget, divided by the factor at the first budget."""
        return self.budgets.new_zeros(1) if self.one_frame_per_budget else self._shares(self.budgets)[:-1, 0]

    def _shares(self, like: Tensor) -> Tensor:
        return torch.linspace(0, 1, self.frames, dtype=like.dtype, device=like.device)[:, None]


def make_schedule(
    images: Tensor,
    bounds: tuple[float, float] | None,
    *,
    factors: float | Factors | None = None,
    amplitude_factors: float | Factors | None = None,
    max_l2: float | Sequence[float] | Tensor | None = None,
    distances: Sequence[float] | Tensor | None = None,
    frames: int | None = None,
    steps: int | None = None,
    regime: str = "frozen",
) -> Schedule:
    """Make the schedule of images [B, C, H, W] from arguments of :meth:`SteerableLens.morph`."""
    stepwise = regime != "frozen"  # a new gradient at each step
    frames, steps = check_steps(frames, steps, regime)
    check_exclusive(factors=factors, max_l2=max_l2, distances=distances)
    if factors is not None:
        schedule = _factor_schedule(images, factors, amplitude_factors, frames, steps)
    elif amplitude_factors is not None:
        raise ValueError(f"amplitude_factors must be None if factors is None, got {shown(amplitude_factors)}")
    elif distances is not None:
        schedule = _distances_schedule(images, distances, frames, stepwise)
    else:
        schedule = _budget_schedule(images, _default_l2(bounds) if max_l2 is None else max_l2, frames, steps)
    if not stepwise:
        return schedule
    per_frame = steps_per_frame(steps, schedule.frames - schedule.starts_at_source)
    # At distance 0 nothing moves, so one gradient for each frame is enough.
    still = schedule.budgets is not None and not schedule.moves_toward_target
    return replace(schedule, steps_per_frame=1 if still else per_frame)


# --- How many frames and steps ---


def check_steps(frames: int | None, steps: int | None, regime: str) -> tuple[int | None, int | None]:
    """Check the numbers of frames and of gradient steps, and return them."""
    frames = None if frames is None else check_int("frames", frames, 2, None)
    if steps is not None:
        steps = check_int("steps", steps, 1, None)
        if regime == "frozen":
            raise ValueError(f"steps must be None for regime 'frozen', which takes one gradient, got {steps}")
        if frames is not None and steps < frames - 1:
            raise ValueError(f"steps must be at least frames - 1 = {frames - 1}, got {steps}")
    return frames, steps


def check_exclusive(**arguments) -> None:
    """Raise if more than one of these arguments is not None."""
    names = [name for name, value in arguments.items() if value is not None]
    if len(names) > 1:
        raise ValueError(f"{names[0]} and {names[1]} are mutually exclusive: pass one of {', '.join(arguments)}")


def count_frames(frames: int | None, steps: int | None = None, **implied: int | None) -> int:
    """Return the number of frames, including the source.

    ``implied`` are the numbers of frames that other arguments imply, by the names of the arguments.

    Examples
    --------
    >>> count_frames(None), count_frames(None, 4), count_frames(None, factors=3)
    (12, 5, 3)
    >>> count_frames(12, distances=3)
    Traceback (most recent call last):
    ValueError: frames must be None or 3, the number of frames that distances gives, got 12
    """
    for name, count in implied.items():
        if count is not None:
            if frames is not None and frames != count:
                expected = f"None or {count}, the number of frames that {name} gives"
                raise ValueError(f"frames must be {expected}, got {frames}")
            return count
    return min(FRAMES, (steps or STEPS) + 1) if frames is None else frames


def steps_per_frame(steps: int | None, intervals: int) -> int:
    """Return the number of gradient steps between two frames: ``steps`` / ``intervals``, rounded up.

    The default of ``steps`` is 11, or ``intervals`` if that is more.

    Examples
    --------
    >>> steps_per_frame(11, 11), steps_per_frame(11, 4), steps_per_frame(None, 2)
    (1, 3, 6)
    """
    if steps is not None and steps < intervals:
        raise ValueError(f"steps must be at least {intervals}, the number of frames after the source, got {steps}")
    return max(1, -(-(STEPS if steps is None else steps) // max(intervals, 1)))


# --- Tables of factors and distances ---


def _factor_schedule(images: Tensor, factors, amplitude_factors, frames: int | None, steps: int | None) -> Schedule:
    if amplitude_factors is None and type(factors) is float and math.isfinite(factors):
        return _ramp_schedule(images, factors, count_frames(frames, steps))
    kinds = "a float, a sequence of floats, or a real tensor [F] or [B, F]"
    named = {"factors": factors, "amplitude_factors": amplitude_factors}
    tables = {name: _real_table(name, value, kinds) for name, value in named.items() if value is not None}
    sizes = {name: t.shape[-1] if t.dim() else None for name, t in tables.items()}
    if all(sizes.get(name) for name in named) and sizes["factors"] != sizes["amplitude_factors"]:
        counts = f"{sizes['factors']} frames like factors, got {sizes['amplitude_factors']}"
        raise ValueError(f"amplitude_factors must have {counts}")
    for name, table in tables.items():
        _check_factor_shape(name, table, len(images))
    count = count_frames(frames, steps, **sizes)
    tables = {name: _factor_frames(name, named[name], table, count, images) for name, table in tables.items()}
    b, a = tables["factors"], tables.get("amplitude_factors")
    at_source = not any(bool(t[0].any()) for t in tables.values())
    toward = any(bool((t > 0).any()) for t in tables.values())
    on_device = lambda name, t: None if t is None else to_device_async(name, t, images.device)
    b, a = on_device("factors", b), on_device("amplitude_factors", a)
    return Schedule(len(b), b, a, starts_at_source=at_source, moves_toward_target=toward)


def _ramp_schedule(images: Tensor, factor: float, frames: int) -> Schedule:
    """Return the schedule of factors that grow linearly from 0 to ``factor``.

    This takes less time than the general case.
    """
    if abs(factor) > torch.finfo(images.dtype).max:
        raise ValueError(f"factors must be finite in {images.dtype}, got {shown(factor)}")
    ramp = (torch.linspace(0, 1, frames, dtype=torch.float64, device="cpu") * factor).to(images.dtype)
    table = to_device_async("factors", ramp.unsqueeze(1).expand(-1, images.shape[0]), images.device)
    return Schedule(frames, table, moves_toward_target=factor > 0)


def _check_factor_shape(name: str, table: Tensor, count: int) -> None:
    if table.dim() > 2 or (table.dim() and not table.shape[-1]) or (table.dim() == 2 and len(table) != count):
        raise ValueError(
            f"{name} must be a float, [F], or [B, F] with B = {count} and F at least 1, got shape {list(table.shape)}"
        )


def _factor_frames(name: str, argument, table: Tensor, frames: int, images: Tensor) -> Tensor:
    """Return factors [F, B], given the last factor, or factors [F] or [B, F]."""
    if table.dim() == 0:
        table = torch.linspace(0, 1, frames, dtype=torch.float64, device=table.device) * table
    table = table.to(images.dtype)
    if not bool(table.isfinite().all()):
        raise ValueError(f"{name} must be finite in {images.dtype}, got {shown(argument)}")
    return table.T.contiguous() if table.dim() == 2 else table[:, None].expand(-1, len(images))


def _default_l2(bounds: tuple[float, float] | None) -> float:
    if bounds is None:
        raise ValueError(
            "factors, max_l2 or distances must be given if bounds is None, since the default distance depends on bounds"
        )
    return DEFAULT_L2 * (bounds[1] - bounds[0])


def _budget_schedule(images: Tensor, max_l2, frames: int | None, steps: int | None) -> Schedule:
    """Return the schedule of a morph to one distance."""
    kinds, count = "a float, or a sequence or tensor [B], one for each sample", len(images)
    table = _real_table("max_l2", max_l2, kinds)
    if table.dim() > 1 or (table.dim() and len(table) != count):
        hint = "for several distances use distances="
        raise ValueError(f"max_l2 must be {kinds} with B = {count} ({hint}), got shape {list(table.shape)}")
    budgets = _checked_distances("max_l2", max_l2, table, images).reshape(1, -1).expand(1, count)
    return Schedule(count_frames(frames, steps), budgets=budgets, moves_toward_target=bool((table > 0).any()))


def _distances_schedule(images: Tensor, distances, frames: int | None, stepwise: bool) -> Schedule:
    """Return the schedule with one frame at each of M distances."""
    kinds, count = "a sequence of M floats, or a tensor [B, M]", len(images)
    table = _real_table("distances", distances, kinds)
    if table.dim() not in (1, 2) or not table.shape[-1] or (table.dim() == 2 and len(table) != count):
        hint = "for a single distance use max_l2="
        raise ValueError(f"distances must be {kinds} with B = {count} ({hint}), got shape {list(table.shape)}")
    if stepwise and not bool((table.diff(dim=-1) > 0).all()):
        raise ValueError(f"distances must increase in the regimes 'persistent' and 'live', got {shown(distances)}")
    budgets = _checked_distances("distances", distances, table, images).reshape(-1, table.shape[-1]).T.expand(-1, count)
    frames = count_frames(frames, distances=len(budgets) + 1)
    return Schedule(frames, budgets=budgets, one_frame_per_budget=True, moves_toward_target=bool((table > 0).any()))


def _checked_distances(name: str, argument, table: Tensor, images: Tensor) -> Tensor:
    """Check distances, and return them in the images' dtype and on their device."""
    rounded = table.to(images.dtype)
    pairs = zip(rounded.flatten().tolist(), table.flatten().tolist())
    if not all(0 < value < math.inf or value == given == 0 for value, given in pairs):
        raise ValueError(f"{name} must be finite, and 0 or positive in {images.dtype}, got {shown(argument)}")
    return to_device_async(name, rounded, images.device)


def _real_table(name: str, value, kinds: str) -> Tensor:
    if isinstance(value, (bool, str, complex)) or value is None:
        raise TypeError(f"{name} must be {kinds}, got {shown(value)}")
    try:
        dtype = None if isinstance(value, np.ndarray) else torch.float64  # an array keeps its dtype, checked below
        table = value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=dtype, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} must be {kinds}, got {shown(value)}") from error
    if table.is_complex() or table.dtype == torch.bool:
        raise TypeError(f"{name} must be {kinds}, got {table.dtype}")
    return table.detach().to(torch.float64)

"""``factor_at_l2``: the factor at which a rendered, clipped frame lies at a given L2 distance from its source.

Factors of different edit families are not comparable; image distances are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real

import numpy as np
import torch
from torch import Tensor

from ..checks import check_bounds, check_int, to_device_async
from ..families import Motion
from ..families.protocols import PiecewiseMotion, check_frames
from ..memory import scratch_chunks

# Until a bracket exists, a step may exceed the factor predicted by proportional growth by at most this log factor.
LOG_REACH = math.log(2)
MIN_SHARE = 1e-6  # of the target distance: smaller changes count as no motion
TOLERANCE, TOLERANCE_SHARE = 5e-4, 1e-3  # of an attained distance: absolute, and relative to the budget
PHASE_LIMIT = 1e6  # radians in one step: float32 sines keep their accuracy up to there
SERIAL_SIZE = 1 << 15  # below it torch reduces in one thread: batched and per-frame norms are bitwise equal
PATIENCE, PATIENCE_WITHOUT_MOTION = 10, 3  # trials without progress before a sample stops; the same without motion


@torch.no_grad()
def factor_at_l2(
    motion: Motion,
    max_l2: float | Sequence[float] | Tensor,
    bounds: tuple[float, float] | None = (0, 1),
    tolerance: float | Tensor | None = None,
    *,
    start: float | Tensor | None = None,
    max_factor: Tensor | None = None,
    source: Tensor | None = None,
    iterations: int = 48,
) -> tuple[Tensor, Tensor, Tensor]:
    """Find, for each sample, the factor whose frame lies at L2 distance ``max_l2`` from the source.

    Parameters
    ----------
    motion : Motion
        Result of ``family.prepare(image, gradient)``, for an image [B, ..., H, W].
    max_l2 : float, or sequence or Tensor [B]
        Target distance, at least 0, for all samples or for each: over all channels and pixels of the clipped frame.
    bounds : (float, float) or None
        Range to which frames are clipped.
    tolerance : float or Tensor [B], optional
        Largest error of an attained distance; by default 5e-4 or a thousandth of ``max_l2``, whichever is less, and
        5e-4 for a ``max_l2`` of 0.
    start : float or Tensor [B], optional
        First factor tried; by default the one of a plain pixel step.
    max_factor : Tensor [B], optional
        Largest factor to try, at least 0. Independently of it, no phase step exceeds 1e6 rad, beyond which float32
        phases are inaccurate.
    source : Tensor [B, ..., H, W], optional
        Images from which distances are measured; by default the motion's image.
    iterations : int
        Largest number of factors tried for a sample, besides 0.

    Returns
    -------
    factor : Tensor [B]
        The smallest factor tried that reaches ``max_l2``, 0 for a ``max_l2`` of 0. If none does, the smallest factor
        whose distance is within ``tolerance`` of the largest distance found.
    l2 : Tensor [B]
        Distance at that factor.
    attained : Tensor [B], bool
        Whether ``l2`` is within ``tolerance`` of ``max_l2``. Since pixels are clipped and phases wrap, not every
        distance can be reached.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.

    Notes
    -----
    ``motion.render(factor)`` would interpret [B] as B frames. To render each sample up to its own factor, call
    ``motion.render(torch.linspace(0, 1, frames)[:, None] * factor)``. The search ends early if the distance no longer
    grows. Even if the distance is attained, some phases may have wrapped.

    Each render tries one factor per sample, predicted from the best three so far: near 0 distances are proportional
    to the factor, and log(factor / distance) is smooth beyond. If the distance grows smoothly, 4 to 7 renders suffice;
    with wrapped phases it may take 20. Inside a bracket, regula falsi replaces a prediction that lies outside or
    follows a step with little progress, and shrinks the bracket by at least a tenth. Without a bracket, a step goes at
    most to twice the factor of proportional growth. A smaller crossing is missed only if the distance rises above
    ``max_l2`` and falls again between two factors tried.

    Samples are independent of each other. The host waits once per render, to read whether all samples are done.

    Examples
    --------
    >>> import torch
    >>> from steerlens_fast import PixelFamily
    >>> motion = PixelFamily().prepare(torch.full((2, 1, 8, 8), 0.5), torch.ones(2, 1, 8, 8))
    >>> factor, l2, attained = factor_at_l2(motion, torch.tensor([2.0, 5.0]))
    >>> attained  # 64 pixels that may move by 0.5 reach a distance of 4
    tensor([ True, False])
    >>> f"{factor[0]:.3f} {l2[0]:.3f} {l2[1]:.3f}"
    '0.250 2.000 4.000'
    """
    options = dict(start=start, max_factor=max_factor, source=source, iterations=iterations)
    return search_factors(motion, max_l2, bounds, tolerance, **options)[:3]


@torch.no_grad()
def search_factors(
    motion: Motion,
    max_l2: float | Sequence[float] | Tensor,
    bounds: tuple[float, float] | None,
    tolerance: float | Tensor | None = None,
    *,
    start: float | Tensor | None = None,
    max_factor: Tensor | None = None,
    range_end: Tensor | None = None,
    source: Tensor | None = None,
    iterations: int = 48,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the results of :func:`factor_at_l2`, and for which samples [B] the gradient is too small.

    These move, but would need a factor beyond ``range_end`` [B], the largest that can be represented (by default, the
    dtype's largest number).
    """
    iterations = check_int("iterations", iterations, 0, None)
    check_bounds(bounds)
    image = _motion_image(motion)
    target = _per_sample("max_l2", max_l2, image, closed=True)
    tolerance = tolerance_at(target) if tolerance is None else _per_sample("tolerance", tolerance, image)
    start = _default_start(motion, target) if start is None else _per_sample("start", start, image)
    source = image if source is None else source
    results = []
    for at, piece in motion.pieces() if isinstance(motion, PiecewiseMotion) else [(slice(None), motion)]:
        end = None if range_end is None else range_end[at]
        search = _Search(piece, target[at], bounds, tolerance[at], _limit(piece, max_factor, at), end, source[at])
        search.run(start[at], iterations)
        results.append((*search.result(), search.out_of_range()))
    empty = target, target, target > 0, target > 0
    return tuple(map(torch.cat, zip(*results))) if results else empty


class _Search:
    """State of a search per sample, [B]: a bracket of log factors, points for predictions, and the best factor.

    A *rise* is the fraction of the way from the initial distance (0) to the target distance (1); the target may be
    below the initial distance.
    """

    def __init__(
        self,
        motion: Motion,
        target: Tensor,
        bounds,
        tolerance: Tensor,
        max_factor: Tensor | None,
        range_end: Tensor | None,
        source: Tensor,
    ):
        self.motion, self.bounds, self.source = motion, bounds, source
        self.target, self.tolerance, self.max_factor = target, tolerance, max_factor
        self.best = torch.zeros_like(target)
        self.best_l2 = self.source_l2 = self.l2_at(self.best)
        unknown = torch.full_like(target, math.inf, dtype=torch.float64)
        self.low, self.high = -unknown, unknown
        largest = torch.full_like(unknown, torch.finfo(target.dtype).max) if range_end is None else range_end.double()
        self.range_end = self.end = largest.log() - 1e-6
        if max_factor is not None:
            self.end = torch.minimum(self.end, max_factor.double().log())
        self.low_rise, self.high_rise = torch.zeros_like(unknown), unknown
        self.points = unknown.repeat(3, 1), unknown.repeat(3, 1)  # log factors and rises, the closest to 1 first
        self.largest = torch.zeros_like(unknown)  # |rise|
        # The smallest gap so far, and the number of probes since it last shrank by more than 0.05.
        self.best_gap, self.idle = unknown, torch.zeros_like(unknown)

    def run(self, start: Tensor, iterations: int) -> None:
        x = start.double().log()
        for _ in range(iterations):
            active = self.active()
            if not bool(active.any()):
                return
            x = self.probe(torch.minimum(x, self.end), active)

    def active(self) -> Tensor:
        """Return which samples are not done and may still get closer.

        Phases wrap: once the distance no longer grows, larger factors only add noise.
        """
        open_bracket = (self.low < self.end) & (self.high - self.low > torch.finfo(self.target.dtype).eps / 2)
        progress = self.bracketed() | (self.idle < torch.where(self.moving(), PATIENCE, PATIENCE_WITHOUT_MOTION))
        return (self.target > 0) & ~self.done() & self.source_l2.isfinite() & open_bracket & progress

    def bracketed(self) -> Tensor:
        return self.low.isfinite() & self.high.isfinite()

    def moving(self) -> Tensor:
        """Return which samples have moved by more than rounding."""
        return self.largest > 0.05

    def probe(self, x: Tensor, active: Tensor) -> Tensor:
        """Render the active samples at log factors ``x``, update the state, and return the next log factors."""
        factor = torch.where(
            active, self.capped(x.exp().to(self.best)), self.best
        )  # a sample that is done stays at its best
        l2 = self.l2_at(factor)
        self._update_best(factor, l2)
        rise = (l2 - self.source_l2).double() / (self.target - self.source_l2).double()
        rise = torch.where(l2.isfinite(), rise, math.inf)
        up, down = active & (rise < 1), active & (rise >= 1)
        self.low, self.low_rise = torch.where(up, x, self.low), torch.where(up, rise, self.low_rise)
        self.high, self.high_rise = torch.where(down, x, self.high), torch.where(down, rise, self.high_rise)
        slow = _gap(rise) > _gap(self.points[1][0]) / 2
        self._update_points(x, rise, active)
        return self.next(slow)

    def _update_points(self, x: Tensor, rise: Tensor, active: Tensor) -> None:
        """Update the points for predictions and the number of trials without progress."""
        self.largest = torch.maximum(self.largest, rise.abs())
        closer = active & (_gap(rise) < self.best_gap - 0.05)
        self.best_gap = torch.where(closer, _gap(rise), self.best_gap)
        self.idle = torch.where(closer, 0.0, self.idle + 1)
        xs, rises = (torch.cat([old, new[None]]) for old, new in zip(self.points, (x, rise)))
        order = _gap(rises).argsort(0)[:3]
        self.points = xs.gather(0, order), rises.gather(0, order)

    def next(self, slow: Tensor) -> Tensor:
        """Return the next log factors: inside the bracket, or a bounded step beyond its only end."""
        x = _predicted(*self.points)
        room = self.largest.clamp(MIN_SHARE, 1 / MIN_SHARE).log().abs()
        stalled = self.moving() & (self.idle > 0)  # growth has ended: double the factor
        up = self.low + torch.where(stalled, 0.0, room) + LOG_REACH
        down = self.high - room - LOG_REACH * torch.exp2(self.idle)  # large steps down, since the rise is 0 at factor 0
        inside = (x > self.low) & (x < self.high) & ~slow
        share = ((1 - self.low_rise) / (self.high_rise - self.low_rise)).clamp(0.1, 0.9)
        middle = torch.where(inside, x, self.low + (self.high - self.low) * share)
        up = torch.where(x > self.low, torch.minimum(x, up), up)
        down = torch.where(inside, torch.maximum(x, down), down)
        return torch.where(self.bracketed(), middle, torch.where(self.low.isfinite(), up, down))

    def l2_at(self, factor: Tensor) -> Tensor:
        """Return distances [B] at factors [B], infinite where a frame overflows."""
        frames = check_frames(self.motion.render(factor[None], None, bounds=self.bounds), self.motion, 1)
        l2 = l2_from(frames, self.source)[0]
        return torch.where(l2.isfinite(), l2, math.inf)

    def _update_best(self, factor: Tensor, l2: Tensor) -> None:
        """Update the best factors: the closest to the target, or the smallest of those equal within the tolerance."""
        miss, best_miss = (l2 - self.target).abs(), (self.best_l2 - self.target).abs()
        far = torch.minimum(miss, best_miss) > self.tolerance
        level = far & (miss < best_miss + self.tolerance) & (factor < self.best)
        better = (miss < torch.where(far, best_miss - self.tolerance, best_miss)) | level
        self.best = torch.where(better, factor, self.best)
        self.best_l2 = torch.where(better, l2, self.best_l2)

    def capped(self, factor: Tensor) -> Tensor:
        return factor if self.max_factor is None else torch.minimum(factor, self.max_factor)

    def done(self) -> Tensor:
        return (self.best_l2 - self.target).abs() <= self.tolerance

    def out_of_range(self) -> Tensor:
        """Return which samples move, but not far enough at the largest factor that can be represented."""
        return ~self.done() & (self.low >= self.range_end) & (self.largest > MIN_SHARE)

    def result(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.capped(self.best), self.best_l2, self.done()


def _gap(rise: Tensor) -> Tensor:
    """Return |log rise|, 0 at the target and infinite without a rise."""
    return rise.clamp(min=0).log().abs()


def _predicted(x: Tensor, rise: Tensor) -> Tensor:
    """Predict the log factor [B] of rise 1 from points [3, B]; not finite if there are too few.

    log(factor / rise) is constant while the image moves in proportion to the factor, and smooth beyond. It is
    interpolated in the rise by a parabola, a line or a constant, depending on the number of points.
    """
    ratio = x - rise.clamp(min=0).log()
    first = (ratio[1:] - ratio[:-1]) / (rise[1:] - rise[:-1])
    second = (first[1] - first[0]) / (rise[2] - rise[0])
    line = ratio[0] + first[0] * (1 - rise[0])
    parabola = line + second * (1 - rise[0]) * (1 - rise[1])
    return torch.where(parabola.isfinite(), parabola, torch.where(line.isfinite(), line, ratio[0]))


def l2_from(frames: Tensor, source: Tensor) -> Tensor:
    """Return the L2 distances [F, B] of frames [F, B, ...] from their sources [B, ...]."""
    if source.device.type == "cpu" and source.numel() < SERIAL_SIZE and frames.numel() < 8 * SERIAL_SIZE:
        return torch.linalg.vector_norm((frames - source).flatten(2), dim=2)
    parts = scratch_chunks(source)
    norm = lambda t: torch.linalg.vector_norm(t.flatten(1), dim=1)
    distances = [norm(frame[at] - source[at]) for frame in frames for at in parts]
    return (
        torch.cat(distances).view(len(frames), len(source)) if distances else source.new_zeros(len(frames), len(source))
    )


def _motion_image(motion: Motion) -> Tensor:
    if not isinstance(getattr(motion, "image", None), Tensor):
        raise TypeError(f"motion must be a result of family.prepare(image, gradient), got {type(motion).__name__}")
    return motion.image


def tolerance_at(budget: Tensor) -> Tensor:
    """Return the default tolerance [B] of an attained distance; at distance 0 it bounds the reconstruction error."""
    return torch.where(budget > 0, (TOLERANCE_SHARE * budget).clamp(max=TOLERANCE), TOLERANCE)


def _limit(motion: Motion, max_factor: Tensor | None, at: slice) -> Tensor | None:
    """Return the largest factor to try [B], None without a limit."""
    max_factor = None if max_factor is None else max_factor[at]
    if not callable(getattr(motion, "largest_phase_step", None)):
        return max_factor
    limit = (PHASE_LIMIT / motion.largest_phase_step()).nan_to_num(nan=math.inf, posinf=math.inf)
    return limit if max_factor is None else torch.minimum(max_factor, limit)


def _default_start(motion: Motion, target: Tensor) -> Tensor:
    gradient = getattr(motion, "gradient", None)
    if gradient is None:
        return torch.ones_like(target)
    norm = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    if norm.device.type == "cpu" and not bool((norm > 0).all()):  # the squares of tiny gradients underflow
        norm = torch.linalg.vector_norm(gradient.flatten(1), dim=1, dtype=torch.float64)
    guess = (target / norm).clamp(max=torch.finfo(target.dtype).max).to(target.dtype)
    return torch.where(guess.isfinite(), guess, 1.0)  # with a gradient of zeros any factor will do


def _per_sample(name: str, value: float | Tensor, image: Tensor, closed: bool = False) -> Tensor:
    """Return values [B] above 0, or equal to it if ``closed``, in the image's dtype and on its device."""
    if image.dim() < 3:
        raise ValueError(f"motion.image must have a batch dimension, [B, ..., H, W], got {list(image.shape)}")
    if isinstance(value, (bool, str)) or not isinstance(value, (Real, Sequence, np.ndarray, Tensor)):
        raise TypeError(f"{name} must be a float, or a sequence or tensor [B], got {value!r}")
    tensor = value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64, device="cpu")
    table = tensor.to(image.dtype)
    if table.dim() > 1 or (table.dim() == 1 and len(table) != len(image)):
        raise ValueError(f"{name} must be one number or {len(image)}, one per sample, got {list(table.shape)}")
    if table.device.type == "cpu" and not bool((table.isfinite() & ((table > 0) | (closed & (table == 0)))).all()):
        raise ValueError(f"{name} must be finite and {'at least' if closed else 'above'} 0, got {value!r}")
    return to_device_async(name, table, image.device).expand(len(image)).clone()

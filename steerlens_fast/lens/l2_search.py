"""Budgets: the factor at which a motion's rendered, clipped image lies at a given distance from its source.

The factors of one edit family cannot be compared with those of another; image distances can.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real

import numpy as np
import torch
from torch import Tensor

from ..checks import check_bounds, check_int, sent
from ..families import Motion
from ..families.protocols import HoldingMotion, rendered
from ..memory import scratch_chunks

REACH = math.log(2)  # how much further than in proportion to the factor a search may go without a bracket
LEAST = 1e-6  # of the way to the target: less than that cannot be told from no motion at all
TOLERANCE, TOLERANCE_SHARE = 5e-4, 1e-3  # of an attained distance: the follow-up's, and its largest share of the budget
PHASE_LIMIT = 1e6  # radians in one step: float32 sines keep their accuracy up to there
SERIAL_SIZE = 1 << 15  # torch sums fewer values in one thread: all frames at once give the same bits as one by one
PATIENCE, PATIENCE_AT_REST = 10, 3  # factors tried that bring an image no closer; that do not move it at all


@torch.no_grad()
def factor_at_l2(
    motion: Motion,
    max_l2: float | Sequence[float] | Tensor,
    bounds: tuple[float, float] | None = (0, 1),
    tolerance: float | Tensor | None = None,
    *,
    start: float | Tensor | None = None,
    most: Tensor | None = None,
    source: Tensor | None = None,
    iterations: int = 48,
) -> tuple[Tensor, Tensor, Tensor]:
    """Find, for each sample, the factor whose frame lies at L2 distance ``max_l2`` from the source.

    Parameters
    ----------
    motion : Motion
        What ``family.prepare(image, gradient)`` returns, for an image [B, ..., H, W].
    max_l2 : float, or sequence or Tensor [B]
        The distance wanted, for all samples or for each, above 0: over all channels and pixels of a sample, after the
        clip.
    bounds : (float, float) or None
        What frames are clipped to.
    tolerance : float or Tensor [B], optional
        How far from ``max_l2`` an attained distance may be; by default 5e-4, but at most a thousandth of ``max_l2``.
    start : float or Tensor [B], optional
        First guess; by default the one that a plain pixel step would need.
    most : Tensor [B], optional
        No factor is tried above it, as a ``phase_cap`` asks for; at least 0. Nor is one at which a phase step of the
        motion would exceed 1e6 rad: beyond that float32 phases mean nothing.
    source : Tensor [B, ..., H, W], optional
        What distances are measured from; by default the motion's image.
    iterations : int
        Most factors tried for a sample, besides 0.

    Returns
    -------
    factor : Tensor [B]
        A crossing: of the factors tried, all smaller ones fall short. Where the budget is out of reach, the smallest of
        those whose distance is within ``tolerance`` of the largest seen.
    l2 : Tensor [B]
        Distance at that factor.
    attained : Tensor [B], bool
        Whether ``l2`` is within ``tolerance`` of ``max_l2``. Clipping bounds what pixels can do, and phases wrap, so
        that not every distance can be reached.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was expected and what came.

    Notes
    -----
    ``motion.render(factor)`` would read [B] as B frames. The frames of a morph to each sample's own factor are
    ``motion.render(torch.linspace(0, 1, frames)[:, None] * factor)``. The search ends early where the distance no
    longer grows: an attained phase morph may still have wrapped some phases.

    Each render tries one factor per sample, predicted from the best three before it: near 0 distances are proportional
    to the factor, and log(factor / distance) is smooth beyond. So 4 to 7 renders do where a distance grows smoothly;
    where phases have wrapped it may take 20. In a bracket, a prediction that leaves it or follows a step that brought
    little gives way to regula falsi, which takes off a tenth at least. Without one, no step up goes further than to
    twice the factor that proportional growth would need. A smaller crossing is missed only where the distance rises
    above ``max_l2`` and falls again between two of the factors tried.

    All samples advance together, none depends on its neighbours; the host waits once per render, to see whether all are
    done.

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
    check_int("iterations", iterations, 0, None)
    check_bounds(bounds)
    image = _image_of(motion)
    target = _per_sample("max_l2", max_l2, image)
    tolerance = tolerance_at(target) if tolerance is None else _per_sample("tolerance", tolerance, image)
    start = _default_start(motion, target) if start is None else _per_sample("start", start, image)
    source = image if source is None else source
    found = []
    for at, piece in motion.pieces() if isinstance(motion, HoldingMotion) else [(slice(None), motion)]:
        search = _Search(piece, target[at], bounds, tolerance[at], _limit(piece, most, at), source[at])
        search.run(start[at], iterations)
        found.append(search.result())
    empty = target, target, target > 0
    return tuple(map(torch.cat, zip(*found))) if found else empty


class _Search:
    """Per-sample state, [B]: a bracket of log factors, the points that predictions are made from, the best factor.

    Distances are counted as rises, 0 at the motion's start and 1 at the target, be it nearer or farther than the start.
    """

    def __init__(self, motion: Motion, target: Tensor, bounds, tolerance: Tensor, most: Tensor | None, source: Tensor):
        self.motion, self.bounds, self.source = motion, bounds, source
        self.target, self.tolerance, self.most = target, tolerance, most
        self.best = torch.zeros_like(target)
        self.best_l2 = self.still = self.l2_at(self.best)
        unknown = torch.full_like(target, math.inf, dtype=torch.float64)
        self.low, self.high = -unknown, unknown
        self.end = torch.full_like(unknown, math.log(torch.finfo(target.dtype).max) - 1e-6)
        if most is not None:
            self.end = torch.minimum(self.end, most.double().log())
        self.low_rise, self.high_rise = torch.zeros_like(unknown), unknown
        self.points = unknown.repeat(3, 1), unknown.repeat(3, 1)  # log factors and rises, the closest to 1 first
        self.largest = torch.zeros_like(unknown)  # |rise|
        self.mark, self.idle = unknown, torch.zeros_like(unknown)  # the gap when last it shrank; probes since then

    def run(self, start: Tensor, iterations: int) -> None:
        x = start.double().log()
        for _ in range(iterations):
            active = self.active()
            if not bool(active.any()):
                return
            x = self.probe(torch.minimum(x, self.end), active)

    def active(self) -> Tensor:
        """Samples that are not there yet, and may still come closer.

        Phases wrap: once the distance stays where it is, a larger factor is only another kind of noise.
        """
        room = (self.low < self.end) & (self.high - self.low > torch.finfo(self.target.dtype).eps / 2)
        hope = self.bracketed() | (self.idle < torch.where(self.moving(), PATIENCE, PATIENCE_AT_REST))
        return ~self.done() & self.still.isfinite() & room & hope

    def bracketed(self) -> Tensor:
        return self.low.isfinite() & self.high.isfinite()

    def moving(self) -> Tensor:
        """By more than rounding, which also changes frames."""
        return self.largest > 0.05

    def probe(self, x: Tensor, active: Tensor) -> Tensor:
        """Render the active samples at log factors ``x``, learn from it, and say where to look next."""
        factor = torch.where(active, self.capped(x.exp().to(self.best)), self.best)  # those done: nothing new
        l2 = self.l2_at(factor)
        self.remember(factor, l2)
        rise = (l2 - self.still).double() / (self.target - self.still).double()
        rise = torch.where(l2.isfinite(), rise, math.inf)
        up, down = active & (rise < 1), active & (rise >= 1)
        self.low, self.low_rise = torch.where(up, x, self.low), torch.where(up, rise, self.low_rise)
        self.high, self.high_rise = torch.where(down, x, self.high), torch.where(down, rise, self.high_rise)
        slow = _gap(rise) > _gap(self.points[1][0]) / 2
        self.note(x, rise, active)
        return self.next(slow)

    def note(self, x: Tensor, rise: Tensor, active: Tensor) -> None:
        """Keep what predictions and patience need; nobody asks for that of samples that are not active."""
        self.largest = torch.maximum(self.largest, rise.abs())
        closer = active & (_gap(rise) < self.mark - 0.05)
        self.mark = torch.where(closer, _gap(rise), self.mark)
        self.idle = torch.where(closer, 0.0, self.idle + 1)
        xs, rises = (torch.cat([old, new[None]]) for old, new in zip(self.points, (x, rise)))
        order = _gap(rises).argsort(0)[:3]
        self.points = xs.gather(0, order), rises.gather(0, order)

    def next(self, slow: Tensor) -> Tensor:
        """Log factors where the target should be: within the bracket, or not too far beyond its only end."""
        x = _predicted(*self.points)
        room = self.largest.clamp(LEAST, 1 / LEAST).log().abs()
        wandering = self.moving() & (self.idle > 0)  # growth has ended: look around, one doubling after the other
        up = self.low + torch.where(wandering, 0.0, room) + REACH
        down = self.high - room - REACH * torch.exp2(self.idle)  # boldly: the motion starts at a rise of 0
        inside = (x > self.low) & (x < self.high) & ~slow
        share = ((1 - self.low_rise) / (self.high_rise - self.low_rise)).clamp(0.1, 0.9)
        middle = torch.where(inside, x, self.low + (self.high - self.low) * share)
        up = torch.where(x > self.low, torch.minimum(x, up), up)
        down = torch.where(inside, torch.maximum(x, down), down)
        return torch.where(self.bracketed(), middle, torch.where(self.low.isfinite(), up, down))

    def l2_at(self, factor: Tensor) -> Tensor:
        """Distances [B] at factors [B]. What overflows counts as infinitely far."""
        l2 = l2_from(rendered(self.motion, factor[None], None, self.bounds), self.source)[0]
        return torch.where(l2.isfinite(), l2, math.inf)

    def remember(self, factor: Tensor, l2: Tensor) -> None:
        """Keep the factors that come closest to the target; of equals, within the tolerance, the smallest."""
        miss, best_miss = (l2 - self.target).abs(), (self.best_l2 - self.target).abs()
        far = torch.minimum(miss, best_miss) > self.tolerance
        level = far & (miss < best_miss + self.tolerance) & (factor < self.best)
        better = (miss < torch.where(far, best_miss - self.tolerance, best_miss)) | level
        self.best = torch.where(better, factor, self.best)
        self.best_l2 = torch.where(better, l2, self.best_l2)

    def capped(self, factor: Tensor) -> Tensor:
        return factor if self.most is None else torch.minimum(factor, self.most)

    def done(self) -> Tensor:
        return (self.best_l2 - self.target).abs() <= self.tolerance

    def result(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.capped(self.best), self.best_l2, self.done()


def _gap(rise: Tensor) -> Tensor:
    """|log rise|: how far from the target; infinitely far where nothing rose."""
    return rise.clamp(min=0).log().abs()


def _predicted(x: Tensor, rise: Tensor) -> Tensor:
    """Log factor [B] at which the rise is 1, from points [3, B]; what cannot be predicted is not finite.

    The log of factor / rise is constant as far as the image moves in proportion to the factor, and smooth beyond: it is
    interpolated in the rise by a parabola, a line or a constant, as many of the points as there are.
    """
    ratio = x - rise.clamp(min=0).log()
    first = (ratio[1:] - ratio[:-1]) / (rise[1:] - rise[:-1])
    second = (first[1] - first[0]) / (rise[2] - rise[0])
    line = ratio[0] + first[0] * (1 - rise[0])
    parabola = line + second * (1 - rise[0]) * (1 - rise[1])
    return torch.where(parabola.isfinite(), parabola, torch.where(line.isfinite(), line, ratio[0]))


def l2_from(frames: Tensor, source: Tensor) -> Tensor:
    """L2 distances [F, B] of frames [F, B, ...] from their sources [B, ...]."""
    if source.device.type == "cpu" and source.numel() < SERIAL_SIZE and frames.numel() < 8 * SERIAL_SIZE:
        return torch.linalg.vector_norm((frames - source).flatten(2), dim=2)
    parts = scratch_chunks(source)
    norm = lambda t: torch.linalg.vector_norm(t.flatten(1), dim=1)
    distances = [norm(frame[at] - source[at]) for frame in frames for at in parts]
    return (
        torch.cat(distances).view(len(frames), len(source)) if distances else source.new_zeros(len(frames), len(source))
    )


def _image_of(motion: Motion) -> Tensor:
    if not isinstance(getattr(motion, "image", None), Tensor):
        raise TypeError(f"motion must be what family.prepare(image, gradient) returns, got {type(motion).__name__}")
    return motion.image


def tolerance_at(budget: Tensor) -> Tensor:
    """How far from a budget an attained distance may be, where nobody says otherwise."""
    return (TOLERANCE_SHARE * budget).clamp(max=TOLERANCE)


def _limit(motion: Motion, most: Tensor | None, at: slice) -> Tensor | None:
    """[B]: the largest factor to be tried, None where there is no limit."""
    most = None if most is None else most[at]
    if not callable(getattr(motion, "largest_phase_step", None)):
        return most
    limit = (PHASE_LIMIT / motion.largest_phase_step()).nan_to_num(nan=math.inf, posinf=math.inf)
    return limit if most is None else torch.minimum(most, limit)


def _default_start(motion: Motion, target: Tensor) -> Tensor:
    gradient = getattr(motion, "gradient", None)
    if gradient is None:
        return torch.ones_like(target)
    guess = target / torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return torch.where(guess.isfinite(), guess, 1.0)  # a gradient of zeros moves nothing at any factor


def _per_sample(name: str, value: float | Tensor, image: Tensor) -> Tensor:
    """[B] in the image's precision, above 0."""
    if image.dim() < 3:
        raise ValueError(f"motion.image must have a batch dimension, [B, ..., H, W], got {list(image.shape)}")
    if isinstance(value, (bool, str)) or not isinstance(value, (Real, Sequence, np.ndarray, Tensor)):
        raise TypeError(f"{name} must be a float, or a sequence or tensor [B], got {value!r}")
    tensor = value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64, device="cpu")
    table = tensor.to(image.dtype)
    if table.dim() > 1 or (table.dim() == 1 and len(table) != len(image)):
        raise ValueError(f"{name} must be one number or {len(image)}, one per sample, got {list(table.shape)}")
    if table.device.type == "cpu" and not bool((table.isfinite() & (table > 0)).all()):
        raise ValueError(f"{name} must be finite and above 0, got {value!r}")
    return sent(name, table, image.device).expand(len(image)).clone()

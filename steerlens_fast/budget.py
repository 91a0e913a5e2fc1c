"""Budgets: the factor at which a motion's rendered, clipped image lies at a given distance from its source.

The factors of one edit family cannot be compared with those of another; image distances can.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .checks import check_bounds, check_int, check_number
from .families import Motion
from .families.base import HoldingMotion

PROBES = 4  # factors rendered at once while bracketing: one analysis serves them all


@torch.no_grad()
def factor_at_l2(
    motion: Motion,
    max_l2: float | Tensor,
    bounds: tuple[float, float] | None = (0, 1),
    tolerance: float = 5e-4,
    *,
    start: float | Tensor | None = None,
    most: Tensor | None = None,
    source: Tensor | None = None,
    doublings: int = 32,
    iterations: int = 40,
) -> tuple[Tensor, Tensor, Tensor]:
    """Find, for each sample, the factor whose frame lies at L2 distance ``max_l2`` from the source.

    Parameters
    ----------
    motion : Motion
        What ``family.prepare(image, gradient)`` returns, for an image [B, ..., H, W].
    max_l2 : float or Tensor [B]
        The distance wanted, above 0: over all channels and pixels of a sample, after the clip.
    bounds : (float, float) or None
        What frames are clipped to.
    tolerance : float
        How far from ``max_l2`` an attained distance may be.
    start : float or Tensor [B], optional
        First guess; by default the one that a plain pixel step would need.
    most : Tensor [B], optional
        No factor is tried above it, as a ``phase_cap`` asks for; at least 0.
    source : Tensor [B, ..., H, W], optional
        What distances are measured from; by default the motion's image.
    doublings : int
        How often the guess is doubled, or halved, in search of a bracket.
    iterations : int
        Most steps within the bracket.

    Returns
    -------
    factor : Tensor [B]
        The first crossing on the doubling grid; where the budget is out of reach, the smallest of the tried factors
        whose distance is within ``tolerance`` of the largest seen.
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

    A bracket by doubling, then regula falsi (Illinois) which bisects wherever the last two steps did not halve the
    bracket. All samples advance together; the host waits once per render, to see whether all are done.

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
    check_int("doublings", doublings, 1, None)
    check_int("iterations", iterations, 0, None)
    check_bounds(bounds)
    check_number("tolerance", tolerance, above=0)
    image = _image_of(motion)
    target = _per_sample("max_l2", max_l2, image)
    start = _default_start(motion, target) if start is None else _per_sample("start", start, image)
    source = image if source is None else source
    found = []
    for at, piece in motion.pieces() if isinstance(motion, HoldingMotion) else [(slice(None), motion)]:
        search = _Search(piece, target[at], bounds, tolerance, None if most is None else most[at], source[at])
        search.bracket(start[at], doublings)
        search.refine(iterations)
        found.append(search.result())
    empty = target, target, target > 0
    return tuple(map(torch.cat, zip(*found))) if found else empty


class _Search:
    """Per-sample state: a bracket low < high with l2(low) < target <= l2(high), and the best factor so far."""

    def __init__(self, motion: Motion, target: Tensor, bounds, tolerance: float, most: Tensor | None, source: Tensor):
        self.motion, self.bounds, self.source = motion, bounds, source
        self.target, self.tolerance, self.most = target, tolerance, most
        zero = torch.zeros_like(target)
        self.best, self.best_l2 = zero, self.l2_at(zero[None])[0]
        self.low, self.low_l2 = zero, self.best_l2
        self.high, self.high_l2 = zero + math.inf, zero + math.inf

    def l2_at(self, factors: Tensor) -> Tensor:
        """Distances [F, B] at factors [F, B]. What overflows counts as infinitely far."""
        frames = self.motion.render(self.capped(factors), bounds=self.bounds)
        l2 = l2_from(frames, self.source)
        return torch.where(l2.isfinite() & factors.isfinite(), l2, math.inf)

    def remember(self, factors: Tensor, l2: Tensor) -> None:
        """Keep the factors that come closest to the target; of equals, within the tolerance, the smallest."""
        for factor, distance in zip(factors, l2):
            miss, best_miss = (distance - self.target).abs(), (self.best_l2 - self.target).abs()
            far = torch.minimum(miss, best_miss) > self.tolerance
            level = far & (miss < best_miss + self.tolerance) & (factor < self.best)
            better = (miss < torch.where(far, best_miss - self.tolerance, best_miss)) | level
            self.best = torch.where(better, factor, self.best)
            self.best_l2 = torch.where(better, distance, self.best_l2)

    def capped(self, factors: Tensor) -> Tensor:
        return factors if self.most is None else torch.minimum(factors, self.most)

    def done(self) -> Tensor:
        return (self.best_l2 - self.target).abs() <= self.tolerance

    def bracket(self, start: Tensor, doublings: int) -> None:
        """Doubling from ``start``, or halving where it is beyond the target already."""
        steps = torch.arange(PROBES, device=start.device, dtype=start.dtype)[:, None]
        exponent = torch.full_like(start, -1.0)
        found = torch.zeros_like(start, dtype=torch.bool)
        largest, stalled = torch.zeros_like(start), torch.zeros_like(start)
        for _ in range(0, doublings, PROBES):
            factors = start * torch.exp2(exponent + steps)
            l2 = self.l2_at(factors)
            self.remember(torch.where(found, self.best, factors), torch.where(found, self.best_l2, l2))
            reached = l2 >= self.target  # [F, B]
            first = torch.where(reached.any(0), reached.to(torch.int8).argmax(0), PROBES)
            at = lambda t, i: t.gather(0, i.clamp(0, PROBES - 1)[None])[0]
            below, above = ~found & (first > 0), ~found & (first < PROBES)
            self.low = torch.where(below, at(factors, first - 1), self.low)
            self.low_l2 = torch.where(below, at(l2, first - 1), self.low_l2)
            self.high = torch.where(above, at(factors, first), self.high)
            self.high_l2 = torch.where(above, at(l2, first), self.high_l2)
            found = found | ((self.low > 0) & self.high.isfinite())
            # Phases wrap: once the distance stays where it is, a larger factor is only another kind of noise.
            level = (l2.amax(0) < 1.05 * largest) & (largest > 0.05 * self.target)
            stalled = torch.where(level & (first == PROBES), stalled + 1, 0.0)
            largest = torch.maximum(largest, l2.amax(0))
            if bool((found | self.done() | (stalled >= 2)).all()):
                return
            exponent = exponent + torch.where(first == 0, -PROBES, PROBES)

    def refine(self, iterations: int) -> None:
        """Illinois regula falsi in the bracket, with bisection as its safeguard."""
        low_gap, high_gap = self.low_l2 - self.target, self.high_l2 - self.target
        width = torch.full_like(self.low, math.inf)
        for i in range(iterations):
            active = ~self.done() & self.high.isfinite()
            if not bool(active.any()):
                return
            now = self.high - self.low
            middle = self.low + now / 2
            falsi = (self.low * high_gap - self.high * low_gap) / (high_gap - low_gap)
            slow = torch.zeros_like(active)
            if i % 2 == 0:
                slow, width = now > width / 2, now
            inside = falsi.isfinite() & (falsi > self.low) & (falsi < self.high) & ~slow
            factor = torch.where(inside, falsi, middle)
            factor = torch.where(active, factor, self.best)
            l2 = self.l2_at(factor[None])[0]
            self.remember(factor[None], l2[None])
            gap = l2 - self.target
            up, down = active & (gap < 0), active & (gap >= 0)
            high_gap = torch.where(down, gap, torch.where(up, high_gap / 2, high_gap))
            low_gap = torch.where(up, gap, torch.where(down, low_gap / 2, low_gap))
            self.low, self.high = torch.where(up, factor, self.low), torch.where(down, factor, self.high)

    def result(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.capped(self.best), self.best_l2, self.done()


def l2_from(frames: Tensor, source: Tensor) -> Tensor:
    """L2 distances [F, B] of frames [F, B, ...] from their sources [B, ...]; one frame in memory at a time."""
    distances = [torch.linalg.vector_norm((frame - source).flatten(1), dim=1) for frame in frames]
    return torch.stack(distances) if distances else source.new_zeros(0, len(source))


def _image_of(motion: Motion) -> Tensor:
    if not isinstance(getattr(motion, "image", None), Tensor):
        raise TypeError(f"motion must be what family.prepare(image, gradient) returns, got {type(motion).__name__}")
    return motion.image


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
    if isinstance(value, bool) or not isinstance(value, (int, float, Tensor)):
        raise TypeError(f"{name} must be a float or a tensor [B], got {value!r}")
    table = torch.as_tensor(value, dtype=image.dtype, device=None if isinstance(value, Tensor) else "cpu")
    if table.dim() > 1 or (table.dim() == 1 and len(table) != len(image)):
        raise ValueError(f"{name} must be one number or {len(image)}, one per sample, got {list(table.shape)}")
    if table.device.type == "cpu" and not bool((table.isfinite() & (table > 0)).all()):
        raise ValueError(f"{name} must be finite and above 0, got {value!r}")
    return table.to(image.device).expand(len(image)).clone()

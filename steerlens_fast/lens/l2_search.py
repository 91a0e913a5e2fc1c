"""``factor_at_l2`` finds the factor at which a frame has a given L2 distance from its source.

Factors of different edit families cannot be compared, but image distances can.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
import torch
from torch import Tensor

from .. import ops
from ..checks import check_bounds, check_int, shown, to_device_async
from ..families import Motion
from ..families.protocols import PiecewiseMotion, check_frames
from ..memory import scratch_chunks
from ..ops import SearchColumn

TOLERANCE, TOLERANCE_SHARE = 5e-4, 1e-3  # largest error of an attained distance: absolute, and as a share of it
PHASE_LIMIT = 1e6  # radians in one step; float32 sines of larger phases are inaccurate
SERIAL_SIZE = 1 << 15  # torch reduces smaller tensors in one thread, so batched and per-frame norms are bitwise equal
SPEED_SHARE = 0.87  # rough ratio of a frame's (distance / factor) to motion.speed(); measured on photographs
ITERATIONS = 48


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
    iterations: int = ITERATIONS,
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the factor at which each sample's frame has the L2 distance ``max_l2`` from its source.

    Parameters
    ----------
    motion : Motion
        Result of ``family.prepare(image, gradient)``, for an image [B, ..., H, W].
    max_l2 : float, or sequence or Tensor [B]
        Target distance, at least 0, for all samples or for each. Distances are over all channels and pixels of the
        clipped frame.
    bounds : (float, float) or None
        Range to which frames are clipped.
    tolerance : float or Tensor [B], optional
        Largest error of an attained distance. By default 5e-4 or a thousandth of ``max_l2``, whichever is less; 5e-4
        for a ``max_l2`` of 0.
    start : float or Tensor [B], optional
        First factor to try; by default an estimate of where a linear motion would reach ``max_l2``.
    max_factor : Tensor [B], optional
        Largest factor to try, at least 0. Besides, no phase changes by more than 1e6 rad, since float32 sines of larger
        phases are inaccurate.
    source : Tensor [B, ..., H, W], optional
        Images from which distances are measured; by default the motion's image.
    iterations : int
        Largest number of factors to try for a sample, not counting factor 0.

    Returns
    -------
    factor : Tensor [B]
        The factor at which the distance is attained; 0 for a ``max_l2`` of 0. If no tried factor attains the distance,
        the factor with the smallest error. Errors that differ by less than ``tolerance`` count as equal, and the
        smaller factor is taken.
    l2 : Tensor [B]
        Distance at ``factor``.
    attained : Tensor [B], bool
        Whether ``l2`` differs from ``max_l2`` by at most ``tolerance``. Not every distance can be reached, because
        pixels are clipped and phases wrap.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.

    Notes
    -----
    To render frames up to the factor of each sample, write
    ``motion.render(torch.linspace(0, 1, frames)[:, None] * factor)``. (``motion.render(factor)`` would interpret the B
    factors as those of B frames.)

    The search renders one frame per tried factor and sample: mostly 3 to 8 frames if the distance grows smoothly, up to
    25 if phases wrap. On a GPU, the host waits once per render. Samples do not influence each other.

    The next factor is predicted from the best three factors so far. While all distances are below ``max_l2``, it is at
    most twice what proportional growth predicts. Once two factors bracket ``max_l2``, regula falsi is used instead if
    the prediction is outside the bracket, or if the last factor did not halve the error. Regula falsi shrinks the
    bracket by at least a tenth. Without a bracket, the search ends early if it makes no progress. It can miss a smaller
    factor only if the distance rises above ``max_l2`` and falls again between two tried factors.

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
    dtype_max_factor: Tensor | None = None,
    source: Tensor | None = None,
    iterations: int = ITERATIONS,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the results of :func:`factor_at_l2`, and whether the gradient is too small [B].

    The gradient is too small if the sample changes, but would need a factor above ``dtype_max_factor`` [B]. This is the
    largest factor that can be represented, by default the largest number of the dtype.
    """
    iterations = check_int("iterations", iterations, 0, None)
    check_bounds(bounds)
    image = _motion_image(motion)
    target = _per_sample("max_l2", max_l2, image, closed=True)
    tolerance = None if tolerance is None else _per_sample("tolerance", tolerance, image)
    start = None if start is None else _per_sample("start", start, image)
    per_sample = {
        "tolerance": tolerance,
        "start": start,
        "max_factor": max_factor,
        "dtype_max_factor": dtype_max_factor,
    }
    results = []
    for at, piece in pieces_of(motion):
        of_piece = {name: None if t is None else t[at] for name, t in per_sample.items()}
        of_piece["source"] = None if source is None else source[at]
        results.append(search_piece(piece, target[at], bounds, **of_piece, iterations=iterations))
    if not results:
        return target, target, target > 0, target > 0
    parts = ((r.factor, r.l2, r.attained, r.out_of_range) for r in results)
    return tuple(map(torch.cat, zip(*parts)))


def pieces_of(motion: Motion) -> Iterator[tuple[slice, Motion]]:
    """Yield (slice of samples, piece) for each piece of a motion, which may be the whole motion."""
    return motion.pieces() if isinstance(motion, PiecewiseMotion) else iter([(slice(None), motion)])


@dataclass(frozen=True)
class SearchResult:
    """The results of a search; see :func:`factor_at_l2` for the first three."""

    factor: Tensor  # [B]
    l2: Tensor
    attained: Tensor
    out_of_range: Tensor  # [B], whether the gradient is too small, see search_factors
    frame: Tensor | None  # [B, ..., H, W] at these factors; None without ``keep_frame``


@torch.no_grad()
def search_piece(
    motion: Motion,
    target: Tensor,
    bounds: tuple[float, float] | None,
    *,
    tolerance: Tensor | None = None,
    start: Tensor | None = None,
    max_factor: Tensor | None = None,
    dtype_max_factor: Tensor | None = None,
    source: Tensor | None = None,
    iterations: int = ITERATIONS,
    keep_frame: bool = False,
) -> SearchResult:
    """Search the factors of one piece of a motion, with checked arguments of :func:`search_factors`.

    With ``keep_frame``, the result contains the frames at these factors.
    """
    start = _default_start(motion, target) if start is None else start
    tolerance = tolerance_at(target) if tolerance is None else tolerance
    limit = _limit(motion, max_factor)
    max_factor = torch.full_like(target, math.inf) if limit is None else limit
    dtype_max_factor = (
        torch.full_like(target, torch.finfo(target.dtype).max) if dtype_max_factor is None else dtype_max_factor
    )
    limits = torch.stack([t.double() for t in (target, tolerance, start, max_factor, dtype_max_factor)])
    search = _Search(motion, bounds, motion.image if source is None else source, limits, keep_frame)
    search.run(iterations)
    return search.result()


class _Search:
    """Renders frames at the factors that :func:`ops.begin_l2_search` and ``advance_l2_search`` choose."""

    def __init__(self, motion: Motion, bounds, source: Tensor, limits: Tensor, keep_frame: bool):
        self.motion, self.bounds, self.source = motion, bounds, source
        self.limits = limits  # [5, B], the argument of begin_l2_search
        self.keep_frame = keep_frame

    def run(self, iterations: int) -> None:
        """Try at most ``iterations`` factors for each sample, besides 0."""
        frames, l2 = self._begin(with_start=iterations > 0)
        for trial in range(iterations):
            if not self._column(SearchColumn.ACTIVE).any():
                return
            if trial:  # the first factors are rendered by _begin
                # A finished sample has factor 0, which needs no synthesis.
                frames, l2 = self._render(self._on_device(self._column(SearchColumn.FACTOR))[None])
                l2 = l2[0].double().cpu()
            self.state = ops.advance_l2_search(self.state, l2)
            self._keep_improved(frames[-1])

    def _begin(self, with_start: bool) -> tuple[Tensor, Tensor]:
        """Render at factor 0 and, if ``with_start``, at the first factors.

        Return the frames, and the distances of the last of them. On a GPU, the limits are copied to the host together
        with the distances, so that there is only one wait.
        """
        dtype = self.source.dtype
        _, _, start, max_factor, dtype_max_factor = self.limits
        # 1 - 1e-6, so that rounding cannot make a factor exceed the range; see kRangeMargin in csrc/math/l2_search.cpp.
        first = torch.minimum(torch.minimum(start, max_factor), dtype_max_factor * (1 - 1e-6)).to(dtype)
        factors = torch.stack([torch.zeros_like(first), first]) if with_start else torch.zeros_like(first)[None]
        frames, l2 = self._render(factors)
        table = torch.cat([self.limits, l2.double()]).cpu()
        self.state = ops.begin_l2_search(table[:5], table[5], torch.finfo(dtype).eps)
        self.frame = frames[0]
        return frames, table[-1]

    def _render(self, factors: Tensor) -> tuple[Tensor, Tensor]:
        """Return frames [F, B, ...] at factors [F, B], and their distances [F, B]."""
        frames = check_frames(self.motion.render(factors, None, bounds=self.bounds), self.motion, len(factors))
        return frames, l2_from(frames, self.source)

    def _column(self, column: SearchColumn) -> Tensor:
        return self.state[:, column]

    def _on_device(self, values: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        return to_device_async("factor", values.to(dtype or self.source.dtype), self.source.device)

    def _keep_improved(self, frame: Tensor) -> None:
        """Keep the frames at the best factors."""
        if not self.keep_frame:
            return
        improved = self._column(SearchColumn.IMPROVED).bool()
        if bool(improved.all()):
            self.frame = frame
        elif bool(improved.any()):
            where = self._on_device(improved, torch.bool).view(-1, *[1] * (frame.dim() - 1))
            self.frame = torch.where(where, frame, self.frame)

    def result(self) -> SearchResult:
        factor, l2 = (self._on_device(self._column(c)) for c in (SearchColumn.BEST, SearchColumn.BEST_L2))
        flags = SearchColumn.ATTAINED, SearchColumn.OUT_OF_RANGE
        attained, out_of_range = (self._on_device(self._column(c), torch.bool) for c in flags)
        return SearchResult(factor, l2, attained, out_of_range, self.frame if self.keep_frame else None)


def l2_from(frames: Tensor, source: Tensor) -> Tensor:
    """Return the L2 distances [F, B] of frames [F, B, ...] from their sources [B, ...]."""
    # Distances of small frames are computed together, with a temporary of at most 1 MiB (float32), others one by one.
    if source.device.type == "cpu" and source.numel() < SERIAL_SIZE and frames.numel() < 8 * SERIAL_SIZE:
        return torch.linalg.vector_norm(frames - source, dim=tuple(range(2, frames.dim())))
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


def tolerance_at(max_l2: Tensor) -> Tensor:
    """Return the default tolerance for the distances ``max_l2``.

    At distance 0 it is the absolute tolerance, because the reconstruction of the source has an error.
    """
    return torch.where(max_l2 > 0, (TOLERANCE_SHARE * max_l2).clamp(max=TOLERANCE), TOLERANCE)


def _limit(motion: Motion, max_factor: Tensor | None) -> Tensor | None:
    """Return the largest factors to try [B], or None if there is no limit."""
    if not callable(getattr(motion, "largest_phase_step", None)):
        return max_factor
    limit = (PHASE_LIMIT / motion.largest_phase_step()).nan_to_num(nan=math.inf, posinf=math.inf)
    return limit if max_factor is None else torch.minimum(max_factor, limit)


def _default_start(motion: Motion, target: Tensor) -> Tensor:
    """Return the first factors to try [B], estimates of where a linear motion would reach the target.

    A motion without ``speed()`` is assumed to move as fast as the norm of its gradient, which is exact for
    ``PixelFamily(eps=1)``.
    """
    speed = motion.speed() if callable(getattr(motion, "speed", None)) else None
    if speed is None:
        speed = _gradient_norm(motion, target)
    else:
        known = (speed > 0) & speed.isfinite()  # unless its square underflowed or overflowed
        speed = SPEED_SHARE * speed
        if speed.device.type != "cpu" or not bool(known.all()):
            speed = torch.where(known, speed, _gradient_norm(motion, target))
    guess = (target / speed).clamp(max=torch.finfo(target.dtype).max).to(target.dtype)
    return torch.where(guess.isfinite() & (guess > 0), guess, 1.0)  # 1 is as good as any if the gradient is 0


def _gradient_norm(motion: Motion, target: Tensor) -> Tensor:
    gradient = getattr(motion, "gradient", None)
    if gradient is None:
        return target  # so that the first factor is 1
    norm = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    if norm.device.type == "cpu" and not bool((norm > 0).all()):  # the squares of tiny gradients underflow
        norm = torch.linalg.vector_norm(gradient.flatten(1), dim=1, dtype=torch.float64)
    return norm


def _per_sample(name: str, value: float | Tensor, image: Tensor, closed: bool = False) -> Tensor:
    """Return one value per sample [B], in the image's dtype and on its device.

    Raise if a value is not finite, or not above 0. With ``closed``, 0 is allowed. Values on a GPU are not checked,
    because the host would have to wait for them.
    """
    if image.dim() < 3:
        raise ValueError(f"motion.image must have a batch dimension, [B, ..., H, W], got {list(image.shape)}")
    if isinstance(value, (bool, str)) or not isinstance(value, (Real, Sequence, np.ndarray, Tensor)):
        raise TypeError(f"{name} must be a float, or a sequence or tensor [B], got {shown(value)}")
    tensor = value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64, device="cpu")
    values = tensor.to(image.dtype)
    if values.dim() > 1 or (values.dim() == 1 and len(values) != len(image)):
        raise ValueError(f"{name} must be one number or {len(image)}, one per sample, got {list(values.shape)}")
    if values.device.type == "cpu" and not bool((values.isfinite() & ((values > 0) | (closed & (values == 0)))).all()):
        raise ValueError(f"{name} must be finite and {'at least' if closed else 'above'} 0, got {shown(value)}")
    return to_device_async(name, values, image.device).expand(len(image)).clone()

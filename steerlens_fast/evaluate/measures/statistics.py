"""Medians and proportions with intervals: the percentile bootstrap over sources, not over their single cases."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ...checks import check_choice, check_int, check_number

STATISTICS = ("median", "mean")
DRAWS, CONFIDENCE = 2000, 0.95


@dataclass(frozen=True)
class Interval:
    """A statistic with its interval and its denominators.

    Attributes
    ----------
    value, low, high : float or None
        None where no case has a value.
    cases : int
        That have one.
    of : int
        All cases.
    """

    value: float | None
    low: float | None
    high: float | None
    cases: int
    of: int

    def as_dict(self) -> dict:
        """JSON-able."""
        return asdict(self)


def bootstrap(
    values: Tensor,
    statistic: str = "median",
    *,
    sources: Tensor | None = None,
    draws: int = DRAWS,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """A median or a mean, with its source-cluster percentile bootstrap interval.

    Parameters
    ----------
    values : Tensor [N]
        One for each case; bools count as 0 and 1, so that their mean is a proportion. NaN: the case has no value. It
        stays out of the statistic, and in the denominator ``of``.
    statistic : {"median", "mean"}
    sources : Tensor [N], int64, optional
        Which source each case is of, from 0 on. Whole sources are drawn, so that several cases of one do not count as
        independent. By default each case is a source of its own.
    draws : int
        Resamples.
    confidence : float
        Of the interval, in (0, 1).
    seed : int
        The draws depend on it and on the number of sources alone: they are the same for every family and budget.

    Returns
    -------
    Interval

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was expected and what came.

    Notes
    -----
    Percentiles of the resampled statistics, interpolated linearly (Efron 1979). A resample in which no case has a value
    is left out.

    Examples
    --------
    >>> found = bootstrap(torch.arange(101.0), seed=1)
    >>> found.value, 30 < found.low < 45, 55 < found.high < 70
    (50.0, True, True)
    >>> bootstrap(torch.full((4,), torch.nan))
    Interval(value=None, low=None, high=None, cases=0, of=4)
    """
    values, sources = _check(values, sources, statistic, draws, confidence)
    good = values.isfinite()
    cases, total = int(good.sum()), len(values)
    if not cases:
        return Interval(None, None, None, 0, total)
    counts = drawn(int(sources.max()) + 1, draws, seed)[:, sources[good]]
    at = {"median": _medians, "mean": _means}[statistic]
    resampled = at(values[good], counts)
    resampled = resampled[resampled.isfinite()]
    tails = torch.tensor([(1 - confidence) / 2, (1 + confidence) / 2], dtype=torch.float64, device="cpu")
    low, high = resampled.quantile(tails).tolist() if len(resampled) else (None, None)
    value = float(at(values[good], torch.ones(1, cases, dtype=torch.int64, device="cpu"))[0])
    return Interval(value, low, high, cases, total)


def paired_difference(first: Tensor, second: Tensor, statistic: str = "median", **how) -> Interval:
    """``first - second``, case by case, as :func:`bootstrap` sums it up; only cases that have both values count.

    Parameters
    ----------
    first, second : Tensor [N]
        Of the same cases, in the same order.
    statistic : {"median", "mean"}
    **how
        ``sources``, ``draws``, ``confidence`` and ``seed`` of :func:`bootstrap`.

    Returns
    -------
    Interval

    Examples
    --------
    >>> paired_difference(torch.tensor([3.0, 5.0]), torch.tensor([1.0, 3.0])).value
    2.0
    """
    if not isinstance(first, Tensor) or not isinstance(second, Tensor) or first.shape != second.shape:
        raise ValueError(f"second must have the shape of first, got {_shape(first)} and {_shape(second)}")
    return bootstrap(first.double() - second.double(), statistic, **how)


@lru_cache(maxsize=4)
def drawn(sources: int, draws: int, seed: int) -> Tensor:
    """How often each source is in each resample, [draws, sources].

    Examples
    --------
    >>> bool((drawn(7, 50, seed=3).sum(1) == 7).all())
    True
    """
    random = torch.Generator().manual_seed(seed)
    picked = torch.randint(sources, (draws, sources), generator=random, device="cpu")
    return torch.zeros(draws, sources, dtype=torch.int64, device="cpu").scatter_add_(1, picked, torch.ones_like(picked))


def _means(values: Tensor, counts: Tensor) -> Tensor:
    return (counts.double() @ values) / counts.sum(1)


def _medians(values: Tensor, counts: Tensor) -> Tensor:
    """Of each resample [draws]: the mean of its two middle values. NaN where it is empty."""
    order = values.argsort()
    upto, total = counts[:, order].cumsum(1), counts.sum(1)
    middle = [(total - 1) // 2, total // 2]
    at = [torch.searchsorted(upto, place[:, None], right=True).clamp(max=len(values) - 1)[:, 0] for place in middle]
    low, high = (values[order][index] for index in at)
    return torch.where(total > 0, (low + high) / 2, torch.nan)


def _check(values, sources, statistic, draws, confidence) -> tuple[Tensor, Tensor]:
    if not isinstance(values, Tensor) or values.dim() != 1 or values.is_complex():
        raise TypeError(f"values must be a real tensor [N], got {_shape(values)}")
    check_choice("statistic", statistic, STATISTICS)
    check_int("draws", draws, 1, None)
    if check_number("confidence", confidence, 0.0) >= 1:
        raise ValueError(f"confidence must be below 1, got {confidence}")
    if sources is None:
        sources = torch.arange(len(values), device="cpu")
    elif not isinstance(sources, Tensor) or sources.shape != values.shape or sources.is_floating_point():
        raise TypeError(f"sources must be an integer tensor {list(values.shape)} like values, got {_shape(sources)}")
    if len(sources) and int(sources.min()) < 0:
        raise ValueError(f"sources must be numbered from 0 on, got {int(sources.min())}")
    return values.detach().cpu().double(), sources.cpu().long()


def _shape(value) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__

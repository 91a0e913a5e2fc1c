"""Agreement between raters: Krippendorff's alpha with a bootstrap interval."""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import check_choice, check_int
from ..evaluate.measures.statistics import (
    CONFIDENCE,
    DRAWS,
    Interval,
    check_confidence,
    check_sources,
    percentiles,
    resample_counts,
)

LEVELS = ("nominal", "ordinal", "interval")


def krippendorff_alpha(
    ratings: Tensor,
    level: str = "nominal",
    *,
    sources: Tensor | None = None,
    draws: int = DRAWS,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Return Krippendorff's alpha of ratings, with a percentile bootstrap interval over sources.

    Parameters
    ----------
    ratings : Tensor [units, raters]
        Each rater's value for each unit (here, an image); NaN if the rater did not rate it. Units with fewer than two
        values are ignored.
    level : {"nominal", "ordinal", "interval"}
        Level of measurement of the values: categories, ranks, or numbers.
    sources : Tensor [units], int64, optional
        The number of each unit's source, counted from 0. All units of a source are resampled together. By default each
        unit is its own source.
    draws, confidence, seed
        As in :func:`steerlens_fast.bootstrap`.

    Returns
    -------
    Interval
        The value is 1 if the raters agree, and 0 if they agree only as often as by chance. It is None if no unit has
        two values, or if all values are the same. ``cases`` is the number of units with at least two values.

    Notes
    -----
    Unlike Cohen's or Fleiss' kappa, alpha allows any number of raters, missing values, and ordered values (Krippendorff
    2011, *Computing Krippendorff's Alpha-Reliability*; Hayes & Krippendorff 2007). Raters are not resampled, because
    two copies of one rater would agree with each other.

    Examples
    --------
    >>> ratings = torch.tensor([[1.0, 1.0], [1.0, 2.0], [2.0, 2.0], [2.0, 2.0]])
    >>> round(krippendorff_alpha(ratings).value, 4)  # 1 - 7 * 2 / (2 * 3 * 5)
    0.5333
    """
    if not isinstance(ratings, Tensor) or ratings.dim() != 2 or ratings.is_complex():
        got = f"{ratings.dtype} {list(ratings.shape)}" if isinstance(ratings, Tensor) else type(ratings).__name__
        raise TypeError(f"ratings must be a real tensor [units, raters], got {got}")
    check_choice("level", level, LEVELS)
    draws, seed = check_int("draws", draws, 1, None), check_int("seed", seed, 0, None)
    confidence, ratings = check_confidence(confidence), ratings.detach().cpu().double()
    paired = ratings.isfinite().sum(1) >= 2
    sources = check_sources(sources, len(ratings))
    cases, total = int(paired.sum()), len(ratings)
    if not cases:
        return Interval(None, None, None, 0, total)
    coincidences, values = _coincidences(ratings[paired])
    counts = resample_counts(int(sources.max()) + 1, draws, seed)[:, sources[paired]].double()
    resampled = _alpha((counts @ coincidences.flatten(1)).unflatten(1, coincidences.shape[1:]), values, level)
    value = float(_alpha(coincidences.sum(0)[None], values, level)[0])
    if value != value:
        return Interval(None, None, None, cases, total)
    return Interval(value, *percentiles(resampled, confidence), cases, total)


def _coincidences(ratings: Tensor) -> tuple[Tensor, Tensor]:
    """Return the coincidence matrix of each unit, [units, values, values], and the values."""
    values = ratings[ratings.isfinite()].unique()
    counts = (ratings[:, :, None] == values).sum(1).double()
    pairs = counts[:, :, None] * counts[:, None] - torch.diag_embed(counts)
    return pairs / (counts.sum(1) - 1)[:, None, None], values


def _alpha(coincidences: Tensor, values: Tensor, level: str) -> Tensor:
    """Return alpha of summed coincidence matrices [draws, values, values]; NaN if there is only one value."""
    count = coincidences.sum(2)  # [draws, values], how often each value occurs
    if level == "nominal":
        distance = 1 - torch.eye(len(values), dtype=torch.float64, device="cpu")
    elif level == "interval":
        distance = (values[:, None] - values) ** 2
    else:  # the squared number of ratings between two values, where ratings equal to one of the two count half
        middle = count.cumsum(1) - count / 2
        distance = (middle[:, :, None] - middle[:, None]) ** 2
    total = count.sum(1)
    observed = (coincidences * distance).sum((1, 2))
    expected = (count[:, :, None] * count[:, None] * distance).sum((1, 2))
    return 1 - (total - 1) * observed / expected

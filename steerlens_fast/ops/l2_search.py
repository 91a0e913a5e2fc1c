"""``begin_l2_search`` and ``advance_l2_search`` find, for each sample, the factor that gives a requested L2 distance.

These ops only choose the factors to try. The caller renders a frame at each factor, and passes its distance.
"""

from __future__ import annotations

from enum import IntEnum

import torch
from torch import Tensor

from .fake_checks import check_dtype, check_rank, check_shape
from .registration import call_op, fake, register_no_derivative

STATE_FIELDS = 29  # fields of the struct L2Search in csrc/math/l2_search.h


class SearchColumn(IntEnum):
    """The columns of a search's state that callers read. Truth values are 1 or 0."""

    ACTIVE = 0  # whether the search goes on
    FACTOR = 1  # the factor to try next; 0 if the search has ended
    IMPROVED = 2  # whether the last tried factor is the best factor so far
    # The factor with the smallest error |distance - target|. Errors above the tolerance count as equal if they differ
    # by less than the tolerance: then the smaller factor is better.
    BEST = 3
    BEST_L2 = 4  # the distance at factor BEST
    ATTAINED = 5  # whether BEST_L2 differs from the target by at most the tolerance
    OUT_OF_RANGE = 6  # whether the sample changes, but no factor that can be represented reaches the target


def begin_l2_search(limits: Tensor, source_l2: Tensor, epsilon: float) -> Tensor:
    """Begin a search for each of B samples, and return the state of all searches.

    Parameters
    ----------
    limits : Tensor [5, B], float64
        The rows are target distances, tolerances, first factors to try, largest factors to try, and largest factors
        that can be represented.
    source_l2 : Tensor [B], float64
        Distances at factor 0.
    epsilon : float
        Difference between 1 and the next larger number of the dtype in which the caller uses the factors.

    Returns
    -------
    Tensor [B, fields], float64
        The state of each search. :class:`SearchColumn` describes the first columns.

    Notes
    -----
    The op exists only for CPUs and has no derivative. ``lens/l2_search.py`` describes the search.

    Examples
    --------
    >>> import math, torch
    >>> limits = torch.tensor([[2.0], [1e-3], [1.0], [math.inf], [1e30]], dtype=torch.float64)
    >>> state = begin_l2_search(limits, torch.zeros(1, dtype=torch.float64), 1e-7)
    >>> while state[0, SearchColumn.ACTIVE]:
    ...     factor = state[:, SearchColumn.FACTOR]
    ...     state = advance_l2_search(state, factor.square())  # here, the distance is the factor's square
    >>> round(state[0, SearchColumn.BEST].item(), 3)
    1.414
    """
    return call_op("begin_l2_search", limits, source_l2, epsilon)


def advance_l2_search(state: Tensor, l2: Tensor) -> Tensor:
    """Return the next state of searches, given the distances at the factors that they tried.

    Parameters
    ----------
    state : Tensor [B, fields], float64
        The present state.
    l2 : Tensor [B], float64
        Distances at the factors ``state[:, SearchColumn.FACTOR]``. A distance that is not finite means that the image
        overflowed.

    Returns
    -------
    Tensor [B, fields], float64
        The state of a finished search does not change, except that IMPROVED becomes 0.

    Examples
    --------
    >>> import math, torch
    >>> limits = torch.tensor([[2.0], [1e-3], [1.0], [math.inf], [1e30]], dtype=torch.float64)
    >>> state = begin_l2_search(limits, torch.zeros(1, dtype=torch.float64), 1e-7)
    >>> state = advance_l2_search(state, torch.tensor([0.5], dtype=torch.float64))  # factor 1 is at distance 0.5
    >>> state[0, SearchColumn.FACTOR].item()  # its distance is 2 if distances are proportional to factors
    4.0
    """
    return call_op("advance_l2_search", state, l2)


@fake("begin_l2_search")
def _(limits, source_l2, epsilon):
    check_dtype("limits", limits, torch.float64)
    check_rank("limits", limits, 2, "[5, B]")
    count = limits.shape[1]
    check_shape("limits", limits, (5, count))
    _check_per_sample("source_l2", source_l2, count)
    return limits.new_empty(count, STATE_FIELDS)


@fake("advance_l2_search")
def _(state, l2):
    check_dtype("state", state, torch.float64)
    check_rank("state", state, 2, "[B, fields]")
    count = state.shape[0]
    check_shape("state", state, (count, STATE_FIELDS))
    _check_per_sample("l2", l2, count)
    return state.new_empty(state.shape)


def _check_per_sample(name: str, t: Tensor, count: int) -> None:
    check_dtype(name, t, torch.float64)
    check_shape(name, t, (count,))


for _name in ("begin_l2_search", "advance_l2_search"):
    register_no_derivative(_name, f"{_name} has no derivative")

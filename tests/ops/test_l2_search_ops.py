"""The ops of the search for a distance, compared with numpy_l2_search.py.

The search itself is tested in lens/test_l2_search.py.
"""

import math

import numpy as np
import pytest
import torch
from numpy_l2_search import NumpyL2Search
from op_cases import RAW, check_rejected
from torch.autograd import forward_ad

from steerlens_fast import ops
from steerlens_fast.lens.l2_search import ITERATIONS
from steerlens_fast.ops import SearchColumn

CURVES = {  # distance as a function of the factor; not all are 0 at factor 0
    "linear": lambda f: f,
    "power": lambda f: f**1.7 / 3,
    "saturating": lambda f: 2 * f / (1 + f),
    "wave": np.sin,
    "slow wave": lambda f: 2 * np.sin(f / 2),
    "clipped": lambda f: np.minimum(f, 0.3),
    "still": lambda f: 0 * f,
    "overflow": lambda f: np.where(f > 0.6, math.nan, f),
    "exponential": lambda f: np.expm1(3 * f),
    "jump": lambda f: np.where(f < 0.7, 0.1 * f, 3.0),
    "towards": lambda f: np.abs(1 - f),
    "beyond": lambda f: np.abs(4 - f),
    "tiny": lambda f: 1e-30 * f,
    "wrapped": lambda f: np.sqrt(f) + 0.2 * np.sin(20 * f),
    "never finite": lambda f: f * math.nan,
}


def search_limits():
    """Return ``limits`` of begin_l2_search, with one sample for each combination."""
    combinations = [
        (target, tolerance, start, largest, range_end)
        for target in (0.0, 0.05, 0.5, 2.0)
        for tolerance in (5e-4, 1e-6)
        for start in (1e-8, 0.3, 1e5, 3e38)
        for largest, range_end in ((math.inf, 3.4e38), (0.4, 3.4e38), (0.0, 3.4e38), (math.nan, 9.0), (math.inf, 3.0))
    ]
    return np.array(combinations).T


@np.errstate(all="ignore")
def distances(curve, factors):
    return np.asarray(CURVES[curve](factors), dtype=np.float64)


@pytest.mark.parametrize("epsilon", [torch.finfo(t).eps for t in (torch.float32, torch.float64)])
def test_search_agrees_with_numpy(epsilon):
    for curve in CURVES:
        limits = search_limits()
        source_l2 = distances(curve, np.zeros(limits.shape[1]))
        state = ops.begin_l2_search(torch.from_numpy(limits), torch.from_numpy(source_l2), epsilon)
        expected = NumpyL2Search(limits, source_l2, epsilon)
        for _ in range(ITERATIONS):
            columns = state.numpy().T
            assert np.array_equal(columns[SearchColumn.ACTIVE], expected.is_active()), curve
            np.testing.assert_allclose(columns[SearchColumn.FACTOR], expected.factor, rtol=1e-5, err_msg=curve)
            factor = expected.factor.astype(np.float64)
            l2 = distances(curve, factor)
            state = ops.advance_l2_search(state, torch.from_numpy(l2))
            expected.advance(l2)
            for column in (SearchColumn.IMPROVED, SearchColumn.ATTAINED, SearchColumn.OUT_OF_RANGE):
                flags = getattr(expected, column.name.lower())
                flags = flags() if callable(flags) else flags
                assert np.array_equal(state.numpy()[:, column], flags), (curve, column)
            np.testing.assert_allclose(state[:, SearchColumn.BEST].numpy(), expected.best, rtol=1e-5, err_msg=curve)
            assert np.array_equal(state[:, SearchColumn.BEST_L2].numpy(), expected.best_l2)


def arguments(count: int = 3) -> list:
    limits = torch.tensor([1.0, 1e-3, 0.5, math.inf, 1e30], dtype=torch.float64)[:, None].expand(5, count)
    return [limits, torch.zeros(count, dtype=torch.float64), 1e-7]


def test_opcheck_finds_no_errors():
    for count in (0, 3):
        args = arguments(count)
        torch.library.opcheck(RAW.begin_l2_search.default, args)
        state = RAW.begin_l2_search(*args)
        for layout in (state, state.mT.contiguous().mT):
            torch.library.opcheck(RAW.advance_l2_search.default, (layout, torch.ones(count, dtype=torch.float64)))


def test_state_of_an_ended_search_is_kept():
    """IMPROVED becomes 0, and all other columns are kept."""
    limits, l2, epsilon = arguments(1)
    state = ops.advance_l2_search(ops.begin_l2_search(limits, l2, epsilon), torch.ones_like(l2))
    assert state[0, SearchColumn.ATTAINED] and not state[0, SearchColumn.ACTIVE] and not state[0, SearchColumn.FACTOR]
    after = ops.advance_l2_search(state, 5 * torch.ones_like(l2))
    assert state[0, SearchColumn.IMPROVED] and not after[0, SearchColumn.IMPROVED]
    others = [column for column in range(state.shape[1]) if column != SearchColumn.IMPROVED]
    assert torch.equal(after[:, others], state[:, others])


def test_tangents_raise():
    limits, l2, epsilon = arguments()
    state = ops.begin_l2_search(limits, l2, epsilon)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(l2, torch.ones_like(l2))
        with pytest.raises(RuntimeError, match="begin_l2_search has no derivative"):
            ops.begin_l2_search(limits, dual, epsilon)
        with pytest.raises(RuntimeError, match="advance_l2_search has no derivative"):
            ops.advance_l2_search(state, dual)


def test_bad_arguments_raise():
    limits, l2, epsilon = arguments()
    state = RAW.begin_l2_search(limits, l2, epsilon)
    begin, advance = RAW.begin_l2_search, RAW.advance_l2_search
    for op, args, message in [
        (begin, [limits.float(), l2, epsilon], "begin_l2_search: limits must have dtype float64"),
        (begin, [limits[:4], l2, epsilon], r"limits must have shape \[5, 3\], got \[4, 3\]"),
        (begin, [limits, l2[:2], epsilon], r"source_l2 must have shape \[3\], got \[2\]"),
        (advance, [state[:, 1:], l2], r"advance_l2_search: state must have shape \[3, \d+\]"),
        (advance, [state, l2.float()], "l2 must have dtype float64"),
        (advance, [state, l2[:2]], r"l2 must have shape \[3\], got \[2\]"),
    ]:
        check_rejected(op, args, message)

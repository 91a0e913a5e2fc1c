"""The helper that thins out the suite's grids: every pair stays, and little else."""

from itertools import combinations, product

import pytest
from pairwise import covering, pairwise


def pairs_of(cases) -> set:
    return {pair for case in cases for pair in combinations(enumerate(case), 2)}


@pytest.mark.parametrize(
    "sizes, largest",
    [((2, 2), 4), ((2, 2, 2), 4), ((13, 4, 2), 52), ((13, 4, 2, 2), 56), ((3, 3, 3, 3), 12), ((5, 1, 4), 20)],
)
def test_every_pair_of_a_product_is_covered_by_few_cases(sizes, largest):
    everything = list(product(*map(range, sizes)))
    chosen = covering(everything)
    assert pairs_of(chosen) == pairs_of(everything)
    assert len(chosen) <= largest and set(chosen) <= set(everything)
    assert covering(everything) == chosen


def test_combinations_that_are_not_offered_are_not_made():
    cases = [("split", "even", 1), ("split", "odd", 1), ("merge", "odd", 1), ("merge", "odd", 2)]
    assert covering(cases + cases[:1]) == cases
    assert covering([*cases, ("merge", "odd", 1)]) == cases


def test_a_single_axis_keeps_every_value():
    assert covering([(1,), (2,), (1,)]) == [(1,), (2,)]
    assert covering([]) == []


def test_labels_become_ids():
    mark = pairwise(size=[(8, 8), (9, 9)], option={"plain": {}, "wide": {"width": 2}})
    assert mark.args[0] == "size,option"
    assert mark.args[1] == [((8, 8), {}), ((8, 8), {"width": 2}), ((9, 9), {}), ((9, 9), {"width": 2})]
    assert mark.kwargs["ids"] == ["(8, 8)-plain", "(8, 8)-wide", "(9, 9)-plain", "(9, 9)-wide"]


@pairwise(first=[1, 2, 3], second="ab", third=[True, False])
def test_it_parametrizes(first, second, third):
    assert first in (1, 2, 3) and second in "ab" and isinstance(third, bool)

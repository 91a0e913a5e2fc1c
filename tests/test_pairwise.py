"""The choice of cases in pairwise.py."""

import math
from itertools import combinations, product

import pytest
from pairwise import covering, pairwise


def pairs_of(cases) -> set:
    return {pair for case in cases for pair in combinations(enumerate(case), 2)}


@pytest.mark.parametrize("sizes", [(2, 2), (2, 2, 2), (13, 4, 2), (13, 4, 2, 2), (3, 3, 3, 3), (5, 1, 4)])
def test_every_pair_of_a_product_is_covered_by_the_fewest_cases(sizes):
    everything = list(product(*map(range, sizes)))
    chosen = covering(everything)
    assert pairs_of(chosen) == pairs_of(everything)
    assert len(chosen) == math.prod(sorted(sizes)[-2:]) and set(chosen) <= set(everything)
    assert covering(everything) == chosen  # the choice is deterministic


def test_repeated_case_is_chosen_once():
    cases = [("split", "even", 1), ("split", "odd", 1), ("merge", "odd", 1), ("merge", "odd", 2)]
    assert covering(cases + cases[:1]) == cases
    assert covering([*cases, ("merge", "odd", 1)]) == cases


def test_single_column_keeps_every_value():
    assert covering([(1,), (2,), (1,)]) == [(1,), (2,)]
    assert covering([]) == []


def test_pairwise_is_a_mark_with_the_chosen_cases():
    mark = pairwise(order=range(2), option=[{}, {"width": 2}], size=[(8, 8), (9, 9)]).mark
    assert mark.name == "parametrize" and mark.args[0] == ["order", "option", "size"]
    assert mark.args[1] == [[0, {}, (8, 8)], [0, {"width": 2}, (9, 9)], [1, {}, (9, 9)], [1, {"width": 2}, (8, 8)]]


@pairwise(first=[1, 2, 3], second="ab", third=[True, False])
def test_pytest_runs_the_chosen_cases(first, second, third):
    assert first in (1, 2, 3) and second in "ab" and isinstance(third, bool)

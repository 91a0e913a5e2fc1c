"""The decorators of pairwise.py."""

import inspect
from itertools import combinations, product

import pytest
import torch
from pairwise import all_cases_in_one_test, covering, every_pair_of_values


def pairs_of(cases) -> set:
    return {pair for case in cases for pair in combinations(enumerate(case), 2)}


@all_cases_in_one_test
@pytest.mark.parametrize(
    "sizes, max_cases",
    [((2, 2), 4), ((2, 2, 2), 4), ((13, 4, 2), 52), ((13, 4, 2, 2), 56), ((3, 3, 3, 3), 12), ((5, 1, 4), 20)],
)
def test_every_pair_of_a_product_is_covered_by_few_cases(sizes, max_cases):
    everything = list(product(*map(range, sizes)))
    chosen = covering(everything)
    assert pairs_of(chosen) == pairs_of(everything)
    assert len(chosen) <= max_cases and set(chosen) <= set(everything)
    assert covering(everything) == chosen  # the choice is deterministic


def test_only_given_cases_are_chosen():
    cases = [("split", "even", 1), ("split", "odd", 1), ("merge", "odd", 1), ("merge", "odd", 2)]
    assert covering(cases + cases[:1]) == cases
    assert covering([*cases, ("merge", "odd", 1)]) == cases


def test_single_axis_keeps_every_value():
    assert covering([(1,), (2,), (1,)]) == [(1,), (2,)]
    assert covering([]) == []


def test_every_pair_of_values_replaces_the_marks_by_one():
    @pytest.mark.slow
    @pytest.mark.parametrize("size", [(8, 8), (9, 9)], ids=str)
    @pytest.mark.parametrize(
        "name, option", [("plain", {}), pytest.param("wide", {"width": 2}, marks=pytest.mark.slow)]
    )
    @pytest.mark.parametrize("order", range(2))
    def grid(size, name, option, order): ...

    slow, mark = every_pair_of_values(grid).pytestmark
    assert slow.name == "slow" and mark.args[0] == ["order", "name", "option", "size"]
    assert [case.values for case in mark.args[1]] == [
        (0, "plain", {}, (8, 8)),
        (0, "wide", {"width": 2}, (9, 9)),
        (1, "plain", {}, (9, 9)),
        (1, "wide", {"width": 2}, (8, 8)),
    ]
    ids = [case.id for case in mark.args[1]]
    assert ids == ["0-plain-option0-(8, 8)", "0-wide-option1-(9, 9)", "1-plain-option0-(9, 9)", "1-wide-option1-(8, 8)"]
    assert [len(case.marks) for case in mark.args[1]] == [0, 1, 0, 1]


@every_pair_of_values
@pytest.mark.parametrize("first", [1, 2, 3])
@pytest.mark.parametrize("second", "ab")
@pytest.mark.parametrize("third", [True, False])
def test_pytest_runs_the_chosen_cases(first, second, third):
    assert first in (1, 2, 3) and second in "ab" and isinstance(third, bool)


def test_all_cases_in_one_test_run_and_those_that_failed_are_listed(tmp_path):
    recorded = []

    @all_cases_in_one_test
    @pytest.mark.slow
    @pytest.mark.parametrize("order", [1, 2, 3])
    @pytest.mark.parametrize("size", [(8, 8), (9, 9)], ids=str)
    def grid(order, size, tmp_path):
        recorded.append((order, size, torch.rand(()).item(), tmp_path))
        assert order != 2, "two"

    assert list(inspect.signature(grid).parameters) == ["tmp_path"]
    assert [mark.name for mark in grid.pytestmark] == ["slow"]
    with pytest.raises(AssertionError, match=r"^2 of 6 cases failed: \(8, 8\)-2, \(9, 9\)-2$") as caught:
        grid(tmp_path=tmp_path)
    assert str(caught.value.__cause__).startswith("two")
    assert {case[:2] for case in recorded} == set(product([1, 2, 3], [(8, 8), (9, 9)]))
    torch.manual_seed(0)  # as before each case
    assert {case[2:] for case in recorded} == {(torch.rand(()).item(), tmp_path)}

"""Pairwise grids: a small part of a product of axes that contains every pair of values of two axes."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import combinations, product

import pytest


def covering(cases: Iterable[Sequence[Hashable]]) -> list[Sequence[Hashable]]:
    """Return a few of ``cases`` that contain every pair of values which occurs in any of them.

    A pair is two values with their positions. The choice is greedy and deterministic: each case taken is the first of
    those that add the most new pairs. The cases come back in their own order.
    """
    cases = list(cases)
    pairs = [set(combinations(enumerate(case), 2)) or set(enumerate(case)) for case in cases]
    missing, chosen = set().union(*pairs), []
    gains = [len(p) for p in pairs]
    while missing:
        best, best_gain = -1, 0
        for i, gain in enumerate(gains):
            if gain > best_gain:  # a gain only falls, so that the stored one is an upper bound
                gains[i] = len(pairs[i] & missing)
                if gains[i] > best_gain:
                    best, best_gain = i, gains[i]
        chosen.append(best)
        missing -= pairs[best]
    return [cases[i] for i in sorted(chosen)]


def pairwise(test):
    """Replace the ``parametrize`` marks of a test by one, so that every pair of values of two of them is covered.

    It goes on top of the others. Fixtures with parameters still multiply the cases: give them as a mark instead.

        @pairwise
        @pytest.mark.parametrize("shape", [(8, 8), (9, 11)])
        @pytest.mark.parametrize("order", range(16))
        def test_reconstruction(shape, order): ...
    """
    marks = [mark for mark in test.pytestmark if mark.name == "parametrize"]
    axes = [_cases_of(*mark.args, **mark.kwargs) for mark in marks]
    chosen = covering(product(*(range(len(axis)) for axis in axes)))
    cases = [[axis[i] for axis, i in zip(axes, indices, strict=True)] for indices in chosen]
    params = [
        pytest.param(
            *(value for one in case for value in one.values),
            id="-".join(one.id for one in case),
            marks=[mark for one in case for mark in one.marks],
        )
        for case in cases
    ]
    names = [name for mark in marks for name in _names_of(mark.args[0])]
    test.pytestmark = [mark for mark in test.pytestmark if mark.name != "parametrize"]
    return pytest.mark.parametrize(names, params)(test)


def _names_of(names: str | Sequence[str]) -> list[str]:
    return [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)


def _cases_of(argnames, argvalues, ids=None) -> list:
    """The values of one mark as ``pytest.param``, each with the id that pytest would give it."""
    names = _names_of(argnames)
    labels = None if ids is None or callable(ids) else list(ids)
    cases = []
    for i, given in enumerate(argvalues):
        case = given if isinstance(given, type(pytest.param())) else None
        values = case.values if case else tuple(given) if len(names) > 1 else (given,)
        label = labels[i] if labels else "-".join(_label(n, v, i, ids) for n, v in zip(names, values, strict=True))
        cases.append(pytest.param(*values, id=case.id if case and case.id else label, marks=case.marks if case else ()))
    return cases


def _label(name: str, value, index: int, ids: Callable | None) -> str:
    label = ids(value) if ids else None
    if label is not None:
        return str(label)
    if isinstance(value, (str, int, float, bool, type(None))):
        return str(value)
    return getattr(value, "__name__", None) or f"{name}{index}"

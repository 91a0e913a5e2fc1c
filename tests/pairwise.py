"""Decorators for tests with many cases: run few cases in separate tests, or all of them in one test."""

import functools
import inspect
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import combinations, product

import pytest
import torch


def covering(cases: Iterable[Sequence[Hashable]]) -> list[Sequence[Hashable]]:
    """Return a few of ``cases`` that contain every pair of values.

    A pair is two values with their positions. The choice is greedy and deterministic: the next case is the first one of
    those that add the most new pairs. The chosen cases keep their order.
    """
    cases = list(cases)
    # The pairs of each case. A case of one value has no pair: the value counts instead
    pairs = [set(combinations(enumerate(case), 2)) or set(enumerate(case)) for case in cases]
    missing, chosen = set().union(*pairs), []
    gains = [len(p) for p in pairs]
    while missing:
        best, best_gain = -1, 0
        for i, gain in enumerate(gains):
            if gain > best_gain:  # gains only decrease, so the stored gain is an upper bound
                gains[i] = len(pairs[i] & missing)
                if gains[i] > best_gain:
                    best, best_gain = i, gains[i]
        chosen.append(best)
        missing -= pairs[best]
    return [cases[i] for i in sorted(chosen)]


def every_pair_of_values(test):
    """Run few cases of a test: every pair of values of two ``parametrize`` marks occurs in one of them.

    The marks are replaced by one mark with these cases.

    This decorator must be above the marks. Fixtures with parameters still multiply the cases; use a mark instead.

        @every_pair_of_values
        @pytest.mark.parametrize("shape", [(8, 8), (9, 11)])
        @pytest.mark.parametrize("order", range(16))
        def test_reconstruction(shape, order): ...
    """
    names, axes, others = _axes_of(test)
    chosen = covering(product(*(range(len(axis)) for axis in axes)))
    params = [_joined([axis[i] for axis, i in zip(axes, indices, strict=True)]) for indices in chosen]
    test.pytestmark = others
    return pytest.mark.parametrize(names, params)(test)


def all_cases_in_one_test(test):
    """Run all cases of the ``parametrize`` marks in one test.

    This saves time if cases take milliseconds and run the same code.

    This decorator must be above the marks, and above :func:`every_pair_of_values`. All cases run even if some fail. The
    error lists the failed cases, and its cause is the first failure. Each case gets the same random numbers as a
    separate test.

        @all_cases_in_one_test
        @pytest.mark.parametrize("order", range(16))
        def test_reconstruction(order): ...
    """
    names, axes, others = _axes_of(test)
    cases = [_joined(parts) for parts in product(*axes)]
    assert not any(case.marks for case in cases), "marks of single cases would be lost"

    @functools.wraps(test)
    def every_case(**fixtures):
        arguments = [dict(zip(names, case.values, strict=True)) for case in cases]
        run_all((case.id, functools.partial(test, **fixtures, **a)) for case, a in zip(cases, arguments, strict=True))

    every_case.pytestmark = others
    parameters = inspect.signature(test).parameters
    every_case.__signature__ = inspect.Signature([p for name, p in parameters.items() if name not in names])
    return every_case


def run_all(cases: Iterable[tuple[str, Callable[[], object]]]) -> None:
    """Run the function of every (name, function) with the same seed.

    Raise an error that lists those that failed.
    """
    count, errors = 0, []
    for name, function in cases:
        count += 1
        torch.manual_seed(0)
        try:
            function()
        except Exception as error:
            errors.append((name, error))
    if errors:
        names = ", ".join(name for name, _ in errors)
        raise AssertionError(f"{len(errors)} of {count} cases failed: {names}") from errors[0][1]


def _axes_of(test) -> tuple[list[str], list[list], list]:
    """Return the parameters, cases and other marks of a test.

    There is one list of cases for each ``parametrize`` mark.
    """
    marks = [mark for mark in test.pytestmark if mark.name == "parametrize"]
    names = [name for mark in marks for name in _names_of(mark.args[0])]
    axes = [_cases_of(*mark.args, **mark.kwargs) for mark in marks]
    return names, axes, [mark for mark in test.pytestmark if mark.name != "parametrize"]


def _joined(parts: Sequence):
    """Return a case that joins one case of each mark."""
    values = [value for part in parts for value in part.values]
    marks = [mark for part in parts for mark in part.marks]
    return pytest.param(*values, id="-".join(part.id for part in parts), marks=marks)


def _names_of(names: str | Sequence[str]) -> list[str]:
    return [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)


def _cases_of(argnames, argvalues, ids=None) -> list:
    """Return the cases of a mark as ``pytest.param``.

    Each has the id that pytest would give it.
    """
    names = _names_of(argnames)
    labels = None if ids is None or callable(ids) else list(ids)
    cases = []
    for i, argvalue in enumerate(argvalues):
        case = argvalue if isinstance(argvalue, type(pytest.param())) else None
        values = case.values if case else tuple(argvalue) if len(names) > 1 else (argvalue,)
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

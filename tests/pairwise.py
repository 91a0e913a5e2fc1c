"""Choose a small part of all cases, in which every pair of values still occurs."""

from collections.abc import Hashable, Iterable, Sequence
from itertools import combinations, product

import pytest


def pairwise(**values: Iterable) -> pytest.MarkDecorator:
    """Return a ``parametrize`` mark with a small part of all combinations of the arguments' values.

    Any two values of different arguments occur together in at least one of its cases.

        @pairwise(shape=[(8, 8), (9, 11)], order=range(16), dtype=DTYPES)
        def test_reconstruction(shape, order, dtype): ...
    """
    columns = [list(column) for column in values.values()]
    chosen = covering(product(*(range(len(column)) for column in columns)))  # indices, as values may not be hashable
    cases = [[column[i] for column, i in zip(columns, indices)] for indices in chosen]
    named = lambda value: value.__name__ if callable(value) else str(value)
    return pytest.mark.parametrize(list(values), cases, ids=named)


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

"""Pairwise grids: a small part of a product of axes in which every pair of values of two axes still occurs."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
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


def pairwise(**axes: Iterable | Mapping) -> pytest.MarkDecorator:
    """Parametrize a test over ``axes``, so that every pair of values of two axes occurs in some case.

    Each axis is the values of one argument, or a mapping from labels (shown in the test's id) to values.

        @pairwise(shape=[(8, 8), (9, 11)], option={"plain": {}, "tight": {"tight_frame": True}}, dtype=DTYPES)
        def test_reconstruction(shape, option, dtype): ...
    """
    tables = [axis if isinstance(axis, Mapping) else list(axis) for axis in axes.values()]
    values = [list(table.values()) if isinstance(table, Mapping) else table for table in tables]
    labels = [[str(l).removeprefix("torch.") for l in table] for table in tables]
    indices = covering(product(*(range(len(v)) for v in values)))
    return pytest.mark.parametrize(
        ",".join(axes),
        [tuple(v[i] for v, i in zip(values, case, strict=True)) for case in indices],
        ids=["-".join(l[i] for l, i in zip(labels, case, strict=True)) for case in indices],
    )

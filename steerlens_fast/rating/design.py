"""Chooses the morphs that a form shows, and their order."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence


def choose_sources(pools: Sequence[Mapping], count: int, rng: random.Random) -> list[list]:
    """Return the morphs of at most ``count`` sources.

    The result has rows of one morph per family. Morphs are compared by their identity: equal ones have the same source.

    Parameters
    ----------
    pools : sequence of mapping
        For each family, a mapping with the identities of its morphs as keys.
    count : int
    rng : random.Random

    Returns
    -------
    list of list
        First the rows of sources that all families have. If there are fewer than ``count``, rows follow in which each
        family has another source.

    Examples
    --------
    >>> chosen = choose_sources([dict.fromkeys("abcd"), dict.fromkeys("bcdef")], 4, random.Random(0))
    >>> [a == b for a, b in chosen]  # whether both families show the same source: only b, c and d are in both
    [True, True, True, False]
    """
    first, *others = pools
    shared = [morph for morph in first if all(morph in pool for pool in others)]
    known = set(shared)
    rest = [[morph for morph in pool if morph not in known] for pool in pools]
    for morphs in (shared, *rest):
        rng.shuffle(morphs)
    chosen = [[morph] * len(pools) for morph in shared[:count]]
    return chosen + [list(row) for row in zip(*rest)][: count - len(chosen)]


def trial_order(sources: int, conditions: int, rng: random.Random) -> list[tuple[int, int]]:
    """Return all pairs (source, condition) in a random order of balanced blocks.

    Parameters
    ----------
    sources, conditions : int
    rng : random.Random

    Returns
    -------
    list of (int, int)
        In each block of ``sources`` pairs, every source occurs once. All conditions occur equally often in a block, or
        their numbers differ by one.

    Notes
    -----
    The conditions of a source follow a Latin square. In every block, the same half of the sources comes first, so that
    at least ``sources // 2`` other pairs lie between two pairs of one source. Within each half, the order is random.

    Examples
    --------
    >>> order = trial_order(4, 2, random.Random(0))
    >>> sorted(source for source, _ in order[:4]), sorted(condition for _, condition in order[:4])
    ([0, 1, 2, 3], [0, 0, 1, 1])
    >>> sorted(order) == [(s, c) for s in range(4) for c in range(2)]
    True
    """
    ranked, shift = list(range(sources)), list(range(conditions))
    rng.shuffle(ranked)
    rng.shuffle(shift)
    places = list(enumerate(ranked))
    halves = places[: sources // 2], places[sources // 2 :]
    order = []
    for block in range(conditions):
        for half in halves:
            order += [(source, shift[(rank + block) % conditions]) for rank, source in rng.sample(half, len(half))]
    return order


def balanced_sides(count: int, rng: random.Random) -> list[bool]:
    """Return, for each source, whether its target is the first choice.

    This is True for half of them, in random order.

    Examples
    --------
    >>> sum(balanced_sides(6, random.Random(0)))
    3
    """
    sides = [n % 2 == 0 for n in range(count)]
    rng.shuffle(sides)
    return sides

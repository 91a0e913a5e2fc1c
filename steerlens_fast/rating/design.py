"""Chooses the sources that a form shows, and the order of its images."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Collection, Sequence


def choose_sources(pools: Sequence[Collection], count: int, rng: random.Random) -> list[list]:
    """Return at most ``count`` sources for each family.

    Parameters
    ----------
    pools : sequence of collection
        The sources of each family's morphs.
    count : int
    rng : random.Random

    Returns
    -------
    list of list
        Rows of one source per family. First come rows with the same source for all families. If these are fewer than
        ``count``, rows of sources that are not in all pools follow.

    Examples
    --------
    >>> chosen = choose_sources(["abcd", "bcdef"], 4, random.Random(0))
    >>> [a == b for a, b in chosen]  # only b, c and d are in both
    [True, True, True, False]
    """
    first, *others = pools
    shared = [source for source in first if all(source in pool for pool in others)]
    known = set(shared)
    rest = [[source for source in pool if source not in known] for pool in pools]
    for sources in (shared, *rest):
        rng.shuffle(sources)
    chosen = [[source] * len(pools) for source in shared[:count]]
    return chosen + [list(row) for row in zip(*rest)][: count - len(chosen)]


def distinct_columns(rows: Sequence[Sequence]) -> list[int]:
    """Return a column for each row, so that the rows' elements in these columns are distinct.

    Of n columns, row i tries column ``i % n`` first.

    Parameters
    ----------
    rows : sequence of sequence
        No element occurs twice in a column, as in the rows of :func:`choose_sources`. So k rows of n columns have at
        least k different elements, and distinct elements can be chosen (Hall's theorem).

    Examples
    --------
    >>> distinct_columns(["aaa", "bbb", "ccc"])
    [0, 1, 2]
    >>> distinct_columns(["xyz", "zxw"])  # x of row 0 and x of row 1 would be equal
    [0, 2]
    """
    columns, shown_by = [0] * len(rows), {}  # the row that has chosen an element
    for start in range(len(rows)):
        # A breadth-first search for an element that no row has chosen. The rows on the path to it change their columns.
        reached, queue = {}, deque([start])
        free = None
        while free is None:
            row = queue.popleft()
            for n in range(len(rows[row])):
                column = (row + n) % len(rows[row])
                element = rows[row][column]
                if element not in reached:
                    reached[element] = row, column
                    if element not in shown_by:
                        free = element
                        break
                    queue.append(shown_by[element])
        while free is not None:
            row, column = reached[free]
            shown_by[free] = row
            free = None if row == start else rows[row][columns[row]]
            columns[row] = column
    return columns


def trial_order(sources: int, conditions: int, rng: random.Random) -> list[tuple[int, int]]:
    """Return all pairs (source, condition) in a random order of balanced blocks.

    Parameters
    ----------
    sources, conditions : int
    rng : random.Random

    Returns
    -------
    list of (int, int)
        Each block has as many pairs as there are sources, and every source occurs once in it. The counts of the
        conditions in a block are equal, or differ by one.

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
    ranked, shuffled = list(range(sources)), list(range(conditions))
    rng.shuffle(ranked)
    rng.shuffle(shuffled)
    places = list(enumerate(ranked))
    halves = places[: sources // 2], places[sources // 2 :]
    order = []
    for block in range(conditions):
        for half in halves:
            order += [(source, shuffled[(rank + block) % conditions]) for rank, source in rng.sample(half, len(half))]
    return order


def balanced_sides(count: int, rng: random.Random) -> list[bool]:
    """Return, for each source, whether its target is the first choice.

    This is True for half of them (rounded up), in random order.

    Examples
    --------
    >>> sum(balanced_sides(6, random.Random(0)))
    3
    """
    sides = [n % 2 == 0 for n in range(count)]
    rng.shuffle(sides)
    return sides

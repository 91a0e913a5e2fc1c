"""One of many ranks that something else has started: torchrun, a SLURM array, or a loop in a shell.

A rank reads its place from the environment, and makes every n-th shard. The ranks share the output folder, and never
speak to each other: one that dies takes nobody along, and may be started again at any time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from ...errors import USAGE, JobError


@dataclass(frozen=True)
class Rank:
    """A rank's number, how many there are, and its number on its machine.

    Examples
    --------
    >>> Rank(1, 3).shards([0, 1, 2, 4, 5])
    [1, 4]
    """

    number: int
    world: int
    local: int = 0

    def shards(self, shards) -> list[int]:
        """Its own of these."""
        return [shard for shard in shards if shard % self.world == self.number]


def rank_of(environment: Mapping[str, str] = os.environ) -> Rank:
    """The rank that the environment tells of.

    ``RANK`` and ``WORLD_SIZE`` (torchrun); else ``SLURM_ARRAY_TASK_ID`` and its kin, ``SLURM_PROCID`` and
    ``SLURM_NTASKS``, or both: tasks within the elements of an array.

    Examples
    --------
    >>> rank_of({"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1"})
    Rank(number=1, world=4, local=1)
    >>> rank_of({"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_MIN": "3", "SLURM_ARRAY_TASK_COUNT": "8"})
    Rank(number=2, world=8, local=0)
    """
    number = _Numbers(environment)
    if "RANK" in environment:
        return _checked(number("RANK"), number("WORLD_SIZE"), number("LOCAL_RANK", 0))
    element, elements = 0, 1
    if "SLURM_ARRAY_TASK_ID" in environment:
        past = number("SLURM_ARRAY_TASK_ID") - number("SLURM_ARRAY_TASK_MIN", 0)
        element, elements = past // number("SLURM_ARRAY_TASK_STEP", 1), number("SLURM_ARRAY_TASK_COUNT")
    elif "SLURM_PROCID" not in environment:
        names = "RANK and WORLD_SIZE, SLURM_ARRAY_TASK_ID, or SLURM_PROCID"
        raise JobError(f"engine 'env' needs {names} in the environment, got none of them", USAGE)
    task, tasks = number("SLURM_PROCID", 0), number("SLURM_NTASKS", 1)
    return _checked(element * tasks + task, elements * tasks, number("SLURM_LOCALID", 0))


class _Numbers:
    def __init__(self, environment: Mapping[str, str]):
        self._environment = environment

    def __call__(self, name: str, default: int | None = None) -> int:
        text = self._environment.get(name, default)
        try:
            return int(text)
        except (TypeError, ValueError):
            raise JobError(f"{name} must be a whole number in the environment, got {text!r}", USAGE) from None


def _checked(number: int, world: int, local: int) -> Rank:
    if not 0 <= number < world:
        raise JobError(f"the rank must be 0 to {world - 1} in a world of {world}, got {number}", USAGE)
    return Rank(number, world, local)

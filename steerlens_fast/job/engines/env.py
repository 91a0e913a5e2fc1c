"""Finds which part of a job this process computes.

The processes ("ranks") of a job are started by torchrun, a SLURM array or a script.

Rank r of n computes the shards r, r + n, r + 2 n and so on. Both numbers are in the environment. Ranks share the output
folder and do not communicate. If a rank dies, the others continue, and the rank can be started again at any time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from ...errors import usage_error


@dataclass(frozen=True)
class Rank:
    """A rank: its number among all ranks and on its machine, both counted from 0, and the number of all ranks.

    Examples
    --------
    >>> Rank(1, 3).shards([0, 1, 2, 4, 5])
    [1, 4]
    """

    number: int
    world: int  # number of all ranks
    local: int = 0  # the rank's number on its machine

    def shards(self, shards) -> list[int]:
        """Return the shards that this rank computes."""
        return [shard for shard in shards if shard % self.world == self.number]


def rank_of(environment: Mapping[str, str] = os.environ) -> Rank:
    """Return the rank that the environment describes.

    The variables ``RANK`` and ``WORLD_SIZE`` of torchrun take precedence. Otherwise SLURM's variables are read:
    ``SLURM_ARRAY_TASK_ID`` and others that begin with ``SLURM_ARRAY_TASK_`` for the elements of an array,
    ``SLURM_PROCID`` and others for tasks. If each element of an array has several tasks, both kinds are used.

    Examples
    --------
    >>> rank_of({"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1"})
    Rank(number=1, world=4, local=1)
    >>> rank_of({"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_MIN": "3", "SLURM_ARRAY_TASK_COUNT": "8"})
    Rank(number=2, world=8, local=0)
    """
    number = partial(_integer, environment)
    if "RANK" in environment:
        return _checked(number("RANK"), number("WORLD_SIZE"), number("LOCAL_RANK", 0))
    element, elements = 0, 1
    if "SLURM_ARRAY_TASK_ID" in environment:
        offset = number("SLURM_ARRAY_TASK_ID") - number("SLURM_ARRAY_TASK_MIN", 0)
        element, elements = offset // number("SLURM_ARRAY_TASK_STEP", 1), number("SLURM_ARRAY_TASK_COUNT")
    elif "SLURM_PROCID" not in environment:
        names = "RANK and WORLD_SIZE, SLURM_ARRAY_TASK_ID, or SLURM_PROCID"
        raise usage_error(f"engine 'env' needs {names} in the environment, but none of them is set")
    task, tasks = number("SLURM_PROCID", 0), number("SLURM_NTASKS", 1)
    return _checked(element * tasks + task, elements * tasks, number("SLURM_LOCALID", 0))


def _integer(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name, default)
    try:
        return int(text)
    except (TypeError, ValueError):
        raise usage_error(f"{name} must be a whole number in the environment, got {text!r}") from None


def _checked(number: int, world: int, local: int) -> Rank:
    if not 0 <= number < world:
        raise usage_error(f"the rank must be between 0 and {world - 1} for {world} ranks, got {number}")
    return Rank(number, world, local)

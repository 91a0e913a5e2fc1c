"""How a job is cut: shards of items, batches within them; with all that another run must have in common with it."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from math import prod
from pathlib import Path

import torch

from ..data.items import Item, read_listing
from ..errors import USAGE, JobError
from ..io.atomic_io import read_json, write_json
from .config import JobConfig

BATCH_VALUES = 5_000_000  # of an image, times the batch: 32 images of 3 x 224 x 224; at most 256 images
SHARD_BYTES = 64 << 20  # of frames: what a killed worker loses, and what it holds in memory, twice


@dataclass(frozen=True)
class Plan:
    """Shards and batches, and what they were planned with.

    Attributes
    ----------
    items : int
        Of the data set.
    shard_size, batch_size : int
        Items in a shard, and in one call of the model within it; the last of each may be smaller.
    offsets : list of int
        Byte of ``items.jsonl`` at which each shard begins.
    listing_sha256 : str
        Of ``items.jsonl``.
    size : [H, W]
    channels, frames : int
        Every stored morph is [frames, channels, H, W].
    threads : int
        Of torch, in each worker.
    dropped : int
        Items that the target says nothing about.
    classes, labels : list of str or None
        Names of the model's classes (the data's, where it has none), and of the data's labels.
    model, source, versions : dict
        What is known of the model, the data, and the software.
    left_out : dict
        What the data hold that is neither an item nor part of one: by reason, the count and some names.
    range : [low, high], "image" or None
        Of images of more than 8 bits; see :class:`JobConfig`.
    frame_dtype : {"uint8", "uint16", "float32"}
        Of the stored frames.
    warnings : list of str
        What whoever started the job should know of the data.
    """

    items: int
    shard_size: int
    batch_size: int
    offsets: list[int]
    listing_sha256: str
    size: list[int]
    channels: int
    frames: int
    threads: int
    dropped: int
    classes: list[str] | None
    labels: list[str] | None
    model: dict
    source: dict
    versions: dict
    left_out: dict = field(default_factory=dict)
    range: list[float] | str | None = None
    frame_dtype: str = "uint8"
    warnings: list[str] = field(default_factory=list)

    @property
    def shards(self) -> int:
        """How many there are."""
        return len(self.offsets)

    @property
    def frame_shape(self) -> tuple[int, int, int, int]:
        """(F, C, H, W) of a morph."""
        return (self.frames, self.channels, *self.size)

    @property
    def bytes_of_morph(self) -> int:
        """Of its frames, as they are stored in memory."""
        return prod(self.frame_shape) * getattr(torch, self.frame_dtype).itemsize

    def count(self, shard: int) -> int:
        """Items of a shard."""
        return min(self.shard_size, self.items - shard * self.shard_size)

    def read_items(self, out: Path, shard: int) -> list[Item]:
        """The items of a shard, from the listing."""
        return list(read_listing(out / "items.jsonl", self.offsets[shard], self.count(shard)))

    def write(self, out: Path) -> None:
        """As ``plan.json``."""
        write_json(out / "plan.json", asdict(self))

    @classmethod
    def read(cls, out: Path) -> Plan:
        """From ``plan.json``."""
        try:
            return cls(**read_json(out / "plan.json"))
        except FileNotFoundError:
            raise JobError(f"out must be a job's folder, got {out}: there is no plan.json", USAGE) from None
        except (ValueError, TypeError) as error:
            raise JobError(f"{out / 'plan.json'} is damaged: {error}") from error


def batch_and_shard_size(config: JobConfig, frame_shape: tuple[int, ...]) -> tuple[int, int]:
    """Those asked for, else what the sizes suggest: powers of 2."""
    values = prod(frame_shape[1:])
    batch = config.batch_size or min(256, _power_of_two(BATCH_VALUES // values))
    stored = prod(frame_shape) * getattr(torch, config.frame_dtype).itemsize
    shard = config.shard_size or max(batch, min(2048, _power_of_two(SHARD_BYTES // stored)))
    return min(batch, shard), shard


def threads_of(config: JobConfig, workers: int) -> int:
    """Threads of torch in each worker."""
    return config.threads or max(1, len(os.sched_getaffinity(0)) // max(workers, 1))


def _power_of_two(most: int) -> int:
    return 1 << max(most, 1).bit_length() - 1

"""The plan of a job: its shards, batches, and inputs.

Inputs and software versions must be the same when a job is resumed.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path

import torch

from ..classifier.class_names import class_name, short_names
from ..data.items import Item, read_listing
from ..errors import usage_error
from ..io.atomic_io import existing_path, write_json
from ..io.output_dir import damaged, read_saved
from .config import JobConfig

FORMAT_VERSION = 4  # version of the files of a job
# Limits for the default sizes
BATCH_VALUES = 5_000_000  # values in the images of a batch, e.g. 32 images of 3 x 224 x 224
SHARD_BYTES = 64 << 20  # bytes of a shard's frames, unless one batch has more; a worker has up to two shards in memory


@dataclass(frozen=True)
class Plan:
    """The shards and batches of a job, and its inputs.

    Attributes
    ----------
    items : int
        Number of items to morph.
    shard_size, batch_size : int
        Items in a shard, and in a batch; the last shard and the last batch of a shard may be smaller.
    offsets : list of int
        Byte offset in ``items.jsonl`` at which each shard begins.
    listing_sha256 : str
        SHA-256 of ``items.jsonl``.
    size : [H, W]
        Size of the frames.
    channels, frames : int
        Channels and number of frames: every stored morph is [frames, channels, H, W].
    threads : int
        Threads of torch in each worker.
    max_target : int or None
        Largest class number among the targets that do not depend on the model.
    without_target : int
        Number of items that are skipped because the target option gives them no target.
    classes : list of str or None
        Names of the model's classes or, if the model has no names, of the data's classes.
    labels : list of str or None
        Names of the data's classes.
    label_numbers : list of (int or None), or None
        The number of the model's class for each of the data's classes: ``numbers`` of
        :class:`steerlens_fast.data.class_matching.ClassMatch`.
    model, source, versions : dict
        Descriptions of the model, of the data and of the software.
    unused_entries : dict
        Entries of the data that are not items: their count and some names, by reason.
    range : [low, high], "image" or None
        Value range of images of more than 8 bits; see :class:`~steerlens_fast.data.config.DataConfig`.
    frame_dtype : {"uint8", "uint16", "float32"}
        Dtype of the stored frames.
    warnings : list of str
        Warnings about the data.
    format_version : int
        Version of the folder's format.
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
    without_target: int
    classes: list[str] | None
    labels: list[str] | None
    model: dict
    source: dict
    versions: dict
    unused_entries: dict = field(default_factory=dict)
    range: list[float] | str | None = None
    frame_dtype: str = "uint8"
    warnings: list[str] = field(default_factory=list)
    label_numbers: list[int | None] | None = None
    max_target: int | None = None
    format_version: int = FORMAT_VERSION

    @property
    def shards(self) -> int:
        """Number of shards."""
        return len(self.offsets)

    @property
    def frame_shape(self) -> tuple[int, int, int, int]:
        """Shape (F, C, H, W) of a morph."""
        return (self.frames, self.channels, *self.size)

    @cached_property
    def shown_classes(self) -> list[str] | None:
        """The names of the classes for pictures and pages, with only the first of several synonyms."""
        return short_names(self.classes)

    @property
    def shown_labels(self) -> list[str] | None:
        """Names of labels for pictures and pages: the model's, if classes were matched or the data have no names."""
        return self.shown_classes if self.labels is None or self.label_numbers is not None else self.labels

    def class_name(self, number: int | None) -> str | None:
        """Return the name of a class for pictures and pages. ``~n`` is the multilabel target "not n"."""
        return None if number is None else class_name(number, self.shown_classes)

    def label_name(self, number: int | None) -> str | None:
        """Return the name of a label for pictures and pages."""
        return None if number is None else class_name(number, self.shown_labels)

    @property
    def bytes_per_morph(self) -> int:
        """Bytes of a morph's frames in memory."""
        return prod(self.frame_shape) * getattr(torch, self.frame_dtype).itemsize

    def count(self, shard: int) -> int:
        """Return the number of items of a shard."""
        return min(self.shard_size, self.items - shard * self.shard_size)

    def read_items(self, out: Path, shard: int) -> list[Item]:
        """Read the items of a shard from the listing."""
        return list(read_listing(existing_path(out / "items.jsonl"), self.offsets[shard], self.count(shard)))

    def write(self, out: Path, *, exclusive: bool = False) -> None:
        """Write ``plan.json``; for ``exclusive``, see :func:`~steerlens_fast.io.atomic_io.atomic_write`."""
        write_json(out / "plan.json", asdict(self), exclusive=exclusive)

    @classmethod
    def read(cls, out: Path) -> Plan:
        """Read ``plan.json``.

        Raises
        ------
        JobError
            If the file does not exist, is damaged, or was written by a version with another format.
        """
        path = out / "plan.json"
        try:
            values = read_saved(path)
        except (FileNotFoundError, NotADirectoryError):
            raise usage_error(f"out must be a job's folder, got {out}, which has no plan.json") from None
        if "budgets" in values:  # only evaluations have this entry
            raise usage_error(f"out must be a job's folder, got {out}, which has an evaluation")
        version = values.get("format_version", 1)
        # Every version has written listing_sha256, so a file without it is damaged.
        if "listing_sha256" in values and version != FORMAT_VERSION:
            text = f"{path} must have format version {FORMAT_VERSION}, got {version}"
            hint = "another version of steerlens_fast wrote this folder; use that version, or another --out"
            raise usage_error(f"{text}: {hint}")
        try:
            return cls(**values)
        except TypeError as error:
            raise damaged(path, error) from error


def batch_and_shard_size(config: JobConfig, frame_shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the number of images in a batch and in a shard.

    The defaults are powers of 2 that limit the values in a batch and the bytes in a shard.
    """
    values = prod(frame_shape[1:])
    batch = config.batch_size or min(256, _power_of_two(BATCH_VALUES // values))
    stored = prod(frame_shape) * getattr(torch, config.frame_dtype).itemsize
    shard = config.shard_size or max(batch, min(2048, _power_of_two(SHARD_BYTES // stored)))
    return min(batch, shard), shard


def threads_per_worker(config: JobConfig, workers: int) -> int:
    """Return the number of torch threads in each worker.

    OMP_NUM_THREADS is not used, because torchrun sets it to 1 if the user does not set it.
    """
    return config.threads or max(1, len(os.sched_getaffinity(0)) // max(workers, 1))


def _power_of_two(maximum: int) -> int:
    """Return the largest power of 2 up to ``maximum``, at least 1."""
    return 1 << max(maximum, 1).bit_length() - 1

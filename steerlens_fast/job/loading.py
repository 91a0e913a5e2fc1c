"""Decodes ahead: threads turn the items of coming batches into pixels while the model works on this one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

from ..data.decoding import decode, pixel_value_range
from ..data.items import Item
from ..data.resize import resize_and_crop
from ..data.sources import Source
from ..errors import BadItem, JobError

AHEAD = 3  # batches: one with the model, one that waits, one that is decoded
PLACEHOLDER = 128  # of a bad image: its neighbours' batch keeps its composition
PER_TASK = 16  # items, at most: small images cost less than a task does


def as_pixels(image: Tensor, dtype: torch.dtype) -> Tensor:
    """An image of 8 bits as pixels of a batch: as it is, or in [0, 1] where these are floats."""
    return image / 255 if dtype.is_floating_point else image


def placeholder_for(dtype: torch.dtype) -> float:
    """The value of the pixels of an image that is left out."""
    return PLACEHOLDER / 255 if dtype.is_floating_point else PLACEHOLDER


def channels_of(source: Mapping) -> int | None:
    """Channels of the images in an array, told by what is known of its source; of other data None: images may differ.

    Examples
    --------
    >>> channels_of({"layout": "NHW", "shape": [60000, 28, 28]}), channels_of({"layout": "NCHW", "shape": [9, 3, 8, 8]})
    (1, 3)
    """
    axis = {"NHWC": 3, "NCHW": 1}.get(source.get("layout"))
    return source["shape"][axis] if axis else 1 if source.get("layout") == "NHW" else None


@dataclass
class Loaded:
    """What became of one item: its image's hash and size, or why it has none."""

    sha256: str | None = None
    size: tuple[int, int] | None = None
    label: int | None = None
    failure: BadItem | None = None
    values: dict | None = None  # see pixel_value_range


@dataclass
class Batch:
    """Items on their way to the model; ``pixels`` [B, C, H, W] uint8, or float32 in [0, 1]; else a placeholder."""

    shard: int
    last: bool  # of its shard
    items: list[Item]
    pixels: Tensor
    loaded: list[Loaded]
    tasks: list[Future] = field(default_factory=list)
    first: bool = False  # of its shard

    def part(self, at: slice) -> Batch:
        """Some of it."""
        return Batch(self.shard, self.last, self.items[at], self.pixels[at], self.loaded[at], first=self.first)


class Loader:
    """Batches of shards, in order, decoded in threads.

    Parameters
    ----------
    source : Source
    size : (int, int)
        H, W of the pixels.
    channels : {1, 3}
    batch_size : int
    threads : int
    how : dict
        Options of :func:`decode`; where ``keep_depth``, pixels are float32.
    fitted : dict
        Options of :func:`resize_and_crop`.
    pinned : bool
        Page-locked pixels, which a GPU copies while it computes.
    """

    def __init__(self, source: Source, *, size, channels, batch_size, threads, how, fitted, pinned=False):
        self._source, self._size, self._batch_size, self._pinned = source, tuple(size), batch_size, pinned
        self._channels, self._how, self._fitted = channels, how, fitted
        self._dtype = torch.float32 if how.get("keep_depth") else torch.uint8
        self._per_task = max(1, min(PER_TASK, batch_size // threads))
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    def batches(self, next_shard: Callable[[bool], tuple[int, list[Item]] | None]) -> Iterator[Batch]:
        """Every batch of the shards that ``next_shard(wait)`` gives, until it gives None although asked to wait.

        It is asked without waiting while there is work in hand, so that the next shard's first batch is decoded while
        this shard's last one is with the model.
        """
        waiting: deque[Batch] = deque()
        coming: Iterator[Batch] = iter(())
        while True:
            while len(waiting) < AHEAD:
                batch = next(coming, None)
                if batch is None:
                    shard = next_shard(not waiting)
                    if shard is None:
                        break
                    coming = self._start(*shard)
                else:
                    waiting.append(batch)
            if not waiting:
                return
            batch = waiting.popleft()
            for task in batch.tasks:
                task.result()
            yield batch

    def close(self) -> None:
        """Drop what is not begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _start(self, shard: int, items: list[Item]) -> Iterator[Batch]:
        for first in range(0, len(items), self._batch_size):
            some = items[first : first + self._batch_size]
            shape = (len(some), self._channels, *self._size)
            pixels = torch.empty(shape, dtype=self._dtype, pin_memory=self._pinned, device="cpu")
            batch = Batch(shard, first + len(some) == len(items), some, pixels, [Loaded() for _ in some])
            batch.first = first == 0
            rows = pixels.numpy()
            for at in range(0, len(some), self._per_task):
                which = range(at, min(at + self._per_task, len(some)))
                batch.tasks.append(self._pool.submit(self._load_rows, batch, rows, which))
            yield batch

    def _load_rows(self, batch: Batch, rows: np.ndarray, which: range) -> None:
        for n in which:
            try:
                rows[n] = self._load(batch.items[n], batch.loaded[n])
            except BadItem as error:
                batch.loaded[n].failure = error
                rows[n] = placeholder_for(batch.pixels.dtype)
            except MemoryError as error:  # not the image's fault; nor would the next one's decoding end better
                less = "fewer decoders (--decoders) or a smaller max_pixels (--max-pixels) need less"
                raise JobError(f"out of memory while {batch.items[n].path} was decoded: {less}") from error

    def _load(self, item: Item, told: Loaded) -> np.ndarray:
        data, told.label = self._source.read_with_label(item)
        told.sha256 = digest(data)
        image = decode(data, mode="L" if self._channels == 1 else "RGB", **self._how)
        told.sha256 = told.sha256 or sha256(image.tobytes()).hexdigest()
        told.size, told.values = (image.height, image.width), pixel_value_range(image)
        pixels = resize_and_crop(image, self._size, **self._fitted)
        return pixels / np.float32(255) if self._dtype.is_floating_point and pixels.dtype == np.uint8 else pixels


def digest(data) -> str | None:
    """SHA-256 of encoded bytes or of an array's values; None for the rest, which may be no image at all."""
    if isinstance(data, Tensor):
        data = data.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()  # numpy has no bfloat16
    if isinstance(data, np.ndarray) and not data.dtype.hasobject:
        data = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    elif not isinstance(data, (bytes, bytearray)):
        return None
    return sha256(data).hexdigest()

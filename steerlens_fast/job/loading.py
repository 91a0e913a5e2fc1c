"""Loads batches of images. Threads decode the next batches while the model computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from math import prod

import numpy as np
import torch
from torch import Tensor

from ..data.decoding import decode, pixel_value_range
from ..data.items import Item
from ..data.resize import resize_and_crop
from ..data.sources import Source
from ..errors import BadItem, JobError

MAX_BATCHES = 3  # a batch in the model, a batch that is ready, and a batch that is being decoded
PLACEHOLDER = 128  # pixel value in place of images that cannot be used, which keeps the batch's size unchanged
ITEMS_PER_TASK = 16  # maximum; several, because starting a task takes longer than decoding a small image


def as_pixels(value: Tensor | int, dtype: torch.dtype) -> Tensor | float:
    """Convert an 8-bit image or pixel value to the dtype of a batch."""
    return value / 255 if dtype.is_floating_point else value


@dataclass
class LoadedImage:
    """The hash, size and label of a loaded image, or its failure."""

    sha256: str | None = None
    size: tuple[int, int] | None = None
    label: int | None = None
    failure: BadItem | None = None
    value_range: dict | None = None  # for images of more than 8 bits, see pixel_value_range


@dataclass
class Batch:
    """Items and their pixels [B, C, H, W]. Items that failed have placeholders."""

    shard: int
    last: bool  # whether it is the last batch of its shard
    items: list[Item]
    pixels: Tensor
    loaded: list[LoadedImage]
    tasks: list[Future] = field(default_factory=list)  # decode the pixels
    first: bool = False  # whether the batch begins its shard
    targets: list[int | None] = field(default_factory=list)  # set by the worker

    @property
    def good(self) -> list[int]:
        """The indices of the items that have not failed."""
        return [n for n, loaded in enumerate(self.loaded) if loaded.failure is None]

    def part(self, start: int, size: int) -> Batch:
        """Return a batch of ``size`` items from ``start`` on, or fewer if the batch ends before."""
        at = slice(start, start + size)
        lists = {"loaded": self.loaded[at], "targets": self.targets[at]}
        return Batch(self.shard, self.last, self.items[at], self.pixels[at], **lists, first=self.first and not start)


class Loader:
    """Loads the batches of shards, in order, with several decoding threads.

    Parameters
    ----------
    source : Source
    size : (int, int)
        Height and width of the pixels.
    channels : {1, 3}
    batch_size : int
    threads : int
    decode_options : dict
        Options of :func:`decode`; if ``keep_depth``, pixels are float32.
    resize_options : dict
        Options of :func:`resize_and_crop`.
    pinned : bool
        Whether pixels are in page-locked memory, from which a GPU can copy while it computes.
    """

    def __init__(
        self, source: Source, *, size, channels, batch_size, threads, decode_options, resize_options, pinned=False
    ):
        self._source, self._size, self._batch_size, self._pinned = source, tuple(size), batch_size, pinned
        self._channels, self._decode_options, self._resize_options = channels, decode_options, resize_options
        self._dtype = torch.float32 if decode_options.get("keep_depth") else torch.uint8
        self._per_task = max(1, min(ITEMS_PER_TASK, batch_size // threads))
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    def batches(self, next_shard: Callable[[bool], tuple[int, list[Item]] | None]) -> Iterator[Batch]:
        """Yield all batches of the shards whose numbers and items ``next_shard(wait)`` returns.

        ``next_shard(True)`` waits for a shard, and returns None if there are no more. ``next_shard(False)`` does not
        wait, and returns None if no shard is known yet, or there are no more. While batches are pending, this method
        does not wait for a shard. A known shard is decoded while the model computes the last batches of another.
        """
        waiting: deque[Batch] = deque()
        coming: Iterator[Batch] = iter(())
        while True:
            while len(waiting) < MAX_BATCHES:
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
        """Cancel the tasks that have not started."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _start(self, shard: int, items: list[Item]) -> Iterator[Batch]:
        for offset in range(0, len(items), self._batch_size):
            chunk = items[offset : offset + self._batch_size]
            shape = (len(chunk), self._channels, *self._size)
            pixels = torch.empty(shape, dtype=self._dtype, pin_memory=self._pinned, device="cpu")
            batch = Batch(shard, offset + len(chunk) == len(items), chunk, pixels, [LoadedImage() for _ in chunk])
            batch.first = offset == 0
            rows = pixels.numpy()
            for start in range(0, len(chunk), self._per_task):
                indices = range(start, min(start + self._per_task, len(chunk)))
                batch.tasks.append(self._pool.submit(self._load_rows, batch, rows, indices))
            yield batch

    def _load_rows(self, batch: Batch, rows: np.ndarray, indices: range) -> None:
        for n in indices:
            try:
                rows[n] = self._load(batch.items[n], batch.loaded[n])
            except BadItem as error:
                batch.loaded[n].failure = error
                rows[n] = as_pixels(PLACEHOLDER, batch.pixels.dtype)
            except MemoryError as error:  # not caused by the image: the next one would fail, too
                hint = "use fewer --decoders or smaller --max-pixels"
                raise JobError(f"out of memory while decoding {batch.items[n].path}: {hint}") from error

    def _load(self, item: Item, loaded: LoadedImage) -> np.ndarray:
        data, loaded.label = self._source.read_with_label(item)
        loaded.sha256 = digest(data)
        if (pixels := self._unchanged_pixels(data)) is not None:
            loaded.size = self._size
            return self._as_floats(pixels)
        image = decode(data, mode="L" if self._channels == 1 else "RGB", **self._decode_options)
        loaded.sha256 = loaded.sha256 or sha256(image.tobytes()).hexdigest()
        loaded.size, loaded.value_range = (image.height, image.width), pixel_value_range(image)
        return self._as_floats(resize_and_crop(image, self._size, **self._resize_options))

    def _unchanged_pixels(self, data) -> np.ndarray | None:
        """Return the pixels [C, H, W] of an array that needs no conversion; None for all other data.

        For small images, Pillow would take longer than the lens.
        """
        shape = self._size if self._channels == 1 else (*self._size, self._channels)
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape != shape:
            return None
        if self._resize_options.get("crop_pct", 1) != 1 or prod(self._size) > self._decode_options["max_pixels"]:
            return None
        return data[None] if self._channels == 1 else data.transpose(2, 0, 1)

    def _as_floats(self, pixels: np.ndarray) -> np.ndarray:
        """Convert uint8 pixels to floats in [0, 1] if the batches have floats."""
        return pixels / np.float32(255) if self._dtype.is_floating_point and pixels.dtype == np.uint8 else pixels


def digest(data) -> str | None:
    """Return the SHA-256 of encoded bytes or of an array's values; None for other objects."""
    if isinstance(data, Tensor):
        # As bytes, since numpy has no bfloat16.
        data = data.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    if isinstance(data, np.ndarray) and not data.dtype.hasobject:
        data = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    elif not isinstance(data, (bytes, bytearray)):
        return None
    return sha256(data).hexdigest()

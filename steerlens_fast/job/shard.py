"""One shard: collects its frames and records batch by batch, and publishes them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..errors import OK
from ..io.atomic_io import existing_path, write_json
from ..memory import new_output
from ..morphs import Morphs
from .formats import get_format
from .loading import Batch
from .plan import Plan
from .records import make_records, write_records
from .transfers import Transfers

# Number of values that are converted at a time: they fit the caches of a CPU, or the free memory of a GPU
CONVERTED_VALUES = {"cpu": 1 << 19, "cuda": 16 << 20}


def shard_name(shard: int) -> str:
    """Return the beginning of the names of a shard's files, such as ``"00000"``."""
    return f"{shard:05d}"


def marker_path(out: Path, shard: int) -> Path:
    """Return the path of a shard's marker. The marker is written last, so a shard that has one is complete."""
    return out / "shards" / f"{shard_name(shard)}.done.json"


class Clock:
    """Measures the seconds spent on each activity."""

    def __init__(self):
        self.seconds: Counter[str] = Counter()

    @contextmanager
    def spent_on(self, activity: str) -> Iterator[None]:
        """Add the time of the block to an activity."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[activity] += time.perf_counter() - start


class Shard:
    """The frames and records of a shard. Batches are added until it is complete and can be published."""

    def __init__(self, number: int, plan: Plan, transfers: Transfers):
        self.number, self.plan, self.clock, self._transfers = number, plan, Clock(), transfers
        shape = (plan.count(number), *plan.frame_shape)
        dtype = getattr(torch, plan.frame_dtype)
        if transfers.pinned:
            self.frames = torch.empty(shape, dtype=dtype, pin_memory=True, device="cpu")
        else:
            self.frames = new_output(shape, dtype, torch.device("cpu"))
        self.rows, self.records = 0, []
        self.part_divisor = 1  # batches were computed in parts of at least 1 / part_divisor of the usual size

    def add(self, batch: Batch, morphs: Morphs) -> Callable[[], int]:
        """Add a batch without waiting for the GPU.

        Return a function that waits for the copies from the GPU, makes the records, and returns the number of failed
        items.
        """
        with self.clock.spent_on("convert"):
            good = batch.good
            frames = morphs.frames if len(good) == len(batch.items) else _select(morphs.frames, good)
            frames_ready = store_frames(frames, self.frames[self.rows : self.rows + len(good)], self._transfers)
            results, results_ready = self._transfers.results_to_host(morphs)
        first, self.rows = self.rows, self.rows + len(good)
        return partial(self._finish, batch, results, first, (frames_ready, results_ready))

    def _finish(self, batch: Batch, results: Morphs, first: int, arrivals: tuple[Callable[[], None], ...]) -> int:
        with self.clock.spent_on("convert"):
            for wait in arrivals:
                wait()
        with self.clock.spent_on("records"):
            records = make_records(batch, results, first, self.plan)
        self.records += records
        return sum(record["status"] != OK for record in records)

    def publish(self, out: Path, format: str, metadata: dict) -> dict:
        """Write frames, records and marker, in this order; return the contents of the marker."""
        folder = out / "shards"
        # A worker that was killed before it reported the shard may have left a marker.
        existing_path(marker_path(out, self.number)).unlink(missing_ok=True)
        with self.clock.spent_on("write"):
            files = get_format(format).write(
                folder, shard_name(self.number), self.frames[: self.rows], self.records, metadata
            )
            files |= write_records(folder / f"{shard_name(self.number)}.jsonl", self.records)
        failed = sum(record["status"] != OK for record in self.records)
        seconds = {activity: round(value, 6) for activity, value in self.clock.seconds.items()}
        marker = {
            "shard": self.number,
            "files": files,
            "items": len(self.records),
            "failed": failed,
            "seconds": seconds,
        }
        if self.part_divisor > 1:  # recorded, because the batch size may change rounding errors
            marker["part_divisor"] = self.part_divisor
        write_json(marker_path(out, self.number), marker)
        return marker


def store_frames(frames: Tensor, out: Tensor, transfers: Transfers) -> Callable[[], None]:
    """Convert frames [n, ...] in [0, 1] to the dtype of ``out``, and copy them to it.

    Return a function that waits for the copies.
    """
    rows = max(1, CONVERTED_VALUES[frames.device.type] // max(1, frames[:1].numel()))
    pieces = zip(frames.split(rows), out.split(rows))
    return transfers.to_host((_to_dtype(piece, out.dtype), destination) for piece, destination in pieces)


def _to_dtype(frames: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert frames in [0, 1] to a dtype. Integers use their full range."""
    if dtype.is_floating_point:
        return frames.to(dtype)
    scaled = frames.mul(torch.iinfo(dtype).max).round_()
    if scaled.device.type == "cpu":  # numpy takes a quarter of torch's time
        return torch.from_numpy(scaled.numpy().astype(str(dtype).removeprefix("torch.")))
    # Not all devices can convert floats to uint16.
    return scaled.to(dtype) if dtype == torch.uint8 else scaled.to(torch.int32).to(dtype)


def _select(frames: Tensor, rows: list[int]) -> Tensor:
    """Select samples without synchronising with the GPU."""
    return frames.index_select(
        0, torch.tensor(rows, dtype=torch.int64, device="cpu").to(frames.device, non_blocking=True)
    )

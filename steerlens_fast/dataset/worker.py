"""What does the work, the same in every engine: a model, a source, and one shard after the other."""

from __future__ import annotations

import queue
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from ..lens import SteerableLens
from ..morphs import Morphs
from .config import JobConfig
from .loading import Batch, Loader
from .models import LoadedModel, load_model
from .outcome import USAGE, BadItem, JobError
from .plan import Plan
from .shard import Clock, Shard
from .sources import Source, open_source
from .targets import batch_target, parse_target

Tell = Callable[[dict], None]
END = None  # in a queue of shards: no more will come


class Worker:
    """Holds the model and the data, and makes shards.

    Parameters
    ----------
    config : JobConfig
    device : str
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
    decoders : int
        Threads that decode.
    source, model
        In the library: objects, in place of those that the configuration names.
    """

    def __init__(self, config: JobConfig, device: str, decoders: int, source=None, model=None):
        self.config, self.device, self.decoders = config, torch.device(device), decoders
        given = config.model if model is None else model
        self.loaded: LoadedModel = load_model(given, device=device, **config.model_options)
        self.source: Source = open_source(config.data, labels=config.labels) if source is None else source
        self.lens = SteerableLens(self.loaded.model, preprocessing=self.loaded.preprocessing, **config.lens_options)
        self.lens.driver = _Timed(self.lens.driver)
        self.rule = parse_target(config.target)
        self.parts = 1  # into which a batch is cut for the model; grows where the device's memory is short

    def open(self, out: Path, plan: Plan) -> None:
        """Begin to work on a planned job."""
        self.out, self.plan = out, plan
        torch.set_num_threads(plan.threads)
        self.pinned = self.device.type == "cuda"
        how = {"max_pixels": self.config.max_pixels, "decoder": self.config.decoder}
        fitted = {"crop_pct": self.loaded.crop_pct, "interpolation": self.loaded.interpolation}
        shapes = {"size": plan.size, "channels": plan.channels, "batch_size": plan.batch_size}
        self.loader = Loader(self.source, **shapes, threads=self.decoders, how=how, fitted=fitted, pinned=self.pinned)

    def run(self, shards: queue.Queue[int | None], tell: Tell) -> None:
        """Make the shards that the queue gives, until it gives ``END``; ``tell`` hears of every batch and shard.

        While a shard is published, the next one is computed, and its first images are decoded.
        """
        take = _Taker(shards, lambda n: (n, self.plan.read_items(self.out, n)))
        with ThreadPoolExecutor(1, thread_name_prefix="publish") as publisher:
            publishing: Future | None = None
            shard, batches = None, self.loader.batches(take)
            while (batch := self._next(batches)) is not None:
                if shard is None:
                    shard = Shard(batch.shard, self.plan, pinned=self.pinned)
                    tell({"event": "begun", "shard": batch.shard})
                failed = self._work(shard, batch)
                tell({"event": "batch", "shard": batch.shard, "items": len(batch.items), "failed": failed})
                if batch.last:
                    if publishing is not None:
                        publishing.result()  # at most one waits: two shards are in memory
                    publishing, shard = publisher.submit(self._publish, shard, tell), None
            if publishing is not None:
                publishing.result()

    def first_batch(self, shard: int = 0) -> float:
        """Compute one batch and drop it; returns its seconds. For an estimate."""
        batch = next(self.loader.batches(_Taker(_filled(shard), lambda n: (n, self.plan.read_items(self.out, n)))))
        start = time.perf_counter()
        self._work(Shard(shard, self.plan), batch)
        return time.perf_counter() - start

    def close(self) -> None:
        """Stop decoding."""
        if hasattr(self, "loader"):
            self.loader.close()

    def _next(self, batches) -> Batch | None:
        self._waiting = Clock()
        with self._waiting.spent_on("wait"):
            return next(batches, None)

    def _work(self, shard: Shard, batch: Batch) -> int:
        start, driver = time.perf_counter(), self.lens.driver.clock
        before = dict(driver.seconds)
        morphs = self._morph(batch)
        spent = {what: driver.seconds[what] - before.get(what, 0.0) for what in ("gradient", "score")}
        shard.clock.seconds.update(spent | {"morph": time.perf_counter() - start - sum(spent.values())})
        shard.clock.seconds.update(self._waiting.seconds if hasattr(self, "_waiting") else {})
        return shard.add(batch, morphs)

    def _morph(self, batch: Batch) -> Morphs:
        images = batch.pixels.to(self.device, non_blocking=True).float().div_(255)
        target = self._target(batch)
        while True:
            try:
                size = -(-len(images) // self.parts)
                at = [slice(i, i + size) for i in range(0, len(images), size)]
                parts = [self._morph_part(images[a], target[a] if isinstance(target, list) else target) for a in at]
                return parts[0] if len(parts) == 1 else Morphs.cat(parts)
            except RuntimeError as error:  # torch.OutOfMemoryError is one
                if not _out_of_memory(error):
                    raise
                if size == 1:
                    raise JobError(f"out of memory on {self.device} with one image at a time: {error}") from error
            self.parts *= 2  # outside of the handler, which holds the memory of the frames that failed
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _morph_part(self, images: Tensor, target) -> Morphs:
        try:
            return self.lens.morph(images, target, **self.config.morph_options)
        except (TypeError, ValueError) as error:
            if not _is_ours(error):
                raise
            raise JobError(str(error), USAGE) from error

    def _target(self, batch: Batch) -> list[int] | str:
        """What the lens is given; an item without the label that decides fails."""
        targets = []
        for item, loaded in zip(batch.items, batch.loaded):
            told = item.target if item.target is not None else self.rule.target_of(loaded.label, self.plan.labels)
            if told is None and self.rule.rank is None and loaded.failure is None:
                loaded.failure = BadItem("no-label", f"{item.path} has no label, or none that the target maps")
            targets.append(told)
        return batch_target(self.rule, targets)

    def _publish(self, shard: Shard, tell: Tell) -> None:
        about = {"lens": self.lens.settings, "model": self.loaded.sha256, "shard": shard.number}
        told = shard.publish(self.out, self.config.format, about)
        tell({"event": "shard", "shard": shard.number, "items": told["items"], "failed": told["failed"]})


class _Taker:
    """Takes shards from a queue; once it has met the end it stays there."""

    def __init__(self, shards: queue.Queue, read: Callable):
        self._shards, self._read, self._ended = shards, read, False

    def __call__(self, wait: bool):
        if self._ended:
            return None
        try:
            number = self._shards.get(block=wait)
        except queue.Empty:
            return None
        self._ended = number is END
        return None if self._ended else self._read(number)


def _filled(*shards: int) -> queue.Queue:
    ready: queue.Queue = queue.Queue()
    for shard in (*shards, END):
        ready.put(shard)
    return ready


class _Timed:
    """A driver that notes what its gradients and its scores take; on a GPU, what it takes to queue them."""

    def __init__(self, driver):
        self._driver, self.clock = driver, Clock()

    def gradient(self, *args, **kwargs):
        with self.clock.spent_on("gradient"):
            return self._driver.gradient(*args, **kwargs)

    def outputs(self, *args, **kwargs):
        with self.clock.spent_on("score"):
            return self._driver.outputs(*args, **kwargs)

    def __getattr__(self, name):
        return getattr(self._driver, name)


def _is_ours(error: Exception) -> bool:
    """Whether this package raised it, about its arguments; else the model did."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals.get("__name__", "").startswith(__package__.rpartition(".")[0] + ".")


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate memory" in str(error)


def device_of(config: JobConfig) -> str:
    """ "cpu" or "cuda"."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise JobError("device must be 'cpu' on this machine, got 'cuda': torch finds no GPU", USAGE)
    return config.device or ("cuda" if torch.cuda.is_available() else "cpu")

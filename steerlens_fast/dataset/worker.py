"""What does the work, the same in every engine: a model, a source, and one shard after the other."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from ..lens import SteerableLens
from ..morphs import Morphs
from .config import JobConfig, refuse_drift, refuse_other_model
from .line import Line, Taker, Tell, filled
from .loading import Batch, Loader, channels_of
from .models import LoadedModel, load_model
from .outcome import USAGE, BadItem, JobError
from .plan import Plan, versions
from .refusals import is_out_of_memory, told_of
from .shard import Clock, Shard
from .sources import Source, open_source_of
from .targets import batch_target, parse_target
from .transfers import Transfers

CALL_BYTES = 5 << 20  # of images per thread in one call of the model on a CPU: larger ones leave its caches (bench/)


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
        if self.device.index is not None:
            torch.cuda.set_device(self.device)  # somebody's kernels may not look where their tensors are
        given = config.model if model is None else model
        self.source: Source = open_source_of(config) if source is None else source
        options = {**config.model_options, "data_channels": channels_of(self.source.about)}
        self.loaded: LoadedModel = load_model(given, device=device, **options)
        self.lens = SteerableLens(self.loaded.model, preprocessing=self.loaded.preprocessing, **config.lens_options)
        self.lens.driver = _Timed(self.lens.driver)
        self.rule = parse_target(config.target)
        self._has_morphed = False
        self.parts = 1  # into which a batch is cut for the model; grows where the device's memory is short

    def open(self, out: Path, plan: Plan) -> None:
        """Begin to work on a planned job; JobError where model, data or software are not what was planned with."""
        refuse_other_model(plan.model, self.loaded.description)
        refuse_drift(plan.source, self.source.about, "the data")
        refuse_drift(plan.versions, versions(self.device.type), "the software")
        self.out, self.plan = out, plan
        torch.set_num_threads(plan.threads)
        self.transfers = Transfers(self.device)
        how = {"max_pixels": self.config.max_pixels, "decoder": self.config.decoder, "range": plan.range}
        how["deep"] = plan.frame_dtype != "uint8"
        fitted = {"crop_pct": self.loaded.crop_pct, "interpolation": self.loaded.interpolation}
        shapes = {"size": plan.size, "channels": plan.channels, "batch_size": plan.batch_size}
        self.loader = Loader(
            self.source, **shapes, threads=self.decoders, how=how, fitted=fitted, pinned=self.transfers.pinned
        )

    def run(self, shards: queue.Queue[int | None], tell: Tell) -> None:
        """Make the shards that the queue gives, until it gives ``END``; ``tell`` hears of every batch and shard.

        While a shard is published, the next one is computed, and its first images are decoded. While a GPU computes a
        batch, the host writes the records of the one before.
        """
        with _repeatable(), ThreadPoolExecutor(1, thread_name_prefix="publish") as publisher:
            line = Line(publisher, self._publish, tell, ahead=self.transfers.ahead)
            take = Taker(shards, lambda n: (n, self.plan.read_items(self.out, n)), line.clear)
            shard, batches = None, self.loader.batches(take)
            while (batch := self._next(batches)) is not None:
                if shard is None:
                    shard = Shard(batch.shard, self.plan, self.transfers)
                    tell({"event": "begun", "shard": batch.shard})
                line.add(shard, batch, self._work(shard, batch))
                shard = None if batch.last else shard
            line.clear()
            line.wait()

    def first_batch(self, shard: int = 0) -> float:
        """Load and compute one batch, and drop it; returns its seconds. For an estimate."""
        start = time.perf_counter()
        batch = next(self.loader.batches(Taker(filled(shard), lambda n: (n, self.plan.read_items(self.out, n)))))
        for finish in self._work(Shard(shard, self.plan, self.transfers), batch):
            finish()
        return time.perf_counter() - start

    def close(self) -> None:
        """Stop decoding."""
        if hasattr(self, "loader"):
            self.loader.close()

    def _next(self, batches) -> Batch | None:
        self._waiting = Clock()
        with self._waiting.spent_on("wait"):
            return next(batches, None)

    def _work(self, shard: Shard, batch: Batch) -> list[Callable[[], int]]:
        """Take a batch through the lens, in parts where memory is short; see :meth:`Shard.add` for what comes back."""
        shard.clock.seconds.update(self._waiting.seconds if hasattr(self, "_waiting") else {})
        targets = self._targets(batch)
        parts, at = [], 0
        while at < len(batch.items):
            size = -(-len(batch.items) // self.parts)
            part = slice(at, at + size)
            try:
                parts.append(self._work_part(shard, batch.part(part), targets[part]))
                at += size
                continue
            except RuntimeError as error:  # torch.OutOfMemoryError is one
                if not is_out_of_memory(error):
                    raise
                if size == 1:
                    raise JobError(f"out of memory on {self.device} with one image at a time: {error}") from error
            self.parts *= 2  # outside of the handler, which holds the memory of the frames that failed
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        shard.parts = max(shard.parts, self.parts)
        return parts

    def _work_part(self, shard: Shard, batch: Batch, targets: list[int | None]) -> Callable[[], int]:
        start, driver = time.perf_counter(), self.lens.driver.clock
        before = dict(driver.seconds)
        images = self.transfers.to_device(batch.pixels)
        images = images if images.is_floating_point() else images.float().div_(255)
        morphs = self._morph(images, batch, targets)
        spent = {what: driver.seconds[what] - before.get(what, 0.0) for what in ("gradient", "score")}
        shard.clock.seconds.update(spent | {"morph": time.perf_counter() - start - sum(spent.values())})
        return shard.add(batch, morphs)

    def _morph(self, images: Tensor, batch: Batch, targets: list[int | None]) -> Morphs:
        # The same numbers for the same images, whichever worker has them and whatever it did before.
        self.lens.driver.seed = (self.config.seed, batch.items[0].index)
        target, some = batch_target(self.rule, targets), samples_per_call(images, self.plan.threads)
        try:
            morphs = self.lens.morph(images, target, internal_batch_size=some, **self.config.morph_options)
        except Exception as error:
            sizes = [n for n in (some, len(images) % some) if n] if some else []
            told = told_of(error, images.shape[1:], batch, targets, not self._has_morphed, sizes)
            if told is None:
                raise
            raise told from error
        self._has_morphed = True
        return morphs

    def _targets(self, batch: Batch) -> list[int | None]:
        """Of each item, where the model does not decide; an item without the label that does fails."""
        targets = []
        for item, loaded in zip(batch.items, batch.loaded):
            told = item.target
            if told is None:
                told = self.rule.target_of(loaded.label, self.plan.labels, self.loaded.class_names)
            if told is not None and told < 0 and self.config.task != "multilabel":
                raise JobError(f"target 'not:...' needs task 'multilabel', got task {self.config.task!r}", USAGE)
            if told is None and self.rule.rank is None and loaded.failure is None:
                loaded.failure = BadItem("no-label", f"{item.path} has no label, or none that the target maps")
            targets.append(told)
        return targets

    def _publish(self, shard: Shard, tell: Tell) -> None:
        about = {"lens": self.lens.settings, "model": self.loaded.sha256, "shard": shard.number}
        told = shard.publish(self.out, self.config.format, about)
        tell({"event": "shard", "shard": shard.number, "items": told["items"], "failed": told["failed"]})


class _Timed:
    """A driver that notes what its gradients and its scores take; on a GPU, what it takes to queue them."""

    def __init__(self, driver):
        self._driver, self.clock = driver, Clock()

    @property
    def seed(self) -> tuple | None:
        """The driver's."""
        return self._driver.seed

    @seed.setter
    def seed(self, seed: tuple | None) -> None:
        self._driver.seed = seed

    def gradient(self, *args, **kwargs):
        with self.clock.spent_on("gradient"):
            return self._driver.gradient(*args, **kwargs)

    def outputs(self, *args, **kwargs):
        with self.clock.spent_on("score"):
            return self._driver.outputs(*args, **kwargs)

    def __getattr__(self, name):
        return getattr(self._driver, name)


@contextmanager
def _repeatable() -> Iterator[None]:
    """cuDNN's algorithms: the same ones each time, and in the precision that torch begins with."""
    wanted = {"benchmark": False, "deterministic": True, "allow_tf32": True}
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before, tf32 = {name: getattr(cudnn, name) for name in wanted}, matmul.allow_tf32
    try:
        for name, value in wanted.items():
            setattr(cudnn, name, value)
        matmul.allow_tf32 = False
        yield
    finally:
        for name, value in before.items():
            setattr(cudnn, name, value)
        matmul.allow_tf32 = tf32


def samples_per_call(images: Tensor, threads: int) -> int | None:
    """So many that what the model computes from them stays in a CPU's caches; elsewhere all."""
    if images.device.type != "cpu":
        return None
    return max(1, CALL_BYTES * threads // (images[0].numel() * images.itemsize))


def device_of(config: JobConfig) -> str:
    """ "cpu" or "cuda"."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise JobError("device must be 'cpu' on this machine, got 'cuda': torch finds no GPU", USAGE)
    return config.device or ("cuda" if torch.cuda.is_available() else "cpu")

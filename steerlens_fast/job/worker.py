"""What does the work, the same in every engine: a model, a source, and one shard after the other."""

from __future__ import annotations

import queue
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from ..data.sources import Source
from ..data.sources.open import open_source_from_config
from ..data.targets import batch_target, parse_target
from ..errors import USAGE, BadItem, JobError
from ..io.output_dir import check_same_model, check_unchanged
from ..io.versions import versions
from ..lens import SteerableLens
from ..models import LoadedModel, load_model
from ..models.device import image_dtype, samples_per_call
from ..models.errors import is_out_of_memory
from ..morphs import Morphs
from .config import JobConfig
from .loading import Batch, Loader, as_pixels, channels_of, placeholder_for
from .model_errors import image_failure, may_be_caused_by_image, model_failure, told_of
from .pipeline import Line, Taker, Tell, filled
from .plan import Plan
from .shard import Clock, Shard
from .transfers import Transfers


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
        self.source: Source = open_source_from_config(config) if source is None else source
        options = {**config.model_options, "data_channels": channels_of(self.source.description)}
        self.loaded: LoadedModel = load_model(given, device=device, **options)
        self.lens = SteerableLens(self.loaded.model, preprocessing=self.loaded.preprocessing, **config.lens_options)
        self.lens.classifier = _Timed(self.lens.classifier)
        self.lens.warns = False  # what it would say of a batch stands in the records of all
        self.rule = parse_target(config.target)
        self._has_morphed = False
        self.parts = 1  # into which a batch is cut for the model; grows in a shard where the device's memory is short

    def open(self, out: Path, plan: Plan) -> None:
        """Begin to work on a planned job; JobError where model, data or software are not what was planned with."""
        check_same_model(plan.model, self.loaded.description)
        check_unchanged(plan.source, self.source.description, "the data")
        check_unchanged(plan.versions, versions(self.device.type), "the software")
        self.out, self.plan = out, plan
        torch.set_num_threads(plan.threads)
        self.transfers = Transfers(self.device)
        how = {"max_pixels": self.config.max_pixels, "decoder": self.config.decoder, "range": plan.range}
        how["keep_depth"] = plan.frame_dtype != "uint8"
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
                    self.parts = 1  # a shard is made in the same way whichever was made before it
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
                parts += self._work_part(shard, batch.part(part), targets[part])
                at += size
                continue
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if size == 1:
                    self._raise_out_of_memory(error)
            self.parts *= 2  # outside of the handler, which holds the memory of the frames that failed
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        shard.parts = max(shard.parts, self.parts)
        return parts

    def _work_part(self, shard: Shard, batch: Batch, targets: list[int | None]) -> list[Callable[[], int]]:
        """Take some of a batch through the lens. Images at which the model raises an error are left out.

        Which ones is decided by the images and the model alone, so that another run decides the same. Their neighbours'
        batch keeps its composition where the model takes it at all.
        """
        first_error = None
        for change in (None, self._leave_out_failing_images, self._replace_placeholders):
            if change is not None:
                change(batch, targets, first_error)
            try:
                return [self._compute(shard, batch, targets)]
            except Exception as error:
                if not may_be_caused_by_image(error):
                    self._raise_described(error, batch, targets)
                traceback.clear_frames(error.__traceback__)  # they hold memory
                first_error = first_error or error
        alone = [(batch.part(slice(n, n + 1)), targets[n : n + 1]) for n in range(len(batch.items))]
        shard.parts = max(shard.parts, len(alone))
        try:
            return [self._compute(shard, *one) for one in alone]
        except Exception as error:
            if is_out_of_memory(error):
                self._raise_out_of_memory(error)  # here: the shard has some of these images already
            self._raise_described(error, batch, targets)

    def _compute(self, shard: Shard, batch: Batch, targets: list[int | None]) -> Callable[[], int]:
        start, driver = time.perf_counter(), self.lens.classifier.clock
        before = dict(driver.seconds)
        morphs = self._morph(batch, targets)
        spent = {what: driver.seconds[what] - before.get(what, 0.0) for what in ("gradient", "score")}
        shard.clock.seconds.update(spent | {"morph": time.perf_counter() - start - sum(spent.values())})
        return shard.add(batch, morphs)

    def _morph(self, batch: Batch, targets: list[int | None]) -> Morphs:
        # The same numbers for the same images, whichever worker has them and whatever it did before.
        self.lens.classifier.seed = (self.config.seed, batch.items[0].index)
        pixels, dtype = self.transfers.to_device(batch.pixels), image_dtype(self.config.dtype)
        images = pixels.to(dtype) if pixels.is_floating_point() else pixels.to(dtype).div_(255)
        target, some = batch_target(self.rule, targets), samples_per_call(images, self.plan.threads)
        morphs = self.lens.morph(images, target, internal_batch_size=some, **self.config.morph_options)
        self._has_morphed = True
        return morphs

    # --- Images at which the model raises an error

    def _leave_out_failing_images(self, batch: Batch, targets: list[int | None], error: Exception) -> None:
        """Mark the images at which the model raises an error also where they are alone."""
        good = [n for n, loaded in enumerate(batch.loaded) if loaded.failure is None]
        errors = {n: found for n in good if (found := self._error_at(batch, targets, n))}
        if errors and len(errors) == len(good) and self._fails_at_any_image(batch, targets):
            self._raise_described(error, batch, targets)
        for n, found in errors.items():
            batch.loaded[n].failure = image_failure(found)
            batch.pixels[n] = placeholder_for(batch.pixels.dtype)

    def _replace_placeholders(self, batch: Batch, targets: list[int | None], error: Exception) -> None:
        """Put a good image in the place of those that are left out: the model may not take the placeholder."""
        good = [n for n, loaded in enumerate(batch.loaded) if loaded.failure is None]
        control = as_pixels(control_image(batch.pixels.shape[1:]), batch.pixels.dtype)
        stand_in = batch.pixels[good[0]].clone() if good else control
        for n in set(range(len(batch.loaded))).difference(good):
            batch.pixels[n] = stand_in

    def _error_at(self, batch: Batch, targets: list[int | None], n: int) -> Exception | None:
        """What the model raises at one image of a batch; what no image is to blame for is raised."""
        try:
            self._morph(batch.part(slice(n, n + 1)), targets[n : n + 1])
        except Exception as error:
            if not may_be_caused_by_image(error):
                raise
            traceback.clear_frames(error.__traceback__)
            return error
        return None

    def _fails_at_any_image(self, batch: Batch, targets: list[int | None]) -> bool:
        """Whether the model, which raises an error at each image of a batch, does so at others as well.

        Where all of the job's first ones fail, nothing speaks for the model; else an image that is no file's decides.
        """
        good = [n for n, loaded in enumerate(batch.loaded) if loaded.failure is None]
        if batch.shard == 0 and batch.first and len(good) > 1:
            return True
        control = replace(batch, pixels=control_image(batch.pixels.shape[1:])[None].expand_as(batch.pixels))
        return self._error_at(control, targets, good[0]) is not None

    def _raise_described(self, error: Exception, batch: Batch, targets: list[int | None]) -> NoReturn:
        """Raise what is known of an error that ends the job."""
        some = None if self.device.type != "cpu" else samples_per_call(batch.pixels[:1].float(), self.plan.threads)
        sizes = [1, *(n for n in (some, len(batch.items) % some) if n)] if some else [1]
        known = None if is_out_of_memory(error) else told_of(error, batch, targets, not self._has_morphed, sizes)
        if may_be_caused_by_image(error):
            raise known or model_failure(error, batch) from error
        if known is None:
            raise error
        raise known from error

    def _raise_out_of_memory(self, error: Exception) -> NoReturn:
        raise JobError(f"out of memory on {self.device} with one image at a time: {error}") from error

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


def control_image(shape: Sequence[int]) -> Tensor:
    """An image uint8 [C, H, W] of no file: dark and bright pixels, no two neighbours alike.

    Examples
    --------
    >>> control_image((1, 2, 3))
    tensor([[[  0, 101, 202],
             [ 47, 148, 249]]], dtype=torch.uint8)
    """
    values = torch.arange(prod(shape), dtype=torch.int64, device="cpu") * 101 % 256
    return values.to(torch.uint8).reshape(tuple(shape))

"""The worker, which computes shards; it is the same in every engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from .. import native
from ..checks import check_class_names
from ..classifier import Classifier
from ..classifier.outputs import number_of_classes
from ..data.class_matching import ClassMatch
from ..data.items import read_listing
from ..data.sources import Source
from ..data.sources.open import open_source_from_config
from ..data.targets import batch_target, check_target_number, parse_target
from ..errors import REASONS, BadItem, JobError, usage_error
from ..io.output_dir import check_same_model, check_unchanged
from ..io.versions import versions
from ..lens import SteerableLens
from ..models import LoadedModel, load_model
from ..models.device import image_dtype, samples_per_call
from ..models.errors import is_out_of_memory
from ..morphs import Morphs
from .config import JobConfig
from .loading import PLACEHOLDER, Batch, Loader, as_pixels
from .model_errors import (
    clear_stack_frames,
    exit_as_error,
    explain_error,
    image_failure,
    may_be_caused_by_image,
    model_failure,
)
from .pipeline import EventCallback, NextShard, Pipeline
from .plan import Plan
from .shard import Clock, Shard
from .transfers import Transfers

TIMED = {"gradient": "gradient", "outputs": "score"}  # methods of a classifier, and the names of their times


class Worker:
    """Computes shards, with one copy of the model.

    Parameters
    ----------
    config : JobConfig
    device : str
        Device of the model: ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
    decoders : int
        Number of threads that decode images.
    source, model
        Objects that are used in place of the configuration's ``data`` and ``model``.
    """

    def __init__(self, config: JobConfig, device: str, decoders: int, source=None, model=None):
        self.config, self.device, self.decoders = config, torch.device(device), decoders
        if self.device.index is not None:
            torch.cuda.set_device(self.device)  # since some models use kernels that run on the current device
        spec = config.model if model is None else model
        self.source: Source = open_source_from_config(config) if source is None else source
        options = {**config.model_options, "data_channels": self.source.channels()}
        self.loaded: LoadedModel = load_model(spec, device=device, **options)
        self.lens = SteerableLens(self.loaded.model, preprocessing=self.loaded.preprocessing, **config.lens_options)
        self._model_clock = Clock()
        self.lens.warn_about_results = False  # the records contain what it would warn about
        self.target_rule = parse_target(config.target)
        self._has_morphed = False
        self._on_event: EventCallback = lambda event: None
        # A batch is computed in parts. Their usual size is divided by this number, which is doubled if memory is short.
        self.part_divisor = 1

    def open(self, out: Path, plan: Plan) -> None:
        """Prepare for the shards of a plan; raise a JobError if model, data or software differ from the plan's."""
        check_same_model(plan.model, self.loaded.description)
        check_unchanged(plan.source, self.source.description, "the data")
        check_unchanged(plan.versions, versions(self.device.type), "the software")
        self.out, self.plan = out, plan
        self.classes = ClassMatch(plan.labels, self.loaded.class_names, self.config.labels)
        torch.set_num_threads(plan.threads)
        self.transfers = Transfers(self.device)
        decode_options = {"max_pixels": self.config.max_pixels, "decoder": self.config.decoder, "range": plan.range}
        decode_options["keep_depth"] = plan.frame_dtype != "uint8"
        resize_options = {"crop_pct": self.loaded.crop_pct, "interpolation": self.loaded.interpolation}
        shapes = {"size": plan.size, "channels": plan.channels, "batch_size": plan.batch_size}
        self.loader = Loader(
            self.source,
            **shapes,
            threads=self.decoders,
            decode_options=decode_options,
            resize_options=resize_options,
            pinned=self.transfers.pinned,
        )

    def send_warnings(self) -> None:
        """Send warnings about the model as events, too."""
        self.lens.classifier.on_warning = lambda text: self._on_event({"event": "warning", "message": text})

    def run(self, next_shard: NextShard, on_event: EventCallback) -> None:
        """Compute shards until ``next_shard(True)`` returns None.

        ``on_event`` is called with events ``begun``, ``morph``, ``batch`` and ``shard``, see :mod:`.engines.engine`.

        While one shard is published, the next shard is computed. While a GPU computes a batch, the host makes the
        records of the previous one.
        """
        self._on_event = on_event = _one_at_a_time(on_event)
        timed = _timed(self.lens.classifier, self._model_clock)
        with _repeatable(), timed, ThreadPoolExecutor(1, thread_name_prefix="publish") as publisher:
            pipeline = Pipeline(publisher, self._publish, on_event, max_pending=self.transfers.max_pending)

            def next_items(wait: bool):
                if wait:
                    pipeline.flush()  # the next shard may be assigned only after the pending batches are finished
                number = next_shard(wait)
                return None if number is None else (number, self.plan.read_items(self.out, number))

            batches = self.loader.batches(next_items)
            while True:
                waiting = Clock()
                with waiting.spent_on("wait"):
                    batch = next(batches, None)
                if batch is None:
                    break
                if batch.first:
                    shard = self._new_shard(batch.shard)
                    self.part_divisor = 1  # so that the result does not depend on earlier shards
                    on_event({"event": "begun", "shard": batch.shard})
                shard.clock.seconds.update(waiting.seconds)
                pipeline.add(shard, batch, self._compute_batch(shard, batch))
            pipeline.flush()
            pipeline.wait()

    def first_batch(self, count: int) -> float:
        """Compute the first ``count`` images of the first shard, at most a batch, without storing them.

        Return the elapsed seconds.
        """
        with _repeatable():
            shard, start = self._new_shard(0), time.perf_counter()
            items = iter([(0, self.plan.read_items(self.out, 0)[:count])])
            batch = next(self.loader.batches(lambda wait: next(items, None)))
            for finish in self._compute_batch(shard, batch):
                finish()
            return time.perf_counter() - start

    @property
    def images_at_once(self) -> int:
        """The largest number of images that are computed together."""
        image = torch.empty(1, self.plan.channels, *self.plan.size, dtype=image_dtype(self.config.dtype), device="cpu")
        count = min(self.plan.batch_size, self.plan.count(0))
        return min(count, self._samples_per_call(image) or count)

    def close(self) -> None:
        """Stop the decoding threads."""
        if hasattr(self, "loader"):
            self.loader.close()

    def _new_shard(self, number: int) -> Shard:
        """Make a shard, which allocates its frames. If memory is short, free idle memory and try once more."""
        freed = False
        while True:
            try:
                return Shard(number, self.plan, self.transfers)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if freed:
                    frames = f"the frames of shard {number} ({self.plan.count(number)} images)"
                    raise JobError(f"out of memory for {frames}: use a smaller --shard-size: {error}") from error
            self._free_memory()
            freed = True

    def _free_memory(self) -> None:
        """Free the memory that is kept for reuse."""
        native.free_idle_blocks()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _compute_batch(self, shard: Shard, batch: Batch) -> list[Callable[[], int]]:
        """Compute a batch in parts.

        Return the result of :meth:`Shard.add` for each part.

        On a CPU, a part has only as many images as one call of the model, to limit the memory of frames in floating
        point. If memory is still too small, parts are halved.
        """
        self._set_targets(batch)
        max_size = min(len(batch.items), self._samples_per_call(batch.pixels) or len(batch.items))
        finishers, at = [], 0
        while at < len(batch.items):
            size = -(-max_size // self.part_divisor)
            try:
                finishers += self._compute_part(shard, batch.part(at, size))
                at += size
                continue
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if size == 1:
                    self._raise_out_of_memory(error)
                clear_stack_frames(error)
            self.part_divisor *= 2
            self._free_memory()
        shard.part_divisor = max(shard.part_divisor, self.part_divisor)
        return finishers

    def _compute_part(self, shard: Shard, batch: Batch) -> list[Callable[[], int]]:
        """Compute a part of a batch.

        Images for which the model raises an error are left out.

        Grey pixels take the place of these images, so that the batch keeps its size. If the model raises an error for
        grey pixels, the pixels of another image are used. If the batch still fails, each image is computed alone.
        Which images are left out depends only on the images and the model, so every run leaves out the same ones.
        """
        finish, error = self._try_to_morph(shard, batch)
        if error is not None:
            self._leave_out_failing_images(batch, error)
            finish, error = self._try_to_morph(shard, batch)
        if error is not None:
            self._replace_placeholders(batch)
            finish, error = self._try_to_morph(shard, batch)
        if error is None:
            return [finish]
        shard.part_divisor = max(shard.part_divisor, self.part_divisor * len(batch.items))
        try:
            return [self._morph_and_add(shard, batch.part(n, 1)) for n in range(len(batch.items))]
        except Exception as error:
            if is_out_of_memory(error):
                self._raise_out_of_memory(error)  # otherwise _compute_batch would halve the part, and add images twice
            self._raise_described(error, batch)

    def _try_to_morph(self, shard: Shard, batch: Batch) -> tuple[Callable[[], int] | None, Exception | None]:
        """Return the result of :meth:`_morph_and_add`, or an error that an image may have caused.

        Other errors are raised.
        """
        try:
            return self._morph_and_add(shard, batch), None
        except Exception as error:
            if not may_be_caused_by_image(error):
                self._raise_described(error, batch)
            clear_stack_frames(error)
            return None, error

    def _morph_and_add(self, shard: Shard, batch: Batch) -> Callable[[], int]:
        start = time.perf_counter()
        self._model_clock.seconds.clear()
        morphs = self._morph(batch)
        in_model = {name: self._model_clock.seconds[name] for name in TIMED.values()}
        shard.clock.seconds.update(in_model | {"morph": time.perf_counter() - start - sum(in_model.values())})
        return shard.add(batch, morphs)

    def _morph(self, batch: Batch) -> Morphs:
        # The same random numbers for the same images in every worker and every run.
        self.lens.classifier.seed = (self.config.seed, batch.items[0].index)
        pixels, dtype = self.transfers.to_device(batch.pixels), image_dtype(self.config.dtype)
        images = pixels.to(dtype) if pixels.is_floating_point() else pixels.to(dtype).div_(255)
        target, per_call = batch_target(self.target_rule, batch.targets), self._samples_per_call(batch.pixels)
        with self._reported(batch), exit_as_error():
            morphs = self.lens.morph(images, target, internal_batch_size=per_call, **self.config.morph_options)
        if not self._has_morphed:
            self._check_classes(number_of_classes(morphs.outputs[:, 0], self.config.task))
        self._has_morphed = True
        return morphs

    def _samples_per_call(self, pixels: Tensor) -> int | None:
        """Return how many images the model gets in one call; None for any number."""
        if self.device.type != "cpu":
            return None
        return samples_per_call(pixels[:1].to(image_dtype(self.config.dtype)), self.plan.threads)

    def _check_classes(self, count: int) -> None:
        """Check class names, and the targets of all shards, now that the number of the model's classes is known."""
        try:
            check_class_names("class_names of the model", self.loaded.class_names, count)
        except ValueError as error:
            raise usage_error(str(error)) from error
        if self.plan.max_target is not None and self.plan.max_target >= count:
            for item in read_listing(self.out / "items.jsonl"):
                if item.target is not None:
                    check_target_number(item.target, count, self.config.task, self.target_rule.where(item))

    @contextmanager
    def _reported(self, batch: Batch) -> Iterator[None]:
        """Send an event with the images that the model computes.

        If the model ends the process in the block, the event tells which images caused it.
        """
        place = {"event": "morph", "shard": batch.shard, "first": batch.items[0].index, "count": len(batch.items)}
        self._on_event(place)
        try:
            yield
        finally:
            self._on_event({**place, "count": 0})

    # --- Images for which the model raises an error

    def _leave_out_failing_images(self, batch: Batch, error: Exception) -> None:
        """Morph each image alone, and mark those for which the model raises an error."""
        good = batch.good
        errors = {n: image_error for n in good if (image_error := self._error_at(batch, n))}
        if errors and len(errors) == len(good) and self._fails_for_other_images(batch):
            self._raise_described(error, batch)
        for n, image_error in errors.items():
            batch.loaded[n].failure = image_failure(image_error)
            batch.pixels[n] = as_pixels(PLACEHOLDER, batch.pixels.dtype)

    def _replace_placeholders(self, batch: Batch) -> None:
        """Replace the placeholders by the pixels of a good image or, if there is none, of a synthetic one.

        The model may raise an error for placeholders, too.
        """
        good = batch.good
        synthetic = as_pixels(synthetic_image(batch.pixels.shape[1:]), batch.pixels.dtype)
        replacement = batch.pixels[good[0]].clone() if good else synthetic
        for n in set(range(len(batch.items))).difference(good):
            batch.pixels[n] = replacement

    def _error_at(self, batch: Batch, n: int) -> Exception | None:
        """Return the model's error for one image of a batch, or None. Errors that no image can cause are raised."""
        try:
            self._morph(batch.part(n, 1))
        except Exception as error:
            if not may_be_caused_by_image(error):
                raise
            clear_stack_frames(error)
            return error
        return None

    def _fails_for_other_images(self, batch: Batch) -> bool:
        """Return whether the model, which failed for every image of this batch, would fail for other images, too.

        The first batch of the job is evidence enough if it has several images. Otherwise the model is called with a
        synthetic image.
        """
        if batch.shard == 0 and batch.first and len(batch.good) > 1:
            return True
        synthetic = replace(batch, pixels=synthetic_image(batch.pixels.shape[1:])[None].expand_as(batch.pixels))
        return self._error_at(synthetic, batch.good[0]) is not None

    def _raise_described(self, error: Exception, batch: Batch) -> NoReturn:
        """Raise the error that ends the job, with the best explanation of it."""
        per_call = self._samples_per_call(batch.pixels)
        batch_sizes = [1, *(n for n in (per_call, len(batch.items) % per_call) if n)] if per_call else [1]
        first, described = not self._has_morphed, None
        if not is_out_of_memory(error):
            described = explain_error(error, batch, self.target_rule, first, batch_sizes)
        if may_be_caused_by_image(error):
            raise described or model_failure(error, batch) from error
        if described is None:
            raise error
        raise described from error

    def _raise_out_of_memory(self, error: Exception) -> NoReturn:
        raise JobError(f"out of memory on {self.device} with one image at a time: {error}") from error

    def _set_targets(self, batch: Batch) -> None:
        """Set the targets of a batch: None for a target that depends on the model's scores, such as runner-up.

        An item fails if the target rule gives it no target, for example because it has no label.
        """
        for item, loaded in zip(batch.items, batch.loaded):
            target = item.target
            if target is None:
                target = self.target_rule.target_of(loaded.label, self.classes)
            if target is not None:
                check_target_number(target, None, self.config.task, self.target_rule.where(item))
            if target is None and self.target_rule.rank is None and loaded.failure is None:
                reason = self.target_rule.reason_without_target(loaded.label)
                loaded.failure = BadItem(reason, f"{item.path}: {REASONS[reason]}")
            batch.targets.append(target)

    def _publish(self, shard: Shard, on_event: EventCallback) -> None:
        metadata = {"lens": self.lens.settings, "model": self.loaded.sha256, "shard": shard.number}
        marker = shard.publish(self.out, self.config.format, metadata)
        on_event({"event": "shard", "shard": shard.number, "items": marker["items"], "failed": marker["failed"]})


@contextmanager
def _timed(classifier: Classifier, clock: Clock) -> Iterator[None]:
    """Measure the time of a classifier's gradients and scores; on a GPU, only the launches of kernels."""
    for method, activity in TIMED.items():
        setattr(classifier, method, clock.spent_on(activity)(getattr(classifier, method)))
    try:
        yield
    finally:
        for method in TIMED:
            delattr(classifier, method)


def _one_at_a_time(on_event: EventCallback) -> EventCallback:
    """Return the callback with a lock, since the thread that publishes shards calls it, too."""
    lock = threading.Lock()

    def locked(event: dict) -> None:
        with lock:
            on_event(event)

    return locked


@contextmanager
def _repeatable() -> Iterator[None]:
    """Use deterministic cuDNN algorithms, and torch's default precision."""
    settings = {"benchmark": False, "deterministic": True, "allow_tf32": True}
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before, tf32 = {name: getattr(cudnn, name) for name in settings}, matmul.allow_tf32
    try:
        for name, value in settings.items():
            setattr(cudnn, name, value)
        matmul.allow_tf32 = False
        yield
    finally:
        for name, value in before.items():
            setattr(cudnn, name, value)
        matmul.allow_tf32 = tf32


def synthetic_image(shape: Sequence[int]) -> Tensor:
    """Return a synthetic image, uint8 [C, H, W], with dark and bright pixels.

    Examples
    --------
    >>> synthetic_image((1, 2, 3))
    tensor([[[  0, 101, 202],
             [ 47, 148, 249]]], dtype=torch.uint8)
    """
    values = torch.arange(prod(shape), dtype=torch.int64, device="cpu") * 101 % 256
    return values.to(torch.uint8).reshape(tuple(shape))

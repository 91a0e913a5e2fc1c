"""``GradientProvider`` runs the classifier during one morph."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .. import checks
from ..checks import to_device, to_dtype
from ..classifier.batches import joined
from ..classifier.class_names import own_class_names
from ..classifier.isolation import warning_stacklevel
from ..classifier.objectives import gradient_start
from ..classifier.targets import check_target, has_names, resolve_checked_target, slice_target
from ..memory import rows
from ..morph_status import MorphStatus

if TYPE_CHECKING:
    from .lens import SteerableLens


@dataclass
class LossGradient:
    """The gradient of the loss at B images."""

    values: Tensor  # [B, C, H, W]
    all_good: bool = False  # whether all samples are known to have a finite gradient that is not 0

    @cached_property
    def largest(self) -> Tensor:
        """The largest absolute values [B], NaN for a sample with a NaN. They are computed when first read."""
        flat = self.values.flatten(1)
        return torch.maximum(flat.amax(1), -flat.amin(1))  # vector_norm(flat, inf) takes 20 times as long on a CPU

    def where(self, good: Tensor) -> LossGradient:
        """Return the gradient with 0 for samples that are not ``good`` [B]."""
        gradient = LossGradient(where_good(good, self.values, torch.zeros_like(self.values[:1])))
        gradient.largest = torch.where(good, self.largest, 0.0)
        return gradient


class GradientProvider:
    """Computes the gradients and outputs of one morph, and records the status of each sample."""

    def __init__(self, lens: SteerableLens, images: Tensor, target, batch: int | None, args, score: str):
        self.classifier, self.objective, self.images, self.args = lens.classifier, lens.objective, images, args
        self.batch = None if batch is None else checks.check_int("internal_batch_size", batch, 1, None)
        self.class_names = lens.class_names
        if self.class_names is None and has_names(target):
            self.class_names = own_class_names(lens.classifier.model)
        count = images.shape[0]
        self.target = check_target(target, count, lens.classifier.task, self.class_names)
        self.source_class: Tensor | None = None
        # The target "argmax" is always the predicted class.
        self.warn_if_predicted = not (isinstance(target, str) and target == "argmax")
        self.status = torch.zeros(count, dtype=torch.int64, device=images.device)
        # Whether all samples are known to be OK. Always False on a GPU, where reading the status would wait.
        self.known_all_ok = images.device.type == "cpu"
        self.outputs: dict[int, Tensor] = {}  # [B, *output_shape], by frame number
        self.output_shape: tuple[int, ...] = (0,)  # (classes, ...), or (2, labels, ...)
        self.gradient_norm: Tensor | None = None  # [B], of the gradient at the source
        self.steps = 0  # number of gradients so far
        # [B], counted from 1; 0 for samples that did not stop. None for a regime with a single step.
        self.stopped_at_step = None if lens.regime == "frozen" else torch.zeros_like(self.status)
        self.classifier.warn_if_training()
        self.smoothing, self.copies = lens.smoothing, None  # copies: an iterator, made at the first gradient
        self.scored = score  # "all", "last" or "none": the frames on which the model is run
        # For the random numbers of models, such as those of dropout: each block `with self.random_stream` continues
        # where the last block ended.
        self.random_stream = self.classifier.session(images)

    @property
    def class_count(self) -> int:
        """Number of the model's classes, or of its labels for task "multilabel"."""
        return self.output_shape[1 if self.classifier.task == "multilabel" else 0]

    def exclude(self, bad: Tensor) -> None:
        """Mark the samples in ``bad`` [B]: their images are not finite or not in bounds."""
        self.status = torch.where(bad, MorphStatus.IMAGE_NOT_IN_BOUNDS, self.status)
        self.known_all_ok = False

    def fail(self, failed: Tensor, status: MorphStatus) -> None:
        """Set ``status`` for the samples [B] in ``failed`` that have not failed before."""
        self.status = torch.where((self.status == MorphStatus.OK) & failed, status, self.status)
        self.known_all_ok = False

    def stop(self, failed: Tensor, status: MorphStatus) -> None:
        """Like :meth:`fail`; also record the current step, at which the samples stop."""
        if self.stopped_at_step is not None:
            stopped = (self.status == MorphStatus.OK) & failed
            self.stopped_at_step = torch.where(stopped, self.steps, self.stopped_at_step)
        self.fail(failed, status)

    def stop_where_gradient_too_small(self, samples: Tensor) -> None:
        """Stop the samples in ``samples`` [B]: their gradient is too small to reach their distance."""
        if samples.device.type != "cpu" or bool(samples.any()):  # reading from a GPU would wait for it
            self.stop(samples, MorphStatus.GRADIENT_TOO_SMALL)

    def started(self) -> Tensor:
        """Return which samples [B] had a valid image and a valid first gradient."""
        at_source = MorphStatus.IMAGE_NOT_IN_BOUNDS, MorphStatus.GRADIENT_NOT_FINITE, MorphStatus.GRADIENT_ZERO
        return torch.stack([self.status != status for status in at_source]).all(0)

    def gradient(self, image: Tensor, frame: int | None) -> LossGradient:
        """Return d(loss)/d(image).

        The gradient is 0 for failed samples. ``frame`` is the frame number of the image, or None if the image is not a
        frame.
        """
        first = self.source_class is None
        if not image.shape[0]:
            self.target = self.source_class = torch.zeros(0, dtype=torch.int64, device=image.device)
            self.gradient_norm = image.new_zeros(0)
            return LossGradient(torch.zeros_like(image))
        gradient, outputs = self._plain_gradient(image) if self.smoothing is None else self._averaged_gradient(image)
        if frame is not None and outputs is not None:
            self.outputs[frame] = to_device(outputs, image.device)
        return self._check_gradient(gradient, first)

    def _plain_gradient(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return gradient and outputs."""
        resolved: list[tuple[Tensor, Tensor]] = []
        gradient, outputs = self.classifier.gradient(
            to_dtype(image, self.images.dtype),
            partial(self._gradient_start, resolved),
            self.args,
            self.batch,
            stream=self.random_stream,
        )
        if resolved:
            self._set_target(outputs, resolved)
        return to_dtype(gradient, image.dtype), outputs

    def _set_target(self, outputs: Tensor, resolved: list[tuple[Tensor, Tensor]]) -> None:
        """Set target, source class and number of classes from the outputs of the source."""
        targets, source_classes = zip(*resolved)
        self.target = to_device(joined(targets), self.images.device)
        self.source_class = to_device(joined(source_classes), self.images.device)
        self.output_shape = tuple(outputs.shape[1:])
        if self.class_names is not None:
            checks.check_class_names("class_names", self.class_names, self.class_count)
        self.classifier.warn_of_probabilities(outputs)
        if self.warn_if_predicted:
            self._warn_of_predicted_targets()

    def _averaged_gradient(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the mean of the gradients at noisy copies of the image, and outputs.

        The outputs are those of the source without noise; None for a later image. One call of the model takes as many
        copies of the batch as fit in ``internal_batch_size``.
        """
        outputs = None
        if self.source_class is None:  # target and source class are those of the image without noise
            outputs = self._run_model(image.to(self.images.dtype))
            self._set_target(outputs, [resolve_checked_target(self.target, outputs, self.classifier.task)])
        batch = self.batch or len(image)
        self.copies = self.smoothing.copies(image) if self.copies is None else self.copies
        # With forward arguments, which would have to be repeated for several copies, a call takes one copy.
        no_args = self.args is None or (isinstance(self.args, tuple) and not self.args)
        per_call = max(1, batch // len(image)) if no_args else 1
        total, remaining = torch.zeros_like(image), self.smoothing.samples
        while remaining:
            copies = list(islice(self.copies, min(per_call, remaining)))
            noisy = torch.cat([copy.of(image) for copy in copies]).to(self.images.dtype)
            start = partial(self._gradient_start_of_copies, len(copies))
            gradient, _ = self.classifier.gradient(noisy, start, self.args, batch, stream=self.random_stream)
            for copy, copy_gradient in zip(copies, gradient.to(image.dtype).chunk(len(copies))):
                total += copy.pull_back(copy_gradient)  # one by one, so that the sum does not depend on per_call
            remaining -= len(copies)
        return total / self.smoothing.samples, outputs

    def _warn_of_predicted_targets(self) -> None:
        """Warn where the target is the class that the model predicts at the source."""
        if self.output_shape == (1,):  # a single score is always the highest
            return
        index = self.target if self.target.dim() == 1 else self.target[:, 0]
        if count := int((index == self.source_class).sum()):
            text = (
                f"the model already predicts the target class for {count} of {len(index)} images "
                "(see Morphs.already_predicted): their morphs do not change the class"
            )
            warnings.warn(text, UserWarning, stacklevel=warning_stacklevel())

    def _gradient_start(self, resolved: list, outputs: Tensor, at: slice) -> tuple[Tensor, Tensor]:
        """Return the tensor from which the backward pass starts for a slice of the samples, and its gradient.

        ``outputs`` are the outputs of these samples; see :func:`gradient_start`. At the source, the outputs determine
        target and source class, which are appended to ``resolved``.
        """
        if self.source_class is None:
            target = slice_target(self.target, at)
            resolved.append(resolve_checked_target(target, outputs, self.classifier.task))
            target, source = resolved[-1]
        else:
            target, source = (to_device(rows(t, at), outputs.device) for t in (self.target, self.source_class))
        return gradient_start(self.objective, outputs, target, source, self.classifier.task)

    def _gradient_start_of_copies(self, count: int, outputs: Tensor, at: slice) -> tuple[Tensor, Tensor]:
        target, source = (torch.cat([t] * count)[at].to(outputs.device) for t in (self.target, self.source_class))
        return gradient_start(self.objective, outputs, target, source, self.classifier.task)

    def _run_model(self, image: Tensor) -> Tensor:
        return self.classifier.outputs(image, self.args, self.batch, stream=self.random_stream)

    def _check_gradient(self, values: Tensor, first: bool) -> LossGradient:
        """Return the gradient, with 0 for failed samples; stop the samples whose gradient is zero or not finite."""
        self.steps += 1
        gradient = LossGradient(values)
        if first:
            self.gradient_norm, gradient.all_good = _l2_norms(values)
        if self.known_all_ok:
            gradient.all_good = gradient.all_good or all(0 < size < math.inf for size in gradient.largest.tolist())
            if gradient.all_good:
                return gradient
        not_finite = MorphStatus.GRADIENT_NOT_FINITE if first else MorphStatus.GRADIENT_BECAME_NOT_FINITE
        zero = MorphStatus.GRADIENT_ZERO if first else MorphStatus.GRADIENT_BECAME_ZERO
        status = torch.where(gradient.largest.isfinite(), MorphStatus.OK, not_finite)
        status = torch.where(gradient.largest == 0, zero, status)
        failed = status != MorphStatus.OK
        self.stop(failed, status)
        # A sample that has failed does not move again, even if a later gradient is good.
        good = self.status == MorphStatus.OK
        return gradient.where(good)

    def score(self, frames: Tensor) -> None:
        """Run the model on the frames to be scored, except on frames with known outputs."""
        count = frames.shape[0]
        wanted = {"all": range(count), "last": range(count - 1, count), "none": ()}[self.scored]
        if not wanted or not self.images.shape[0]:
            return
        with self.random_stream:  # one block for all frames: beginning a block takes longer than a small model
            for frame in wanted:
                if frame not in self.outputs:
                    outputs = self._run_model(to_dtype(frames[frame], self.images.dtype))
                    self.outputs[frame] = to_device(outputs, self.images.device)

    def discard_outputs(self, frame: int, replaced: Tensor) -> None:
        """Set a frame's outputs to NaN for the samples in ``replaced`` [B]."""
        if frame in self.outputs:
            outputs = self.outputs[frame]
            self.outputs[frame] = torch.where(replaced.view(-1, *[1] * (outputs.dim() - 1)), torch.nan, outputs)

    def all_outputs(self, frames: int) -> Tensor:
        """Return the outputs [B, F, classes, ...], NaN where the model was not run."""
        if len(self.outputs) == frames:
            return torch.stack([self.outputs[frame] for frame in range(frames)], 1)
        like = next(iter(self.outputs.values()), self.images)
        table = like.new_full((self.images.shape[0], frames, *self.output_shape), torch.nan)
        for frame, outputs in self.outputs.items():
            table.select(1, frame).copy_(outputs)
        return table


def _l2_norms(images: Tensor) -> tuple[Tensor, bool]:
    """Return the L2 norms of images [B, C, H, W], and whether all are known to be finite and not 0.

    The norms are correct even if squares overflow or underflow.
    """
    # Squares of values below sqrt(tiny) lose digits, or become 0. Norms above `smallest` are correct in any case: the
    # squares of a million such values are at most a millionth of the square of the norm.
    norms, smallest = torch.linalg.vector_norm(images, dim=(1, 2, 3)), math.sqrt(torch.finfo(images.dtype).tiny) * 1e6
    if images.device.type == "cpu":
        values = norms.tolist()
        if min(values) > smallest and math.isfinite(sum(values)):  # the sum is NaN if a value is
            return norms, True
    accurate = (norms > smallest) & norms.isfinite()
    precise = torch.linalg.vector_norm(images, dim=(1, 2, 3), dtype=torch.float64).to(images.dtype)
    return torch.where(accurate, norms, precise), False


def where_good(good: Tensor | None, values: Tensor, otherwise: Tensor | float) -> Tensor:
    """Return ``values`` [B, ...] for good samples, ``otherwise`` for the others. None means that all are good."""
    if good is None or good.device.type == "cpu" and bool(good.all()):
        return values
    return torch.where(good.view(-1, *[1] * (values.dim() - 1)), values, otherwise)

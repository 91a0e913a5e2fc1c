"""What one morph asks of its classifier: which way to go, and what it says of the frames."""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .. import checks
from ..classifier.isolation import frames_within_the_package
from ..classifier.objectives import loss
from ..classifier.targets import check_target, resolve_target, slice_target
from ..morph_status import MorphStatus

if TYPE_CHECKING:
    from .lens import SteerableLens


class GradientProvider:
    """Targets, gradients and outputs of a batch of images [B, C, H, W], and how each sample fares (``status`` [B])."""

    def __init__(self, lens: SteerableLens, images: Tensor, target, batch: int | None, args):
        self.classifier, self.objective, self.images, self.args = lens.classifier, lens.objective, images, args
        self.batch = None if batch is None else checks.check_int("internal_batch_size", batch, 1, None)
        self.target, self.source_class = check_target(target, len(images), lens.classifier.task), None
        self.warns = not (isinstance(target, str) and target == "argmax")  # which asks for the class itself
        self.status = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        self.outputs: dict[int, Tensor] = {}  # of frames, [B, classes, ...]
        self.classes: tuple[int, ...] = (0,)
        self.gradient_norm = images.new_zeros(len(images))  # at the source
        self.steps, self.stopped = 0, torch.zeros_like(self.status)  # gradients taken; the one that was the last [B]
        self.classifier.warn_if_training()
        self.stream = self.classifier.session(images)

    def refuse(self, bad: Tensor) -> None:
        """Samples [B] whose images are none: they do not move."""
        self.status = torch.where(bad, MorphStatus.IMAGE_NOT_IN_BOUNDS, self.status)

    def gradient(self, image: Tensor, frame: int | None) -> Tensor:
        """d(loss)/d(image) [B, C, H, W], 0 where a sample has none to follow; ``image`` is frame ``frame``, if any."""
        first = self.source_class is None
        if not len(image):
            self.target = self.source_class = torch.zeros(0, dtype=torch.int64, device=image.device)
            return torch.zeros_like(image)
        found: list[tuple[Tensor, Tensor]] = []
        gradient, outputs = self.classifier.gradient(
            image.to(self.images.dtype), partial(self._loss, found), self.args, self.batch, stream=self.stream
        )
        if first:
            self.target, self.source_class = (torch.cat(parts).to(image.device) for parts in zip(*found))
            self.classes = tuple(outputs.shape[1:])
            self.classifier.warn_of_probabilities(outputs)
            self._warn_of_targets_predicted()
        if frame is not None:
            self.outputs[frame] = outputs.to(image.device)
        return self._only_good(gradient.to(image.dtype), first)

    def _warn_of_targets_predicted(self) -> None:
        """Warn where a target is no other class than that of the source."""
        index = self.target if self.target.dim() == 1 else self.target[:, 0]
        if self.warns and (count := int((index == self.source_class).sum())):
            text = (
                f"target is the class that the model predicts already for {count} of {len(index)} images "
                "(see Morphs.already_predicted): what they become are no morphs to another class"
            )
            warnings.warn(text, UserWarning, stacklevel=frames_within_the_package())

    def _loss(self, found: list, outputs: Tensor, at: slice) -> Tensor:
        if self.source_class is None:
            found.append(resolve_target(slice_target(self.target, at), outputs, self.classifier.task))
            target, source = found[-1]
        else:
            target, source = (t[at].to(outputs.device) for t in (self.target, self.source_class))
        return loss(self.objective, outputs, target, source, self.classifier.task)

    def _only_good(self, gradient: Tensor, first: bool) -> Tensor:
        largest = gradient.abs().flatten(1).amax(1)  # NaN where there is one
        status = torch.where(
            largest.isfinite(),
            MorphStatus.OK,
            MorphStatus.GRADIENT_NOT_FINITE if first else MorphStatus.GRADIENT_BECAME_NOT_FINITE,
        )
        status = torch.where(
            largest == 0, MorphStatus.GRADIENT_ZERO if first else MorphStatus.GRADIENT_BECAME_ZERO, status
        )
        if first:
            self.gradient_norm = gradient.flatten(1).norm(dim=1)
        self.steps += 1
        self.stopped = torch.where(
            (self.status == MorphStatus.OK) & (status != MorphStatus.OK), self.steps, self.stopped
        )
        self.status = torch.where(self.status == MorphStatus.OK, status, self.status)
        # One that failed stays where it is, also where a later gradient is good.
        return keep_where(self.status == MorphStatus.OK, gradient, torch.zeros_like(gradient[:1]))

    def score(self, frames: Tensor, which: str) -> None:
        """Run the model on those frames [F, B, C, H, W] whose outputs its gradients have not told."""
        wanted = {"all": range(len(frames)), "last": range(len(frames) - 1, len(frames)), "none": ()}[which]
        for frame in wanted if len(self.images) else ():
            if frame not in self.outputs:
                image = frames[frame].to(self.images.dtype)
                outputs = self.classifier.outputs(image, self.args, self.batch, stream=self.stream)
                self.outputs[frame] = outputs.to(self.images.device)

    def forget(self, frame: int, good: Tensor) -> None:
        """The outputs of a frame that is replaced for samples that are not ``good`` [B] are not known."""
        if frame in self.outputs:
            outputs = self.outputs[frame]
            self.outputs[frame] = torch.where(good.view(-1, *[1] * (outputs.dim() - 1)), outputs, torch.nan)

    def all_outputs(self, frames: int) -> Tensor:
        """[B, F, classes, ...], NaN where the model was not run."""
        known = next(iter(self.outputs.values()), self.images)
        shape = (len(self.images), *self.classes)
        unknown = torch.full(shape, torch.nan, dtype=known.dtype, device=self.images.device)
        return torch.stack([self.outputs.get(frame, unknown) for frame in range(frames)], 1)


def keep_where(good: Tensor, values: Tensor, otherwise: Tensor) -> Tensor:
    """``values`` [B, ...] of samples that are ``good`` [B], the others' replaced; on the CPU untouched if all are."""
    if good.device.type == "cpu" and bool(good.all()):
        return values
    return torch.where(good.view(-1, *[1] * (values.dim() - 1)), values, otherwise)

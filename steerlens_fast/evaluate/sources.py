"""Which images an evaluation is made over: loaded as the data-set job loads them, and chosen before any is edited."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice

import torch
from torch import Tensor

from ..dataset.decoding import decode
from ..dataset.fitting import fit
from ..dataset.items import Item
from ..dataset.models import LoadedModel
from ..dataset.outcome import REASONS, USAGE, BadItem, JobError
from ..dataset.sources import Source
from ..dataset.targets import TargetRule, batch_target
from .config import EvaluationConfig

BATCH = 64
CONSTANT, ALREADY, WRONG, DISAGREE = "constant", "already-target", "wrong", "disagree"
WHY = REASONS | {
    CONSTANT: "every pixel has the same value: nothing can move",
    ALREADY: "the class that it is to be morphed toward is its own",
    WRONG: "driver or judges do not take it for its label",
    DISAGREE: "driver and judges do not take it for the same class",
}


@dataclass
class Chosen:
    """The sources.

    Attributes
    ----------
    images : Tensor [N, C, H, W], float32 in [0, 1], on the CPU
    items : list of Item
        With their targets, where the model does not decide.
    labels, predicted : list of int or None; Tensor [N]
        The data's classes, and the driver's.
    target : list of int or str
        As :meth:`steerlens_fast.SteerableLens.morph` takes it.
    sha256 : str
        Of all of this.
    left_out : Counter
        How many images were not chosen, by reason.
    seen : int
        How many were looked at.
    classes : list of str or None
        Names.
    """

    images: Tensor
    items: list[Item]
    labels: list[int | None]
    predicted: Tensor
    target: list[int] | str
    sha256: str
    left_out: Counter
    seen: int
    classes: list[str] | None

    def __len__(self) -> int:
        return len(self.items)

    def targets(self, at: slice) -> list[int] | str:
        """Of some of them."""
        return self.target if isinstance(self.target, str) else self.target[at]


@dataclass
class _Kept:
    images: list[Tensor] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    labels: list[int | None] = field(default_factory=list)
    predicted: list[int] = field(default_factory=list)


def choose(
    config: EvaluationConfig, source: Source, rule: TargetRule, driver: LoadedModel, predict: Callable[[Tensor], Tensor]
) -> Chosen:
    """Take the first images that fit, in the data's order.

    Parameters
    ----------
    config, source, rule
    driver : LoadedModel
        Says what images are to look like.
    predict : callable
        First choices [classifiers, N] of driver and judges for images [N, C, H, W].

    Raises
    ------
    JobError
        Where no image fits; it says how many did not, and why.
    """
    kept, left_out, seen = _Kept(), Counter(), 0
    target_of = lambda item, label: _target(rule, item, label, source)
    for items, images, labels in _batches(config, source, rule, driver, left_out):
        said = predict(images)
        for n, item in enumerate(items):
            seen += 1
            target = target_of(item, labels[n])
            reason = _reason(config, said[:, n], images[n], labels[n], target, rule.rank)
            if reason is not None:
                left_out[reason] += 1
            elif len(kept.items) < config.sources:
                kept.images.append(images[n])
                kept.items.append(item)
                kept.labels.append(labels[n])
                kept.predicted.append(int(said[0, n]))
        if len(kept.items) >= config.sources:
            break
    if not kept.items:
        reasons = ", ".join(f"{n} {reason} ({WHY[reason]})" for reason, n in left_out.items())
        hint = "; select='agree' or 'all' asks for less" if left_out[WRONG] or left_out[DISAGREE] else ""
        raise JobError(f"data must hold at least one source, got {seen} images: {reasons or 'none'}{hint}", USAGE)
    images = torch.stack(kept.images)
    target = batch_target(rule, list(map(target_of, kept.items, kept.labels)))
    told = [sha256(images.numpy().tobytes()).hexdigest(), [i.key for i in kept.items], kept.labels, target]
    whole = sha256(repr(told).encode(errors="surrogateescape")).hexdigest()
    predicted = torch.tensor(kept.predicted)
    return Chosen(images, kept.items, kept.labels, predicted, target, whole, left_out, seen, source.class_names)


def _batches(config, source: Source, rule: TargetRule, driver: LoadedModel, left_out: Counter) -> Iterator[tuple]:
    """(items, images [n, C, H, W], labels), those that can be read, in the size of the first or of the model."""
    if source.class_names is None and rule.kind in ("class", "map", "csv"):
        for _ in source.listing():  # some know their classes' names at the end only
            pass
    listed = islice(rule.resolve(source.listing(), source.class_names), config.limit)
    size = driver.size
    while some := list(islice(listed, BATCH)):
        loaded = []
        for item in some:
            try:
                pixels, label = _load(source, item, driver, size)
            except BadItem as error:
                left_out[error.reason] += 1
                continue
            size = size or tuple(pixels.shape[-2:])
            loaded.append((item, pixels, label))
        if loaded:
            items, pixels, labels = zip(*loaded)
            yield items, torch.stack(pixels).float().div_(255), labels


def _load(source: Source, item: Item, driver: LoadedModel, size) -> tuple[Tensor, int | None]:
    data, label = source.read_labelled(item)
    image = decode(data, mode="L" if driver.channels == 1 else "RGB")
    return torch.from_numpy(fit(image, size, crop_pct=driver.crop_pct, interpolation=driver.interpolation)), label


def _reason(config, said: Tensor, image: Tensor, label: int | None, target: int | None, rank: str | None) -> str | None:
    """Why an image is no source; None where it is one. ``said`` are the first choices of driver and judges."""
    if bool((image == image[:, :1, :1]).all()):
        return CONSTANT
    want = config.select
    if want == "auto":
        want = "agree" if label is None else "right"
    if want == "right" and (label is None or not bool((said == label).all())):
        return WRONG
    if want == "agree" and not bool((said == said[0]).all()):
        return DISAGREE
    if rank is None and target is None:
        return "no-label"
    return ALREADY if target is not None and target == int(said[0]) else None


def _target(rule: TargetRule, item: Item, label: int | None, source: Source) -> int | None:
    return item.target if item.target is not None else rule.target_of(label, source.class_names)

"""Selects the images to edit, before any of them is edited."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from random import Random

import torch
from torch import Tensor

from ..classifier.class_names import short_names
from ..data.class_matching import ClassMatch
from ..data.decoding import decode
from ..data.items import Item
from ..data.resize import resize_and_crop
from ..data.sources import Source
from ..data.targets import LABEL, TargetRule, batch_target, target_number
from ..data.value_range import read_image, value_range_of
from ..errors import NO_LABEL, NO_TARGET, REASONS, BadItem, usage_error
from ..models import LoadedModel
from ..models.device import image_dtype
from .classifiers import ClassifierSet
from .config import EvaluationConfig

BATCH = 64
CONSTANT, ALREADY, WRONG, DISAGREE = "constant", "already-target", "wrong", "disagree"
NO_CLASS = "no-such-class"
EXCLUSION_REASONS = REASONS | {
    CONSTANT: "every pixel has the same value",
    ALREADY: "the driver predicts the target already",
    WRONG: "the driver or a judge does not predict the image's label",
    DISAGREE: "the driver and the judges do not predict the same class",
    NO_CLASS: "the driver does not have the target class",
}


@dataclass
class SourceSelection:
    """The selected images.

    Attributes
    ----------
    images : Tensor [N, C, H, W] in [0, 1], float32 or, for float64 models, float64; on the CPU
    items : list of Item
        One item per image. It has a target, unless the target depends on the model or on a label that is read with the
        image.
    labels : list of int or None
        The images' labels, as numbers of the driver's classes.
    predicted : Tensor [N]
        The classes that the driver predicts.
    target : list of int or str
        As in :meth:`steerlens_fast.SteerableLens.morph`.
    sha256 : str
        Hash of images, keys, labels and targets.
    left_out : Counter
        Number of images that were not selected, by reason.
    examined : int
        Number of images that were selected or left out.
    classes : list of str or None
        Names of the classes.
    warnings : list of str
        Warnings about the labels.
    """

    images: Tensor
    items: list[Item]
    labels: list[int | None]
    predicted: Tensor
    target: list[int] | str
    sha256: str
    left_out: Counter
    examined: int
    classes: list[str] | None
    warnings: list[str]

    def __len__(self) -> int:
        return len(self.items)

    def targets(self, at: slice) -> list[int] | str:
        """Return the targets of ``images[at]``."""
        return self.target if isinstance(self.target, str) else self.target[at]


@dataclass
class Candidate:
    """One image of the data set, or why it cannot be read."""

    item: Item
    dropped: int = 0  # number of images that the target rule has left out so far
    pixels: Tensor | None = None  # uint8 [C, H, W]
    label: int | None = None
    unreadable: str | None = None
    image: Tensor | None = None  # [C, H, W] in [0, 1]
    predicted_classes: Tensor | None = None  # classes [1 + judges] that driver and judges predict
    target: int | None = None


def select_sources(
    config: EvaluationConfig, data: Source, target_rule: TargetRule, driver: LoadedModel, classifiers: ClassifierSet
) -> SourceSelection:
    """Select up to ``config.sources`` images that meet the criteria, and return them in the data's order.

    Images are examined in the order that ``config.order`` says.

    Parameters
    ----------
    config, data, target_rule
    driver : LoadedModel
        Defines size and channels of the images.
    classifiers : ClassifierSet
        The driver and the judges.

    Raises
    ------
    JobError
        If no image meets the criteria; the message has the number of images by reason.
    """
    selected, left_out, examined = [], Counter(), 0
    classes = ClassMatch(data.find_class_names(), driver.class_names, config.labels)
    needed_by = "select 'right'" if config.select == "right" else None
    needed_by = "target 'label'" if target_rule.kind == LABEL else needed_by
    label_warnings = classes.check(needed_by, model="driver")
    for candidate in _candidates(config, data, target_rule, classes, driver, classifiers):
        examined += 1
        reason = candidate.unreadable or _reason(config, candidate, target_rule, classifiers.classes)
        if reason is not None:
            left_out[reason] += 1
            continue
        selected.append(candidate)
        if len(selected) == config.sources:
            dropped = candidate.dropped  # target_rule.dropped may also count later images
            break
    else:
        dropped = target_rule.dropped
    selected.sort(key=lambda candidate: candidate.item.index)
    left_out += Counter({NO_TARGET: dropped})
    examined += dropped
    if not selected:
        reasons = ", ".join(f"{n} {reason} ({EXCLUSION_REASONS[reason]})" for reason, n in left_out.items())
        by_selection = left_out[WRONG] or left_out[DISAGREE] or (config.select == "right" and left_out[NO_LABEL])
        hint = "; select='agree' or 'all' selects more images" if by_selection else ""
        got = f"{examined} images: {reasons or 'none'}"
        raise usage_error(f"data must have at least one source, got {got}{hint}")
    images = torch.stack([candidate.image for candidate in selected])
    items, labels = [candidate.item for candidate in selected], [candidate.label for candidate in selected]
    target = batch_target(target_rule, [candidate.target for candidate in selected])
    content = [sha256(images.numpy().tobytes()).hexdigest(), [item.key for item in items], labels, target]
    digest = sha256(repr(content).encode(errors="surrogateescape")).hexdigest()
    predicted = torch.tensor([int(candidate.predicted_classes[0]) for candidate in selected], device="cpu")
    names = short_names(driver.class_names or data.class_names)
    return SourceSelection(images, items, labels, predicted, target, digest, left_out, examined, names, label_warnings)


def _candidates(
    config: EvaluationConfig,
    data: Source,
    target_rule: TargetRule,
    classes: ClassMatch,
    driver: LoadedModel,
    classifiers: ClassifierSet,
) -> Iterator[Candidate]:
    """Yield every image with its predicted classes. Images are read and classified in batches."""
    listing = lambda: islice(target_rule.resolve(data.listing(), classes), config.limit)
    value_range = value_range_of(data, listing()) if config.range == "auto" else config.range
    size = driver.size or _first_size(data, listing(), value_range)
    items, targets_checked = listing(), False
    if config.order == "random":
        items = list(items)
        Random(config.seed).shuffle(items)
    listed = (Candidate(item, target_rule.dropped) for item in items)
    while batch := list(islice(listed, BATCH)):
        for candidate in batch:
            _load(data, candidate, config.color, driver, size, value_range)
        readable = [candidate for candidate in batch if candidate.unreadable is None]
        if readable:
            images = torch.stack([candidate.pixels for candidate in readable]).to(image_dtype(config.dtype)).div_(255)
            predicted_classes = classifiers(images)
            if not targets_checked:  # the number of classes is known now
                check_targets(target_rule, classes, classifiers.classes)
                targets_checked = True
            for n, candidate in enumerate(readable):
                candidate.image, candidate.predicted_classes = images[n], predicted_classes[:, n]
                item, label = candidate.item, candidate.label
                # resolve() has replaced listed labels by classes of the driver. A label that was read with the image is
                # a class of the data.
                candidate.target = target_rule.target_of(label, classes) if item.target is None else item.target
                if item.label is None:
                    candidate.label = classes.model_label(label)
        yield from batch


def _first_size(data: Source, items: Iterable[Item], value_range) -> tuple[int, int] | None:
    """Return the size of the first image that can be read, None if there is none."""
    for item in items:
        try:
            image = read_image(data, item, value_range)
        except BadItem:
            continue
        return image.height, image.width
    return None


def _load(
    data: Source, candidate: Candidate, color: str, driver: LoadedModel, size: tuple[int, int] | None, value_range
) -> None:
    """Read an image into ``candidate``, convert it to ``color`` "grey", and resize it unless ``size`` is None."""
    try:
        encoded, candidate.label = data.read_with_label(candidate.item)
        image = decode(encoded, mode="L" if driver.channels == 1 else "RGB", range=value_range)
        image = image.convert("L").convert(image.mode) if color == "grey" else image
    except BadItem as error:
        candidate.unreadable = error.reason
        return
    fitted = resize_and_crop(image, size, crop_pct=driver.crop_pct, interpolation=driver.interpolation)
    candidate.pixels = torch.from_numpy(fitted)


def check_targets(target_rule: TargetRule, classes: ClassMatch, count: int) -> None:
    """Check that every target of a rule is one of the driver's ``count`` classes.

    Examples
    --------
    >>> from steerlens_fast.data.targets import parse_target
    >>> check_targets(parse_target("map:0=1,1=3"), ClassMatch(), 3)
    Traceback (most recent call last):
    steerlens_fast.errors.JobError: target must be one of the driver's 3 classes, 0 to 2, got 3
    """
    for value in target_rule.table.values():
        number = target_number(value, classes)
        if not 0 <= number < count:
            got = value if value == number else f"{value!r}, class {number} of the data"
            raise usage_error(f"target must be one of the driver's {count} classes, 0 to {count - 1}, got {got}")


def _reason(config: EvaluationConfig, candidate: Candidate, target_rule: TargetRule, class_count: int) -> str | None:
    """Return the reason why an image is left out, or None if it is selected."""
    image, label, target = candidate.image, candidate.label, candidate.target
    predicted_classes = candidate.predicted_classes
    if bool((image == image[:, :1, :1]).all()):
        return CONSTANT
    select = config.select
    if select == "auto":
        select = "agree" if label is None else "right"
    if select == "right" and label is None:
        return NO_LABEL
    if select == "right" and not bool((predicted_classes == label).all()):
        return WRONG
    if select == "agree" and not bool((predicted_classes == predicted_classes[0]).all()):
        return DISAGREE
    if target_rule.rank is not None:  # the runner-up and the least likely class are not the predicted one
        return None
    if target is None:
        return target_rule.reason_without_target(label)
    if not 0 <= target < class_count:
        return NO_CLASS
    return ALREADY if target == int(predicted_classes[0]) else None

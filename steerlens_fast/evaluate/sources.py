"""Which images an evaluation is made over: loaded as the data-set job loads them, and chosen before any is edited."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice

import torch
from torch import Tensor

from ..data.decoding import decode
from ..data.items import Item
from ..data.resize import resize_and_crop
from ..data.sources import Source
from ..data.targets import TargetRule, batch_target, target_number
from ..errors import REASONS, USAGE, BadItem, JobError
from ..models import LoadedModel
from ..models.device import image_dtype
from .classifiers import Panel
from .config import EvaluationConfig

BATCH = 64
CONSTANT, ALREADY, WRONG, DISAGREE = "constant", "already-target", "wrong", "disagree"
NO_TARGET, NO_CLASS = "no-target", "no-such-class"
WHY = REASONS | {
    CONSTANT: "every pixel has the same value: nothing can move",
    ALREADY: "the class that it is to be morphed toward is its own",
    WRONG: "driver or judges do not take it for its label",
    DISAGREE: "driver and judges do not take it for the same class",
    NO_TARGET: "the target says nothing about it",
    NO_CLASS: "the driver does not have the class that it is to be morphed toward",
}


@dataclass
class SourceSelection:
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
        How many were looked at, until there were enough: those chosen and those left out.
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
class Candidate:
    """One image of the data, in their order: what it is, or why it cannot be read."""

    item: Item
    dropped: int  # images before it of which the target says nothing
    pixels: Tensor | None = None  # uint8 [C, H, W]
    label: int | None = None
    bad: str | None = None
    image: Tensor | None = None  # float32 [C, H, W] in [0, 1]
    said: Tensor | None = None  # first choices of driver and judges
    target: int | None = None


def choose(
    config: EvaluationConfig, source: Source, rule: TargetRule, driver: LoadedModel, panel: Panel
) -> SourceSelection:
    """Take the first images that fit, in the data's order.

    Parameters
    ----------
    config, source, rule
    driver : LoadedModel
        Says what images are to look like.
    panel : Panel
        Classifier and judges.

    Raises
    ------
    JobError
        Where no image fits; it says how many did not, and why.
    """
    kept, left_out, seen = [], Counter(), 0
    for one in _looked_at(config, source, rule, driver, panel):
        seen += 1
        reason = one.bad or _reason(config, one, rule.rank, panel.classes)
        if reason is not None:
            left_out[reason] += 1
            continue
        kept.append(one)
        if len(kept) == config.sources:  # those of its batch that come after it do not count
            dropped = one.dropped
            break
    else:
        dropped = rule.dropped
    left_out += Counter({NO_TARGET: dropped})
    if not kept:
        reasons = ", ".join(f"{n} {reason} ({WHY[reason]})" for reason, n in left_out.items())
        hint = "; select='agree' or 'all' asks for less" if left_out[WRONG] or left_out[DISAGREE] else ""
        got = f"{seen + dropped} images: {reasons or 'none'}"
        raise JobError(f"data must hold at least one source, got {got}{hint}", USAGE)
    images, items, labels = torch.stack([one.image for one in kept]), [k.item for k in kept], [k.label for k in kept]
    target = batch_target(rule, [one.target for one in kept])
    told = [sha256(images.numpy().tobytes()).hexdigest(), [item.key for item in items], labels, target]
    whole = sha256(repr(told).encode(errors="surrogateescape")).hexdigest()
    predicted = torch.tensor([int(one.said[0]) for one in kept], device="cpu")
    names = driver.class_names or source.class_names
    return SourceSelection(images, items, labels, predicted, target, whole, left_out, seen + dropped, names)


def _looked_at(config, source: Source, rule: TargetRule, driver: LoadedModel, panel: Panel) -> Iterator[Candidate]:
    """Every image, one by one; they are read, and shown to the classifiers, by batches."""
    if source.class_names is None and rule.kind in ("class", "map", "csv"):
        for _ in source.listing():  # some know their classes' names at the end only
            pass
    names = source.class_names, driver.class_names
    listed = islice(rule.resolve(source.listing(), *names), config.limit)
    listed = (Candidate(item, rule.dropped) for item in listed)
    size, first = driver.size, True
    while some := list(islice(listed, BATCH)):
        for one in some:
            size = _load(source, one, driver, size)
        good = [one for one in some if one.bad is None]
        if good:
            images = torch.stack([one.pixels for one in good]).to(image_dtype(config.dtype)).div_(255)
            said = panel(images)
            if first:
                check_targets(rule, *names, classes=panel.classes)
                first = False
            for n, one in enumerate(good):
                one.image, one.said, one.target = images[n], said[:, n], _target(rule, one, names)
        yield from some


def _load(source: Source, one: Candidate, driver: LoadedModel, size) -> tuple[int, int] | None:
    """Read an image, in a size, or in its own where that is None; returns the size of all others."""
    try:
        data, one.label = source.read_with_label(one.item)
        image = decode(data, mode="L" if driver.channels == 1 else "RGB")
    except BadItem as error:
        one.bad = error.reason
        return size
    fitted = resize_and_crop(image, size, crop_pct=driver.crop_pct, interpolation=driver.interpolation)
    one.pixels = torch.from_numpy(fitted)
    return size or tuple(one.pixels.shape[-2:])


def check_targets(rule: TargetRule, class_names: list[str] | None, model_names=None, *, classes: int) -> None:
    """Refuse a class, map or table with a target that the driver does not have, whichever image it is for.

    Examples
    --------
    >>> from steerlens_fast.data.targets import parse_target
    >>> check_targets(parse_target("map:0=1,1=3"), None, classes=3)
    Traceback (most recent call last):
    steerlens_fast.errors.JobError: target must be one of the driver's 3 classes, 0 to 2, got 3
    """
    for value in rule.table.values():
        number = target_number(value, class_names, model_names)
        if not 0 <= number < classes:
            got = value if value == number else f"{value!r}, class {number} of the data"
            raise JobError(
                f"target must be one of the driver's {classes} classes, 0 to {classes - 1}, got {got}", USAGE
            )


def _reason(config: EvaluationConfig, one: Candidate, rank: str | None, classes: int) -> str | None:
    """Why an image is no source; None where it is one."""
    image, label, target, said = one.image, one.label, one.target, one.said
    if bool((image == image[:, :1, :1]).all()):
        return CONSTANT
    want = config.select
    if want == "auto":
        want = "agree" if label is None else "right"
    if want == "right" and (label is None or not bool((said == label).all())):
        return WRONG
    if want == "agree" and not bool((said == said[0]).all()):
        return DISAGREE
    if rank is not None:
        return None
    if target is None:
        return "no-label" if label is None else NO_TARGET
    if target >= classes:
        return NO_CLASS
    return ALREADY if target == int(said[0]) else None


def _target(rule: TargetRule, one: Candidate, names: tuple) -> int | None:
    return one.item.target if one.item.target is not None else rule.target_of(one.label, *names)

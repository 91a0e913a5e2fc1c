"""Driver and judges, loaded as the data-set job loads its model, and made to take the same images."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ..dataset.models import LoadedModel, load_model
from ..dataset.outcome import USAGE, JobError
from ..driver import Driver
from ..families.luma import luma
from .config import EvaluationConfig


def load_driver(config: EvaluationConfig, device: str, given: Callable | None = None) -> LoadedModel:
    """The classifier whose gradient is followed: the one that the configuration names, or an object."""
    spec = config.driver if given is None else given
    return load_model(spec, device=device, weights=config.weights, **config.model_options)


def load_judges(
    config: EvaluationConfig, device: str, given: Mapping[str, Callable] | None = None
) -> dict[str, LoadedModel]:
    """The others, by name."""
    if given is not None:
        return {name: load_model(judge, device=device, **config.model_options) for name, judge in given.items()}
    weights = config.judge_weights or (None,) * len(config.judges)
    names = short_names(config.judges)
    return {
        name: load_model(judge, device=device, weights=w, **config.model_options)
        for name, judge, w in zip(names, config.judges, weights)
    }


def short_names(specs) -> list[str]:
    """What classifiers are called in results: the end of what names them, numbered where two are alike.

    Examples
    --------
    >>> short_names(["timm:resnet18", "torchvision:resnet18", "my.nets:mlp", "weights/net.pt2"])
    ['resnet18', 'resnet18-2', 'mlp', 'net']
    """
    names: list[str] = []
    for spec in specs:
        name = spec.rpartition(":")[2].rpartition("/")[2].removesuffix(".pt2").removesuffix(".pt") or spec
        free = (name if n == 1 else f"{name}-{n}" for n in range(1, len(names) + 4))
        names.append(next(one for one in free if one not in (*names, "driver", "")))
    return names


def as_driver(model: LoadedModel, channels: int) -> Driver:
    """A classifier on images [N, channels, H, W] in [0, 1] of any size: resized and recoloured to what it takes."""
    return Driver(model.model, _Adapted(model, channels))


class _Adapted:
    """From the evaluation's images to those that a model takes."""

    def __init__(self, model: LoadedModel, channels: int):
        self.model, self.channels = model, channels

    def __call__(self, images: Tensor) -> Tensor:
        size = self.model.size
        if size is not None and tuple(images.shape[-2:]) != tuple(size):
            images = F.interpolate(images, size=size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        if self.model.channels != self.channels:
            images = luma(images) if self.model.channels == 1 else images.expand(-1, 3, -1, -1)
        return images if self.model.preprocessing is None else self.model.preprocessing(images)


def matching(driver: Driver, judges: Mapping[str, Driver], images: Tensor, names: Mapping[str, list[str] | None]):
    """Judges whose classes are the driver's, and what is wrong with the others.

    Parameters
    ----------
    driver, judges
    images : Tensor [N, C, H, W]
        Some images, on which all are run once.
    names : mapping
        Class names by classifier, None where they are not known; the driver's under "".

    Returns
    -------
    dict of str to Driver
    list of str
        A message for each judge that is left out.
    """
    classes = _count_of_classes("driver", driver, images)
    if classes < 2:
        raise JobError(f"driver must tell at least two classes apart, got {classes}", USAGE)
    good, problems = {}, []
    for name, judge in judges.items():
        try:
            count = _count_of_classes(f"judge {name!r}", judge, images)
        except Exception as error:  # a judge's own code: the others have their say
            problems.append(f"judge {name!r} fails: {error}; it is left out")
            continue
        if count != classes:
            problems.append(f"judge {name!r} has {count} classes and the driver {classes}: it is left out")
        elif (first := _first_difference(names.get(""), names.get(name))) is not None:
            told = f"class {first} is {names[name][first]!r} to it and {names[''][first]!r} to the driver"
            problems.append(f"judge {name!r} has other classes than the driver: {told}; it is left out")
        else:
            good[name] = judge
    return good, problems


def _first_difference(ours: list[str] | None, theirs: list[str] | None) -> int | None:
    """The first class that two lists name differently, by its first synonym; None where none is known to."""
    plain = lambda name: str(name).partition(",")[0].strip().casefold()
    pairs = enumerate(zip(ours or (), theirs or ()))
    return next((n for n, (a, b) in pairs if plain(a) != plain(b)), None)


def _count_of_classes(who: str, classifier: Driver, images: Tensor) -> int:
    outputs = classifier.outputs(images)
    if outputs.dim() != 2:
        raise JobError(f"{who} must give class scores [N, classes], got {list(outputs.shape)}", USAGE)
    return outputs.shape[1]


def predictions(classifiers: Mapping[str, Driver], images: Tensor) -> Tensor:
    """First choices [classifiers, N]; -1 where scores are NaN."""
    outputs = (c.outputs(images).to(images.device) for c in classifiers.values())
    return torch.stack([o.argmax(1).masked_fill(o.isnan().any(1), -1) for o in outputs])

"""Classifier and judges, loaded as the data-set job loads its model, and made to take the same images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from ..classifier import Classifier
from ..classifier.outputs import ONE_LOGIT
from ..errors import USAGE, JobError
from ..families.luma import luma
from ..models import LoadedModel, load_model
from .config import NO_WEIGHTS, EvaluationConfig

# Bytes of images that are worked on, and shown to a classifier, together. On the CPU: so few that the activations of a
# network stay in memory that the process has. EfficientNet-Lite0 at 224 x 224 takes 41 ms of CPU time for an image in a
# batch of 9, and 93 ms in one of 180, where the output of each layer is fresh pages from the kernel.
CALL_BYTES = {"cpu": 5 << 20, "cuda": 128 << 20}


def images_per_call(image_bytes: int, device: torch.device) -> int:
    """How many images of so many bytes a classifier is shown together.

    Examples
    --------
    >>> images_per_call(4 * 3 * 224 * 224, torch.device("cpu")), images_per_call(4 * 32 * 32, torch.device("cpu"))
    (8, 1280)
    """
    return max(1, CALL_BYTES.get(device.type, CALL_BYTES["cuda"]) // max(image_bytes, 1))


def load_driver(config: EvaluationConfig, device: str, given: Callable | None = None) -> LoadedModel:
    """The classifier whose gradient is followed: the one that the configuration names, or an object."""
    spec = config.driver if given is None else given
    with _called("driver"):
        return load_model(spec, device=device, weights=config.weights, **config.model_options)


def load_judges(
    config: EvaluationConfig, device: str, given: Mapping[str, Callable] | None = None
) -> dict[str, LoadedModel]:
    """The others, by name."""
    specs = config.judges if given is None else given.values()
    files = (None,) * len(specs) if given is not None else config.judge_weights or (None,) * len(specs)
    names = short_names(config.judges) if given is None else list(given)
    judges = {}
    for number, (name, spec, file) in enumerate(zip(names, specs, files)):
        weights = None if file == NO_WEIGHTS else file
        with _called(f"judge {name!r}"):
            judges[name] = load_model(spec, device=device, weights=weights, **config.judge_options(number))
    return judges


@contextmanager
def _called(who: str) -> Iterator[None]:
    """What cannot be loaded says which of the classifiers it is."""
    try:
        yield
    except JobError as error:
        raise JobError(f"{who}: {error}", error.code) from error


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


def as_driver(model: LoadedModel, channels: int, task: str = "multiclass") -> Classifier:
    """A classifier on images [N, channels, H, W] in [0, 1] of any size: resized and recoloured to what it takes."""
    return Classifier(model.model, _Adapted(model, channels), task)


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


class Panel:
    """Classifier and judges on the evaluation's images. Their classes are compared on the first images that there are.

    Attributes
    ----------
    driver : Classifier
    judges : dict of str to Classifier
        Once images have been seen: those whose classes are the driver's.
    problems : list of str
        A message for each judge that is left out.
    classes : int or None
        How many the driver has, once images have been seen.
    """

    def __init__(self, driver: LoadedModel, judges: Mapping[str, LoadedModel], device: str, task: str = "multiclass"):
        self.device, self.names = device, {"": driver.class_names} | {n: j.class_names for n, j in judges.items()}
        self.driver = as_driver(driver, driver.channels, task)
        self.judges = {name: as_driver(judge, driver.channels, task) for name, judge in judges.items()}
        self.problems: list[str] = []
        self.classes: int | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """First choices [1 + judges, N] of the driver and of each judge; -1 where scores are NaN."""
        images = images.to(self.device)
        if self.classes is None:
            self._compare(images)
        batch = images_per_call(images[:1].numel() * images.itemsize, images.device)
        outputs = (c.outputs(images, batch=batch).to(images.device) for c in (self.driver, *self.judges.values()))
        return torch.stack([o.argmax(1).masked_fill(o.isnan().any(1), -1) for o in outputs]).cpu()

    def _compare(self, images: Tensor) -> None:
        """Leave out the judges whose classes are not the driver's."""
        try:
            self.classes = _count_of_classes("driver", self.driver, images)
        except JobError:
            raise
        except Exception as error:  # the driver's own code; most often it takes images of another kind
            got = f"driver fails on images {list(images.shape)}: {error}"
            raise JobError(f"{got}\nchannels and size say which images it is given", USAGE) from error
        if self.classes < 2:
            raise JobError(f"driver must tell at least two classes apart, got {self.classes} ({ONE_LOGIT})", USAGE)
        wrong = {name: self._what_is_wrong(name, judge, images) for name, judge in self.judges.items()}
        self.problems = [f"judge {name!r} {told}; it is left out" for name, told in wrong.items() if told]
        self.judges = {name: judge for name, judge in self.judges.items() if not wrong[name]}

    def _what_is_wrong(self, name: str, judge: Classifier, images: Tensor) -> str | None:
        try:
            count = _count_of_classes(f"judge {name!r}", judge, images)
        except Exception as error:  # a judge's own code: the others have their say
            return f"fails: {error}"
        if count != self.classes:
            return f"has {count} classes and the driver {self.classes}"
        first = _first_difference(self.names[""], self.names[name])
        if first is None:
            return None
        theirs, ours = self.names[name][first], self.names[""][first]
        return f"has other classes than the driver: class {first} is {theirs!r} to it and {ours!r} to the driver"


def _first_difference(ours: list[str] | None, theirs: list[str] | None) -> int | None:
    """The first class that two lists name differently, by its first synonym; None where none is known to."""
    plain = lambda name: str(name).partition(",")[0].strip().casefold()
    pairs = enumerate(zip(ours or (), theirs or ()))
    return next((n for n, (a, b) in pairs if plain(a) != plain(b)), None)


def _count_of_classes(who: str, classifier: Classifier, images: Tensor) -> int:
    outputs = classifier.outputs(images)
    if outputs.dim() != 2:
        raise JobError(f"{who} must give class scores [N, classes], got {list(outputs.shape)}", USAGE)
    return outputs.shape[1]

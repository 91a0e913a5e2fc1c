"""Loads driver and judges, and adapts them to the same images.

The driver is the classifier whose gradient the edits follow. The judges are other classifiers, whose gradients are not
used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import check_class_names
from ..classifier import Classifier
from ..classifier.outputs import ONE_LOGIT
from ..errors import JobError, usage_error
from ..families.luma import luma
from ..models import LoadedModel, load_model
from ..models.device import CALL_BYTES
from .config import USE_DEFAULT, EvaluationConfig

GPU_CALL_BYTES = 128 << 20  # bytes of images that are passed to a classifier in one call on a GPU


def images_per_call(image_bytes: int, device: torch.device) -> int:
    """Return how many images are passed to a classifier in one call.

    Examples
    --------
    >>> images_per_call(4 * 3 * 224 * 224, torch.device("cpu")), images_per_call(4 * 32 * 32, torch.device("cpu"))
    (8, 1280)
    """
    return max(1, (CALL_BYTES if device.type == "cpu" else GPU_CALL_BYTES) // max(image_bytes, 1))


def load_driver(
    config: EvaluationConfig, device: str, driver: Callable | None = None, data_channels: int | None = None
) -> LoadedModel:
    """Load the driver of the configuration, or a callable in its place.

    ``data_channels`` is the default number of the driver's channels, see :func:`load_model`.
    """
    spec = config.driver if driver is None else driver
    with prefix_errors("driver"):
        return load_model(
            spec, device=device, weights=config.weights, data_channels=data_channels, **config.model_options
        )


def load_judges(
    config: EvaluationConfig,
    device: str,
    judge_models: Mapping[str, Callable] | None = None,
    data_channels: int | None = None,
) -> dict[str, LoadedModel]:
    """Load the judges, and return them by name. ``data_channels`` is as in :func:`load_driver`."""
    specs = config.judges if judge_models is None else judge_models.values()
    files = (None,) * len(specs) if judge_models is not None else config.judge_weights or (None,) * len(specs)
    names = judge_names(config.judges) if judge_models is None else list(judge_models)
    judges = {}
    for number, (name, spec, file) in enumerate(zip(names, specs, files)):
        weights = None if file == USE_DEFAULT else file
        with prefix_errors(f"judge {name!r}"):
            options = {**config.judge_options(number), "data_channels": data_channels}
            judges[name] = load_model(spec, device=device, weights=weights, **options)
    return judges


@contextmanager
def prefix_errors(role: str) -> Iterator[None]:
    """Prefix the message of a JobError with the classifier's role."""
    try:
        yield
    except JobError as error:
        raise JobError(f"{role}: {error}", error.code) from error


def judge_names(specs) -> list[str]:
    """Return names of judges for the results: the last part of the name by which each is loaded.

    Equal names get numbers, and so does the name "driver".

    Examples
    --------
    >>> judge_names(["timm:resnet18", "torchvision:resnet18", "my.nets:mlp", "weights/net.pt2"])
    ['resnet18', 'resnet18-2', 'mlp', 'net']
    """
    names: list[str] = []
    for spec in specs:
        name = spec.rpartition(":")[2].rpartition("/")[2].removesuffix(".pt2").removesuffix(".pt") or spec
        free = (name if n == 1 else f"{name}-{n}" for n in range(1, len(names) + 4))
        names.append(next(candidate for candidate in free if candidate not in (*names, "driver", "")))
    return names


def as_classifier(model: LoadedModel, channels: int, task: str = "multiclass") -> Classifier:
    """Return a classifier that takes images of any size. The images are [N, channels, H, W] in [0, 1]."""
    return Classifier(model.model, _Preprocessing(model, channels), task)


class _Preprocessing:
    """Resizes the evaluation's images to the size of a model, converts them to grey or RGB, and normalises them."""

    def __init__(self, model: LoadedModel, channels: int):
        self.model, self.channels = model, channels

    def __call__(self, images: Tensor) -> Tensor:
        size = self.model.size
        if size is not None and tuple(images.shape[-2:]) != tuple(size):
            images = F.interpolate(images, size=size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        if self.model.channels != self.channels:
            images = luma(images) if self.model.channels == 1 else images.expand(-1, 3, -1, -1)
        return images if self.model.preprocessing is None else self.model.preprocessing(images)


class ClassifierSet:
    """The driver and the judges.

    When the first batch is classified, judges with other classes, and those that raise an error, are removed.

    Attributes
    ----------
    driver : Classifier
    judges : dict of str to Classifier
        All judges; after the first batch, those that were not removed.
    problems : list of str
        A message for each judge that was removed.
    classes : int or None
        Number of classes of the driver; None before the first batch.
    """

    def __init__(self, driver: LoadedModel, judges: Mapping[str, LoadedModel], device: str, task: str = "multiclass"):
        # The key "" stands for the driver: no judge may have this name (prepare.py).
        self.device, self.names = device, {"": driver.class_names} | {n: j.class_names for n, j in judges.items()}
        self.driver = as_classifier(driver, driver.channels, task)
        self.judges = {name: as_classifier(judge, driver.channels, task) for name, judge in judges.items()}
        self.problems: list[str] = []
        self.classes: int | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """Return the predictions of driver and judges, [1 + judges, N]. A class is -1 where the scores are NaN."""
        images = images.to(self.device)
        if self.classes is None:
            self._compare(images)
        batch = images_per_call(images[:1].numel() * images.itemsize, images.device)
        outputs = (c.outputs(images, batch=batch).to(images.device) for c in (self.driver, *self.judges.values()))
        return torch.stack([o.argmax(1).masked_fill(o.isnan().any(1), -1) for o in outputs]).cpu()

    def _compare(self, images: Tensor) -> None:
        """Check the driver, and remove the judges that fail or have other classes."""
        try:
            self.classes = _number_of_classes("driver", self.driver, images)
        except JobError:
            raise
        except Exception as error:  # user code; usually, the driver takes images of another shape
            got = f"the driver fails on images {list(images.shape)}: {error}"
            raise usage_error(f"{got}\nset channels and size to those that it accepts") from error
        if self.classes < 2:
            raise usage_error(f"driver must have at least two classes, got {self.classes} ({ONE_LOGIT})")
        try:
            check_class_names("class_names of the driver", self.names[""], self.classes)
        except ValueError as error:
            raise usage_error(str(error)) from error
        mismatches = {name: self._mismatch(name, judge, images) for name, judge in self.judges.items()}
        self.problems = [f"judge {name!r} {text}; it is left out" for name, text in mismatches.items() if text]
        self.judges = {name: judge for name, judge in self.judges.items() if not mismatches[name]}

    def _mismatch(self, name: str, judge: Classifier, images: Tensor) -> str | None:
        try:
            count = _number_of_classes(f"judge {name!r}", judge, images)
        except Exception as error:  # user code; the other judges are still used
            return f"fails: {error}"
        if count != self.classes:
            return f"has {count} classes, but the driver has {self.classes}"
        names = self.names[name]
        if names is not None and len(names) != count:
            return f"has {len(names)} class names for {count} classes"
        first = first_difference(self.names[""], self.names[name])
        if first is None:
            return None
        theirs, ours = self.names[name][first], self.names[""][first]
        return f"has classes that differ from the driver's: class {first} is {theirs!r}, not {ours!r}"


def first_difference(ours: list[str] | None, theirs: list[str] | None) -> int | None:
    """Return the number of the first class with different names, or None.

    Only the text before the first comma of a name is compared, without regard to case.
    """
    plain = lambda name: str(name).partition(",")[0].strip().casefold()
    pairs = enumerate(zip(ours or (), theirs or ()))
    return next((n for n, (a, b) in pairs if plain(a) != plain(b)), None)


def _number_of_classes(role: str, classifier: Classifier, images: Tensor) -> int:
    outputs = classifier.outputs(images)
    if outputs.dim() != 2:
        raise usage_error(f"{role} must return class scores [N, classes], got {list(outputs.shape)}")
    return outputs.shape[1]

"""Runs judges: classifiers that predict the classes of the images that raters see, for comparison."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ..classifier.class_names import short_names
from ..errors import usage_error
from ..evaluate.classifiers import as_classifier, first_difference, images_per_call, judge_names, prefix_errors
from ..job.plan import Plan
from ..models import LoadedModel, load_model

Judges = Sequence[str] | Mapping[str, str | Callable]


def load_judges(judges: Judges, channels: int, trust_checkpoint: bool) -> dict[str, LoadedModel]:
    """Load classifiers, and return them by name. ``trust_checkpoint`` is that of :func:`.load_model`.

    Raises
    ------
    JobError
        If a classifier cannot be loaded.
    """
    if isinstance(judges, (str, os.PathLike)):
        judges = [judges]
    named = judges if isinstance(judges, Mapping) else dict(zip(judge_names([str(j) for j in judges]), judges))
    loaded = {}
    for name, spec in named.items():
        with prefix_errors(f"judge {name!r}"):
            loaded[name] = load_model(spec, data_channels=channels, trust_checkpoint=trust_checkpoint)
    return loaded


def check_judges(judges: Mapping[str, LoadedModel], plan: Plan, task: str) -> None:
    """Raise a JobError if a judge has other classes than the job's model, or if judges cannot be used for the task."""
    if judges and task != "multiclass":
        raise usage_error(f"judges must not be given with task {task!r}: they compare the scores of all classes")
    ours = short_names(plan.classes)
    for name, judge in judges.items():
        theirs = short_names(judge.class_names)
        counts = [len(names) for names in (theirs, ours) if names is not None]
        if len(set(counts)) > 1:
            got = f"{counts[0]} classes instead of {counts[1]}"
            raise usage_error(f"judge {name!r} must have the classes of the job's model, got {got}")
        different = first_difference(plan.classes, judge.class_names)  # the number of a class
        if different is not None:
            got = f"{theirs[different]!r} instead of {ours[different]!r} for class {different}"
            raise usage_error(f"judge {name!r} must have the classes of the job's model, got {got}")


def predicted_classes(name: str, judge: LoadedModel, frames: Tensor, classes: int) -> list[int]:
    """Return a judge's predictions for frames uint8 [N, C, H, W]; -1 where a score is NaN.

    Raises
    ------
    JobError
        If the judge fails, or has fewer than ``classes`` classes.
    """
    images = frames.float() / 255
    try:
        batch = images_per_call(images[:1].numel() * images.itemsize, torch.device("cpu"))
        outputs = as_classifier(judge, images.shape[1]).outputs(images, batch=batch)
    except Exception as error:  # user code
        text = f"judge {name!r} must take images {list(images.shape)}, got {type(error).__name__}: {error}"
        raise usage_error(text) from error
    if outputs.dim() != 2 or outputs.shape[1] < classes:
        got = list(outputs.shape)
        raise usage_error(f"judge {name!r} must return scores [N, at least {classes} classes], got {got}")
    return outputs.argmax(1).masked_fill(outputs.isnan().any(1), -1).tolist()

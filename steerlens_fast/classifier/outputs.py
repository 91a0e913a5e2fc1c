"""Finds the class scores in the return value of a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

TASKS = ("multiclass", "binary", "multilabel")
# Maximum number of nested objects to search, including the scores. Without a limit, the search would not end for a
# unittest.mock.Mock, whose attributes are Mocks again.
MAX_LEVELS = 8
ONE_LOGIT = "for one logit per image set task='binary' (on the command line --task binary)"


def class_scores(outputs, count: int, task: str = "multiclass") -> Tensor:
    """Return the class scores in the return value of a model, checked.

    Scores of binary and multilabel models are converted, so that a softmax over axis 1 gives probabilities
    for every task.

    Parameters
    ----------
    outputs
        A tensor, an object with ``logits``, a mapping with "logits", or a tuple or list whose first entry is one of
        these.
    count : int
        N, the number of images.
    task : {"multiclass", "binary", "multilabel"}
        What the tensor is. "multiclass": scores [N, classes, ...]. "binary": the logit of class 1, [N] or [N, 1, ...].
        "multilabel": a logit for each label, [N, L, ...].

    Returns
    -------
    Tensor
        "multiclass": the scores of the model, [N, classes, ...]. "binary": [N, 2, ...] with -z/2 and z/2 for a logit z,
        so that class 1 has the probability sigmoid(z). "multilabel": [N, 2, L, ...] with -z/2 (label absent) and z/2
        (label present).

    Raises
    ------
    TypeError, ValueError
        If the return value contains no valid scores.

    Examples
    --------
    >>> class_scores({"logits": (torch.zeros(2, 10), "more")}, 2).shape
    torch.Size([2, 10])
    >>> class_scores(torch.tensor([3.0, -1.0]), 2, "binary")
    tensor([[-1.5000,  1.5000],
            [ 0.5000, -0.5000]])
    >>> class_scores(torch.zeros(2, 5), 2, "multilabel").shape
    torch.Size([2, 2, 5])
    """
    scores = outputs if isinstance(outputs, Tensor) else _tensor_in(outputs)
    if not scores.is_floating_point():
        raise TypeError(f"model must return floating-point scores [N, classes, ...], got {scores.dtype}")
    if task == "binary":
        scores = _binary(scores, count)
    elif scores.dim() < 2 or not scores.shape[1] or scores.shape[0] != count:
        labels = "labels" if task == "multilabel" else "classes"
        hint = f" ({ONE_LOGIT})" if scores.shape == (count,) else ""
        raise ValueError(f"model must return [N, {labels}, ...] with N = {count}, got {list(scores.shape)}{hint}")
    if task == "multiclass":
        return scores
    half = scores / 2  # exact
    return torch.cat([-half, half], 1) if task == "binary" else torch.stack([-half, half], 1)


def number_of_classes(scores: Tensor, task: str = "multiclass") -> int:
    """Return the number of classes in scores from :func:`class_scores`; for task "multilabel", of labels.

    Examples
    --------
    >>> scores = class_scores(torch.zeros(2, 5), 2, "multilabel")
    >>> number_of_classes(scores, "multilabel"), number_of_classes(torch.zeros(2, 10))
    (5, 10)
    """
    return scores.shape[2] if task == "multilabel" else scores.shape[1]


def _tensor_in(outputs) -> Tensor:
    container = outputs
    for _ in range(MAX_LEVELS):
        if isinstance(container, Tensor):
            return container
        content = _content(container)
        if content is None or content is container:
            break
        container = content
    raise TypeError(f"model must return scores [N, classes, ...] or logits, got {_described(outputs, container)}")


def _content(outputs):
    """Return the content of a container; None for an object of another kind."""
    if isinstance(outputs, Mapping):
        return outputs["logits"] if "logits" in outputs else getattr(outputs, "logits", None)
    if getattr(outputs, "logits", None) is not None:
        return outputs.logits
    return outputs[0] if isinstance(outputs, (tuple, list)) and outputs else None


def _described(outputs, container) -> str:
    """Describe a return value without scores, and the innermost container that was searched."""
    kind = type(container).__name__
    if isinstance(container, Mapping):
        inner = f"{kind} with keys {list(container)}"
        tensors = [key for key, value in container.items() if isinstance(value, Tensor)]
        inner += f" (wrap the model: lambda images: model(images)[{tensors[0]!r}])" if tensors else ""
    elif isinstance(container, (tuple, list)):
        inner = f"{kind} that begins with {type(container[0]).__name__}" if container else f"an empty {kind}"
    elif dataclasses.is_dataclass(container):
        values = {field.name: type(getattr(container, field.name)).__name__ for field in dataclasses.fields(container)}
        inner = f"{kind} with fields {values}"
    else:
        inner = kind
    return inner if container is outputs else f"{type(outputs).__name__} that holds {inner}"


def _binary(scores: Tensor, count: int) -> Tensor:
    """Return the logits of binary models as [N, 1, ...]."""
    shape = list(scores.shape)
    scores = scores.reshape(1) if scores.dim() == 0 and count == 1 else scores
    scores = scores[:, None] if scores.dim() == 1 else scores
    if scores.dim() < 2 or scores.shape[1] != 1 or len(scores) != count:
        several = scores.dim() > 1 and scores.shape[1] > 1
        hint = " (for a score per class set task='multiclass', for labels 'multilabel')" if several else ""
        expected = f"[N] or [N, 1, ...] with N = {count} for task 'binary'"
        raise ValueError(f"model must return {expected}, got {shape}{hint}")
    return scores

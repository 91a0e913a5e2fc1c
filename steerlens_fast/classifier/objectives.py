"""Objectives: losses that are lower if a classifier's outputs favour the target.

There is one loss per sample. The gradient is that of the sum over samples, since with a mean, gradients would be
smaller in larger batches.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ..checks import check_choice, shown
from ..ops import nll_gradient
from .outputs import ONE_LOGIT
from .targets import scores_at

Loss = Callable[[Tensor, Tensor], Tensor]


def _pick(scores: Tensor, index: Tensor) -> Tensor:
    return scores.gather(1, index[:, None])[:, 0]


def _nll(scores: Tensor, target: Tensor, source: Tensor) -> Tensor:
    """Return -log softmax of the target's score, computed as softplus(logsumexp(other scores) - target's score).

    The gradient of log_softmax has the term 1 - p for the target's probability p, and loses all significant digits when
    p rounds to 1. The gradient of the formula used here is a product, which is accurate until it underflows.

    The largest of the other scores is subtracted from all scores first. The differences are then exact if the scores
    are large and near each other. Scores of -inf are replaced by the lowest finite number, because the derivative of
    logsumexp is NaN if all its inputs are -inf.
    """
    lowest = torch.finfo(scores.dtype).min
    others = scores.clamp(min=lowest).scatter(1, target[:, None], lowest)
    largest = others.detach().amax(1)
    gap = (_pick(scores, target) - largest) - (others - largest[:, None]).logsumexp(1)
    return 0 - logsigmoid(gap)  # the negation -logsigmoid(gap) would return -0 for a loss of 0


def _logit(scores: Tensor, target: Tensor, source: Tensor) -> Tensor:
    return -_pick(scores, target)


def _margin(scores: Tensor, target: Tensor, source: Tensor) -> Tensor:
    return _pick(scores, source) - _pick(scores, target)


# Functions of scores [N, classes], target [N] and source [N] that return a loss [N] to decrease.
OBJECTIVES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "nll": _nll,
    "logit": _logit,
    "margin": _margin,
    "log-probability": _nll,  # another name for nll: the loss is minus the target's log-probability
}
NEED_TWO_CLASSES = ("nll", "margin", "log-probability")  # with one class, these objectives are constant


def check_objective(objective: str | Loss) -> str | Loss:
    """Check an objective: a key of OBJECTIVES, or a callable."""
    if callable(objective):
        return objective
    if not isinstance(objective, str):
        expected = f"one of {tuple(OBJECTIVES)} or a callable (outputs, target) -> loss [N]"
        raise TypeError(f"objective must be {expected}, got {shown(objective)}")
    return check_choice("objective", objective, tuple(OBJECTIVES))


def loss(objective: str | Loss, outputs: Tensor, target: Tensor, source: Tensor, task: str = "multiclass") -> Tensor:
    """Return the loss of each sample; morphs decrease it.

    Parameters
    ----------
    objective : str or callable
        * "nll" is -log softmax(outputs)[target], over the class axis 1. Its gradient tends to 0 as the target's
          probability tends to 1, but is accurate until it underflows.
        * "log-probability" is another name for "nll": decreasing the loss increases the target's log-probability.
        * "logit" is -outputs[target].
        * "margin" is -(outputs[target] - outputs[source]).
        * A callable ``(outputs, target) -> [N]`` returns a loss to decrease.
    outputs : Tensor [N, classes, ...]
        Scores returned by :func:`~steerlens_fast.classifier.outputs.class_scores`.
    target : Tensor [N] or [N, k], int64
    source : Tensor [N], int64
        Both as returned by :func:`~steerlens_fast.classifier.targets.resolve_target`.
    task : {"multiclass", "binary", "multilabel"}
        For "binary" and "multilabel" with a logit z, "logit" is -z for target 1 and z for target 0. "margin" equals
        "logit" if source and target differ, and is 0 if they are equal.

    Returns
    -------
    Tensor [N]
        Float32 or float64; for a callable, its return value.

    Examples
    --------
    >>> outputs = torch.tensor([[1.0, 4.0, 2.0]])
    >>> loss("margin", outputs, target=torch.tensor([2]), source=torch.tensor([1]))
    tensor([2.])
    """
    # Autograd cannot save tensors that were created in inference mode.
    target, source = (t.clone() if t.is_inference() else t for t in (target, source))
    if callable(objective):
        return _check_losses(objective(outputs, target), len(outputs))
    if outputs.shape[1] < 2 and objective in NEED_TWO_CLASSES:
        hint = f"{ONE_LOGIT}; objective 'logit' accepts a single score"
        expected = f"at least two classes for objective {objective!r}"
        raise ValueError(f"outputs must have {expected}, got {list(outputs.shape)} ({hint})")
    index = target if target.dim() == 1 else target[:, 0]
    scores = scores_at(outputs, target)
    scores = scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
    losses = OBJECTIVES[objective](scores, index, source)
    # For "binary" and "multilabel", class_scores turns a logit z into the scores -z/2 and z/2
    return 2 * losses if objective == "logit" and task != "multiclass" else losses


def gradient_start(
    objective: str | Loss, outputs: Tensor, target: Tensor, source: Tensor, task: str = "multiclass"
) -> tuple[Tensor, Tensor]:
    """Return where the backward pass of :func:`loss` starts: a tensor, and the gradient with respect to it.

    ``torch.autograd.grad`` continues from there to the images. The tensor is usually the losses, with gradients of 1.
    For "nll" and outputs [N, classes], the tensor is the outputs. Their gradient is computed without an autograd graph:
    for a small model, autograd would spend more time in the graph of the loss than in the graph of the model.

    Examples
    --------
    >>> outputs = torch.tensor([[0.0, 0.0]], requires_grad=True)
    >>> scores, gradient = gradient_start("nll", outputs, torch.tensor([0]), torch.tensor([1]))
    >>> torch.autograd.grad(scores, outputs, gradient)
    (tensor([[-0.5000,  0.5000]]),)
    """
    if objective not in ("nll", "log-probability") or outputs.dim() != 2 or outputs.shape[1] < 2:
        losses = loss(objective, outputs, target, source, task)
        return losses, torch.ones_like(losses)
    scores = outputs.float() if outputs.dtype in (torch.float16, torch.bfloat16) else outputs
    return scores, nll_gradient(scores.detach(), target if target.dim() == 1 else target[:, 0])


def _check_losses(losses, count: int) -> Tensor:
    if not isinstance(losses, Tensor) or not losses.is_floating_point():
        got = losses.dtype if isinstance(losses, Tensor) else type(losses).__name__
        raise TypeError(f"objective must return a floating-point tensor [{count}], one loss per sample, got {got}")
    if tuple(losses.shape) != (count,):
        raise ValueError(f"objective must return one loss per sample, shape [{count}], got {list(losses.shape)}")
    return losses

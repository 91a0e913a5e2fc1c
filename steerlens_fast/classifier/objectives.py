"""Objectives: losses of a classifier's outputs that decrease toward the targets of :mod:`.targets`.

Losses are per sample and summed over samples: with a mean, gradients would shrink with the batch size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ..checks import check_choice
from .outputs import ONE_LOGIT
from .targets import check_target, resolve_target, scores_at, slice_target

__all__ = ["OBJECTIVES", "check_objective", "check_target", "loss", "resolve_target", "slice_target"]
Loss = Callable[[Tensor, Tensor], Tensor]


def _pick(scores: Tensor, index: Tensor) -> Tensor:
    return scores.gather(1, index[:, None])[:, 0]


def _nll(scores: Tensor, target: Tensor, source: Tensor) -> Tensor:
    """-log softmax as softplus(logsumexp(others) - target).

    The gradient of log_softmax subtracts the target's probability from 1 and loses all significant digits when that
    probability rounds to 1. Here the gradient is computed as a product, which keeps its relative accuracy until it
    underflows. The largest of the other scores is subtracted first: the differences are exact if the scores are large
    and near each other. Scores of -inf are replaced by the lowest finite number, because the derivative of logsumexp
    is NaN if all its inputs are -inf.
    """
    lowest = torch.finfo(scores.dtype).min
    others = scores.clamp(min=lowest).scatter(1, target[:, None], lowest)
    largest = others.detach().amax(1)
    gap = (_pick(scores, target) - largest) - (others - largest[:, None]).logsumexp(1)
    return 0 - logsigmoid(gap)  # not -x, which would turn a loss of 0 into -0


def _logit(scores: Tensor, target: Tensor, source: Tensor) -> Tensor:
    return -_pick(scores, target)


def _margin(scores: Tensor, target: Tensor, source: Tensor) -> Tensor:
    return _pick(scores, source) - _pick(scores, target)


# Functions of scores [N, classes], target [N] and source [N] that return a loss [N] to decrease.
OBJECTIVES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "nll": _nll,
    "logit": _logit,
    "margin": _margin,
    "log-probability": _nll,  # another name for nll: maximising the log-probability minimises the nll
}
NEED_TWO_CLASSES = ("nll", "margin", "log-probability")  # constant if there is only one


def check_objective(objective: str | Loss) -> str | Loss:
    """Check an objective: a key of OBJECTIVES, or a callable (outputs, target) -> loss [N]."""
    if callable(objective):
        return objective
    if not isinstance(objective, str):
        expected = f"one of {tuple(OBJECTIVES)} or a callable (outputs, target) -> loss [N]"
        raise TypeError(f"objective must be {expected}, got {objective!r}")
    return check_choice("objective", objective, tuple(OBJECTIVES))


def loss(objective: str | Loss, outputs: Tensor, target: Tensor, source: Tensor, task: str = "multiclass") -> Tensor:
    """Return the loss of each sample; morphs decrease it.

    Parameters
    ----------
    objective : str or callable
        "nll" is -log softmax(outputs)[target], over the class axis 1; "log-probability" is another name for
        the same loss: decreasing it increases the target's log-probability. Its gradient tends to 0 as the target's
        probability tends to 1, but keeps its relative accuracy, and thus its direction, until it underflows. "logit" is
        -outputs[target], "margin" is -(outputs[target] - outputs[source]). A callable
        ``(outputs, target) -> [N]`` must also return a loss to decrease.
    outputs : Tensor [N, classes, ...]
        Outputs of the classifier.
    target, source : Tensor [N] or [N, k], int64
        The return values of :func:`resolve_target`.
    task : {"multiclass", "binary", "multilabel"}
        For "binary" and "multilabel" with logit z, "logit" is -z for target 1 and z for target 0; "margin" is the same
        if source and target differ (0 if they are equal); "nll" is the softplus of the value of "logit".

    Returns
    -------
    Tensor [N]
        Float32 or float64; for a callable, its return value.

    Examples
    --------
    >>> outputs = torch.tensor([[1.0, 4.0, 2.0]])
    >>> loss("margin", outputs, *resolve_target("runner-up", outputs))
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
    return 2 * losses if objective == "logit" and task != "multiclass" else losses


def gradient_start(
    objective: str | Loss, outputs: Tensor, target: Tensor, source: Tensor, task: str = "multiclass"
) -> tuple[Tensor, Tensor]:
    """Return a tensor that depends on the outputs, and the gradient of the summed :func:`loss` with respect to it.

    ``torch.autograd.grad`` continues from there. For "nll", the gradient is computed without an autograd graph of the
    loss: for a small model, autograd would spend more time in that graph than in the model's.

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
    return scores, _nll_gradient(scores.detach(), target if target.dim() == 1 else target[:, 0])


def _nll_gradient(scores: Tensor, target: Tensor) -> Tensor:
    """Return the gradient of :func:`_nll` [N, classes], bit for bit as autograd computes it."""
    lowest, index = torch.finfo(scores.dtype).min, target[:, None]
    others = scores.clamp(min=lowest).scatter_(1, index, lowest)
    largest = others.amax(1, keepdim=True)
    others.sub_(largest)
    total = others.exp().sum(1, keepdim=True).log_()
    gap = (scores.gather(1, index) - largest).sub_(total)
    _, buffer = torch.ops.aten.log_sigmoid_forward(gap)
    slope = torch.ops.aten.log_sigmoid_backward(torch.ones_like(gap), gap, buffer)  # 1 - probability of the target
    gradient = others.sub_(total).exp_().mul_(slope).masked_fill_(scores == -torch.inf, 0.0)
    return gradient.scatter_(1, index, 0 - slope)


def _check_losses(losses, count: int) -> Tensor:
    if not isinstance(losses, Tensor) or not losses.is_floating_point():
        got = losses.dtype if isinstance(losses, Tensor) else type(losses).__name__
        raise TypeError(f"objective must return a floating-point tensor [{count}], one loss per sample, got {got}")
    if tuple(losses.shape) != (count,):
        raise ValueError(f"objective must return one loss per sample, shape [{count}], got {list(losses.shape)}")
    return losses

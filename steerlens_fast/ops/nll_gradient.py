"""``nll_gradient`` computes the gradient of the negative log likelihood of a target class."""

from __future__ import annotations

import torch
from torch import Tensor

from ..torch_internals import below_autograd, has_transforms
from . import reference
from .fake_checks import REAL, check_dtype, check_rank, check_shape
from .registration import fake, has_tangent, register_no_derivative

_ops = torch.ops.steerlens_fast


def nll_gradient(scores: Tensor, target: Tensor) -> Tensor:
    """Return the gradient of the negative log likelihood of the target.

    For the loss -log softmax(scores)[target], this is softmax(scores) - onehot(target). The result is accurate even if
    the target's probability rounds to 1. On CPUs, one op computes it in eager mode, unless its derivative is needed.

    Parameters
    ----------
    scores : Tensor [N, classes], float32 or float64
        Class scores.
    target : Tensor [N], int64

    Returns
    -------
    Tensor [N, classes]
        The gradient. For scores of -inf it is 0, except for the target's score.

    Examples
    --------
    >>> import torch
    >>> nll_gradient(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
    tensor([[ 0.5000, -0.5000]])
    """
    if scores.device.type != "cpu" or torch.compiler.is_compiling() or _needs_derivative(scores):
        return reference.nll_gradient(scores, target)
    with below_autograd():
        return _ops.nll_gradient(scores, target)


def _needs_derivative(scores: Tensor) -> bool:
    return has_transforms() or (torch.is_grad_enabled() and scores.requires_grad) or has_tangent([scores])


@fake("nll_gradient")
def _(scores, target):
    check_dtype("scores", scores, *REAL)
    check_rank("scores", scores, 2, "[N, classes]")
    check_dtype("target", target, torch.int64)
    check_shape("target", target, scores.shape[:1])
    return torch.empty_like(scores, memory_format=torch.contiguous_format)


register_no_derivative("nll_gradient", "the op nll_gradient has no derivative: use steerlens_fast.ops.nll_gradient")

"""``nll_gradient`` computes the gradient of the negative log likelihood of a target class."""

from __future__ import annotations

import torch
from torch import Tensor

from ..torch_internals import below_autograd, has_transforms
from . import reference
from .registration import fake

_ops = torch.ops.steerlens_fast


def nll_gradient(scores: Tensor, target: Tensor) -> Tensor:
    """Return the gradient of -log softmax(scores)[target], summed over samples, with respect to the scores.

    The gradient is softmax(scores) - onehot(target). It is accurate even if the target's probability rounds to 1.

    Parameters
    ----------
    scores : Tensor [N, classes], float32 or float64
        Class scores. On CPUs, one op computes the gradient; elsewhere, plain torch computes it.
    target : Tensor [N], int64

    Returns
    -------
    Tensor [N, classes]
        The gradient; 0 for scores of -inf. It has no derivative.

    Examples
    --------
    >>> import torch
    >>> nll_gradient(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
    tensor([[ 0.5000, -0.5000]])
    """
    if scores.device.type != "cpu" or has_transforms() or torch.compiler.is_compiling():
        return reference.nll_gradient(scores, target)
    with below_autograd():
        return _ops.nll_gradient(scores, target)


@fake("nll_gradient")
def _(scores, target):
    return torch.empty_like(scores, memory_format=torch.contiguous_format)

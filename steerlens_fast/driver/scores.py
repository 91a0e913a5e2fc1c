"""Class scores, wherever in its return value a classifier puts them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def class_scores(outputs, count: int) -> Tensor:
    """Find the tensor [N, classes, ...] in what a model returned for ``count`` images, and check it.

    Examples
    --------
    >>> import torch
    >>> class_scores({"logits": (torch.zeros(2, 10), "more")}, 2).shape
    torch.Size([2, 10])
    """
    while not isinstance(outputs, Tensor):
        if hasattr(outputs, "logits"):
            outputs = outputs.logits
        elif isinstance(outputs, Mapping) and "logits" in outputs:
            outputs = outputs["logits"]
        elif isinstance(outputs, (tuple, list)) and outputs:
            outputs = outputs[0]
        else:
            keys = f" with keys {list(outputs)}" if isinstance(outputs, Mapping) else ""
            raise TypeError(f"model must return scores [N, classes, ...] or logits, got {type(outputs).__name__}{keys}")
    if not outputs.is_floating_point():
        raise TypeError(f"model must return floating-point scores [N, classes, ...], got {outputs.dtype}")
    if outputs.dim() < 2 or not outputs.shape[1] or len(outputs) != count:
        raise ValueError(f"model must return [N, classes, ...] with N = {count}, got {list(outputs.shape)}")
    return outputs

"""Predictions on edited images, and the cases that can be compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ...checks import check_int, shown
from ...classifier import Classifier
from .arguments import check_batch, check_classes


def driver_confidence(outputs: Tensor, target: Tensor) -> Tensor:
    """Return the driver's probability of the target class.

    Parameters
    ----------
    outputs : Tensor [N, classes]
        Logits of the driver, the classifier whose gradient the edits followed.
    target : Tensor [N], int64

    Returns
    -------
    Tensor [N]
        Softmax at the target, in float32 or better.

    Raises
    ------
    TypeError, ValueError
        With the name of the argument, and the expected and the actual value.

    Examples
    --------
    >>> driver_confidence(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
    tensor([0.5000])
    """
    outputs = _check_outputs("outputs must be", outputs)
    target = check_classes("target", target, len(outputs), outputs.shape[1]).to(outputs.device)
    probabilities = outputs.softmax(1, dtype=torch.promote_types(outputs.dtype, torch.float32))
    return probabilities.gather(1, target[:, None])[:, 0]


@dataclass(frozen=True)
class Transfer:
    """Result of :func:`transfer`.

    Attributes
    ----------
    agrees : dict of str to Tensor [N], bool
        For each judge, whether it predicts the target.
    probability : dict of str to Tensor [N]
        For each judge, its probability of the target.
    jointly : Tensor [N], bool
        Whether all judges predict the target.
    """

    agrees: dict[str, Tensor]
    probability: dict[str, Tensor]
    jointly: Tensor


def transfer(
    judges: Mapping[str, Callable], images: Tensor, target: Tensor, *, batch_size: int | None = None
) -> Transfer:
    """Return which judges predict the target for edited images.

    The edits followed the gradient of the *driver*. A judge is another classifier.

    Parameters
    ----------
    judges : mapping from str to callable
        At least one classifier, of a kind that :class:`~steerlens_fast.SteerableLens` accepts. A judge maps images
        [N, C, H, W] to scores [N, classes] of the driver's classes. Its state is not changed.
    images : Tensor [N, C, H, W]
    target : Tensor [N], int64
    batch_size : int, optional
        Maximum number of images per call.

    Returns
    -------
    Transfer

    Raises
    ------
    TypeError, ValueError
        If an argument, or the output of a judge, is invalid.

    Examples
    --------
    >>> bright = lambda images: torch.stack([-images.mean((1, 2, 3)), images.mean((1, 2, 3))], 1)
    >>> result = transfer({"bright": bright, "dark": lambda images: -bright(images)}, torch.ones(3, 1, 8, 8),
    ...                  torch.tensor([1, 1, 0]))
    >>> result.agrees["bright"].tolist(), result.jointly.tolist()
    ([True, True, False], [False, False, False])
    """
    if not isinstance(judges, Mapping) or not judges:
        raise TypeError(f"judges must be a mapping from names to at least one classifier, got {shown(judges)}")
    images = check_batch("images", images)
    target = check_classes("target", target, len(images))
    if batch_size is not None:
        batch_size = check_int("batch_size", batch_size, 1, None)
    agrees, probability = {}, {}
    for name, judge in judges.items():
        classifier = judge if isinstance(judge, Classifier) else Classifier(judge)
        outputs = _check_outputs(f"judge {name!r} must return", classifier.outputs(images, batch=batch_size))
        check_classes("target", target, len(images), outputs.shape[1])
        agrees[name] = (outputs.argmax(1) == target.to(outputs.device)) & ~outputs.isnan().any(1)
        probability[name] = driver_confidence(outputs, target)  # the same formula for judges
    return Transfer(agrees, probability, torch.stack(list(agrees.values())).all(0))


@dataclass(frozen=True)
class CommonAttainment:
    """Result of :func:`common_attainment` for N cases.

    Attributes
    ----------
    common : Tensor [N], bool
        Which cases every family attained.
    count, of : int
        Number of these cases, and of all cases.
    by_family : dict of str to int
        Number of cases that each family attained.
    """

    common: Tensor
    count: int
    of: int
    by_family: dict[str, int]

    def __str__(self) -> str:
        each = ", ".join(f"{name} {n}/{self.of}" for name, n in self.by_family.items())
        return f"{self.count}/{self.of} in common ({each})"


def common_attainment(attained: Mapping[str, Tensor]) -> CommonAttainment:
    """Return the cases that every family attained, that is, edited as far as requested.

    Families can be compared over these cases.

    Parameters
    ----------
    attained : mapping from str to Tensor [N], bool
        For each family, which cases it attained.

    Returns
    -------
    CommonAttainment
        When printed, it shows the count of every family.

    Raises
    ------
    TypeError, ValueError
        If there is no family, a tensor is not bool, or lengths differ.

    Examples
    --------
    >>> print(common_attainment({"pixel": torch.tensor([True, True]), "fourier": torch.tensor([True, False])}))
    1/2 in common (pixel 2/2, fourier 1/2)
    """
    if not isinstance(attained, Mapping) or not attained:
        raise TypeError(f"attained must be a mapping from families to tensors, got {shown(attained)}")
    for name, t in attained.items():
        if not isinstance(t, Tensor) or t.dtype != torch.bool or t.dim() != 1:
            got = f"{t.dtype} {list(t.shape)}" if isinstance(t, Tensor) else type(t).__name__
            raise TypeError(f"attained must hold bool tensors [N], got {got} for {name!r}")
    if len({len(t) for t in attained.values()}) > 1:
        raise ValueError(f"attained must have one length, got { {name: len(t) for name, t in attained.items()} }")
    common = torch.stack([t.cpu() for t in attained.values()]).all(0)
    return CommonAttainment(common, int(common.sum()), len(common), {n: int(t.sum()) for n, t in attained.items()})


def _check_outputs(expected: str, outputs) -> Tensor:
    if not isinstance(outputs, Tensor) or not outputs.is_floating_point() or outputs.dim() != 2:
        got = f"{outputs.dtype} {list(outputs.shape)}" if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ValueError(f"{expected} class scores [N, classes], floating point, got {got}")
    return outputs

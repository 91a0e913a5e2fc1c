"""Targets: the class to morph toward, given by number, name, or rank among the scores."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..checks import did_you_mean, shown, to_device_async
from ..memory import rows
from .named_classes import find_class, full_names, synonyms, unknown_class
from .outputs import ONE_LOGIT

FLOAT_LABELS = " (convert labels to integers; if the model has one logit per image, also set task='binary')"
RANKS = ("runner-up", "argmax", "least")
ABSENT = "not:"  # prefix of a label to remove
GRAMMAR = f"an int, a class name, a tuple of ints, a list with one of these per sample, None or one of {RANKS}"
NO_NAMES = "to give classes by name, pass class_names= to SteerableLens, or set the model's attribute class_names"
Target = int | tuple[int, ...] | Sequence[int | str] | Sequence[tuple[int, ...]] | Tensor | np.ndarray | str | None


def check_target(
    target: Target, count: int, task: str = "multiclass", class_names: Sequence[str] | None = None
) -> str | Tensor:
    """Check the type and length of a target, before the model runs.

    The rules of jobs, such as ``"map:..."``, are not valid here; see
    :func:`~steerlens_fast.data.targets.parse_target`.

    Parameters
    ----------
    target : int, tuple, list, Tensor, numpy.ndarray, str or None
        * An int, or a tensor or array of one element: the class, for all samples.
        * A list of ints, or an integer tensor or array [N]: the class of each sample.
        * A tuple of ints: one index for each dimension of the outputs after the batch, for all samples.
        * A list of tuples, or an integer tensor [N, k]: these indices for each sample.
        * A rank: "argmax", "runner-up" (or None) or "least": the class with the highest, second highest or lowest score
          for the source image, respectively.
    count : int
        Number of samples N.
    task : {"multiclass", "binary", "multilabel"}
        What the outputs are. For "binary", the classes are 0 and 1. For "multilabel", a target makes one label present
        or absent:

        * l or (1, l) makes label l present; ``~l`` or (0, l) makes it absent.
        * "argmax" and "least" make the label with the highest or lowest score present. "runner-up" makes the label
          present that has the highest score of all absent labels. If no label is absent, "runner-up" is "least".
    class_names : sequence of str, optional
        Names of the classes. A name may then replace a class number everywhere. Each synonym in a name such as
        "goldfish, Carassius auratus" is a name, too, if no other class has it. Without an exact match, names may differ
        in case, and in spaces, underscores and hyphens. Without such a match, both parts of a name that starts with a
        WordNet id, such as "n02123045 tabby", are names, too. For "multilabel", ``"not:cat"`` makes the label "cat"
        absent.

    Returns
    -------
    str or Tensor [N, k], int64
        A rank, or integer indices on the CPU; for "multilabel" the indices are (state, label). The result is a valid
        argument of :func:`check_target`, :func:`slice_target` and :func:`resolve_target`.

    Examples
    --------
    >>> check_target([3, 7], 2)
    tensor([[3],
            [7]])
    >>> check_target(None, 2)
    'runner-up'
    >>> check_target([3, ~7], 2, "multilabel")
    tensor([[1, 3],
            [0, 7]])
    >>> check_target(["tabby", 0], 2, class_names=["ant", "cat, tabby"])
    tensor([[1],
            [0]])
    """
    if target is None:
        return "runner-up"
    if isinstance(target, str) and target in RANKS:
        return target
    target = _numbered(target, task, class_names) if has_names(target) else target
    table = _table(target, count)
    return table if task != "multilabel" or table.shape[1] > 1 else _label_indices(table[:, 0])


def has_names(target: Target) -> bool:
    """Return whether a target contains names of classes.

    Examples
    --------
    >>> has_names("least"), has_names("cat"), has_names([3, "cat"]), has_names([(1, 2)])
    (False, True, True, False)
    """
    if isinstance(target, str):
        return target not in RANKS
    if isinstance(target, np.ndarray):
        return target.dtype.kind in "OU" and any(isinstance(entry, str) for entry in target.flat)
    return isinstance(target, (list, tuple)) and any(isinstance(e, str) or has_names(e) for e in target)


def _numbered(target: Target, task: str, class_names: Sequence[str] | None) -> Target:
    """Return the target with class names replaced by numbers."""
    if isinstance(target, str):
        return _class_number(target, class_names)
    if isinstance(target, tuple):  # only one of the indices is a class; for labels, the second of (state, label)
        at = 1 if task == "multilabel" else 0
        return tuple(_numbered(e, task, class_names) if i == at else e for i, e in enumerate(target))
    target = target.tolist() if isinstance(target, np.ndarray) else target
    return [_numbered(entry, task, class_names) for entry in target] if isinstance(target, list) else target


def _class_number(name: str, class_names: Sequence[str] | None) -> int:
    """Return the number of a class given by name, or ~n for "not:name"."""
    lookups = ((full_names, class_names), (synonyms, class_names))
    label = name.removeprefix(ABSENT).strip()
    if label.isdecimal():  # an error, since jobs would read it as a number even if a class has this name
        hint = f"to remove label {label} pass ~{label} or (0, {label}), with task='multilabel'"
        hint = hint if name.startswith(ABSENT) else f"pass the int {label}"
        raise ValueError(f"target must be {GRAMMAR}, got {name!r}; {hint}")
    number = find_class(name, lookups)
    if number is not None:
        return number
    if name in RANKS:
        raise ValueError(f"target must be {GRAMMAR}, got {name!r} in a list; a rank is for all samples: pass {name!r}")
    if class_names is None:
        raise ValueError(f"target must be {GRAMMAR}, got {name!r}{did_you_mean(name, RANKS) or f'; {NO_NAMES}'}")
    if name.startswith(ABSENT):
        return ~_class_number(label, class_names)
    raise ValueError(f"target must be {GRAMMAR}, {unknown_class(name, lookups, [('model', class_names)], RANKS)}")


def _table(target: Target, count: int) -> Tensor:
    if isinstance(target, (Tensor, np.ndarray)):
        return _tensor_target(target, count)
    indices = _rows(target, count) if isinstance(target, list) else [_indices(target)]
    table = torch.tensor(indices or [[0]], dtype=torch.int64, device="cpu")  # [[0]]: any index, if there are no samples
    return table.expand(count, -1)


def _label_indices(labels: Tensor) -> Tensor:
    """Return indices [N, 2] of labels: (1, l) for l, (0, l) for ~l."""
    present = labels >= 0
    return torch.stack([present.long(), torch.where(present, labels, ~labels)], 1)


def slice_target(target: str | Tensor, at: slice) -> str | Tensor:
    """Return the targets of the samples ``at``; a rank applies to every sample."""
    return target if isinstance(target, str) else rows(target, at)


def resolve_target(target: Target, outputs: Tensor, task: str = "multiclass") -> tuple[Tensor, Tensor]:
    """Return the indices of the target class and of the source class.

    Parameters
    ----------
    target
        An argument or return value of :func:`check_target`.
    outputs : Tensor [N, classes, ...]
        Outputs of the classifier for the source images; see :func:`~steerlens_fast.classifier.outputs.class_scores`.
    task : {"multiclass", "binary", "multilabel"}

    Returns
    -------
    target : Tensor, int64
        [N] for outputs [N, classes]. Otherwise [N, k] with k = outputs.dim() - 1: the class, then its position.
    source : Tensor [N], int64
        The class with the highest score. If outputs have more dimensions, the class with the highest score at the
        target's position.

    Raises
    ------
    TypeError, ValueError
        If the target does not fit the outputs.

    Examples
    --------
    >>> outputs = torch.tensor([[1.0, 4.0, 2.0], [5.0, 0.0, 3.0]])
    >>> resolve_target("runner-up", outputs)
    (tensor([2, 2]), tensor([1, 0]))
    >>> resolve_target(0, outputs)
    (tensor([0, 0]), tensor([1, 0]))
    """
    return resolve_checked_target(check_target(target, len(outputs), task), outputs.detach(), task)


def resolve_checked_target(target: str | Tensor, outputs: Tensor, task: str) -> tuple[Tensor, Tensor]:
    """Return the result of :func:`resolve_target` for a return value of :func:`check_target`."""
    if isinstance(target, str):
        return _ranked_label(target, outputs) if task == "multilabel" else _ranked(target, outputs)
    _check_range(target, outputs, task)
    target = to_device_async("target", target, outputs.device)
    if outputs.dim() == 2:
        return target[:, 0], outputs.argmax(1)
    return target, scores_at(outputs, target).argmax(1)


def scores_at(outputs: Tensor, target: Tensor) -> Tensor:
    """Return the class scores [N, classes] at the position of each sample's target."""
    if outputs.dim() == 2:
        return outputs
    each = torch.arange(len(outputs), device=outputs.device)
    return outputs.movedim(1, -1)[(each, *target[:, 1:].unbind(1))]


def _ranked(rank: str, outputs: Tensor) -> tuple[Tensor, Tensor]:
    minimum = 2 if rank == "runner-up" else 1
    if outputs.dim() != 2 or outputs.shape[1] < minimum:
        needs = f"outputs [N, classes] with at least {minimum} class{'es' if minimum > 1 else ''}"
        hint = f" ({ONE_LOGIT}; for a regression with one score, pass target=0)" if outputs.dim() == 2 else ""
        expected = f"given by index for outputs {list(outputs.shape)}"
        raise ValueError(f"target must be {expected}, got {rank!r}, which needs {needs}{hint}")
    source = outputs.argmax(1)
    if rank == "runner-up":
        first, second = outputs.topk(2, 1).indices.unbind(1)
        return torch.where(first == source, second, first), source  # topk and argmax may order equal scores differently
    return (source if rank == "argmax" else outputs.argmin(1)), source


def _ranked_label(rank: str, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return target and source of a rank, for outputs [N, 2, L]."""
    if outputs.dim() != 3:
        expected = f"given by index for outputs {list(outputs.shape)}"
        raise ValueError(f"target must be {expected}, got {rank!r}, which needs outputs [N, 2, labels]")
    present, scores = outputs.argmax(1).bool(), outputs[:, 1]
    labels = scores.argmin(1) if rank == "least" else scores.argmax(1)
    if rank == "runner-up":
        absent = scores.masked_fill(present, -torch.inf).argmax(1)
        labels = torch.where(present.all(1), scores.argmin(1), absent)
    target = torch.stack([torch.ones_like(labels), labels], 1)
    return target, scores_at(outputs, target).argmax(1)


def _check_range(target: Tensor, outputs: Tensor, task: str) -> None:
    sizes, index_count = list(outputs.shape[1:]), target.shape[1]
    if index_count != len(sizes):
        hint = "for one class per sample pass a list" if len(sizes) == 1 else "pass a tuple: class, then position"
        hint = ONE_LOGIT if sizes == [1] else hint
        if task == "multilabel":
            hint = "one label per sample: l or (1, l) to add it, ~l or (0, l) to remove it"
        expected = f"{len(sizes)} indices per sample for outputs {list(outputs.shape)}"
        raise ValueError(f"target must have {expected}, got {index_count} ({hint})")
    table = target.tolist()
    for axis, size in enumerate(sizes if table else ()):
        bad = [row[axis] for row in table if not 0 <= row[axis] < size]
        if bad:
            where = f"in dimension {axis + 1} of outputs {list(outputs.shape)}"
            hint = f" ({ONE_LOGIT})" if axis == 0 and size == 1 else ""
            raise ValueError(f"target must be 0 to {size - 1} {where}, got {bad[0]}{hint}")


def _float_hint(value) -> str:
    return FLOAT_LABELS if isinstance(value, (float, np.floating)) and value == value // 1 else ""


def _index(value) -> int:
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    try:
        index = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        index = None
    if index is None:
        hint = "; for one class per sample pass a list" if isinstance(value, str) else _float_hint(value)
        raise TypeError(f"target must be {GRAMMAR}, got {shown(value)}{hint}")
    if abs(index) >= 2**63:
        raise ValueError(f"target must be in the range of the outputs' classes, got {index}")
    return index


def _indices(value) -> tuple[int, ...]:
    if isinstance(value, tuple) and not value:
        raise ValueError("target must have at least one index, got ()")
    return tuple(map(_index, value)) if isinstance(value, tuple) else (_index(value),)


def _rows(target: list, count: int) -> list[tuple[int, ...]]:
    if len(target) != count:
        raise ValueError(f"target must have one entry per sample, {count}, got {len(target)}")
    if len({isinstance(entry, tuple) for entry in target}) > 1:
        raise TypeError(f"target must be a list of ints or a list of tuples, got both: {shown(target)}")
    indices = [_indices(entry) for entry in target]
    if len(set(map(len, indices))) > 1:
        raise ValueError(f"target must have equally many indices for every sample, got {shown(target)}")
    return indices


def _tensor_target(target: Tensor | np.ndarray, count: int) -> Tensor:
    is_array = isinstance(target, np.ndarray)
    kind = target.dtype.name if is_array else str(target.dtype).removeprefix("torch.")
    if not kind.startswith(("int", "uint")):
        hint = FLOAT_LABELS if kind.startswith(("float", "bfloat")) else ""
        raise TypeError(f"target must be an integer tensor [N], got dtype {kind}{hint}")
    if (target.size if is_array else target.numel()) == 1:
        return torch.full((count, 1), _index(target.item()), dtype=torch.int64, device="cpu")
    target = torch.from_numpy(target.astype(np.int64)) if is_array else target
    target = target.to("cpu", torch.int64, copy=True)  # the caller may write to its target later
    if target.dim() not in (1, 2) or len(target) != count or 0 in target.shape[1:]:
        raise ValueError(f"target must have shape [{count}] or [{count}, k], got {list(target.shape)}")
    return target[:, None] if target.dim() == 1 else target

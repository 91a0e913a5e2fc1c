"""The words of the wrappers as the numbers of the kernels, and dtypes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .. import checks

RULES = {"complex": 0, "polar": 1}
FORMS = {"real": 0, "both": 1, "pairs": 2}
EDITS = {"phase": 0, "amplitude": 1, "joint": 2}


def real_dtype(dtype: torch.dtype) -> torch.dtype:
    """The precision of a real or complex dtype. A table, since torch.compile does not know ``dtype.to_real``.

    Examples
    --------
    >>> import torch
    >>> real_dtype(torch.complex64)
    torch.float32
    """
    return {torch.complex64: torch.float32, torch.complex128: torch.float64}.get(dtype, dtype)


def rule_index(rule: str) -> int:
    """The kernels' number of a rule."""
    return RULES[checks.check_choice("rule", rule, tuple(RULES))]


def form_indices(forms: Sequence[str], known: tuple[str, ...]) -> list[int]:
    return [FORMS[checks.check_choice("forms", form, known)] for form in forms]

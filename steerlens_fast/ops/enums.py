"""The wrappers' names of rules, forms and edits as the kernels' numbers, and dtypes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .. import checks

RULES = {"complex": 0, "polar": 1}
FORMS = {"real": 0, "complex": 1, "pairs": 2}
EDITS = {"phase": 0, "amplitude": 1, "joint": 2}


def real_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the real dtype of the same precision. A table, since torch.compile cannot trace ``dtype.to_real``.

    Examples
    --------
    >>> import torch
    >>> real_dtype(torch.complex64)
    torch.float32
    """
    return {torch.complex64: torch.float32, torch.complex128: torch.float64}.get(dtype, dtype)


def rule_index(rule: str) -> int:
    """Return the kernels' number of a rule."""
    return RULES[checks.check_choice("rule", rule, tuple(RULES))]


def form_indices(forms: Sequence[str], choices: tuple[str, ...]) -> list[int]:
    """Return the kernels' numbers of forms, which must be among ``choices``."""
    return [FORMS[checks.check_choice("forms", form, choices)] for form in forms]

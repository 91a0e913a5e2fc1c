"""Names of rules, forms and edits, and their numbers in the ops' arguments."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .. import checks

# How coefficients and gradient become a step; see step.py.
RULES = {"complex": 0, "polar": 1}
# How bands are stored: real parts, complex numbers, or pairs (the real parts of two bands as one complex band).
FORMS = {"real": 0, "complex": 1, "pairs": 2}
# The forms in which split_planes returns bands. Pairs are not among them, so there is no number 2. "widened" are real
# parts, as complex numbers with imaginary part 0.
SPLIT_FORMS = {"real": 0, "complex": 1, "widened": 3}
# What changes in the coefficients.
EDITS = {"phase": 0, "amplitude": 1, "joint": 2}


def real_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the real dtype of the same precision.

    It replaces ``dtype.to_real``, which torch.compile cannot trace.

    Examples
    --------
    >>> import torch
    >>> real_dtype(torch.complex64)
    torch.float32
    """
    return {torch.complex64: torch.float32, torch.complex128: torch.float64}.get(dtype, dtype)


def rule_index(rule: str) -> int:
    """Return the number of a rule in the ops."""
    return RULES[checks.check_choice("rule", rule, tuple(RULES))]


def edit_index(edit: str) -> int:
    """Return the number of an edit in the ops."""
    return EDITS[checks.check_choice("edit", edit, tuple(EDITS))]


def form_indices(forms: Sequence[str], numbers: dict[str, int]) -> list[int]:
    """Return the numbers of forms in the ops."""
    return [numbers[checks.check_choice("each item of forms", form, tuple(numbers))] for form in forms]

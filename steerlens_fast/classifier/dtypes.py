"""The model's dtype: images are cast to it, and what torch raises where it is not known says what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import Module

# How torch says that two tensors of one operation have different dtypes, or devices.
MISMATCH = re.compile(r"dtype|scalar type|Input type \(|same device|data type", re.IGNORECASE)


def module_of(model) -> Module | None:
    """The module that is called: itself, or a bound method's; None of a plain function."""
    owner = getattr(model, "__self__", model)
    return owner if isinstance(owner, Module) else None


def floating_dtypes(model) -> list[torch.dtype]:
    """Of a module's parameters; none of a function."""
    module = module_of(model)
    parameters = () if module is None else module.parameters()
    return sorted({p.dtype for p in parameters if p.is_floating_point()}, key=str)


def cast_for(model, images):
    """Images in the floating dtype of the model, where it has one; what is no floating-point tensor as it is."""
    dtypes = floating_dtypes(model)
    if len(dtypes) != 1 or not isinstance(images, Tensor) or not images.is_floating_point():
        return images
    return images.to(dtypes[0])


@contextmanager
def explained(model, images) -> Iterator[None]:
    """Raise a TypeError that names images and model, in place of torch's about dtypes or devices that differ."""
    try:
        yield
    except (RuntimeError, TypeError) as error:
        if isinstance(error, torch.OutOfMemoryError) or not MISMATCH.search(str(error)):
            raise
        line = str(error).strip().partition("\n")[0]
        given = f"{images.dtype} on {images.device}" if isinstance(images, Tensor) else type(images).__name__
        known = ", ".join(map(str, floating_dtypes(model))) or "not known"
        hint = "a model of several dtypes, or one that is not known, is given images as preprocessing= returns them"
        text = f"model must take images of {given} (its own floating-point dtype: {known}), got {line!r}"
        raise TypeError(f"{text}; {hint}: cast in preprocessing=") from error

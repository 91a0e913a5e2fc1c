"""Casts images to the model's dtype, and explains torch's errors about dtypes and devices."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

import torch
from torch import Tensor

from ..checks import to_dtype
from ..errors import cause_line
from ..torch_internals import may_autocast

# Messages of torch about tensors with different dtypes or devices.
MISMATCH = re.compile(r"dtype|scalar type|Input type \(|same device|data type", re.IGNORECASE)
COMPUTED_IN = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # others, such as float8, are only stored


def floating_dtypes(parameters: Iterable[Tensor]) -> list[torch.dtype]:
    """Return the dtypes of a module's parameters in which the module may compute."""
    return sorted({p.dtype for p in parameters}.intersection(COMPUTED_IN), key=str)


def cast_for(parameters: Iterable[Tensor], images):
    """Return images in the floating-point dtype of a module's parameters, if they have exactly one."""
    dtypes = floating_dtypes(parameters)
    if len(dtypes) != 1 or not isinstance(images, Tensor) or not images.is_floating_point():
        return images
    return to_dtype(images, dtypes[0])


def without_autocast(*device_types: str) -> AbstractContextManager:
    """Return a context in which autocast is off on devices of these types."""
    return _autocast_off(device_types) if may_autocast() else nullcontext()


@contextmanager
def _autocast_off(device_types: tuple[str, ...]) -> Iterator[None]:
    with ExitStack() as stack:
        for kind in dict.fromkeys(device_types):
            if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def mismatch_error(error: Exception, parameters: Iterable[Tensor], images) -> TypeError | None:
    """Return a clearer error if ``error`` is torch's about different dtypes or devices, otherwise None."""
    line = cause_line(error)
    if isinstance(error, torch.OutOfMemoryError) or "memory" in line or not MISMATCH.search(line):
        return None
    kind = f"{images.dtype} on {images.device}" if isinstance(images, Tensor) else type(images).__name__
    dtypes = floating_dtypes(parameters)
    known = ", ".join(map(str, dtypes)) or "unknown"
    hint = "" if len(dtypes) == 1 else "images are not cast for a model with several or unknown dtypes: "
    text = f"model must accept images of {kind} (its floating-point dtype: {known}), got {line!r}"
    return TypeError(f"{text}; {hint}cast them in preprocessing=")

"""Errors that models raise: out of memory, and their first line."""

from __future__ import annotations

import errno

import torch

# Also cuFFT's and cuBLAS'; the last is what C++ says where Python says MemoryError
OUT_OF_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "ALLOC_FAILED", "std::bad_alloc")
TORCHSCRIPT = "TorchScript interpreter"


def is_out_of_memory(error: Exception) -> bool:
    """Whether less at once may work."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)


def error_summary(error: Exception) -> str:
    """The kind of an error and the first line of its words; of TorchScript's, the last, which has the reason."""
    text = str(error).strip()
    line = text.rpartition("\n")[2] if TORCHSCRIPT in text else text.partition("\n")[0]
    return f"{type(error).__name__}: {line}" if line else type(error).__name__

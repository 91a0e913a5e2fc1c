"""Helpers for errors that models raise: whether memory ran out, and one-line summaries."""

from __future__ import annotations

import errno

import torch

from ..errors import cause_line

# Messages of this package's ops, of torch, of cuFFT and cuBLAS (ALLOC_FAILED), and of C++ (std::bad_alloc)
OUT_OF_MEMORY = (
    "out of memory: ",  # as in csrc/allocation.h
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUDA out of memory",  # also within an error of TorchScript
    "ALLOC_FAILED",
    "std::bad_alloc",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory ran out. A smaller batch may then work."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)


def error_summary(error: BaseException) -> str:
    """Return the type of an error, and the line of its message that states the cause."""
    line = cause_line(error)
    return f"{type(error).__name__}: {line}" if line else type(error).__name__

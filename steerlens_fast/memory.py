"""Splits work into cache-sized pieces, and writes large results."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor

from . import native
from .ops import real_dtype
from .torch_internals import has_batched_gradients, has_dispatch_modes, has_transforms

# Bytes of bands in one pass through a filter bank. On a CPU, they fit the caches, and the allocator keeps their memory
# for the next pass. (Getting new memory would take longer than the FFTs.) The value for GPUs was not chosen by
# measurement.
CHUNK_BYTES = {"cpu": 16 << 20, "cuda": 128 << 20}

# Bytes of a temporary that is written and read once. On a CPU, it fits the caches.
SCRATCH_BYTES = {"cpu": 2 << 20, "cuda": 256 << 20}


@lru_cache(maxsize=1)
def keep_freed_memory() -> None:
    """Make glibc keep freed memory, up to 62 MiB, so that passes reuse it.

    Otherwise each pass would return its temporaries to the system, and get new pages. When a block of 31 MiB is freed,
    glibc raises its threshold for keeping freed memory to twice this size (mallopt(3), M_MMAP_THRESHOLD). The block is
    never written, so it takes no memory.

    The threshold applies to the whole process. STEERLENS_KEEP_FREED_MEMORY=0 leaves it unchanged; then the ops do not
    keep the memory of freed results either (csrc/allocation.h).
    """
    if os.environ.get("STEERLENS_KEEP_FREED_MEMORY", "1") != "0":
        torch.empty(31 << 20, dtype=torch.uint8, device="cpu")


def _pass_bytes(device: torch.device) -> int:
    return CHUNK_BYTES.get(device.type, CHUNK_BYTES["cuda"])


def fits_one_pass(size: int, device: torch.device) -> bool:
    """Return whether ``size`` bytes of bands can be processed in one pass."""
    return size <= _pass_bytes(device)


def chunks(count: int, item_bytes: int, device: torch.device) -> list[slice]:
    """Split ``count`` items into slices of nearly equal length. Each fits one pass, or has a single item."""
    if device.type == "cpu":
        keep_freed_memory()
    return _even_slices(count, max(1, _pass_bytes(device) // max(item_bytes, 1)))


def scratch_chunks(tensor: Tensor) -> list[slice]:
    """Return slices of a tensor's first dimension, each of at most SCRATCH_BYTES, or a single row."""
    item_bytes = tensor[:1].numel() * tensor.itemsize
    size = SCRATCH_BYTES.get(tensor.device.type, SCRATCH_BYTES["cuda"])
    return _even_slices(len(tensor), max(1, size // max(item_bytes, 1)))


def _even_slices(count: int, max_length: int) -> list[slice]:
    pieces = -(-count // max_length)
    edges = [count * i // pieces for i in range(pieces + 1)] if pieces else []
    return [slice(a, b) for a, b in zip(edges, edges[1:])]


def rows(tensor: Tensor, at: slice) -> Tensor:
    """Return ``tensor[at]``; if these are all rows, the tensor itself, which saves a call of torch."""
    return tensor if at.start == 0 and at.stop == tensor.shape[0] else tensor[at]


def new_output(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return an uninitialised tensor for results. In CPU memory, it has huge pages if possible."""
    t = torch.empty(shape, dtype=dtype, device=device)
    if is_plain_cpu(t):
        native.advise_huge_pages(t.data_ptr(), t.numel() * t.itemsize)
    return t


def store(out: Tensor, values: Tensor, bounds: tuple[float, float] | None = None) -> None:
    """Copy ``values`` to ``out``, clipped to ``bounds``.

    If ``values`` is complex and ``out`` is real, the real part is copied. On a CPU, copies between plain contiguous
    tensors bypass the caches, since ``out`` is a large result that is not read again soon.
    """
    takes_real = values.is_complex() and not out.is_complex()
    plain = is_plain_cpu(out) and is_plain_cpu(values) and out.is_contiguous() and values.is_contiguous()
    same = out.shape == values.shape and out.dtype == (real_dtype(values.dtype) if takes_real else values.dtype)
    copies_bits = bounds is None and not takes_real
    if out.is_cuda and same and bounds is not None:  # copies and clips in one pass
        torch.clamp(values.real if takes_real else values, *bounds, out=out)
        return
    if not plain or not same or not (copies_bits or out.dtype in (torch.float32, torch.float64)):
        out.copy_(values.real if takes_real else values)
        if bounds is not None:
            out.clamp_(*bounds)
    elif copies_bits:
        native.stream_copy(out.data_ptr(), values.data_ptr(), values.numel() * values.itemsize)
    else:
        stream = native.stream_real_float if out.dtype == torch.float32 else native.stream_real_double
        low, high = (-math.inf, math.inf) if bounds is None else bounds
        stride = 2 if takes_real else 1
        stream(out.data_ptr(), values.data_ptr(), values.numel(), stride, low, high)


def is_untraced() -> bool:
    """Return whether no tracer, dispatch mode or torch.func transform is active.

    Only then may the memory of a tensor be used directly.
    """
    has_modes = has_dispatch_modes() or has_transforms() or has_batched_gradients()
    return not has_modes and not torch.jit.is_tracing()


def is_plain_cpu(t: Tensor) -> bool:
    """Return whether a tensor is on the CPU, and its memory may be used directly."""
    return has_plain_memory(t) and t.device.type == "cpu" and is_untraced()


def has_plain_memory(t: Tensor) -> bool:
    """Return whether a tensor's memory has its values. This is False for subclasses, lazy conjugates and negatives."""
    return type(t) is Tensor and not t.is_conj() and not t.is_neg()


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Set the number of torch's threads within the block; None leaves it unchanged.

    With small tensors, several threads are not faster than one, and much slower if other processes use the cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)

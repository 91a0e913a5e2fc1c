"""How work is cut into pieces, and how large CPU results are written: memory, not arithmetic, is the cost there."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor

from . import _C
from .ops import real_dtype
from .torch_internals import has_batched_gradients, has_dispatch_modes, has_transforms

# Bytes of bands that one pass through a bank works on. On the CPU: what the caches hold, and less than what the
# allocator gives back to the kernel between passes (fresh pages cost more than the FFTs). Measured in bench/.
# On a GPU: so few that a frozen morph of 16x3x224x224 allocates 140 MiB beyond frames and model (counted on the CPU),
# which leaves the FFTs' workspace room within 256 MiB; not measured there yet (bench/cuda.sh does).
CHUNK_BYTES = {"cpu": 16 << 20, "cuda": 128 << 20}

# Bytes of a temporary that is written and read once: so many stay in the caches and in memory that the process has.
SCRATCH_BYTES = {"cpu": 2 << 20, "cuda": 256 << 20}


@lru_cache(maxsize=1)
def keep_freed_memory() -> None:
    """Let glibc keep up to 62 MiB of freed memory: it does so after it has seen one block of 31 MiB freed.

    Its thresholds grow with the largest block freed so far (mallopt(3), M_MMAP_THRESHOLD). Without this every pass
    would give its temporaries back to the kernel and fault them in again. The block is never touched: it costs nothing.
    The thresholds are the whole process's; STEERLENS_KEEP_FREED_MEMORY=0 leaves them alone.
    """
    if os.environ.get("STEERLENS_KEEP_FREED_MEMORY", "1") != "0":
        torch.empty(31 << 20, dtype=torch.uint8, device="cpu")


def _pass_bytes(device: torch.device) -> int:
    return CHUNK_BYTES.get(device.type, CHUNK_BYTES["cuda"])


def fits_one_pass(size: int, device: torch.device) -> bool:
    """Whether so many bytes are worth no further cutting."""
    return size <= _pass_bytes(device)


def chunks(count: int, item_bytes: int, device: torch.device) -> list[slice]:
    """Slices of ``count`` items, each small enough for one pass, and as even as they can be."""
    if device.type == "cpu":
        keep_freed_memory()
    return _even_slices(count, max(1, _pass_bytes(device) // max(item_bytes, 1)))


def scratch_chunks(tensor: Tensor) -> list[slice]:
    """Slices of a tensor's first dimension, for temporaries like it that are used up at once."""
    item_bytes = tensor[:1].numel() * tensor.itemsize
    size = SCRATCH_BYTES.get(tensor.device.type, SCRATCH_BYTES["cuda"])
    return _even_slices(len(tensor), max(1, size // max(item_bytes, 1)))


def _even_slices(count: int, most: int) -> list[slice]:
    pieces = -(-count // most)
    edges = [count * i // pieces for i in range(pieces + 1)] if pieces else []
    return [slice(a, b) for a, b in zip(edges, edges[1:])]


def new_output(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """An uninitialised tensor; a large one on the CPU is backed by huge pages where the kernel allows it."""
    t = torch.empty(shape, dtype=dtype, device=device)
    if is_plain_cpu(t):
        _C.advise_huge_pages(t.data_ptr(), t.numel() * t.itemsize)
    return t


def store(whole: Tensor, piece: Tensor, bounds: tuple[float, float] | None = None) -> None:
    """``whole.copy_(piece)``, clipped, for a piece of a large result that is not read again soon.

    Of a complex piece a real result takes the real part.
    """
    of_complex = piece.is_complex() and not whole.is_complex()
    plain = is_plain_cpu(whole) and is_plain_cpu(piece) and whole.is_contiguous() and piece.is_contiguous()
    same = whole.shape == piece.shape and whole.dtype == (real_dtype(piece.dtype) if of_complex else piece.dtype)
    straight = bounds is None and not of_complex
    if whole.is_cuda and same and bounds is not None:  # in one pass
        torch.clamp(piece.real if of_complex else piece, *bounds, out=whole)
        return
    if not plain or not same or not (straight or whole.dtype in (torch.float32, torch.float64)):
        whole.copy_(piece.real if of_complex else piece)
        if bounds is not None:
            whole.clamp_(*bounds)
    elif straight:
        _C.stream_copy(whole.data_ptr(), piece.data_ptr(), piece.numel() * piece.itemsize)
    else:
        stream = _C.stream_real_float if whole.dtype == torch.float32 else _C.stream_real_double
        low, high = (-math.inf, math.inf) if bounds is None else bounds
        stream(whole.data_ptr(), piece.data_ptr(), piece.numel(), 1 + of_complex, low, high)


def is_untraced() -> bool:
    """No tracer, dispatch mode or torch.func transform records what happens to tensors; addresses may be used."""
    modes = has_dispatch_modes() or has_transforms() or has_batched_gradients()
    return not modes and not torch.jit.is_tracing()


def is_plain_cpu(t: Tensor) -> bool:
    """Whether a tensor's memory on the CPU is what it says, and nobody records what is done to it."""
    return type(t) is Tensor and t.device.type == "cpu" and not t.is_conj() and not t.is_neg() and is_untraced()


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """So many threads of torch in the block, or as many as there are; and as before after it.

    One is best for small tensors, which gain nothing from more, and lose much where others want the cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)

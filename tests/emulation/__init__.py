"""The CUDA kernels on the CPU: see README.md.

``STEERLENS_EMULATE_CUDA`` names a kind of build ("plain" or "sanitized") that tests use in place of the CPU's kernels.
"""

from __future__ import annotations

import ctypes
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch

VARIABLE = "STEERLENS_EMULATE_CUDA"
NAMESPACE = "steerlens_emulated"
SECTOR = 32  # bytes


@dataclass(frozen=True)
class Traffic:
    """What one kernel moved to and from global memory, in sectors of 32 bytes.

    ``loads`` and ``stores`` count a sector once for each warp access that touches it; ``block_loads`` and
    ``block_stores`` once for each block, as if a block's own accesses always found it in the L1 cache. A warp access to
    shared memory takes as many ``wavefronts`` as there are words of the bank with the most accessed words;
    ``fewest_wavefronts`` is the number without bank conflicts.
    """

    kernel: str
    launches: int
    loads: int
    block_loads: int
    stores: int
    block_stores: int
    wavefronts: int
    fewest_wavefronts: int

    @property
    def bytes(self) -> int:
        return SECTOR * (self.loads + self.stores)

    @property
    def block_bytes(self) -> int:
        return SECTOR * (self.block_loads + self.block_stores)


@cache
def load(kind: str = "plain") -> ctypes.CDLL:
    """Build and load the emulated ops, ``torch.ops.steerlens_emulated``. A process can load one kind."""
    from .build import build  # imports torch's build tools, which takes a while

    path = build(kind)
    torch.ops.load_library(path)
    return ctypes.CDLL(str(path))


def set_seed(seed: int) -> None:
    """Set the seed from which the order of blocks, warps and lanes is drawn."""
    load(requested()).emulation_set_seed(ctypes.c_uint64(seed))


def set_max_grid_rows(rows: int | None) -> None:
    """Limit the rows of grids, so that kernels must loop; None for a device's limit."""
    load(requested()).emulation_set_max_grid_rows(rows or 0)


def install(kind: str = "plain") -> torch.library.Library:
    """Put the emulated kernels in place of the CPU's, for as long as the returned object lives."""
    from steerlens_fast import native  # not before requested() has changed the environment

    load(kind)
    library = torch.library.Library("steerlens_fast", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that kernels are replaced
        for name in torch._C._dispatch_get_all_op_names():
            namespace, _, op = name.partition("::")
            if namespace == NAMESPACE and torch._C._dispatch_has_kernel_for_dispatch_key(name, "CPU"):
                library.impl(op, getattr(getattr(torch.ops, namespace), op).default, "CPU", allow_override=True)
    native.LARGEST_PLANE_SIDE["cpu"] = native.CUDA_PLANE_SIDE
    return library


def counted(function: Callable) -> list[Traffic]:
    """Return what the kernels that ``function`` launches move; needs the kind "counting"."""
    library = load("counting")
    library.emulation_stop_counting.restype = ctypes.c_char_p
    library.emulation_start_counting()
    try:
        function()
    finally:
        text = library.emulation_stop_counting().decode()
    rows = [line.rsplit("\t", 9) for line in text.splitlines()]
    order = (0, 2, 3, 5, 6, 7, 8)  # launches, then sectors and those of blocks, and wavefronts
    return [Traffic(kernel, *(int(numbers[i]) for i in order)) for kernel, *numbers in rows]


def requested() -> str | None:
    """Return the kind of build that the environment requests; if any, disable the CPU's ops on whole planes."""
    kind = os.environ.get(VARIABLE)
    if kind:
        os.environ["STEERLENS_CPU_CAPABILITY"] = "default"
    return kind or None

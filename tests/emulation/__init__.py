"""Runs the CUDA kernels on the CPU (README.md).

If the environment variable ``STEERLENS_EMULATE_CUDA`` names a kind of build, such as "plain", all tests use this
build in place of the CPU's kernels.
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
    """The memory traffic of one kernel.

    ``loads`` and ``stores`` are sectors of global memory (32 bytes), counted for each warp access that touches them.
    ``block_loads`` and ``block_stores`` count a sector once per block, as if the L1 cache served later accesses of the
    block. ``wavefronts`` are the steps that accesses to shared memory take: in a step, each bank serves one word.
    ``fewest_wavefronts`` is their number without bank conflicts.
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
    """Build and load the emulated ops, ``torch.ops.steerlens_emulated``.

    A process can load only one kind.
    """
    from .build import build  # here, since it imports torch's build tools, which takes long

    path = build(kind)
    torch.ops.load_library(path)
    return ctypes.CDLL(str(path))


def set_seed(seed: int) -> None:
    """Set the seed of the random order of blocks, warps and lanes."""
    load(requested_kind()).emulation_set_seed(ctypes.c_uint64(seed))


def set_max_grid_rows(rows: int | None) -> None:
    """Limit the rows of grids, so that kernels must loop over planes.

    None restores the limit of GPUs.
    """
    load(requested_kind()).emulation_set_max_grid_rows(rows or 0)


def set_multiprocessors(count: int | None) -> None:
    """Set the number of multiprocessors.

    With few, blocks take more work. None restores the number of an H200.
    """
    load(requested_kind()).emulation_set_multiprocessors(count or 0)


def set_clusters(supported: bool) -> int:
    """Set whether the device can run clusters of blocks.

    Return the number of earlier launches that had clusters of several blocks.
    """
    load(requested_kind()).emulation_set_clusters.restype = ctypes.c_uint64
    return load(requested_kind()).emulation_set_clusters(supported)


def install(kind: str = "plain") -> torch.library.Library:
    """Replace the CPU's kernels by emulated ones, as long as the returned object exists."""
    from steerlens_fast import native  # here, since use_default_cpu_capability() must be called before this import

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
    """Call ``function`` and return the traffic of each kernel that it launches.

    Needs the kind "counting".
    """
    library = load("counting")
    library.emulation_stop_counting.restype = ctypes.c_char_p
    library.emulation_start_counting()
    try:
        function()
    finally:
        text = library.emulation_stop_counting().decode()
    rows = [line.rsplit("\t", 9) for line in text.splitlines()]
    columns = (0, 2, 3, 5, 6, 7, 8)  # all but the counts of accesses (device/traffic.cpp)
    return [Traffic(kernel, *(int(numbers[i]) for i in columns)) for kernel, *numbers in rows]


def requested_kind() -> str | None:
    """Return the kind of build that the environment requests, or None."""
    return os.environ.get(VARIABLE) or None


def use_default_cpu_capability() -> None:
    """Disable the CPU's ops on whole planes, because CUDA does not have all of them.

    This must be called before steerlens_fast is imported, which reads the environment.
    """
    os.environ["STEERLENS_CPU_CAPABILITY"] = "default"

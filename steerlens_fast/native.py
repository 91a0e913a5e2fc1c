"""Loads the compiled libraries, which registers the ops with torch.

``_C`` has the ops for CPUs. ``_C_cuda``, if it was built, has the CUDA kernels. It is loaded if torch and
``_C_cuda`` have the same major version of CUDA. Neither library is a Python module, so one build works with every
version of Python; functions that are not ops are called through ctypes.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import torch

_ENDING = ".pyd" if os.name == "nt" else ".so"
LIBRARY = Path(__file__).with_name(f"_C{_ENDING}")
CUDA_LIBRARY = Path(__file__).with_name(f"_C_cuda{_ENDING}")


def _load(path: Path) -> ctypes.CDLL:
    """Register the ops of a library; return it for calls of its other functions."""
    try:
        torch.ops.load_library(str(path))
        return ctypes.CDLL(str(path))
    except OSError as error:
        cause = error.__cause__ or error  # torch replaces the loader's message by its own
        raise ImportError(str(cause), name=f"{__package__}.{path.stem}", path=str(path)) from error


def _function(name: str, return_type: type | None, *argument_types: type):
    """Return the function ``steerlens_<name>`` of ``_C``. Calling it releases the GIL."""
    function = getattr(_library, f"steerlens_{name}")
    function.restype, function.argtypes = return_type, argument_types
    return function


_ADDRESS = _COUNT = ctypes.c_uint64  # addresses in CPU memory, numbers of bytes or values

_library = _load(LIBRARY)
_build_info = _function("build_info", ctypes.c_char_p)
_cpu_capability = _function("cpu_capability", ctypes.c_char_p)
_invalid_cpu_capability = _function("invalid_cpu_capability", ctypes.c_char_p)

# Freed memory that is kept for reuse (csrc/allocation.h): functions that return its bytes, and release it.
idle_bytes = _function("idle_bytes", ctypes.c_int64)
free_idle_blocks = _function("free_idle_blocks", None)

# (address, bytes)
advise_huge_pages = _function("advise_huge_pages", None, _ADDRESS, _COUNT)
# (destination, source, bytes)
stream_copy = _function("stream_copy", None, _ADDRESS, _ADDRESS, _COUNT)
# (destination, source, number of results, stride of the source, lower bound, upper bound)
_STREAM_REAL = (_ADDRESS, _ADDRESS, _COUNT, ctypes.c_int64, ctypes.c_double, ctypes.c_double)
stream_real_float = _function("stream_real_float", None, *_STREAM_REAL)
stream_real_double = _function("stream_real_double", None, *_STREAM_REAL)

# Whether the ops on whole planes support planes with a side of this many pixels, on a CPU.
plane_side_supported = _function("plane_side_supported", ctypes.c_bool, ctypes.c_int64)
# The number of floats in a SIMD vector of the ops on whole planes; 0 if this CPU or build has no such ops.
SIMD_WIDTH: int = _function("simd_width", ctypes.c_int64)()
# The number of parallel loops that the ops have run in this process. Tests and benchmarks count these loops, because
# threads wait at the end of each.
parallel_regions = _function("parallel_regions", ctypes.c_int64)


def build_info() -> dict:
    """Return how the libraries were built, and which CPU kernels this process uses."""
    info: dict = dict(line.split("=", 1) for line in _build_info().decode().splitlines())
    return info | {"cuda": bool(info["nvcc"]), "cpu_capability": _cpu_capability().decode()}


def _check_environment() -> None:
    invalid = _invalid_cpu_capability().decode()
    if invalid:
        text = "the environment variable STEERLENS_CPU_CAPABILITY must be avx512, avx2 or default"
        raise ImportError(f"{text}, got '{invalid}'")


def _has_matching_cuda() -> bool:
    info, cuda = build_info(), torch.version.cuda
    return info["cuda"] and cuda is not None and info["nvcc"].split(".")[0] == cuda.split(".")[0]


_check_environment()
HAS_CUDA = _has_matching_cuda()  # whether there are CUDA kernels in this process
if HAS_CUDA:
    _load(CUDA_LIBRARY)

# The largest side of planes that the ops on whole planes support, by device type (csrc/prepare/planes.h); 0 if there
# are no such ops.
CPU_PLANE_SIDE, CUDA_PLANE_SIDE = 1 << 14, 256
LARGEST_PLANE_SIDE = {"cpu": CPU_PLANE_SIDE if SIMD_WIDTH else 0, "cuda": CUDA_PLANE_SIDE if HAS_CUDA else 0}

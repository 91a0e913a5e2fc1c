"""Chooses the backend that computes a batch of planes."""

from __future__ import annotations

from enum import Enum
from functools import lru_cache

import torch
from torch import Tensor

from .. import native
from ..memory import has_plain_memory, is_untraced
from ..ops.enums import real_dtype
from ..ops.fake_checks import plane_dtypes
from ..ops.registration import are_batched, has_tangent
from ..torch_internals import has_transforms
from .filters import Geometry

# The largest plane, in pixels, for which the ops on whole planes are used. Up to this size they are faster than
# torch's FFTs on a CPU; larger planes were not measured. Besides their results, split_planes and merge_planes take 16
# bytes per pixel, and morphs up to 150 bytes; twice as much in float64. native.LARGEST_PLANE_SIDE limits the sides.
LARGEST_PLANE = 1 << 24


class Backend(Enum):
    """How a computation runs; see :func:`choose_backend`."""

    PLANE_OPS = "plane ops"  # each plane in one pass of split_planes, merge_planes or morph_planes
    FFT = "fft"  # torch.fft and the ops on bands, in pieces that fit the caches
    AUTOGRAD = "autograd"  # recorded for derivatives; PLANE_OPS or FFT computes the values
    COMPILE = "compile"  # traced by torch.compile: torch.fft and the ops on bands, for all planes at once


def choose_backend(geometry: Geometry, *tensors: Tensor) -> Backend:
    """Return the backend for a computation with these images or bands."""
    if torch.compiler.is_compiling():
        return Backend.COMPILE
    return Backend.AUTOGRAD if needs_derivative(*tensors) else forward_backend(geometry, *tensors)


def forward_backend(geometry: Geometry, *tensors: Tensor) -> Backend:
    """Return the backend that computes the values, PLANE_OPS or FFT."""
    return Backend.PLANE_OPS if plane_ops_supported(geometry, *tensors) else Backend.FFT


def needs_derivative(*tensors: Tensor) -> bool:
    """Return whether derivatives with respect to these tensors are recorded, or a torch.func transform is active."""
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        return True
    return has_transforms() or has_tangent(tensors) or are_batched(tensors)


def may_write_in_place(*tensors: Tensor) -> bool:
    """Return whether results may be written in place: no derivative is needed, and nothing is compiled."""
    return not (torch.compiler.is_compiling() or needs_derivative(*tensors))


def plane_ops_supported(geometry: Geometry, *tensors: Tensor) -> bool:
    """Return whether the ops on whole planes support these tensors.

    They must be plain tensors of one precision and of supported sizes, on a CPU with AVX2, AVX-512 or NEON, or in
    float32 on CUDA. split_planes, merge_planes and morph_planes have derivatives, so ``requires_grad`` does not matter.
    """
    if torch.compiler.is_compiling() or not is_untraced():
        return False
    largest_side = min((native.LARGEST_PLANE_SIDE.get(t.device.type, 0) for t in tensors), default=0)
    if not largest_side or len({real_dtype(t.dtype) for t in tensors}) > 1:
        return False
    fits = lambda t: real_dtype(t.dtype) in plane_dtypes(t.device) and t.numel() > 0 and has_plain_memory(t)
    return all(map(fits, tensors)) and _sizes_supported(geometry, largest_side)


def cpu_plane_ops_exist(t: Tensor) -> bool:
    """Return whether a tensor is on the CPU, and this CPU has the ops on whole planes.

    Only CPUs have step_planes, move_planes, morph_planes_to_l2, advance_planes, and the form "widened" of split_planes.
    """
    return t.device.type == "cpu" and native.SIMD_WIDTH > 0


@lru_cache(maxsize=512)
def _sizes_supported(geometry: Geometry, largest_side: int) -> bool:
    H, W = geometry.shape
    sides = {H, W, *(n for scale in range(geometry.num_scales + 1) for n in geometry.band_shape(scale))}
    return H * W <= LARGEST_PLANE and max(sides) <= largest_side and all(map(native.plane_side_supported, sides))

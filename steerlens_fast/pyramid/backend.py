"""Filters as ``split_planes`` and ``merge_planes`` read them: some rows of the image's spectrum side by side."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from .. import _C
from ..memory import is_plain_cpu
from . import filters
from .filters import Geometry

# Samples. split_planes and merge_planes hold 16 bytes for each beside their results, morph_planes up to 150 (of a joint
# morph). Up to here they are faster than torch's FFTs; larger planes were not tried.
LARGEST_PLANE = 1 << 24
# Rows side by side: 16 on CPUs with 512-bit vectors (x86-64-v4), 8 with 256-bit ones (x86-64-v3). Where there are
# neither, nothing but the reference reads panels.
LANES = _C.SIMD_WIDTH or 8


@lru_cache(maxsize=512)
def panel_rows(h: int, H: int) -> Tensor:
    """For each panel of image rows that a band of h rows has any of: the band's row, or -1; int64 [panels, lanes]."""
    rows = torch.full((-(-H // LANES) * LANES,), -1, dtype=torch.int64, device="cpu")
    rows[filters.signed_frequencies(h) % H] = torch.arange(h, device="cpu")
    rows = rows.view(-1, LANES)
    return rows[(rows >= 0).any(1)]


def in_panels(mask: Tensor, H: int) -> Tensor:
    """A mask [K, h, w] as [K, panels, w, lanes]; zeros where the band has no row, which the ops read, too."""
    rows = panel_rows(mask.shape[-2], H)
    panels = mask[:, rows.clamp(min=0)] * (rows >= 0)[None, :, :, None]
    return panels.transpose(-1, -2).contiguous()


def plane_ops_supported(geometry: Geometry, planes: Tensor) -> bool:
    """Whether the ops can transform these planes: plain float32 on a CPU that has them, of a size that they take."""
    if torch.compiler.is_compiling():
        return False
    plain = planes.dtype in (torch.float32, torch.complex64) and planes.numel() > 0 and is_plain_cpu(planes)
    return plain and _C.SIMD_WIDTH > 0 and _sizes_fit(geometry)


@lru_cache(maxsize=512)
def _sizes_fit(geometry: Geometry) -> bool:
    H, W = geometry.shape
    sides = {H, W, *(n for scale in range(geometry.height + 1) for n in geometry.band_shape(scale))}
    return H * W <= LARGEST_PLANE and all(map(_C.plane_side_supported, sides))

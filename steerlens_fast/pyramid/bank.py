"""Banks: linear maps between images and groups of bands, with their adjoints.

A bank consists of parts. A part is the bands of one scale, or a residual. ``split`` maps images to bands, and ``merge``
is its exact adjoint (in the inner product Re<a, b>). Therefore one class computes the analysis, the synthesis, the
gradient with respect to coefficients, and all their derivatives:

=========== =============================== ===============================
bank        split                           merge
=========== =============================== ===============================
"analysis"  coefficients of an image        adjoint (VJP) of the analysis
"real"      gradient w.r.t. Re(c)           synthesis from real parts
"adjoint"   gradient w.r.t. c               synthesis from Re(c) and Im(c)
=========== =============================== ===============================

The *residual of a bank* is the part of an image that its bands do not contain. It is not the same as the high-pass and
low-pass residuals, which can be parts of a bank. Functions that compute it require a bank without such parts.

FFTs are not normalised; all constants are in the masks (:mod:`.masks`). :func:`.backend.choose_backend` decides how a
bank is computed: by the ops on whole planes, or by torch.fft and the ops on bands (:mod:`.spectra`). :mod:`.batches`
divides large batches into pieces, and :mod:`.autograd` computes derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import torch
from torch import Tensor

from .. import ops
from ..ops.registration import opposite_i_powers
from . import autograd, batches, masks
from .backend import Backend, choose_backend
from .filters import Geometry
from .masks import HIGHPASS, KINDS, LOWPASS, Part, band_shape, is_oriented

__all__ = ["HIGHPASS", "KINDS", "LOWPASS", "Bank", "Part"]


@dataclass(frozen=True)
class Bank:
    """A linear map between images [..., H, W] and bands [..., K, h, w], one tensor for each part.

    The table in the docstring of this module describes the values of ``kind``. Banks are hashable.
    """

    geometry: Geometry
    kind: str
    parts: tuple[Part, ...]

    def split(self, image: Tensor) -> list[Tensor]:
        """Split images into bands: complex for scales of "analysis" and "adjoint", else real."""
        backend = choose_backend(self.geometry, image)
        if backend is Backend.COMPILE:
            return batches.split_in_one_pass(self, image)
        if backend is Backend.AUTOGRAD:
            return list(autograd.split(self, image))
        return list(batches.split(self, image, backend))

    def merge(self, bands: Sequence[Tensor]) -> Tensor:
        """Merge bands into images: the adjoint of :meth:`split`."""
        backend = choose_backend(self.geometry, *bands)
        if backend is Backend.COMPILE:
            return batches.merge_in_one_pass(self, bands)
        if backend is Backend.AUTOGRAD:
            return autograd.merge(self, bands)
        return batches.merge(self, bands, backend)

    def subset(self, indices: Sequence[int]) -> Bank:
        """Return the bank of the parts with these indices."""
        return Bank(self.geometry, self.kind, tuple(self.parts[i] for i in indices))

    # --- The bands ---

    @property
    def paired(self) -> bool:
        """Whether torch.fft transforms two real bands as one complex band.

        With torch on a CPU, one complex FFT of a pair is 1.1 to 2.4 times as fast as two real FFTs, and an inverse one
        2 to 10 times as fast. Both bands of a pair belong to one image plane. Paired banks use whole spectra of images
        (all W columns), unpaired banks half spectra (W//2+1 columns).
        """
        return self.kind == "real"

    def is_complex(self, part: Part) -> bool:
        """Return whether a part's bands are complex."""
        return not self.paired and is_oriented(part)

    def band_shape(self, part: Part) -> tuple[int, int, int]:
        """Return (K, h, w) of a part's bands."""
        return band_shape(self.geometry, part)

    def plane_bytes(self, dtype: torch.dtype) -> int:
        """Return the bytes that a split or a merge takes for one image plane."""
        # The spectra of all bands, and the largest band after its inverse FFT.
        sizes = [math.prod(self.band_shape(p)) * (2 if self.is_complex(p) else 1) for p in self.parts]
        return dtype.itemsize * (sum(sizes) + max(sizes, default=0))

    # --- Arguments of the ops, one entry for each part ---

    @property
    def widths(self) -> list[int]:
        """The width w of each part's bands."""
        return [self.band_shape(p)[2] for p in self.parts]

    @property
    def split_i_powers(self) -> list[int]:
        """For each part, the exponent of i: a split multiplies its bands by this power of i."""
        return [self.geometry.analysis_i_power if is_oriented(p) else 0 for p in self.parts]

    @property
    def merge_i_powers(self) -> list[int]:
        """For each part, the exponent of i for a merge."""
        return opposite_i_powers(self.split_i_powers)

    @property
    def forms(self) -> list[str]:
        """The form of each part's bands, see :func:`ops.split_planes`."""
        return ["complex" if self.is_complex(p) else "real" for p in self.parts]

    def masks(self, like: Tensor, merging: bool) -> list[Tensor]:
        """Return each part's masks for ``split_bands``, or if ``merging`` for ``merge_bands``.

        A mask is [K, h, w]; for residuals of unpaired banks, [1, h, w//2+1]. Masks have the device and precision of
        ``like``.
        """
        options = merging, str(like.device), ops.real_dtype(like.dtype)
        return list(masks.band_masks(self.geometry, self.kind, self.parts, *options))

    def residual_mask(self, like: Tensor) -> Tensor:
        """Return the mask of the bank's residual.

        It is the share of each frequency's energy that is in none of the bands, divided by H W. The shape is [1, H, W]
        if bands are paired, else [1, H, W//2+1]. Device and precision are those of ``like``.
        """
        options = self.paired, str(like.device), ops.real_dtype(like.dtype)
        return masks.residual_mask(self.geometry, self.parts, *options)[0]

    def squared_response(self, like: Tensor) -> Tensor:
        """Return the sum of the bands' squared filters, [H, W//2+1] with values in [0, 1]."""
        options = str(like.device), ops.real_dtype(like.dtype)
        return masks.squared_response(self.geometry, self.parts, *options)[0]

    # --- The ops on whole planes ---

    def plane_masks(self, like: Tensor, with_residual: bool = False) -> list[Tensor]:
        """Return the masks [K, h, w] of each part, for the argument ``filters`` of the ops on whole planes.

        Masks have the device and precision of ``like``. If ``with_residual``, the last tensor is the mask of the bank's
        residual.
        """
        options = with_residual, str(like.device), ops.real_dtype(like.dtype)
        return list(masks.plane_masks(self.geometry, self.kind, self.parts, *options))

    def split_planes(self, planes: Tensor, with_residual: bool = False, widen: Sequence[bool] = ()) -> list[Tensor]:
        """Split planes [N, H, W] into bands.

        If ``with_residual``, the last entry is the bank's residual [N, 1, H, W]. ``widen`` says for each part whether
        real bands get a complex dtype; by default none does.
        """
        forms = ["widened" if wide and form == "real" else form for form, wide in zip_longest(self.forms, widen)]
        i_powers = self.split_i_powers
        if with_residual:
            i_powers, forms = [*i_powers, 0], [*forms, "real"]
        return ops.split_planes(planes, self.plane_masks(planes, with_residual), i_powers, forms)

    def merge_planes(self, bands: Sequence[Tensor], form: str | None = None, residual: Tensor | None = None) -> Tensor:
        """Merge bands [N, K, h, w] into planes [N, H, W], and add the planes ``residual``.

        By default, bands have the :attr:`forms` of the parts, and no residual is added. For F frames of n planes, N is
        F * n, and the residual may be [n, H, W].
        """
        forms = self.forms if form is None else [form] * len(self.parts)
        filters = self.plane_masks(bands[0])
        return ops.merge_planes(bands, filters, self.merge_i_powers, forms, *self.geometry.shape, residual)

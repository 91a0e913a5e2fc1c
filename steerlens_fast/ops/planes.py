"""``split_planes`` converts images to bands, including the FFTs, and ``merge_planes`` converts them back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .enums import FORMS, SPLIT_FORMS, form_indices, real_dtype
from .fake_checks import (
    COMPLEX,
    REAL,
    check_dtype,
    check_plane_dtype,
    check_plane_groups,
    check_rank,
    check_shape,
    require,
)
from .pair import pair_orientations
from .registration import (
    call,
    call_plane_op,
    check_constant,
    contiguous_grad,
    fake,
    opposite_i_powers,
    register_derivative,
)


def split_planes(
    planes: Tensor, filters: Sequence[Tensor], i_powers: Sequence[int], forms: Sequence[str]
) -> list[Tensor]:
    """Split real planes into bands.

    One op computes the FFTs of the planes, the products with the filters, and the inverse FFTs of the bands. It exists
    where :func:`steerlens_fast.pyramid.backend.plane_ops_supported` returns True.

    Parameters
    ----------
    planes : Tensor [N, H, W], float32, on CPUs also float64
        Image planes, each one channel of one image.
    filters : sequence of Tensors, each [K, h, w], in the dtype of ``planes``
        The filters of each group of K bands of h x w samples. They multiply the h x w lowest frequencies, and include
        the normalisation of the FFTs.
    i_powers : sequence of int
        Exponents from 0 to 3: group g is also multiplied by ``i ** i_powers[g]``.
    forms : sequence of {"real", "complex", "widened"}
        How the bands of each group are returned. "complex": as complex numbers. "real": only their real parts, for
        filters that give real bands. "widened" (CPU only): real parts, as complex numbers with imaginary part 0.

    Returns
    -------
    list of Tensor [N, K, h, w]
        The bands of each group, in the dtype of ``planes`` or its complex dtype.

    Raises
    ------
    ValueError
        For an unknown form.
    RuntimeError
        If a shape, dtype or device is wrong, or this CPU does not have the op. No kernel has run then.

    Examples
    --------
    >>> import torch
    >>> from steerlens_fast.native import SIMD_WIDTH  # 0 if this CPU does not have the op
    >>> planes, filters = torch.rand(2, 32, 32), torch.ones(3, 16, 16)
    >>> if SIMD_WIDTH > 0:
    ...     (bands,) = split_planes(planes, [filters], [0], ["complex"])
    ...     assert bands.shape == (2, 3, 16, 16)
    """
    args = planes, list(filters), list(i_powers), form_indices(forms, SPLIT_FORMS)
    return call_plane_op("split_planes", *args)


def merge_planes(
    bands: Sequence[Tensor],
    filters: Sequence[Tensor],
    i_powers: Sequence[int],
    forms: Sequence[str],
    height: int,
    width: int,
    residual: Tensor | None = None,
) -> Tensor:
    """Merge bands into real planes.

    One op computes the FFTs of the bands, the products with the filters, their sum, and the inverse FFTs of the planes.
    With ``-p % 4`` in place of each exponent p in ``i_powers``, it is the adjoint of :func:`split_planes`.

    Parameters
    ----------
    bands : sequence of Tensors [N, K, h, w], or [N, ceil(K / 2), h, w] for "pairs", float32 or complex64
        On CPUs also float64 or complex128.
    filters, i_powers
        As in :func:`split_planes`.
    forms : sequence of {"real", "complex", "pairs"}
        How the bands of each group are stored. "real": only their real parts are read. "complex": as complex numbers.
        "pairs": as real parts of two bands in one complex band, as :func:`pair` returns them.
    height, width : int
        The planes' size in pixels.
    residual : Tensor [n, height, width], optional
        Plane j mod n is added to plane j of the result. So frames can share the residual of their image.

    Returns
    -------
    Tensor [N, height, width]
        In the real dtype of the bands.

    Raises
    ------
    ValueError, RuntimeError
        As in :func:`split_planes`.

    Examples
    --------
    >>> import torch
    >>> from steerlens_fast.native import SIMD_WIDTH  # 0 if this CPU does not have the op
    >>> band, filters = torch.rand(2, 3, 16, 16), torch.ones(3, 16, 16)
    >>> if SIMD_WIDTH > 0:
    ...     planes = merge_planes([band], [filters], [0], ["real"], 32, 32)
    ...     assert planes.shape == (2, 32, 32)
    """
    groups = list(filters), list(i_powers), form_indices(forms, FORMS)
    args = list(bands), *groups, residual, height, width
    return call_plane_op("merge_planes", *args)


@fake("split_planes")
def _(planes, filters, i_powers, forms):
    check_plane_dtype("planes", planes, *REAL)
    check_rank("planes", planes, 3, "[N, H, W]")
    check_plane_groups(filters, i_powers, forms, SPLIT_FORMS, planes.dtype, planes.shape[1:])
    dtypes = [planes.dtype.to_complex() if form != SPLIT_FORMS["real"] else planes.dtype for form in forms]
    return [planes.new_empty(planes.shape[0], *f.shape, dtype=dtype) for f, dtype in zip(filters, dtypes)]


@fake("merge_planes")
def _(bands, filters, i_powers, forms, residual, height, width):
    counts = f"{len(filters)} filters, got {len(bands)}"
    require(0 < len(bands) == len(filters), f"bands must hold one tensor for each of {counts}")
    check_plane_dtype("bands[0]", bands[0], *REAL, *COMPLEX)
    check_rank("bands[0]", bands[0], 4, "[N, K, h, w]")
    real = real_dtype(bands[0].dtype)
    check_plane_groups(filters, i_powers, forms, FORMS, real, (height, width))
    count = bands[0].shape[0]
    for i, (band, filter_, form) in enumerate(zip(bands, filters, forms)):
        K, h, w = filter_.shape
        K = (K + 1) // 2 if form == FORMS["pairs"] else K
        check_dtype(f"bands[{i}]", band, *([real] if form == FORMS["real"] else []), real.to_complex())
        check_shape(f"bands[{i}]", band, (count, K, h, w))
    if residual is not None:
        check_dtype("residual", residual, real)
        check_rank("residual", residual, 3, "[n, H, W]")
        n = residual.shape[0]
        check_shape("residual", residual, (n, height, width))
        text = f"residual must have a number of planes that divides that of bands, {count}, got {n}"
        require(count == 0 or (n > 0 and count % n == 0), text)
    return bands[0].new_empty(count, height, width, dtype=real)


def _setup_split_planes(ctx, inputs, output):
    planes, filters, i_powers, forms = inputs
    ctx.save_for_backward(*filters)
    read_as = [FORMS["real"] if form == SPLIT_FORMS["widened"] else form for form in forms]
    ctx.i_powers, ctx.forms, ctx.plane_shape = opposite_i_powers(i_powers), read_as, planes.shape[-2:]


def _split_planes_backward(ctx, grads):
    check_constant(ctx, 1, "filters")
    filters = list(ctx.saved_tensors)
    grads = [contiguous_grad(g) for g in grads]
    grad = call("merge_planes", grads, filters, ctx.i_powers, ctx.forms, None, *ctx.plane_shape)
    return grad, [None] * len(filters), None, None


def _setup_merge_planes(ctx, inputs, output):
    bands, filters, i_powers, forms, residual, _, _ = inputs
    ctx.save_for_backward(*filters)
    ctx.i_powers, ctx.forms, ctx.complex = opposite_i_powers(i_powers), forms, [band.is_complex() for band in bands]
    ctx.residual_planes = None if residual is None else residual.shape[0]


def _merge_planes_backward(ctx, grad):
    check_constant(ctx, 1, "filters")
    filters, grad = list(ctx.saved_tensors), contiguous_grad(grad)
    forms = [FORMS["real"] if form == FORMS["pairs"] else form for form in ctx.forms]
    grads = call("split_planes", grad, filters, ctx.i_powers, forms)
    grad_bands = [_as_stored(*band) for band in zip(grads, ctx.forms, ctx.complex)]
    n, grad_residual = ctx.residual_planes, None
    if n is not None:
        grad_residual = grad.unflatten(0, (grad.shape[0] // max(n, 1), n)).sum(0)
    return grad_bands, [None] * len(filters), None, None, grad_residual, None, None


def _as_stored(grad: Tensor, form: int, complex_: bool) -> Tensor:
    """Return a band's gradient in the form of the band, which is real, complex or pairs."""
    if form == FORMS["pairs"]:
        return pair_orientations(grad)
    return torch.complex(grad, torch.zeros_like(grad)) if complex_ and form == FORMS["real"] else grad


register_derivative("split_planes", _split_planes_backward, _setup_split_planes)
register_derivative("merge_planes", _merge_planes_backward, _setup_merge_planes)

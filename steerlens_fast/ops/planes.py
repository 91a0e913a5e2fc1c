"""``split_planes`` and ``merge_planes``: images and bands, with their FFTs; each other's adjoints."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .enums import FORMS, form_indices, real_dtype
from .pair import pair
from .registration import call, call_plane_op, constant_masks, dense, fake, float32_only, opposite, register_derivative


def split_planes(
    planes: Tensor, filters: Sequence[Tensor], heights: Sequence[int], turns: Sequence[int], forms: Sequence[str]
) -> list[Tensor]:
    """Real planes to bands in one pass: :func:`split_bands` and the FFTs around it, within a core's caches.

    For the CPU alone, and float32, where :func:`steerlens_fast.pyramid.backend.plane_ops_supported` returns True.

    Parameters
    ----------
    planes : Tensor [N, H, W], float32
    filters : sequence of float32 Tensors, each [K, panels, w, lanes]
        One entry for each group of K bands of h x w samples, as :func:`steerlens_fast.pyramid.backend.in_panels` makes
        them of masks [K, h, w].
    heights : sequence of int
        Each group's h, in samples.
    turns : sequence of int
        Each group is multiplied by ``i ** turns``, 0 to 3.
    forms : sequence of {"real", "both"}
        Real parts of bands that are real but for rounding (two come from one FFT), or complex bands.

    Returns
    -------
    list of Tensor [N, K, h, w]
        Real or complex; no FFT is normalised.

    Raises
    ------
    RuntimeError
        Where a shape, dtype or device does not fit; the message names the argument. Raised before any kernel runs.

    Examples
    --------
    >>> import torch
    >>> from steerlens_fast.pyramid.filters import Geometry
    >>> from steerlens_fast.pyramid.backend import in_panels, plane_ops_supported
    >>> planes, mask = torch.rand(2, 32, 32), torch.ones(3, 16, 16)
    >>> if plane_ops_supported(Geometry((32, 32), 1, 3, 4, 1.0, False, True), planes):
    ...     (bands,) = split_planes(planes, [in_panels(mask, 32)], [16], [0], ["both"])
    ...     assert bands.shape == (2, 3, 16, 16)
    """
    how = list(filters), list(heights), list(turns), form_indices(forms, ("real", "both"))
    return call_plane_op("split_planes", planes, *how)


def merge_planes(
    bands: Sequence[Tensor],
    filters: Sequence[Tensor],
    heights: Sequence[int],
    turns: Sequence[int],
    forms: Sequence[str],
    height: int,
    width: int,
    rest: Tensor | None = None,
) -> Tensor:
    """Bands to real planes in one pass: :func:`merge_bands` and the FFTs around it, within a core's caches.

    The adjoint of :func:`split_planes` with opposite ``turns``, and like it the CPU's alone.

    Parameters
    ----------
    bands : sequence of Tensors [N, K, h, w] (or, "pairs", [N, ceil(K / 2), h, w]), float32 or complex64
    filters, heights, turns
        As in :func:`split_planes`.
    forms : sequence of {"real", "both", "pairs"}
        What is read: real parts (of real or complex bands); both quadratures; real parts as :func:`pair` has them.
    height, width : int
        The planes' size in pixels.
    rest : Tensor [n, height, width], optional
        Added, plane j mod n to plane j.

    Returns
    -------
    Tensor [N, height, width], float32

    Raises
    ------
    RuntimeError
        As in :func:`split_planes`.

    Examples
    --------
    >>> import torch
    >>> from steerlens_fast.pyramid.filters import Geometry
    >>> from steerlens_fast.pyramid.backend import in_panels, plane_ops_supported
    >>> band, mask = torch.rand(2, 3, 16, 16), torch.ones(3, 16, 16)
    >>> if plane_ops_supported(Geometry((32, 32), 1, 3, 4, 1.0, False, True), band):
    ...     planes = merge_planes([band], [in_panels(mask, 32)], [16], [0], ["real"], 32, 32)
    ...     assert planes.shape == (2, 32, 32)
    """
    how = list(filters), list(heights), list(turns), form_indices(forms, tuple(FORMS))
    return call_plane_op("merge_planes", list(bands), *how, rest, height, width)


@fake("split_planes")
def _(planes, filters, heights, turns, forms):
    float32_only("planes", planes)
    dtypes = [planes.dtype.to_complex() if form else planes.dtype for form in forms]
    shapes = [(planes.shape[0], f.shape[0], h, f.shape[2]) for f, h in zip(filters, heights)]
    return [planes.new_empty(shape, dtype=dtype) for shape, dtype in zip(shapes, dtypes)]


@fake("merge_planes")
def _(bands, filters, heights, turns, forms, rest, height, width):
    float32_only("bands", bands[0])
    return bands[0].new_empty(bands[0].shape[0], height, width, dtype=real_dtype(bands[0].dtype))


def _setup_split_planes(ctx, inputs, output):
    planes, filters, heights, turns, forms = inputs
    ctx.save_for_backward(*filters)
    ctx.how, ctx.shape = (heights, opposite(turns), forms), planes.shape[-2:]


def _split_planes_backward(ctx, grads):
    constant_masks(ctx, 1)
    filters = list(ctx.saved_tensors)
    grad = call("merge_planes", [dense(g) for g in grads], filters, *ctx.how, None, *ctx.shape)
    return grad, [None] * len(filters), None, None, None


def _setup_merge_planes(ctx, inputs, output):
    bands, filters, heights, turns, forms, rest, _, _ = inputs
    ctx.save_for_backward(*filters)
    ctx.how, ctx.forms, ctx.complex = (heights, opposite(turns)), forms, [band.is_complex() for band in bands]
    ctx.rest = None if rest is None else rest.shape[0]


def _merge_planes_backward(ctx, grad):
    constant_masks(ctx, 1)
    filters, grad = list(ctx.saved_tensors), dense(grad)
    grads = call("split_planes", grad, filters, *ctx.how, [form % FORMS["pairs"] for form in ctx.forms])
    bands = [_as_stored(*band) for band in zip(grads, ctx.forms, ctx.complex)]
    rest = None if ctx.rest is None else grad.unflatten(0, (grad.shape[0] // max(ctx.rest, 1), ctx.rest)).sum(0)
    return bands, [None] * len(filters), None, None, None, rest, None, None


def _as_stored(grad: Tensor, form: int, complex_: bool) -> Tensor:
    """A real part's gradient as that of what holds the real part."""
    if form == FORMS["pairs"]:
        N, K = grad.shape[:2]
        return pair(grad.flatten(0, 1), K).unflatten(0, (N, (K + 1) // 2))
    return torch.complex(grad, torch.zeros_like(grad)) if complex_ and form == FORMS["real"] else grad


for _name, _backward, _setup in (
    ("split_planes", _split_planes_backward, _setup_split_planes),
    ("merge_planes", _merge_planes_backward, _setup_merge_planes),
):
    register_derivative(_name, _backward, _setup)

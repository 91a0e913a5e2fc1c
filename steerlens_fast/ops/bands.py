"""``split_bands`` and ``merge_bands``: spectra of images and of bands; each other's adjoints."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .registration import call, constant_masks, dense, fake, opposite, register_derivative


def split_bands(
    spectrum: Tensor,
    masks: Sequence[Tensor],
    turns: Sequence[int],
    widths: Sequence[int],
    width: int,
    paired: bool = False,
) -> list[Tensor]:
    """Masked, cropped band spectra of every scale and orientation, in one pass over an image's spectrum.

    Parameters
    ----------
    spectrum : Tensor [N, H, width // 2 + 1] or [N, H, width], complex64 or complex128
        ``rfft2`` of N images of H x ``width`` pixels, or ``fft2``, which needs full layouts.
    masks : sequence of real Tensors, each [K, h, w] (full layout) or [K, h, w // 2 + 1] (half layout)
        One entry for each group of K bands of h x w samples; constants, in the precision of ``spectrum``.
    turns : sequence of int
        Each group is multiplied by ``i ** turns``, 0 to 3.
    widths : sequence of int
        Each group's w, in samples.
    width : int
        The image's width in pixels.
    paired : bool
        Bands are real: make them two by two. Orientations 2q and 2q + 1 are the real and imaginary parts of one inverse
        FFT, since their filters enter as m + i m'. Needs a whole spectrum.

    Returns
    -------
    list of Tensor
        For each group [N, K, h, columns] (or [N, ceil(K / 2), h, w]), complex: for ``ifft2`` (full) or ``irfft2``.

    Raises
    ------
    RuntimeError
        Where a shape, dtype or device does not fit; the message names the argument. Raised before any kernel runs.

    Examples
    --------
    >>> import torch
    >>> spectrum = torch.fft.rfft2(torch.rand(2, 8, 8))
    >>> split_bands(spectrum, [torch.ones(3, 4, 4)], [0], [4], 8)[0].shape
    torch.Size([2, 3, 4, 4])
    """
    return call("split_bands", spectrum, list(masks), list(turns), list(widths), width, paired)


def merge_bands(
    bands: Sequence[Tensor],
    masks: Sequence[Tensor],
    turns: Sequence[int],
    widths: Sequence[int],
    height: int,
    width: int,
    whole: bool = False,
    paired: bool = False,
) -> Tensor:
    """Masked, padded and summed spectrum of every scale and orientation: a gather, one write per frequency.

    The adjoint of :func:`split_bands` with opposite ``turns``: reflected columns of the full layout enter conjugated.

    Parameters
    ----------
    bands : sequence of Tensors [P, K, h, columns], complex
        One for each mask. P may differ: N is the largest, and plane n reads plane n mod P, so that one residual can
        serve all frames.
    masks, turns, widths
        As in :func:`split_bands`.
    height, width : int
        The image's size in pixels.
    whole : bool
        Give whole spectra; needs full layouts.
    paired : bool
        Bands are real and come two by two, as ``split_bands(..., paired=True)`` makes them. Of the inverse FFT, whose
        spectrum must be ``whole``, the real part is the image.

    Returns
    -------
    Tensor [N, height, width // 2 + 1] or, ``whole``, [N, height, width], complex
        Ready for ``irfft2``, or ``ifft2``.

    Raises
    ------
    RuntimeError
        As in :func:`split_bands`.

    Examples
    --------
    >>> import torch
    >>> band = torch.fft.rfft2(torch.rand(2, 3, 4, 4))
    >>> merge_bands([band], [torch.ones(3, 4, 3)], [0], [4], 8, 8).shape
    torch.Size([2, 8, 5])
    """
    return call("merge_bands", list(bands), list(masks), list(turns), list(widths), height, width, whole, paired)


@fake("split_bands")
def _(spectrum, masks, turns, widths, width, paired):
    stored = lambda K: (K + 1) // 2 if paired else K
    return [spectrum.new_empty(spectrum.shape[0], stored(m.shape[0]), *m.shape[1:]) for m in masks]


@fake("merge_bands")
def _(bands, masks, turns, widths, height, width, whole, paired):
    planes = bands[0].shape[0]
    for band in bands[1:]:
        planes = torch.sym_max(planes, band.shape[0])
    return bands[0].new_empty(planes, height, width if whole else width // 2 + 1)


def _setup_split_bands(ctx, inputs, output):
    spectrum, masks, turns, widths, width, paired = inputs
    ctx.save_for_backward(*masks)
    ctx.bank = opposite(turns), widths
    ctx.shape = spectrum.shape[-2], width, spectrum.shape[-1] == width and width > 2, paired


def _split_bands_backward(ctx, grads):
    constant_masks(ctx, 1)
    masks, (turns, widths) = list(ctx.saved_tensors), ctx.bank
    grad = merge_bands([dense(g) for g in grads], masks, turns, widths, *ctx.shape)
    return grad, [None] * len(masks), None, None, None, None


def _setup_merge_bands(ctx, inputs, output):
    bands, masks, turns, widths, _, width, _, paired = inputs
    ctx.save_for_backward(*masks)
    ctx.bank = opposite(turns), widths
    ctx.planes, ctx.width, ctx.paired = [band.shape[0] for band in bands], width, paired


def _merge_bands_backward(ctx, grad):
    constant_masks(ctx, 1)
    masks, (turns, widths) = list(ctx.saved_tensors), ctx.bank
    grads = split_bands(dense(grad), masks, turns, widths, ctx.width, ctx.paired)
    repeated = [g if g.shape[0] == p or p == 0 else g.unflatten(0, (-1, p)).sum(0) for g, p in zip(grads, ctx.planes)]
    return repeated, [None] * len(masks), None, None, None, None, None, None


register_derivative("split_bands", _split_bands_backward, _setup_split_bands)
register_derivative("merge_bands", _merge_bands_backward, _setup_merge_bands)

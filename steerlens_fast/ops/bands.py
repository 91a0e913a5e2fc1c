"""``split_bands`` and ``merge_bands``: spectra of images and of bands; each other's adjoints."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .registration import call, check_constant_masks, dense, fake, opposite, register_derivative


def split_bands(
    spectrum: Tensor,
    masks: Sequence[Tensor],
    i_powers: Sequence[int],
    widths: Sequence[int],
    width: int,
    paired: bool = False,
) -> list[Tensor]:
    """Mask and crop an image's spectrum to the spectra of all bands, in one pass.

    Parameters
    ----------
    spectrum : Tensor [N, H, width // 2 + 1] or [N, H, width], complex64 or complex128
        ``rfft2`` of N images of H x ``width`` pixels, or ``fft2``, which needs full layouts.
    masks : sequence of real Tensors, each [K, h, w] (full layout) or [K, h, w // 2 + 1] (half layout)
        One entry for each group of K bands of h x w samples; constants, in the precision of ``spectrum``.
    i_powers : sequence of int
        Group g is multiplied by ``i ** i_powers[g]``, 0 to 3.
    widths : sequence of int
        Each group's w, in samples.
    width : int
        The image's width in pixels.
    paired : bool
        Return real bands in pairs: orientations 2q and 2q + 1 become the real and imaginary part of one inverse FFT,
        with the filter m + i m'. Needs a whole spectrum.

    Returns
    -------
    list of Tensor
        For each group complex spectra [N, K, h, columns], or [N, ceil(K / 2), h, w] if ``paired``, as ``ifft2`` (full
        layout) or ``irfft2`` (half layout) takes them.

    Raises
    ------
    RuntimeError
        If a shape, dtype or device is wrong; the message names the argument. Raised before any kernel runs.

    Examples
    --------
    >>> import torch
    >>> spectrum = torch.fft.rfft2(torch.rand(2, 8, 8))
    >>> split_bands(spectrum, [torch.ones(3, 4, 4)], [0], [4], 8)[0].shape
    torch.Size([2, 3, 4, 4])
    """
    return call("split_bands", spectrum, list(masks), list(i_powers), list(widths), width, paired)


def merge_bands(
    bands: Sequence[Tensor],
    masks: Sequence[Tensor],
    i_powers: Sequence[int],
    widths: Sequence[int],
    height: int,
    width: int,
    whole: bool = False,
    paired: bool = False,
) -> Tensor:
    """Mask, pad and add the spectra of all bands: the spectrum of an image, each frequency written once.

    The adjoint of :func:`split_bands` with opposite ``i_powers``: it conjugates reflected columns of the full layout.

    Parameters
    ----------
    bands : sequence of Tensors [P, K, h, columns], complex
        One for each mask. P may differ: N is the largest, and plane n reads plane n mod P, so that all frames can share
        one residual.
    masks, i_powers, widths
        As in :func:`split_bands`.
    height, width : int
        The image's size in pixels.
    whole : bool
        Return whole spectra; needs full layouts.
    paired : bool
        Bands are real, in pairs as ``split_bands(..., paired=True)`` returns them. The spectrum must be ``whole``; the
        real part of its inverse FFT is the image.

    Returns
    -------
    Tensor [N, height, width // 2 + 1] or, ``whole``, [N, height, width], complex
        As ``irfft2`` or ``ifft2`` takes it.

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
    return call("merge_bands", list(bands), list(masks), list(i_powers), list(widths), height, width, whole, paired)


@fake("split_bands")
def _(spectrum, masks, i_powers, widths, width, paired):
    stored_bands = [(m.shape[0] + 1) // 2 if paired else m.shape[0] for m in masks]
    return [spectrum.new_empty(spectrum.shape[0], K, *m.shape[1:]) for K, m in zip(stored_bands, masks)]


@fake("merge_bands")
def _(bands, masks, i_powers, widths, height, width, whole, paired):
    planes = bands[0].shape[0]
    for band in bands[1:]:
        planes = torch.sym_max(planes, band.shape[0])
    return bands[0].new_empty(planes, height, width if whole else width // 2 + 1)


def _setup_split_bands(ctx, inputs, output):
    spectrum, masks, i_powers, widths, width, paired = inputs
    ctx.save_for_backward(*masks)
    ctx.spec = opposite(i_powers), widths
    ctx.shape = spectrum.shape[-2], width, spectrum.shape[-1] == width and width > 2, paired


def _split_bands_backward(ctx, grads):
    check_constant_masks(ctx, 1)
    masks, (i_powers, widths) = list(ctx.saved_tensors), ctx.spec
    grad = merge_bands([dense(g) for g in grads], masks, i_powers, widths, *ctx.shape)
    return grad, [None] * len(masks), None, None, None, None


def _setup_merge_bands(ctx, inputs, output):
    bands, masks, i_powers, widths, _, width, _, paired = inputs
    ctx.save_for_backward(*masks)
    ctx.spec = opposite(i_powers), widths
    ctx.planes, ctx.width, ctx.paired = [band.shape[0] for band in bands], width, paired


def _merge_bands_backward(ctx, grad):
    check_constant_masks(ctx, 1)
    masks, (i_powers, widths) = list(ctx.saved_tensors), ctx.spec
    grads = split_bands(dense(grad), masks, i_powers, widths, ctx.width, ctx.paired)
    summed = [g if g.shape[0] == p or p == 0 else g.unflatten(0, (-1, p)).sum(0) for g, p in zip(grads, ctx.planes)]
    return summed, [None] * len(masks), None, None, None, None, None, None


register_derivative("split_bands", _split_bands_backward, _setup_split_bands)
register_derivative("merge_bands", _merge_bands_backward, _setup_merge_bands)

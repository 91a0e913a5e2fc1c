"""``split_bands`` splits spectra of images into spectra of bands, and ``merge_bands`` merges them again.

A *whole* spectrum of an image of width W has W columns, like the result of ``fft2``. A *half* spectrum has only the
W // 2 + 1 columns of frequencies that are not negative, like the result of ``rfft2``. For a real image, these
determine the other columns.

A *mask* contains the values by which the frequencies of a band are multiplied. Masks and spectra of a band of width w
have w columns (*full layout*) or, for real bands, w // 2 + 1 columns (*half layout*).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .fake_checks import COMPLEX, check_dtype, check_masks, check_rank, check_shape, require
from .registration import call, check_constant, contiguous_grad, fake, opposite_i_powers, register_derivative


def split_bands(
    spectrum: Tensor,
    masks: Sequence[Tensor],
    i_powers: Sequence[int],
    widths: Sequence[int],
    width: int,
    paired: bool = False,
) -> list[Tensor]:
    """Return the spectra of all bands, given the spectra of images.

    The spectrum of a band of h x w samples is the block of the h x w lowest frequencies, multiplied by the band's mask.

    Parameters
    ----------
    spectrum : Tensor [N, H, width // 2 + 1] or [N, H, width], complex64 or complex128
        ``rfft2`` of N images of H x ``width`` pixels, or their ``fft2``, which requires masks in the full layout.
    masks : sequence of real Tensors, each [K, h, w] (full layout) or [K, h, w // 2 + 1] (half layout)
        The masks of each group of K bands of h x w samples, in the precision of ``spectrum``. Masks contain the
        normalisation of the FFTs, and have no derivatives.
    i_powers : sequence of int
        Exponents from 0 to 3: group g is also multiplied by ``i ** i_powers[g]``.
    widths : sequence of int
        The width w of each group's bands, in samples.
    width : int
        The image's width in pixels.
    paired : bool
        Whether to return two real bands as one complex band, so that one inverse FFT computes both, as its real and
        imaginary part. For this, the masks m and m' of orientations 2q and 2q + 1 are used as one mask m + i m'.
        Requires a whole spectrum.

    Returns
    -------
    list of Tensor
        For each group, complex spectra [N, K, h, columns] with as many columns as the mask, for ``ifft2`` (full layout)
        or ``irfft2`` (half layout). If ``paired``, [N, ceil(K / 2), h, w] for ``ifft2``.

    Raises
    ------
    RuntimeError
        If a shape, dtype or device is wrong; the message names the argument. No kernel has run then.

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
    """Return the spectra of images, given the spectra of their bands.

    Each spectrum of a band is multiplied by its mask, and added to the spectrum of the image. With ``-p % 4`` in place
    of each exponent p in ``i_powers``, this is the adjoint of :func:`split_bands`. If the result is a half spectrum,
    values at negative frequencies are added, as conjugates, to the values at positive frequencies.

    Parameters
    ----------
    bands : sequence of Tensors [P, K, h, columns], complex
        Spectra of the bands of each group, for P planes. The number of images N is the largest P, and a multiple of
        each P: image n contains plane n mod P of a group. So frames can share the residual of their image.
    masks, i_powers, widths
        As in :func:`split_bands`.
    height, width : int
        The image's size in pixels.
    whole : bool
        Whether to return whole spectra. Requires masks in the full layout.
    paired : bool
        Whether ``bands`` are spectra of pairs, as ``split_bands(..., paired=True)`` returns them. Requires
        ``whole=True``. The image is the real part of the result's inverse FFT.

    Returns
    -------
    Tensor [N, height, width // 2 + 1], or [N, height, width] if ``whole``, complex
        For ``irfft2`` or, if ``whole``, ``ifft2``.

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
    check_dtype("spectrum", spectrum, *COMPLEX)
    check_rank("spectrum", spectrum, 3, "[N, H, W/2+1] or [N, H, W]")
    H, columns = spectrum.shape[1:]
    whole = columns == width and width > 2  # up to width 2, half spectra have ``width`` columns, too
    shape = list(spectrum.shape)
    fits = width >= 1 and (whole or columns == width // 2 + 1)
    require(fits, f"spectrum must have width/2+1 or width columns for width {width}, got {shape}")
    require(
        whole or width <= 2 or not paired,
        f"spectrum must have width = {width} columns for bands in pairs, got {columns}",
    )
    check_masks(masks, i_powers, widths, (H, width), whole or paired, spectrum.dtype)
    counts = [(m.shape[0] + 1) // 2 if paired else m.shape[0] for m in masks]
    return [spectrum.new_empty(spectrum.shape[0], K, *m.shape[1:]) for K, m in zip(counts, masks)]


@fake("merge_bands")
def _(bands, masks, i_powers, widths, height, width, whole, paired):
    require(height >= 1 and width >= 1, f"height and width must be positive, got {height}, {width}")
    require(
        0 < len(bands) == len(masks), f"bands must hold one tensor for each of {len(masks)} masks, got {len(bands)}"
    )
    require(whole or width <= 2 or not paired, "whole must be true for bands in pairs, got false")
    full = (whole and width > 2) or paired
    check_masks(masks, i_powers, widths, (height, width), full, bands[0].dtype)
    check_dtype("bands[0]", bands[0], *COMPLEX)
    for i, (band, mask) in enumerate(zip(bands, masks)):
        check_dtype(f"bands[{i}]", band, bands[0].dtype)
        check_rank(f"bands[{i}]", band, 4, "[N, K, h, columns]")
        K = (mask.shape[0] + 1) // 2 if paired else mask.shape[0]
        check_shape(f"bands[{i}]", band, (band.shape[0], K, *mask.shape[1:]))
    planes = bands[0].shape[0]
    for band in bands[1:]:
        planes = torch.sym_max(planes, band.shape[0])
    for i, band in enumerate(bands):
        divides = planes == 0 or (band.shape[0] > 0 and planes % band.shape[0] == 0)
        text = f"bands[{i}] must have a number of planes that divides the largest, {planes}"
        require(divides, f"{text}, got {band.shape[0]}")
    return bands[0].new_empty(planes, height, width if whole else width // 2 + 1)


def _setup_split_bands(ctx, inputs, output):
    spectrum, masks, i_powers, widths, width, paired = inputs
    ctx.save_for_backward(*masks)
    ctx.i_powers, ctx.widths = opposite_i_powers(i_powers), widths
    whole = spectrum.shape[-1] == width and width > 2  # up to width 2, half spectra have ``width`` columns, too
    ctx.merge_options = spectrum.shape[-2], width, whole, paired


def _split_bands_backward(ctx, grads):
    check_constant(ctx, 1, "masks")
    masks = list(ctx.saved_tensors)
    grad = merge_bands([contiguous_grad(g) for g in grads], masks, ctx.i_powers, ctx.widths, *ctx.merge_options)
    return grad, [None] * len(masks), None, None, None, None


def _setup_merge_bands(ctx, inputs, output):
    bands, masks, i_powers, widths, _, width, _, paired = inputs
    ctx.save_for_backward(*masks)
    ctx.i_powers, ctx.widths = opposite_i_powers(i_powers), widths
    ctx.planes, ctx.width, ctx.paired = [band.shape[0] for band in bands], width, paired


def _merge_bands_backward(ctx, grad):
    check_constant(ctx, 1, "masks")
    masks = list(ctx.saved_tensors)
    grads = split_bands(contiguous_grad(grad), masks, ctx.i_powers, ctx.widths, ctx.width, ctx.paired)
    # A band with fewer planes than there are images was read several times: its gradient is the sum over all reads.
    summed = [g if g.shape[0] == p or p == 0 else g.unflatten(0, (-1, p)).sum(0) for g, p in zip(grads, ctx.planes)]
    return summed, [None] * len(masks), None, None, None, None, None, None


register_derivative("split_bands", _split_bands_backward, _setup_split_bands)
register_derivative("merge_bands", _merge_bands_backward, _setup_merge_bands)

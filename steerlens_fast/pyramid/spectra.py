"""Splits planes into bands, and merges bands into planes, by torch.fft and the ops on bands.

torch.compile can trace this module. A half spectrum has the W//2+1 columns of ``rfft2``. A whole spectrum has all W
columns of ``fft2``. Paired banks (see ``Bank.paired``) use whole spectra.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .. import ops
from ..ops.pair import pair_orientations, unpair_orientations

if TYPE_CHECKING:
    from .bank import Bank, Part


# --- Images to bands ---


def split_image(bank: Bank, planes: Tensor) -> Iterator[Tensor]:
    """Yield the bands [N, K, h, w] of images [N, H, W], part by part."""
    return split_spectrum(bank, image_spectrum(bank, planes))


def split_spectrum(bank: Bank, spectrum: Tensor) -> Iterator[Tensor]:
    """Yield the bands [N, K, h, w] of the images with this ``spectrum``, part by part.

    A paired bank requires a whole spectrum. An unpaired bank with residuals requires a half spectrum. Other banks take
    either.
    """
    for part, spectra in split_into_band_spectra(bank, spectrum):
        yield to_band(bank, part, spectra)


def image_spectrum(bank: Bank, planes: Tensor) -> Tensor:
    """Return the spectrum of images [N, H, W]: whole for a paired bank, else half."""
    return whole_spectrum(planes) if bank.paired else torch.fft.rfft2(planes)


def whole_spectrum(planes: Tensor) -> Tensor:
    """Return ``fft2`` of real images [N, H, W], computed by a complex FFT.

    This is faster than ``fft2`` of real tensors, for which torch computes half of the columns and copies the others.
    """
    return torch.fft.fft2(ops.pair(planes, 1))  # with imaginary parts of 0


def split_into_band_spectra(bank: Bank, spectrum: Tensor) -> Iterator[tuple[Part, Tensor]]:
    """Yield each part with the spectra of its bands."""
    masks = bank.masks(spectrum, merging=False)
    spectra = ops.split_bands(spectrum, masks, bank.split_i_powers, bank.widths, bank.geometry.shape[1], bank.paired)
    for part in bank.parts:
        first, *spectra = spectra  # no variable keeps spectra that were yielded before
        yield part, first


def to_band(bank: Bank, part: Part, spectra: Tensor) -> Tensor:
    """Return the bands of a part, [N, K, h, w], from their spectra."""
    if bank.paired:
        return unpair_orientations(torch.fft.ifft2(spectra, norm="forward"), bank.band_shape(part)[0])
    if bank.is_complex(part):
        return torch.fft.ifft2(spectra, norm="forward")
    return torch.fft.irfft2(spectra, s=bank.band_shape(part)[1:], norm="forward")


# --- Bands to images ---


def band_spectra(bank: Bank, bands: Iterable[Tensor]) -> list[Tensor]:
    """Return the spectra of bands [N, K, h, w]. If the bank is paired, imaginary parts of bands are ignored."""
    if bank.paired:
        return pair_spectra(pair_orientations(band) for band in bands)
    return [
        torch.fft.fft2(to_complex(band)) if bank.is_complex(part) else torch.fft.rfft2(band)
        for part, band in zip(bank.parts, bands)
    ]


def pair_spectra(pairs: Iterable[Tensor]) -> list[Tensor]:
    """Return the spectra of bands that are stored in pairs [N, ceil(K/2), h, w]."""
    return [torch.fft.fft2(pair) for pair in pairs]


def to_complex(band: Tensor) -> Tensor:
    """Return a band as a complex tensor; the imaginary parts of a real band are 0."""
    return band if band.is_complex() else torch.complex(band, torch.zeros_like(band))


def merge_spectra(bank: Bank, spectra: Sequence[Tensor], residual: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Merge the spectra of bands into images [F * N, H, W].

    These are F frames of N images; F is 1 outside of morphs. For a paired bank the result is complex, and its real part
    is the images (see :func:`real_images`). ``residual`` is a tuple: the spectra of N images from
    :func:`image_spectrum`, and a mask. Their product is added to each frame.
    """
    H, W = bank.geometry.shape
    masks, i_powers, widths = bank.masks(spectra[0], merging=True), bank.merge_i_powers, bank.widths
    if residual is not None:
        spectra, masks = [*spectra, residual[0][:, None]], [*masks, residual[1]]
        i_powers, widths = [*i_powers, 0], [*widths, W]
    merged = ops.merge_bands(spectra, masks, i_powers, widths, H, W, whole=bank.paired, paired=bank.paired)
    del spectra  # frees memory before the FFT allocates its own
    if bank.paired:
        return torch.fft.ifft2(merged, norm="forward")
    return torch.fft.irfft2(merged, s=(H, W), norm="forward")


def real_images(images: Tensor) -> Tensor:
    """Return the real parts [F * N, H, W] of the images from :func:`merge_spectra`."""
    return ops.unpair(images, 1) if images.is_complex() else images

"""Splits and merges batches [..., H, W], without derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from torch import Tensor

from ..memory import chunks, fits_one_pass, new_output, store
from .backend import Backend, cpu_plane_ops_exist
from .spectra import (
    band_spectra,
    image_spectrum,
    merge_spectra,
    real_images,
    split_image,
    split_into_band_spectra,
    to_band,
    to_complex,
)

if TYPE_CHECKING:
    from .bank import Bank, Part


def split(bank: Bank, image: Tensor, backend: Backend, widen: Sequence[bool] = ()) -> tuple[Tensor, ...]:
    """Split images into bands [..., K, h, w], one tensor for each part.

    ``widen`` says for each part whether real bands get a complex dtype; by default none does.
    """
    planes, lead = _flatten_leading(image, 2), image.shape[:-2]
    if backend is Backend.PLANE_OPS:
        # Only on CPUs, split_planes can widen bands
        bands = bank.split_planes(planes, widen=widen if cpu_plane_ops_exist(image) else ())
    else:
        bands = _split_by_fft(bank, planes)
    widened = (to_complex(band) if wide else band for band, wide in zip_longest(bands, widen))
    return tuple(band.view(*lead, *band.shape[1:]) for band in widened)


def _split_by_fft(bank: Bank, planes: Tensor) -> list[Tensor]:
    plane_bytes = bank.plane_bytes(planes.dtype)
    slices = chunks(len(planes), plane_bytes, planes.device)
    # If even one plane is too large for a pass, _store_bands splits its bands.
    if len(slices) == 1 and fits_one_pass(plane_bytes * len(planes), planes.device):
        return list(split_image(bank, planes))
    out = _new_bands(bank, len(planes), planes)
    for at in slices:
        for band, (part, spectra) in zip(out, split_into_band_spectra(bank, image_spectrum(bank, planes[at]))):
            _store_bands(bank, part, spectra, band[at])
    return out


def merge(bank: Bank, bands: Sequence[Tensor], backend: Backend) -> Tensor:
    """Merge bands [..., K, h, w] into images."""
    flat_bands = [_flatten_leading(band, 3) for band in bands]
    dtype, lead = bands[0].real.dtype, bands[0].shape[:-3]
    if backend is Backend.PLANE_OPS and _forms_match(bank, bands):
        stored = [to_complex(band) if bank.is_complex(part) else band for part, band in zip(bank.parts, flat_bands)]
        return bank.merge_planes(stored).view(*lead, *bank.geometry.shape)
    count = len(flat_bands[0])
    slices = chunks(count, bank.plane_bytes(dtype), bands[0].device)
    if len(slices) == 1:
        return merge_in_one_pass(bank, bands)
    out = new_output((count, *bank.geometry.shape), dtype, bands[0].device)
    for at in slices:
        store(out[at], merge_spectra(bank, band_spectra(bank, (band[at] for band in flat_bands))))
    return out.view(*lead, *bank.geometry.shape)


def split_in_one_pass(bank: Bank, image: Tensor) -> list[Tensor]:
    """Split images into bands by torch.fft, all planes at once."""
    lead = image.shape[:-2]
    bands = split_image(bank, _flatten_leading(image, 2))
    return [band.reshape(*lead, *band.shape[1:]) for band in bands]


def merge_in_one_pass(bank: Bank, bands: Sequence[Tensor]) -> Tensor:
    """Merge bands into images by torch.fft, all planes at once."""
    lead = bands[0].shape[:-3]
    image = real_images(merge_spectra(bank, band_spectra(bank, [_flatten_leading(b, 3) for b in bands])))
    return image.reshape(*lead, *image.shape[1:])


def _flatten_leading(t: Tensor, kept: int) -> Tensor:
    """Flatten all dimensions of ``t`` but the last ``kept``, also of tensors without elements."""
    return t.reshape(-1 if t.numel() else t.shape[:-kept].numel(), *t.shape[-kept:])


def _new_bands(bank: Bank, count: int, image: Tensor) -> list[Tensor]:
    dtypes = [image.dtype.to_complex() if bank.is_complex(part) else image.dtype for part in bank.parts]
    return [new_output((count, *bank.band_shape(p)), t, image.device) for p, t in zip(bank.parts, dtypes)]


def _store_bands(bank: Bank, part: Part, spectra: Tensor, out: Tensor) -> None:
    """Write the bands of these spectra to ``out`` [n, K, h, w]."""
    K, h, w = bank.band_shape(part)
    if bank.paired:  # to_band needs all pairs of a plane
        store(out, to_band(bank, part, spectra))
        return
    spectra, out = spectra.flatten(0, 1), out.flatten(0, 1)
    for at in chunks(len(spectra), h * w * out.itemsize, out.device):
        store(out[at], to_band(bank, part, spectra[at]))


def _forms_match(bank: Bank, bands: Sequence[Tensor]) -> bool:
    """Return whether merge_planes supports these bands.

    A paired bank uses the real parts of all bands. In other banks, residuals must be real tensors.
    """
    return bank.paired or all(bank.is_complex(part) or not band.is_complex() for part, band in zip(bank.parts, bands))

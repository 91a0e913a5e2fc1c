"""Banks: linear maps between images and groups of bands, with their adjoints. The home of every pyramid FFT.

A bank is a list of groups, one for each oriented scale or residual. ``split`` takes images to bands and ``merge`` is
its exact adjoint (in the inner product Re<a, b>), so one class serves analysis, synthesis, the gradient in the
coefficient domain and every derivative of these:

=========== =============================== ===============================
bank        split                           merge
=========== =============================== ===============================
"analysis"  coefficients of an image        derivative of the analysis
"real"      gradient w.r.t. Re(c)           synthesis from the real parts
"adjoint"   gradient w.r.t. c               synthesis from both quadratures
=========== =============================== ===============================

FFTs are never normalised: all constants are in the masks.

The bands of a "real" bank go in pairs, two orientations of a plane as one complex band. A complex FFT of a pair costs
less than two real ones (by a factor of 1.1 to 2.4 forth and 2 to 10 back, as torch has them on the CPU), whole spectra
need no special case for DC and Nyquist, and no plane ever meets another. The other banks read half spectra.

Where :func:`.backend.plane_ops_supported` returns True (float32 on a CPU with AVX2 or AVX-512), a plane takes one
pass through ``split_planes`` or ``merge_planes``, FFTs included; otherwise torch.fft and the ops for bands are used.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import ops
from ..memory import chunks, fits_one_pass, new_output, store
from ..ops.registration import are_batched, has_tangent
from ..torch_internals import constant_when_traced, has_transforms, over_batched_gradients, with_static_sizes
from . import backend, filters
from .filter_cache import CACHE
from .filters import Geometry

KINDS = ("analysis", "real", "adjoint")
HIGHPASS, LOWPASS = "highpass", "lowpass"


@dataclass(frozen=True)
class Part:
    """One group of a bank: a scale (int) or a residual, and which orientations (None: all)."""

    name: int | str
    orientations: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Bank:
    """A linear map between images [..., H, W] and bands [..., K, h, w], one for each part. Hashable."""

    geometry: Geometry
    kind: str
    parts: tuple[Part, ...]

    def split(self, image: Tensor) -> list[Tensor]:
        """Images to bands: complex for oriented bands of "analysis" and "adjoint", else real."""
        if torch.compiler.is_compiling():
            return _split_all(self, image)
        if needs_no_derivative(image):
            return list(_split_chunked(self, image))
        return list(_split(image, self))

    def merge(self, bands: Sequence[Tensor]) -> Tensor:
        """Bands to images: the adjoint of :meth:`split`."""
        if torch.compiler.is_compiling():
            return _merge_all(self, bands)
        if needs_no_derivative(*bands):
            return _merge_chunked(self, bands)
        return _merged(self, bands)

    def subset(self, indices: Sequence[int]) -> Bank:
        """The bank of some of the parts."""
        return Bank(self.geometry, self.kind, tuple(self.parts[i] for i in indices))

    # What the ops need, part by part.

    @property
    def paired(self) -> bool:
        """Whether bands go in pairs."""
        return self.kind == "real"

    def is_complex(self, part: Part) -> bool:
        """Whether a part's bands are complex: oriented ones, but for those of a real bank."""
        return not self.paired and isinstance(part.name, int)

    def is_full(self, part: Part) -> bool:
        """Whether a part's spectra are stored in full: of complex bands, and of pairs."""
        return self.paired or isinstance(part.name, int)

    def transform(self, planes: Tensor) -> Tensor:
        """Images [N, H, W] to the spectra that bands are split from: whole ones for pairs, else half ones."""
        return whole_spectrum(planes) if self.paired else torch.fft.rfft2(planes)

    def band_shape(self, part: Part) -> tuple[int, int, int]:
        """(K, h, w) of a part."""
        g = self.geometry
        if part.name == HIGHPASS:
            return 1, *g.shape
        if part.name == LOWPASS:
            return 1, *g.band_shape(g.height)
        return len(part.orientations or range(g.orientations)), *g.band_shape(part.name)

    @property
    def widths(self) -> list[int]:
        return [self.band_shape(p)[2] for p in self.parts]

    @property
    def split_turns(self) -> list[int]:
        return [-self.geometry.order % 4 if isinstance(p.name, int) else 0 for p in self.parts]

    @property
    def merge_turns(self) -> list[int]:
        return [-t % 4 for t in self.split_turns]

    def masks(self, like: Tensor, merging: bool) -> list[Tensor]:
        """The masks on ``like``'s device, in its precision."""
        how = self.kind, self._plain_parts, merging, str(like.device), like.dtype
        if torch.compiler.is_compiling():
            return list(_constant_masks(self.geometry.constants, *how))
        return list(_masks(self.geometry, *how))

    @property
    def heights(self) -> list[int]:
        return [self.band_shape(p)[1] for p in self.parts]

    @property
    def forms(self) -> list[str]:
        """What bands hold, in the words of :func:`ops.split_planes`."""
        return ["both" if self.is_complex(p) else "real" for p in self.parts]

    def split_planes(self, planes: Tensor, kept: bool = False) -> list[Tensor]:
        """Split planes [N, H, W] into bands by the plane op; the last entry, if ``kept``, is the residual."""
        how = self.panel_filters(kept), self.heights, self.split_turns, self.forms
        if kept:
            rest = self.geometry.shape[0], 0, "real"
            how = [how[0], *([*many, one] for many, one in zip(how[1:], rest))]
        return ops.split_planes(planes, *how)

    def merge_planes(self, bands: Sequence[Tensor], form: str | None = None, rest: Tensor | None = None) -> Tensor:
        """Bands [N, K, h, w], of this form where one is given, to planes [N, H, W], and a ``rest`` beside them."""
        forms = self.forms if form is None else [form] * len(self.parts)
        how = self.panel_filters(), self.heights, self.merge_turns, forms
        return ops.merge_planes(bands, *how, *self.geometry.shape, rest)

    def panel_filters(self, kept: bool = False) -> list[Tensor]:
        """Each part's filter as the ops that take planes read it; last, if asked for, of what these do not hold."""
        return list(_panel_filters(self.geometry, self.kind, self._plain_parts, kept))

    def kept_mask(self, like: Tensor) -> Tensor:
        """What of an image's spectrum these bands do not hold, over H W: [1, H, W] for pairs, else [1, H, W//2+1]."""
        how = self._plain_parts, self.paired, str(like.device), ops.real_dtype(like.dtype)
        if torch.compiler.is_compiling():
            return _constant_kept_mask(self.geometry.constants, *how)[0]
        return _kept_mask(self.geometry, *how)

    def held_weights(self, like: Tensor) -> Tensor:
        """What of an image's half spectrum these bands hold: [H, W//2+1] in [0, 1]."""
        how = self._plain_parts, str(like.device), ops.real_dtype(like.dtype)
        if torch.compiler.is_compiling():
            return _constant_held_weights(self.geometry.constants, *how)[0]
        return _held_weights(self.geometry, *how)

    @property
    def _plain_parts(self) -> tuple:
        return tuple((p.name, p.orientations) for p in self.parts)  # what torch.compile takes as a constant

    def plane_bytes(self, dtype: torch.dtype) -> int:
        """Memory that one image plane takes in a pass: every spectrum, and the largest band beside its own."""
        sizes = [math.prod(self.band_shape(p)) * (2 if self.is_complex(p) else 1) for p in self.parts]
        return dtype.itemsize * (sum(sizes) + max(sizes, default=0))


# --- Masks ---


def _full_mask(bank: Bank, part: Part) -> Tensor:
    """A part's mask in the full layout, [K, h, w] float64, with every constant of the transform."""
    g, analysis = bank.geometry, bank.kind == "analysis"
    _, h, w = bank.band_shape(part)
    samples = h * w if analysis else g.shape[0] * g.shape[1]
    if part.name == HIGHPASS:
        return filters.highpass_filter(g)[None] / samples
    scale = g.height if part.name == LOWPASS else part.name
    factor = (filters.scaling(g, scale) if analysis else 1 / filters.scaling(g, scale)) / samples
    if part.name == LOWPASS:
        return filters.lowpass_filter(g)[None] * factor
    mask = filters.band_filter(g, scale) * factor
    if bank.kind != "real":
        mask = mask * filters.band_side(g, scale) / (1 if analysis else 2)
    return mask if part.orientations is None else mask[list(part.orientations)]


def _halve_reflected(mask: Tensor, w: int, W: int) -> Tensor:
    """Weights of a merge into a half spectrum, which irfft2 counts twice but for DC and Nyquist."""
    weight = torch.full((w,), 0.5, dtype=mask.dtype, device="cpu")
    weight[0] = 1.0
    if w == W and W % 2 == 0:
        weight[W // 2] = 1.0
    return mask * weight


def _cached(geometry: Geometry, key: tuple, make, device: str = "cpu"):
    """What ``make`` returns, from the cache. Parts have entries of their own, which subsets of scales share."""
    found = CACHE.get(geometry, key, make)
    if device.startswith("cuda") and torch.cuda.is_current_stream_capturing():
        CACHE.keep_for_graph(geometry)
    return found


def _masks(geometry: Geometry, kind: str, parts: tuple, merging: bool, device: str, dtype) -> tuple[Tensor, ...]:
    def one(part: tuple) -> Tensor:
        alone = Bank(geometry, kind, (Part(*part),))
        by_half = merging and alone.is_complex(*alone.parts)
        key = "mask", kind, part, by_half, device, ops.real_dtype(dtype)
        return _cached(geometry, key, lambda: _make_mask(alone, by_half, device, dtype))

    key = "masks", kind, parts, merging, device, dtype
    return _cached(geometry, key, lambda: tuple(map(one, parts)), device)


def _make_mask(bank: Bank, merging: bool, device: str, dtype: torch.dtype) -> Tensor:
    """The mask of a bank of one part."""
    (part,) = bank.parts
    mask, w = _full_mask(bank, part), bank.band_shape(part)[2]
    if not bank.is_full(part):
        mask = mask[..., : w // 2 + 1]
    elif merging and not bank.paired:
        mask = _halve_reflected(mask, w, bank.geometry.shape[1])
    return mask.to(device=device, dtype=ops.real_dtype(dtype)).contiguous()


def _panel_filters(geometry: Geometry, kind: str, parts: tuple, kept: bool) -> tuple[Tensor, ...]:
    """Filters for the ops that take whole planes, float32; last, if asked for, that of what the parts do not hold."""
    H = geometry.shape[0]

    def one(part: tuple) -> Tensor:
        make = lambda: backend.in_panels(_full_mask(Bank(geometry, kind, ()), Part(*part)).float(), H)
        return _cached(geometry, ("panels of one", kind, part), make)

    def rest() -> Tensor:
        make = lambda: backend.in_panels(_make_kept_mask(geometry, parts, True).float(), H)
        return _cached(geometry, ("panels of rest", parts), make)

    make = lambda: (*map(one, parts), *([rest()] if kept else []))
    return _cached(geometry, ("panels", kind, parts, kept), make)


def _kept_mask(geometry: Geometry, parts: tuple, whole: bool, device: str, dtype: torch.dtype) -> Tensor:
    make = lambda: _make_kept_mask(geometry, parts, whole).to(device=device, dtype=dtype).contiguous()
    return _cached(geometry, ("rest", parts, whole, device, dtype), make, device)


def _held_weights(geometry: Geometry, parts: tuple, device: str, dtype: torch.dtype) -> Tensor:
    samples = geometry.shape[0] * geometry.shape[1]
    make = lambda: (1 - _kept_mask(geometry, parts, False, device, dtype) * samples)[0].clone()
    return _cached(geometry, ("held", parts, device, dtype), make, device)


def _make_kept_mask(geometry: Geometry, parts: tuple, whole: bool) -> Tensor:
    """What parts do not hold, float64: [1, H, W], or [1, H, W//2+1]."""
    H, W = geometry.shape
    kept = torch.ones(H, W, dtype=torch.float64, device="cpu")
    for scale, orientations in parts:
        band = filters.band_filter(geometry, scale)
        band = band if orientations is None else band[list(orientations)]
        rows, columns = (filters.signed_frequencies(n) for n in band.shape[-2:])
        kept[(rows % H)[:, None], (columns % W)[None, :]] -= band.square().sum(0)
    kept = kept.clamp(min=0) / (H * W)
    return kept[None, :, : W if whole else W // 2 + 1]


# What torch.compile takes as constants: functions of plain values, since a geometry may be made while it traces.


@constant_when_traced
def _constant_masks(geometry: tuple, *how) -> tuple[Tensor, ...]:
    return tuple(map(with_static_sizes, _masks(filters.geometry_of(*geometry), *how)))


@constant_when_traced
def _constant_held_weights(geometry: tuple, *how) -> tuple[Tensor]:
    return (with_static_sizes(_held_weights(filters.geometry_of(*geometry), *how)),)


@constant_when_traced
def _constant_kept_mask(geometry: tuple, *how) -> tuple[Tensor]:
    return (with_static_sizes(_kept_mask(filters.geometry_of(*geometry), *how)),)


# --- One pass over some planes: pure functions of tensors ---


def split_image(bank: Bank, planes: Tensor) -> Iterator[Tensor]:
    """Images [N, H, W] to bands [N, K, h, w], one by one."""
    return split_spectrum(bank, bank.transform(planes))


def split_spectrum(bank: Bank, spectrum: Tensor) -> Iterator[Tensor]:
    """The spectra of N images, half or (where no part is a residual, and for pairs) whole, to bands [N, K, h, w]."""
    for part, spectra in split_spectra(bank, spectrum):
        yield _to_band(bank, part, spectra)


def whole_spectrum(planes: Tensor) -> Tensor:
    """``fft2`` of real images; torch's own copies what it has computed for half of the columns to the others."""
    return torch.fft.fft2(ops.pair(planes, 1))


def split_spectra(bank: Bank, spectrum: Tensor) -> Iterator[tuple[Part, Tensor]]:
    """An image's spectra to those of each part, one by one: a part's are freed once they are used."""
    masks = bank.masks(spectrum, merging=False)
    rest = ops.split_bands(spectrum, masks, bank.split_turns, bank.widths, bank.geometry.shape[1], bank.paired)
    for part in bank.parts:
        first, *rest = rest
        yield part, first


def _to_band(bank: Bank, part: Part, spectrum: Tensor) -> Tensor:
    if bank.paired:
        return unpaired(torch.fft.ifft2(spectrum, norm="forward"), bank.band_shape(part)[0])
    if bank.is_full(part):
        return torch.fft.ifft2(spectrum, norm="forward")
    return torch.fft.irfft2(spectrum, s=bank.band_shape(part)[1:], norm="forward")


def band_spectra(bank: Bank, bands: Iterable[Tensor]) -> list[Tensor]:
    """Bands [N, K, h, w] to the spectra that :func:`merge_spectra` sums; of a real bank only the real part is read."""
    if bank.paired:
        return pair_spectra(paired(band) for band in bands)
    complex_ = map(bank.is_complex, bank.parts)
    return [torch.fft.fft2(_complex(band)) if c else torch.fft.rfft2(band) for c, band in zip(complex_, bands)]


def pair_spectra(pairs: Iterable[Tensor]) -> list[Tensor]:
    """The same of bands that are in pairs already, [N, ceil(K/2), h, w] complex."""
    return [torch.fft.fft2(pair) for pair in pairs]


def paired(band: Tensor) -> Tensor:
    """The real parts of [N, K, h, w] as [N, ceil(K/2), h, w] complex."""
    N, K = band.shape[:2]
    return ops.pair(band.flatten(0, 1), K).unflatten(0, (N, (K + 1) // 2))


def unpaired(pairs: Tensor, K: int) -> Tensor:
    """The inverse of :func:`paired`: [N, K, h, w] real."""
    return ops.unpair(pairs.flatten(0, 1), K).unflatten(0, (pairs.shape[0], K))


def _complex(band: Tensor) -> Tensor:
    return band if band.is_complex() else torch.complex(band, torch.zeros_like(band))


def merge_spectra(bank: Bank, spectra: Sequence[Tensor], kept: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Band spectra to images [F N, H, W]; of a paired bank complex ones, whose real parts are the images.

    ``kept`` adds what was not edited: (spectra of N images as :meth:`Bank.transform` gives them, mask).
    """
    H, W = bank.geometry.shape
    masks, turns, widths = bank.masks(spectra[0], merging=True), bank.merge_turns, bank.widths
    if kept is not None:
        spectra, masks = [*spectra, kept[0][:, None]], [*masks, kept[1]]
        turns, widths = [*turns, 0], [*widths, W]
    merged = ops.merge_bands(spectra, masks, turns, widths, H, W, bank.paired, bank.paired)
    del spectra  # not needed beside what the FFT takes
    if bank.paired:
        return torch.fft.ifft2(merged, norm="forward")
    return torch.fft.irfft2(merged, s=(H, W), norm="forward")


def real_images(images: Tensor) -> Tensor:
    """The real parts [N, H, W] of what :func:`merge_spectra` gives."""
    return ops.unpair(images, 1) if images.is_complex() else images


# --- Whole batches ---


def _flat(t: Tensor, dims: int) -> Tensor:
    """[..., *last] -> [N, *last]."""
    return t.reshape(-1 if t.numel() else t.shape[:-dims].numel(), *t.shape[-dims:])


def _split_all(bank: Bank, image: Tensor) -> list[Tensor]:
    lead = image.shape[:-2]
    bands = split_image(bank, _flat(image, 2))
    return [band.reshape(*lead, *band.shape[1:]) for band in bands]


def _merge_all(bank: Bank, bands: Sequence[Tensor]) -> Tensor:
    lead = bands[0].shape[:-3]
    image = real_images(merge_spectra(bank, band_spectra(bank, [_flat(b, 3) for b in bands])))
    return image.reshape(*lead, *image.shape[1:])


def _new_bands(bank: Bank, lead: Sequence[int], image: Tensor) -> list[Tensor]:
    dtypes = [image.dtype.to_complex() if bank.is_complex(part) else image.dtype for part in bank.parts]
    return [new_output((*lead, *bank.band_shape(p)), t, image.device) for p, t in zip(bank.parts, dtypes)]


def _split_chunked(bank: Bank, image: Tensor) -> tuple[Tensor, ...]:
    planes, lead = _flat(image, 2), image.shape[:-2]
    if backend.plane_ops_supported(bank.geometry, planes):
        return tuple(band.view(*lead, *band.shape[1:]) for band in bank.split_planes(planes))
    plane_bytes = bank.plane_bytes(image.dtype)
    slices = chunks(len(planes), plane_bytes, image.device)
    if len(slices) == 1 and fits_one_pass(plane_bytes * len(planes), image.device):
        return tuple(_split_all(bank, image))
    out = _new_bands(bank, (len(planes),), image)
    for at in slices:
        for whole, (part, spectra) in zip(out, split_spectra(bank, bank.transform(planes[at]))):
            _store_bands(bank, part, spectra, whole[at])
    return tuple(band.view(*lead, *band.shape[1:]) for band in out)


def _store_bands(bank: Bank, part: Part, spectra: Tensor, whole: Tensor) -> None:
    """Spectra to the bands [n, K, h, w] of a result; those of a large image a few orientations at a time."""
    K, h, w = bank.band_shape(part)
    if bank.paired:
        store(whole, _to_band(bank, part, spectra))
        return
    spectra, whole = spectra.flatten(0, 1), whole.flatten(0, 1)
    for at in chunks(len(spectra), h * w * whole.itemsize, whole.device):
        store(whole[at], _to_band(bank, part, spectra[at]))


def _merge_chunked(bank: Bank, bands: Sequence[Tensor]) -> Tensor:
    planes = [_flat(band, 3) for band in bands]
    dtype, lead = bands[0].real.dtype, bands[0].shape[:-3]
    if all(
        backend.plane_ops_supported(bank.geometry, band) and _may_be(bank, part, band)
        for part, band in zip(bank.parts, planes)
    ):
        given = [_complex(band) if bank.is_complex(part) else band for part, band in zip(bank.parts, planes)]
        return bank.merge_planes(given).view(*lead, *bank.geometry.shape)
    slices = chunks(len(planes[0]), bank.plane_bytes(dtype), bands[0].device)
    if len(slices) == 1:
        return _merge_all(bank, bands)
    out = new_output((len(planes[0]), *bank.geometry.shape), dtype, bands[0].device)
    for at in slices:
        store(out[at], merge_spectra(bank, band_spectra(bank, (band[at] for band in planes))))
    return out.view(*lead, *bank.geometry.shape)


def _may_be(bank: Bank, part: Part, band: Tensor) -> bool:
    """Whether this may be the part's band: complex ones, where real are meant, only of real banks."""
    return bank.paired or bank.is_complex(part) or not band.is_complex()


def needs_no_derivative(*tensors: Tensor) -> bool:
    """Outside of autograd, forward mode and torch.func: Function.apply would only cost its 50 us."""
    if has_transforms() or has_tangent(tensors) or are_batched(tensors):
        return False
    return not (torch.is_grad_enabled() and any(t.requires_grad for t in tensors))


def _split(image: Tensor, bank: Bank) -> tuple[Tensor, ...]:
    if are_batched((image,)):
        return over_batched_gradients(lambda t: _Split.apply(t, bank), (image,))
    return _Split.apply(image, bank)


def _merged(bank: Bank, bands: Sequence[Tensor]) -> Tensor:
    if are_batched(bands):
        return over_batched_gradients(lambda *given: _Merge.apply(bank, *given), bands)
    return _Merge.apply(bank, *bands)


class _Split(torch.autograd.Function):
    """``Bank.split`` for autograd, jvp and vmap: linear, so its derivative is itself and its adjoint is merge."""

    @staticmethod
    def forward(image, bank):
        return _split_chunked(bank, image)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.bank = inputs[1]
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, *grads):
        given = [i for i, g in enumerate(grads) if g is not None]
        if not given:
            return None, None
        return _merged(ctx.bank.subset(given), [grads[i] for i in given]), None

    @staticmethod
    def jvp(ctx, tangent, _):
        return _Split.apply(tangent, ctx.bank)

    @staticmethod
    def vmap(info, in_dims, image, bank):
        return _Split.apply(image.movedim(in_dims[0], 0), bank), (0,) * len(bank.parts)


class _Merge(torch.autograd.Function):
    """``Bank.merge``, likewise."""

    @staticmethod
    def forward(bank, *bands):
        return _merge_chunked(bank, bands)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.bank = inputs[0]
        ctx.complex = [band.is_complex() for band in inputs[1:]]
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, grad):
        needed = [i for i, needs in enumerate(ctx.needs_input_grad[1:]) if needs]
        grads: list[Tensor | None] = [None] * len(ctx.complex)
        if grad is not None and needed:
            for i, band in zip(needed, _split(grad, ctx.bank.subset(needed))):
                grads[i] = _complex(band) if ctx.complex[i] else band.real if band.is_complex() else band
        return None, *grads

    @staticmethod
    def jvp(ctx, _, *tangents):
        given = [i for i, t in enumerate(tangents) if t is not None]
        return _Merge.apply(ctx.bank.subset(given), *[tangents[i] for i in given])

    @staticmethod
    def vmap(info, in_dims, bank, *bands):
        size = info.batch_size
        lifted = [
            band.expand(size, *band.shape) if dim is None else band.movedim(dim, 0)
            for band, dim in zip(bands, in_dims[1:])
        ]
        return _Merge.apply(bank, *lifted), 0

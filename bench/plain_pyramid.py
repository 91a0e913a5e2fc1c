"""The baselines "plain" and "compiled": our algorithm in plain torch.

It is as fast as we could make it without custom kernels.

It uses real FFTs and half spectra for real images and bands, masks that include all real constants, and no autograd. A
morph adds the spectrum of the residual to that of each frame, and computes no inverse FFT of the residual. A batch is
computed in pieces whose tensors stay in the caches.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from steerlens_fast.pyramid import filters
from steerlens_fast.pyramid.filters import Geometry

# Size of the complex bands of one scale of a piece; on the CPU, 4 to 16 MiB are about equally fast
PIECE_BYTES = {"cpu": 4 << 20, "cuda": 256 << 20}
AMPLITUDE_FLOOR = 1e-6  # coefficients with a smaller amplitude, relative to the band's largest, do not move


class PlainPyramid:
    """Analysis, synthesis and morphs of images [N, H, W] in float32.

    With ``compiled``, the functions that compute a piece are compiled by ``torch.compile``.
    """

    def __init__(self, geometry: Geometry, device: str = "cpu", compiled: bool = False):
        self.geometry, self.device = geometry, torch.device(device)
        self.scales = range(geometry.num_scales)
        self._place_masks()
        h, w = geometry.shape
        bytes_of_bands = 8 * geometry.orientations * h * w  # bands of one plane at the finest scale
        self.planes_per_piece = max(1, PIECE_BYTES[self.device.type] // bytes_of_bands)
        make = (lambda f: torch.compile(f, dynamic=False)) if compiled else (lambda f: f)
        self._analyze, self._synthesize, self._gradients = map(
            make, (self._analyze_piece, self._synthesize_piece, self._gradients_of_piece)
        )
        self._start, self._frame = make(self._start_piece), make(self._frame_of_piece)

    def _place_masks(self) -> None:
        """Make the masks.

        Their last dimension is 1, so that a mask multiplies real and imaginary part alike.
        """
        g = self.geometry
        (H, W), n = g.shape, g.shape[0] * g.shape[1]
        place = lambda m: m.to(self.device, torch.float32)[..., None].contiguous()
        half = lambda m, w: m[..., : w // 2 + 1]
        bands, weights = ([f(g, s) for s in self.scales] for f in (filters.band_filter, filters.analytic_weight))
        sizes = [band.shape[-2:].numel() for band in bands]
        low, high = filters.lowpass_filter(g), filters.highpass_filter(g)
        self.analytic = [place(b * weight / size) for b, weight, size in zip(bands, weights, sizes)]
        self.real = [place(half(b, b.shape[-1]) / n) for b in bands]  # for the synthesis and for gradients
        self.high, self.low = place(half(high, W) / n), place(half(low, low.shape[-1]) / low.numel())
        self.low_synthesis = place(half(low, low.shape[-1]) / n)
        residual = 1 - padded_sum([band.square().sum(0) for band in bands], H, W)
        self.residual = place(residual.clamp(min=0) / n)
        self.columns = [split_columns(b.shape[-1]) for b in bands]
        rows = [filters.signed_frequencies(b.shape[-2]).to(self.device) for b in bands]
        self.rows, self.opposite = [r % H for r in rows], [-r % H for r in rows]

    # --- Whole batches ---

    def analyze(self, images: Tensor) -> list[Tensor]:
        """Return the coefficients of images.

        They are highpass [N, H, W], complex bands [N, K, h, w] from fine to coarse, and lowpass.
        """
        return self._in_pieces(self._analyze, images)

    def synthesize(self, coefficients: list[Tensor]) -> Tensor:
        """Return the images of coefficients.

        The imaginary parts of the bands are not used.
        """
        return self._in_pieces(lambda *c: [self._synthesize(*c)], *coefficients)[0]

    def gradients(self, gradient: Tensor) -> list[Tensor]:
        """Return the gradients with respect to the bands' real parts, given the gradient with respect to the images."""
        return self._in_pieces(self._gradients, gradient)

    def morph(self, image: Tensor, gradient: Tensor, factors: Tensor, joint=False, bounds=None) -> Tensor:
        """Return the frames [F, N, H, W] along one gradient, by the rule "complex"."""
        frames = image.new_empty(len(factors), *image.shape)
        for at in range(0, len(image), self.planes_per_piece):
            piece = slice(at, at + self.planes_per_piece)
            residual, state = self._start(image[piece], gradient[piece], joint)
            for j, factor in enumerate(factors):
                frames[j, piece] = self._frame(residual, state, factor)
        return frames if bounds is None else frames.clamp_(*bounds)

    def _in_pieces(self, function: Callable, *tensors: Tensor) -> list[Tensor]:
        size, out = self.planes_per_piece, None
        if len(tensors[0]) <= size:
            return list(function(*tensors))
        for at in range(0, len(tensors[0]), size):
            parts = function(*(t[at : at + size] for t in tensors))
            if out is None:
                out = [p.new_empty(len(tensors[0]), *p.shape[1:]) for p in parts]
            for whole, part in zip(out, parts):
                whole[at : at + size] = part
        return out

    # --- Pieces ---

    def _analyze_piece(self, images: Tensor) -> list[Tensor]:
        spectrum = torch.fft.rfft2(images)
        bands = [self._band(spectrum, s) for s in self.scales]
        low = times(crop_half(spectrum, *self._low_shape), self.low)
        return [inverse(times(spectrum, self.high), self.geometry.shape), *bands, inverse(low, self._low_shape)]

    @property
    def _low_shape(self) -> tuple[int, int]:
        return self.geometry.band_shape(self.geometry.num_scales)

    def _band(self, spectrum: Tensor, s: int) -> Tensor:
        """Return the coefficients [N, K, h, w] of a scale.

        They are computed from the half spectrum of a real image.
        """
        direct, mirrored = self.columns[s]
        left = spectrum.index_select(1, self.rows[s])[..., :direct]
        right = spectrum.index_select(1, self.opposite[s])[..., 1 : mirrored + 1].flip(-1).conj()
        block = torch.cat([left, right], -1) * (-1j) ** self.geometry.order
        return torch.fft.ifft2(times(block[:, None], self.analytic[s]), norm="forward")

    def _gradients_of_piece(self, gradient: Tensor) -> list[Tensor]:
        spectrum, power_of_i = torch.fft.rfft2(gradient), (-1j) ** self.geometry.order
        shapes = [self.geometry.band_shape(s) for s in self.scales]
        blocks = (crop_half(spectrum, *shape)[:, None] * power_of_i for shape in shapes)
        return [inverse(times(b, mask), shape) for b, mask, shape in zip(blocks, self.real, shapes)]

    def _synthesize_piece(self, high: Tensor, *bands_and_low: Tensor) -> Tensor:
        *bands, low = bands_and_low
        spectrum = times(torch.fft.rfft2(high), self.high)
        add_half(spectrum, times(torch.fft.rfft2(low), self.low_synthesis), self._low_shape)
        return self._merged(spectrum, [band.real for band in bands])

    def _merged(self, spectrum: Tensor, bands: list[Tensor]) -> Tensor:
        """Return the images of a half spectrum and real bands.

        The bands [N, K, h, w] are added to the spectrum in place.
        """
        power_of_i = 1j**self.geometry.order
        for band, mask in zip(bands, self.real):
            summed = torch.view_as_complex(torch.view_as_real(torch.fft.rfft2(band)).mul_(mask).sum(1))
            add_half(spectrum, summed.mul_(power_of_i), band.shape[-2:])
        return inverse(spectrum, self.geometry.shape)

    def _start_piece(self, image: Tensor, gradient: Tensor, joint: bool) -> tuple[Tensor, list]:
        """Return what all frames need.

        This is the spectrum of the residual, and for each scale the result of complex_rule_step.
        """
        spectrum = torch.fft.rfft2(image)
        state = [
            complex_rule_step(self._band(spectrum, s), g, joint)
            for s, g in zip(self.scales, self._gradients_of_piece(gradient))
        ]
        return times(spectrum, self.residual), state

    def _frame_of_piece(self, residual: Tensor, state: list, factor: Tensor) -> Tensor:
        bands = []
        for amplitude, phase, phase_step, amplitude_step in state:
            if amplitude_step is not None:
                amplitude = torch.addcmul(amplitude, amplitude_step, factor).clamp_(min=0)
            bands.append(torch.addcmul(phase, phase_step, factor).cos_().mul_(amplitude))
        return self._merged(residual.clone(), bands)


def complex_rule_step(c: Tensor, gradient: Tensor, joint: bool) -> tuple:
    """Return amplitude and phase of c, and their changes from c to c - gradient (the rule "complex").

    The amplitude step is None unless ``joint``.
    """
    amplitude, phase, moved = c.abs(), c.angle(), c - gradient
    below_floor = amplitude <= AMPLITUDE_FLOOR * amplitude.amax((-2, -1), keepdim=True)
    phase_step = (moved * c.conj()).angle().masked_fill_(below_floor, 0)
    return amplitude, phase, phase_step, (moved.abs() - amplitude).masked_fill_(below_floor, 0) if joint else None


# --- Spectra ---


def times(spectrum: Tensor, mask: Tensor) -> Tensor:
    """Multiply a complex tensor by a real mask [..., 1] in real numbers.

    This is faster, since torch would convert the mask to a complex one.
    """
    return torch.view_as_complex(torch.view_as_real(spectrum.resolve_conj()) * mask)


def inverse(spectrum: Tensor, shape: tuple[int, int]) -> Tensor:
    return torch.fft.irfft2(spectrum, s=shape, norm="forward")


def split_columns(w: int) -> tuple[int, int]:
    """Return how many columns of a full spectrum the half spectrum has, and how many are mirrored from it."""
    return w // 2 + 1, w - w // 2 - 1


def split_rows(h: int) -> tuple[int, int]:
    """Return the numbers of rows with non-negative and with negative frequencies."""
    return h // 2 + 1, h - h // 2 - 1


def crop_half(spectrum: Tensor, h: int, w: int) -> Tensor:
    """Return the half spectrum of h x w samples.

    It has the lowest frequencies of a half spectrum [N, H, W//2+1].
    """
    if h == spectrum.shape[-2]:
        return spectrum[..., : w // 2 + 1]
    top, bottom = split_rows(h)
    return torch.cat([spectrum[..., :top, : w // 2 + 1], spectrum[..., -bottom:, : w // 2 + 1]], -2)


def add_half(spectrum: Tensor, block: Tensor, shape: tuple[int, int]) -> None:
    """Apply the adjoint of :func:`crop_half`, in place."""
    (top, bottom), columns = split_rows(shape[0]), block.shape[-1]
    spectrum[..., :top, :columns] += block[..., :top, :]
    spectrum[..., -bottom:, :columns] += block[..., top:, :]


def padded_sum(blocks: list[Tensor], H: int, W: int) -> Tensor:
    """Return the sum of blocks of frequencies, after zero-padding them to H x W.

    Blocks [h, w] have the lowest frequencies, and the sum is in half layout [H, W//2+1].
    """
    out = blocks[0].new_zeros(H, W // 2 + 1)
    for block in blocks:
        w = block.shape[-1]
        add_half(out, block[:, : w // 2 + 1], block.shape)
    return out

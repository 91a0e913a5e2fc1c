"""Ops on coefficients and on bands in plain torch, as fast as they can be without custom kernels.

Ops whose reference (steerlens_fast/ops/reference.py) is already fast use the reference.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from plain_pyramid import AMPLITUDE_FLOOR, add_half, split_columns, times
from torch import Tensor

from steerlens_fast.ops import reference

# Bytes of the first tensor in each call of the function in in_pieces. Temporaries then stay in the caches.
PIECE_BYTES = 2 << 20


def in_pieces(function: Callable, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the results of ``function(*tensors)`` as a tuple, computed for a few planes at a time."""
    count, first = len(tensors[0]), tensors[0]
    size = max(1, PIECE_BYTES * count // first.nbytes)
    out = None
    for at in range(0, count, size):
        parts = function(*(t[at : at + size] for t in tensors))
        parts = parts if isinstance(parts, tuple) else (parts,)
        out = out or tuple(p.new_empty(count, *p.shape[1:]) for p in parts)
        for whole, part in zip(out, parts):
            whole[at : at + size] = part
    return out


def step(c: Tensor, gradient: Tensor, rule: int) -> tuple[Tensor, Tensor]:
    """Return phase step and amplitude step."""
    amplitude = c.abs()
    below_floor = amplitude <= AMPLITUDE_FLOOR * amplitude.amax((-2, -1), keepdim=True)
    if rule == 1:  # polar
        product = gradient * c.conj()
        return product.imag.neg().masked_fill_(below_floor, 0), product.real.neg().masked_fill_(below_floor, 0)
    moved = c - gradient
    phase = (moved * c.conj()).angle()
    return phase.masked_fill_(below_floor, 0), moved.abs().sub_(amplitude).masked_fill_(below_floor, 0)


def extrapolate(c: Tensor, phase_step: Tensor, amplitude_step: Tensor | None, b: Tensor, a: Tensor) -> Tensor:
    """Return the real parts of all frames, [F, N, K, h, w].

    The rule is "complex". b and a are the phase and amplitude factors of the frames, [F, 1].
    """
    amplitude, phase = c.abs(), c.angle()
    out = phase.new_empty(len(b), *c.shape)
    for frame, phase_factor, amplitude_factor in zip(out, b[:, 0], a[:, 0]):
        torch.addcmul(phase, phase_step, phase_factor, out=frame).cos_()
        moved = amplitude
        if amplitude_step is not None:
            moved = torch.addcmul(amplitude, amplitude_step, amplitude_factor).relu_()
        frame.mul_(moved)
    return out


def extrapolate_pairs(*args) -> Tensor:
    """Return the real parts of all frames.

    Those of two neighbouring orientations become the real and the imaginary part of one complex tensor.
    """
    real = extrapolate(*args)
    return torch.complex(real[:, :, 0::2], real[:, :, 1::2])


def frames_in_pieces(function: Callable, c: Tensor, phase_step: Tensor, amplitude_step: Tensor | None, b, a) -> Tensor:
    """Return the frames of ``function``, computed for a few planes at a time."""
    tensors = [t for t in (c, phase_step, amplitude_step) if t is not None]
    run = lambda *some: function(*some, *(None,) * (3 - len(some)), b, a).movedim(0, 1)
    return in_pieces(run, *tensors)[0].movedim(1, 0)


def split_bands(spectrum: Tensor, masks: list[Tensor], i_powers: list[int], widths: list[int]) -> list[Tensor]:
    """Split a half spectrum into bands in full layout. Masks are [K, h, w, 1]."""
    H, out = spectrum.shape[-2], []
    for mask, power, w in zip(masks, i_powers, widths):
        h, (direct, mirrored) = mask.shape[-3], split_columns(w)
        k = torch.arange(h, device=spectrum.device)
        k = torch.where(k <= h // 2, k, k - h)
        stored = spectrum.index_select(1, k % H)[..., :direct]
        conjugates = spectrum.index_select(1, -k % H)[..., 1 : mirrored + 1].flip(-1).conj()
        out.append(times((torch.cat([stored, conjugates], -1) * 1j**power)[:, None], mask))
    return out


def merge_bands(bands: list[Tensor], masks: list[Tensor], i_powers: list[int], height: int, width: int) -> Tensor:
    """Merge bands in half layout into a half spectrum. Masks are [K, h, w/2+1, 1]."""
    out = bands[0].new_zeros(len(bands[0]), height, width // 2 + 1)
    for band, mask, power in zip(bands, masks, i_powers):
        block = times(band, mask).sum(1).mul_(1j**power)
        add_half(out, block, (band.shape[-2], width))
    return out


polar_split = reference.polar_split
polar_join = torch.polar
polar_split_backward = reference.polar_split_backward
polar_join_backward = reference.polar_join_backward
step_backward = reference.step_backward
extrapolate_backward = reference.extrapolate_backward
pair, unpair = reference.pair, reference.unpair

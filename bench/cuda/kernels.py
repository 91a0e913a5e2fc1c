"""The ops on coefficients and on bands, compared with copying memory on the same device.

On a GPU, inputs are large. On a CPU they are small, for a dry run.

Bytes moved are those of each input and each output once. ``step`` and its backward read the coefficients twice (the
first time to find the largest amplitude of each band), which is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from clock import copy_bandwidth, median_ms, rotated, sets_beyond_cache
from torch import Tensor
from torch.utils import _pytree

from steerlens_fast import SteerablePyramid, ops
from steerlens_fast.pyramid.bank import Bank, Part
from steerlens_fast.pyramid.spectra import image_spectrum

LARGE = {"planes": 96, "orientations": 4, "size": (224, 224), "frames": 8}
SMALL = {"planes": 2, "orientations": 4, "size": (28, 28), "frames": 2}
READ_TWICE = ("step", "step_backward")


def rows(device: torch.device) -> Iterator[Callable[[], dict]]:
    """Yield a function for each row of the table."""
    sizes = LARGE if device.type == "cuda" else SMALL
    copied = 1 << 30 if device.type == "cuda" else 1 << 22
    bandwidth: list[float] = []

    def copy() -> dict:
        bandwidth.append(copy_bandwidth(copied, device))
        return {"kernel": "copy", "moved_mib": 2 * copied >> 20, "gb_per_s": round(bandwidth[0], 1), "of_copy": 1.0}

    yield copy
    for name, make in cases(**sizes).items():
        yield lambda name=name, make=make: row(name, make, device, bandwidth)


def row(name: str, make: Callable, device: torch.device, bandwidth: list[float]) -> dict:
    op, args = make(device)
    moved = bytes_of(args) + bytes_of(op(*args)) + (coefficients_bytes(args) if name.startswith(READ_TWICE) else 0)
    sets = [args] + [make(device)[1] for _ in range(sets_beyond_cache(moved, device) - 1)]
    ms = median_ms(rotated(op, sets), device)
    rate = moved / ms / 1e6
    result = {"kernel": name, "ms": round(ms, 4), "moved_mib": round(moved / 2**20, 1), "gb_per_s": round(rate, 1)}
    return result | ({"of_copy": round(rate / bandwidth[0], 3)} if bandwidth else {})


def bytes_of(value) -> int:
    return sum(t.numel() * t.itemsize for t in _pytree.tree_leaves(value) if isinstance(t, Tensor))


def coefficients_bytes(args: list) -> int:
    """Return the bytes of the coefficients, the first complex tensor."""
    return next(t.numel() * t.itemsize for t in args if isinstance(t, Tensor) and t.is_complex())


def cases(planes: int, orientations: int, size: tuple[int, int], frames: int) -> dict[str, Callable]:
    """Return, by name, functions that take a device and return (op, arguments)."""
    N, K, F = planes, orientations, frames
    shape = (N, K, *size)

    def real(device, *lead):
        return torch.randn(*lead, *shape, device=device)

    def complex_(device, *lead):
        return torch.randn(*lead, *shape, device=device, dtype=torch.complex64)

    def factors(device):
        return torch.linspace(0, 4, F, device=device)[:, None]

    raw = torch.ops.steerlens_fast  # the backward ops have no wrappers

    def extrapolate(form, joint=False, rule=0):
        def make(d):
            steps = [0.1 * real(d), 0.1 * real(d) if joint else None]
            return raw.extrapolate, [complex_(d), *steps, factors(d), factors(d), rule, ops.FORMS[form]]

        return make

    def backward(d):
        steps = [0.1 * real(d), None]
        return raw.extrapolate_backward, [real(d, F), complex_(d), *steps, factors(d), factors(d), 0]

    return {
        "polar_split": lambda d: (raw.polar_split, [complex_(d)]),
        "polar_split_backward": lambda d: (raw.polar_split_backward, [complex_(d), real(d), real(d)]),
        "polar_join": lambda d: (raw.polar_join, [real(d), real(d)]),
        "polar_join_backward": lambda d: (raw.polar_join_backward, [complex_(d), real(d), real(d)]),
        "step, complex rule": lambda d: (raw.step, [complex_(d), real(d), 1.0, 0, 1e-6]),
        "step, polar rule": lambda d: (raw.step, [complex_(d), real(d), 1.0, 1, 1e-6]),
        "step_backward": lambda d: (raw.step_backward, [real(d), real(d), complex_(d), real(d), 1.0, 0, 1e-6]),
        "extrapolate, phase, pairs": extrapolate(form="pairs"),
        "extrapolate, joint, pairs": extrapolate(form="pairs", joint=True),
        "extrapolate, phase, real": extrapolate(form="real"),
        "extrapolate, phase, complex": extrapolate(form="complex"),
        "extrapolate_backward, phase": backward,
        "pair": lambda d: (raw.pair, [real(d).flatten(0, 1), K]),
        "unpair": lambda d: (raw.unpair, [complex_(d).flatten(0, 1), K]),
        "split_bands, pairs": lambda d: split(d, N, size, kind="real"),
        "split_bands, complex": lambda d: split(d, N, size, kind="analysis"),
        "merge_bands, pairs": lambda d: merge(d, N, size, kind="real"),
        "merge_bands, complex": lambda d: merge(d, N, size, kind="adjoint"),
    }


def bank_of(size: tuple[int, int], kind: str) -> Bank:
    """Return the filters of all scales, but not of the residuals. Banks of the kind "real" store bands in pairs."""
    geometry = SteerablePyramid(size).geometry
    return Bank(geometry, kind, tuple(map(Part, range(geometry.num_scales))))


def split(device, planes: int, size: tuple[int, int], kind: str):
    bank = bank_of(size, kind)
    spectrum = image_spectrum(bank, torch.randn(planes, *size, device=device))
    masks = bank.masks(spectrum, merging=False)
    return ops.split_bands, [spectrum, masks, bank.split_i_powers, bank.widths, size[1], bank.paired]


def merge(device, planes: int, size: tuple[int, int], kind: str):
    bank = bank_of(size, kind)
    shapes = [bank.band_shape(part) for part in bank.parts]
    stored = [(planes, (k + 1) // 2 if bank.paired else k, h, w) for k, h, w in shapes]
    bands = [torch.randn(*shape, device=device, dtype=torch.complex64) for shape in stored]
    masks = bank.masks(bands[0], merging=True)
    whole = bank.paired  # pairs need whole spectra
    options = (bank.merge_i_powers, bank.widths, *size, whole, bank.paired)
    return ops.merge_bands, [bands, masks, *options]

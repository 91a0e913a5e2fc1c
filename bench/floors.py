"""Lower bounds of time: the FFTs alone for the transforms, a copy of as many bytes for the kernels.

A floor takes the fastest of the forms that are known, and reports the time of each (:class:`Fastest`). FFTs run over
buffers that exist already: rfft2 of the images and ifft2 of the bands, and the way back, without the residuals; real
bands each by a real FFT, or two by two as one complex FFT; the whole batch at once, or four planes at a time, which is
faster where results leave the caches.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product

import cases
import torch
from torch import Tensor

from steerlens_fast import native

ROUNDS = 5
FEW = 4  # planes


@dataclass(frozen=True)
class Fastest:
    """The fastest of some functions, by the shortest of a few alternating calls of each."""

    name: str
    function: Callable
    milliseconds: dict[str, float]

    def __call__(self):
        return self.function()

    @classmethod
    def of(cls, functions: dict[str, Callable], device: str) -> Fastest:
        times: dict[str, list[float]] = {name: [] for name in functions}
        for _ in range(ROUNDS + 1):  # the first is not counted
            for name, function in functions.items():
                times[name].append(clocked(function, device))
        milliseconds = {name: 1e3 * min(found[1:]) for name, found in times.items()}
        name = min(milliseconds, key=milliseconds.get)
        return cls(name, functions[name], milliseconds)


def synchronize(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def clocked(function: Callable, device: str = "cpu") -> float:
    """Seconds of one call, including the work it launched on the device; its result is freed, as in a loop."""
    synchronize(device)
    start = time.perf_counter()
    function()
    synchronize(device)
    return time.perf_counter() - start


# --- FFTs ---


def analysis_floor(shape, height=None, order=cases.ORDER, device="cpu") -> Fastest:
    return _fastest_ffts(partial(_analysis, shape, height, order, device), ("complex",), device)


def synthesis_floor(shape, height=None, order=cases.ORDER, device="cpu") -> Fastest:
    return _fastest_ffts(partial(_synthesis, shape, height, order, device), ("real", "pairs"), device)


def morph_floor(shape, frames=cases.FRAMES, height=None, order=cases.ORDER, device="cpu") -> Fastest:
    """Analysis of the image and of its gradient (real bands), synthesis of every frame."""
    forth, back = (f(shape, height, order, device) for f in (analysis_floor, synthesis_floor))

    def run():
        forth()
        for _ in range(1 + frames):
            back()

    milliseconds = {name: forth.milliseconds[forth.name] + (1 + frames) * ms for name, ms in back.milliseconds.items()}
    return Fastest(back.name, run, milliseconds)


def _fastest_ffts(make: Callable, forms: tuple[str, ...], device: str) -> Fastest:
    made = {form: make(form) for form in forms}
    sizes = {"whole batch": 1 << 30, f"{FEW} planes at a time": FEW}
    pairs = product(made.items(), sizes.items())
    return Fastest.of({f"{form}, {name}": partial(run, size) for (form, run), (name, size) in pairs}, device)


def _in_pieces(function: Callable, planes: Tensor, size: int) -> None:
    for i in range(0, len(planes), size):
        function(planes[i : i + size])


def _sizes(shape, height, order) -> tuple[int, list[tuple[int, int]]]:
    """Planes, and each scale's (h, w)."""
    geometry = cases.pyramid_of(shape, height, order).geometry
    return shape[0] * shape[1], [geometry.band_shape(s) for s in range(geometry.num_scales)]


def _analysis(shape, height, order, device, form) -> Callable[[int], None]:
    n, sizes = _sizes(shape, height, order)
    images = cases.planes_of(cases.image_of(shape, device))
    spectra = [torch.randn(n, order + 1, *size, dtype=torch.complex64, device=device) for size in sizes]

    def run(size):
        _in_pieces(torch.fft.rfft2, images, size)
        for spectrum in spectra:
            _in_pieces(lambda t: torch.fft.ifft2(t, norm="forward"), spectrum, size)

    return run


def _synthesis(shape, height, order, device, form) -> Callable[[int], None]:
    n, sizes = _sizes(shape, height, order)
    K, dtype, transform = order + 1, torch.float32, torch.fft.rfft2
    if form == "pairs":
        K, dtype, transform = -(-K // 2), torch.complex64, torch.fft.fft2
    bands = [torch.randn(n, K, *size, dtype=dtype, device=device) for size in sizes]
    half = torch.fft.rfft2(cases.planes_of(cases.image_of(shape, device)))

    def run(size):
        for band in bands:
            _in_pieces(transform, band, size)
        _in_pieces(lambda t: torch.fft.irfft2(t, s=shape[-2:], norm="forward"), half, size)

    return run


# --- Copies ---


def copy(moved: int, device="cpu") -> Fastest:
    """A copy that moves ``moved`` bytes, half of them read and half written, between existing buffers."""
    size = max(moved // 2, 1)
    source, target = (torch.ones(size, dtype=torch.uint8, device=device) for _ in range(2))
    forms = {"ordinary": lambda: target.copy_(source)}
    if torch.device(device).type == "cpu":
        forms["streaming"] = lambda: native.stream_copy(target.data_ptr(), source.data_ptr(), size)
    return Fastest.of(forms, device)

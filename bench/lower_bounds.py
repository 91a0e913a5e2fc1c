"""Lower bounds: torch's FFTs alone, and a copy that moves as many bytes as a workload's inputs and results have.

Implementations that use torch's FFTs take at least as long as the FFTs alone. Our ops on whole planes have FFTs of
their own, so they can be faster.

The FFTs of an analysis are rfft2 of the images and ifft2 of the bands. Those of a synthesis are irfft2 of the images'
spectra and, in two forms, rfft2 of each real band or fft2 of two real bands at once. The FFTs of the residuals are left
out. Each form is measured for the whole batch at once and for four planes at a time, without the allocation of inputs.
The fastest counts (:class:`Fastest`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
import workloads
from measure import clocked
from torch import Tensor

from steerlens_fast import native

ROUNDS = 5  # timed calls of each form
FEW_PLANES = 4


@dataclass(frozen=True)
class Fastest:
    """The fastest of several functions.

    Each counts with the shortest of ``ROUNDS`` calls.
    """

    name: str
    function: Callable
    milliseconds: dict[str, float]

    def __call__(self):
        return self.function()

    @classmethod
    def of(cls, functions: dict[str, Callable], device: str) -> Fastest:
        times: dict[str, list[float]] = {name: [] for name in functions}
        for _ in range(ROUNDS + 1):  # the first call is a warm-up
            for name, function in functions.items():
                times[name].append(clocked(function, device))
        milliseconds = {name: 1e3 * min(seconds[1:]) for name, seconds in times.items()}
        name = min(milliseconds, key=milliseconds.get)
        return cls(name, functions[name], milliseconds)


# --- FFTs ---


def analysis_ffts(shape, height=None, order=workloads.ORDER, device="cpu") -> Fastest:
    return _fastest_ffts(partial(_analysis, shape, height, order, device), ("complex",), device)


def synthesis_ffts(shape, height=None, order=workloads.ORDER, device="cpu") -> Fastest:
    return _fastest_ffts(partial(_synthesis, shape, height, order, device), ("real", "pairs"), device)


def morph_ffts(shape, frames=workloads.FRAMES, height=None, order=workloads.ORDER, device="cpu") -> Fastest:
    """Return the FFTs of a morph: those of one analysis, and of a synthesis for the gradient and for each frame.

    The gradient is analysed into real bands, whose FFTs take as long as those of a synthesis.
    """
    analysis, synthesis = (f(shape, height, order, device) for f in (analysis_ffts, synthesis_ffts))

    def run():
        analysis()
        for _ in range(1 + frames):
            synthesis()

    of_analysis = analysis.milliseconds[analysis.name]
    milliseconds = {name: of_analysis + (1 + frames) * ms for name, ms in synthesis.milliseconds.items()}
    return Fastest(synthesis.name, run, milliseconds)


def _fastest_ffts(make: Callable, forms: tuple[str, ...], device: str) -> Fastest:
    functions = {form: make(form) for form in forms}
    sizes = {"whole batch": 1 << 30, f"{FEW_PLANES} planes at a time": FEW_PLANES}
    pairs = product(functions.items(), sizes.items())
    return Fastest.of({f"{form}, {name}": partial(run, size) for (form, run), (name, size) in pairs}, device)


def _in_pieces(function: Callable, planes: Tensor, size: int) -> None:
    for i in range(0, len(planes), size):
        function(planes[i : i + size])


def _sizes(shape, height, order) -> tuple[int, list[tuple[int, int]]]:
    """Return the number of planes, and (h, w) of each scale."""
    geometry = workloads.pyramid_of(shape, height, order).geometry
    return shape[0] * shape[1], [geometry.band_shape(s) for s in range(geometry.num_scales)]


def _analysis(shape, height, order, device, form) -> Callable[[int], None]:
    n, sizes = _sizes(shape, height, order)
    images = workloads.planes_of(workloads.image_of(shape, device))
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
    half = torch.fft.rfft2(workloads.planes_of(workloads.image_of(shape, device)))

    def run(size):
        for band in bands:
            _in_pieces(transform, band, size)
        _in_pieces(lambda t: torch.fft.irfft2(t, s=shape[-2:], norm="forward"), half, size)

    return run


# --- Copies ---


def copy(moved: int, device="cpu") -> Fastest:
    """Return a copy between existing buffers.

    It reads half of ``moved`` bytes, and writes the other half.
    """
    size = max(moved // 2, 1)
    source, target = (torch.ones(size, dtype=torch.uint8, device=device) for _ in range(2))
    forms = {"ordinary": lambda: target.copy_(source)}
    if torch.device(device).type == "cpu":
        forms["streaming"] = lambda: native.stream_copy(target.data_ptr(), source.data_ptr(), size)
    return Fastest.of(forms, device)

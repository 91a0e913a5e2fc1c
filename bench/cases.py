"""What is measured: shapes and set-ups shared by every benchmark. A set-up makes one function without arguments.

The peer is plenoptic, as a user gets it. ``floor`` is the FFTs alone, over buffers that exist already: rfft2 of the
images and ifft2 of the bands, and the way back. The floor takes the better of two forms, whole batch at once or four
planes at a time, which is faster where results leave the caches.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import networks
import torch

import steerlens_fast as sf
from steerlens_fast import filters

SHAPES = [(8, 3, 224, 224), (8, 1, 256, 256), (64, 1, 28, 28), (1, 3, 1080, 1920)]
MORPH_SHAPES = SHAPES[:3]  # plenoptic's morph of the last takes most of a minute and gigabytes
ORDER, HEIGHT, FRAMES = 3, 4, 8
DIGITS, DIGIT_FRAMES = (256, 1, 32, 32), 12
PERSISTENT = [(1, 1, 64, 64), (64, 1, 64, 64)]


def label(shape) -> str:
    return "x".join(map(str, shape))


def height_for(shape) -> int:
    return min(HEIGHT, filters.max_height(shape[-2:]))


def image_of(shape, device="cpu") -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device)


def gradient_of(shape, device="cpu") -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(device)


def pyramid_of(shape) -> sf.SteerablePyramid:
    return sf.SteerablePyramid(shape[-2:], height=height_for(shape), order=ORDER)


def plenoptic_of(shape, height=None, device="cpu"):
    import plenoptic

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return plenoptic.process.SteerablePyramidFreq(
            shape[-2:], height=height or height_for(shape), order=ORDER, is_complex=True, tight_frame=False
        ).to(device)


def analysis(shape, who, device="cpu") -> Callable:
    """Image to all coefficients."""
    image = image_of(shape, device)
    if who == "floor":
        return analysis_floor(shape, device)
    peer = pyramid_of(shape) if who == "ours" else plenoptic_of(shape, device=device)
    return lambda: peer(image)


def synthesis(shape, who, device="cpu") -> Callable:
    """All coefficients to image."""
    image = image_of(shape, device)
    if who == "floor":
        return synthesis_floor(shape, device)
    peer = pyramid_of(shape) if who == "ours" else plenoptic_of(shape, device=device)
    inverse, coefficients = peer.synthesize if who == "ours" else peer.recon_pyr, peer(image)
    return lambda: inverse(coefficients)


def synthesis_backward(shape, who, device="cpu") -> Callable:
    """Gradient of an image with respect to all bands, from the image's gradient."""
    image, gradient = image_of(shape, device), gradient_of(shape, device)
    if who == "ours":
        ours = pyramid_of(shape)
        coefficients = ours(image).detach()
        bands = [b.requires_grad_() for b in coefficients.bands]
        out = ours.synthesize(coefficients)
    else:
        peer = plenoptic_of(shape, device=device)
        peers = peer(image)
        scales = [key for key in peers if isinstance(key, int)]
        bands = [peers[s].detach().requires_grad_() for s in scales]
        peers.update(zip(scales, bands))
        out = peer.recon_pyr(peers)
    return lambda: torch.autograd.grad(out, bands, gradient, retain_graph=True)


def morph(shape, who, device="cpu") -> Callable:
    """Frames of a phase morph from an image and its gradient, the frozen step of "Through a Steerable Lens"."""
    image, gradient = image_of(shape, device), gradient_of(shape, device)
    factors = torch.arange(float(FRAMES), device=device)
    if who == "ours":
        family = sf.CSPFamily(pyramid_of(shape))
        return lambda: family.prepare(image, gradient).render(factors)
    if who == "plenoptic":
        peer = plenoptic_of(shape, device=device)
        return lambda: plenoptic_morph(peer, image, gradient, factors)
    forth, back = analysis_floor(shape, device), synthesis_floor(shape, device)

    def floor():  # analysis of the image and of its gradient (real bands), synthesis of every frame
        forth()
        back()
        for _ in range(FRAMES):
            back()

    return floor


def joint_morph(shape, who, device="cpu") -> Callable:
    """Frames of a morph of phase and amplitude, at full height, clipped to [0, 1]."""
    image, gradient = image_of(shape, device), gradient_of(shape, device)
    factors = torch.arange(float(DIGIT_FRAMES), device=device)
    if who == "ours":
        family = sf.CSPFamily(sf.SteerablePyramid(shape[-2:], order=ORDER), "joint")
        return lambda: family.prepare(image, gradient).render(factors, bounds=(0, 1))
    peer = plenoptic_of(shape, "auto", device)
    return lambda: plenoptic_morph(peer, image, gradient, factors, amplitude=True).clamp_(0, 1)


def plenoptic_morph(peer, image, gradient, factors, amplitude=False) -> torch.Tensor:
    """The same, as one writes it with plenoptic: autograd through recon_pyr, torch.polar, one synthesis per frame."""
    coefficients = peer(image)
    scales = [key for key in coefficients if isinstance(key, int)]
    bands = [coefficients[s].detach().requires_grad_() for s in scales]
    coefficients.update(zip(scales, bands))
    gradients = torch.autograd.grad(peer.recon_pyr(coefficients), bands, gradient)
    with torch.no_grad():
        amplitudes = [c.abs() for c in bands]
        phases = [c.angle() for c in bands]
        steps = [((c - g) * c.conj()).angle() for c, g in zip(bands, gradients)]
        grown = [(c - g).abs() - a if amplitude else 0 for c, g, a in zip(bands, gradients, amplitudes)]
        frames = []
        for factor in factors:
            reached = [(a + factor * d).clamp(min=0) if amplitude else a for a, d in zip(amplitudes, grown)]
            moved = [torch.polar(a, p + factor * s) for a, p, s in zip(reached, phases, steps)]
            coefficients.update(zip(scales, moved))
            frames.append(peer.recon_pyr(coefficients))
        return torch.stack(frames)


# --- The lens ---


def lens_morph(who, batch=8, frames=FRAMES, device="cpu") -> Callable:
    """A frozen morph of a ResNet-50, its frames not scored; or the classifier's gradient alone."""
    images, target = image_of((batch, 3, 224, 224), device), torch.arange(batch, device=device)
    model = networks.resnet50().to(device)
    if who == "ours":
        lens, factors = sf.SteerableLens(model), torch.linspace(0, 250, frames)
        return lambda: lens.morph(images, target, factors=factors, score="none")

    def gradient():
        x = images.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(model(x), target, reduction="sum")
        return torch.autograd.grad(loss, x)

    return gradient


class Mean(torch.nn.Module):
    """A classifier that costs next to nothing: three classes of the mean colour."""

    def forward(self, x):
        return x.mean((1, 2, 3))[:, None] * torch.tensor([1.0, -1.0, 2.0], device=x.device)


def persistent_morph(shape, steps=11, device="cpu") -> Callable:
    """So many refreshed steps of the persistent regime, with a model that costs next to nothing."""
    images, lens = image_of(shape, device), sf.SteerableLens(Mean().eval(), regime="persistent")
    return lambda: lens.morph(images, 1, factors=1e3, frames=steps + 1, score="none")


# --- The floor ---


def _in_pieces(function: Callable, planes: torch.Tensor, size: int) -> None:
    for i in range(0, len(planes), size):
        function(planes[i : i + size])


def _better(run: Callable[[int], None], planes: int, device="cpu") -> Callable:
    """The faster of whole batches and pieces of four planes."""

    def seconds(size):
        times = []
        for _ in range(5):
            start = time.perf_counter()
            run(size)
            if torch.device(device).type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - start)
        return sorted(times)[2]

    size = min((planes, 4), key=seconds)
    return lambda: run(size)


def _planes(shape) -> int:
    return shape[0] * shape[1]


def analysis_floor(shape, device="cpu") -> Callable:
    n, geometry = _planes(shape), pyramid_of(shape).geometry
    images = image_of(shape, device).view(n, *shape[-2:])
    sizes = [geometry.band_shape(s) for s in range(geometry.height)]
    spectra = [torch.randn(n, ORDER + 1, *size, dtype=torch.complex64, device=device) for size in sizes]

    def run(size):
        _in_pieces(torch.fft.rfft2, images, size)
        for spectrum in spectra:
            _in_pieces(lambda t: torch.fft.ifft2(t, norm="forward"), spectrum, size)

    return _better(run, n, device)


def synthesis_floor(shape, device="cpu") -> Callable:
    n, geometry = _planes(shape), pyramid_of(shape).geometry
    sizes = [geometry.band_shape(s) for s in range(geometry.height)]
    bands = [torch.randn(n, ORDER + 1, *size, device=device) for size in sizes]
    half = torch.fft.rfft2(image_of(shape, device).view(n, *shape[-2:]))

    def run(size):
        for band in bands:
            _in_pieces(torch.fft.rfft2, band, size)
        _in_pieces(lambda t: torch.fft.irfft2(t, s=shape[-2:], norm="forward"), half, size)

    return _better(run, n, device)

"""Workloads: what is measured, at which shapes, and compared with what.

A workload has a *set-up*, a function that returns a :class:`Run`. Its argument ``who`` names the implementation: "ours"
or a baseline (baselines.py). Baselines of the transforms and morphs are "plenoptic" (plenoptic_baseline.py), "plain"
torch and "compiled" plain torch (plain_pyramid.py), and "ffts", torch's FFTs alone (lower_bounds.py). The last argument
of every set-up is the device.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import networks
import torch
from torch import Tensor

import steerlens_fast as sf
from steerlens_fast.pyramid import filters

ORDER, HEIGHT, FRAMES = 3, 4, 8
DIGIT_FRAMES, PERSISTENT_STEPS = 12, 11
BATCH, ONE_IMAGE, SMALL_IMAGE = (8, 3, 224, 224), (1, 3, 224, 224), (1, 1, 64, 64)
SHAPES = [BATCH, (8, 1, 256, 256), (64, 1, 28, 28), (1, 3, 1080, 1920)]
MORPH_SHAPES = SHAPES[:3]  # plenoptic's morph of the last shape takes most of a minute and gigabytes
MORPHED_L2 = {BATCH: 10.0, SMALL_IMAGE: 3.0}  # L2 distance of the last frame from the source, by shape


@dataclass(frozen=True)
class Workload:
    """A set-up, the shapes at which it is measured, and the baselines that it is compared with."""

    setup: Callable
    shapes: list[tuple[int, ...]]
    baselines: tuple[str, ...]

    @property
    def implementations(self) -> tuple[str, ...]:
        return "ours", *self.baselines


@dataclass(frozen=True)
class Run:
    """A function without arguments, and the tensors that it reads (speed.py counts their bytes for "ours")."""

    function: Callable
    inputs: tuple = ()
    grad: bool = False  # whether the function needs autograd

    def __call__(self):
        with torch.set_grad_enabled(self.grad):
            return self.function()


def label(shape) -> str:
    return "x".join(map(str, shape))


def height_for(shape) -> int:
    return min(HEIGHT, filters.max_scales(shape[-2:]))


def image_of(shape, device="cpu") -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device)


def gradient_of(shape, device="cpu") -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(device)


def pyramid_of(shape, height=None, order=ORDER, device="cpu") -> sf.SteerablePyramid:
    return sf.SteerablePyramid(shape[-2:], height=height or height_for(shape), order=order).to(device)


def plenoptic_of(shape, height=None, order=ORDER, device="cpu"):
    import plenoptic_baseline

    return plenoptic_baseline.make_pyramid(shape, height or height_for(shape), order, device)


def plain_of(shape, who, height=None, order=ORDER, device="cpu"):
    from plain_pyramid import PlainPyramid

    return PlainPyramid(pyramid_of(shape, height, order).geometry, device, compiled=who == "compiled")


def planes_of(t: Tensor) -> Tensor:
    """Return images [B, C, H, W] as planes [N, H, W]."""
    return t.flatten(0, 1)


# --- The pyramid ---


def analysis(shape, who, height=None, order=ORDER, device="cpu") -> Run:
    """Return the run that computes all coefficients of an image."""
    image, options = image_of(shape, device), (height, order, device)
    if who == "ffts":
        from lower_bounds import analysis_ffts

        return Run(analysis_ffts(shape, *options), (image,))
    if who == "plenoptic":
        pyramid = plenoptic_of(shape, *options)
        return Run(lambda: pyramid(image), (image,))
    if who == "ours":
        ours = pyramid_of(shape, *options)
        return Run(lambda: ours(image), (image,))
    plain, planes = plain_of(shape, who, *options), planes_of(image)
    return Run(lambda: plain.analyze(planes), (image,))


def synthesis(shape, who, height=None, order=ORDER, device="cpu") -> Run:
    """Return the run that computes an image from all coefficients."""
    image, options = image_of(shape, device), (height, order, device)
    if who == "ffts":
        from lower_bounds import synthesis_ffts

        return Run(synthesis_ffts(shape, *options))
    if who == "plenoptic":
        pyramid = plenoptic_of(shape, *options)
        coefficients = pyramid(image)
        return Run(lambda: pyramid.recon_pyr(coefficients), tuple(coefficients.values()))
    if who == "ours":
        ours = pyramid_of(shape, *options)
        coefficients = ours(image)
        return Run(lambda: ours.synthesize(coefficients), tuple(coefficients.tensors()))
    plain = plain_of(shape, who, *options)
    coefficients = plain.analyze(planes_of(image))
    return Run(lambda: plain.synthesize(coefficients), tuple(coefficients))


def synthesis_backward(shape, who, height=None, order=ORDER, device="cpu") -> Run:
    """Return the run that computes the gradients of all bands.

    They are computed from the gradient of the image.
    """
    gradient, options = gradient_of(shape, device), (height, order, device)
    if who == "ffts":  # the gradients are real bands, so their FFTs take as long as those of the synthesis
        from lower_bounds import synthesis_ffts

        return Run(synthesis_ffts(shape, *options), (gradient,))
    if who == "plenoptic":
        import plenoptic_baseline

        run = plenoptic_baseline.backward(plenoptic_of(shape, *options), image_of(shape, device), gradient)
        return Run(run, (gradient,), grad=True)
    if who == "ours":
        ours = pyramid_of(shape, *options)
        coefficients = ours(image_of(shape, device)).detach()
        bands = [b.requires_grad_() for b in coefficients.bands]
        out = ours.synthesize(coefficients)
        return Run(lambda: torch.autograd.grad(out, bands, gradient, retain_graph=True), (gradient,), grad=True)
    plain, planes = plain_of(shape, who, *options), planes_of(gradient)
    return Run(lambda: plain.gradients(planes), (gradient,))


# --- Morphs from a given gradient ---


def morph(shape, who, height=None, order=ORDER, frames=FRAMES, device="cpu") -> Run:
    """Return the run of a phase morph along a given gradient. Each frame multiplies the step by its own factor."""
    return _frozen(shape, who, "phase", height or height_for(shape), order, frames, None, device)


def joint_morph(shape, who, device="cpu") -> Run:
    """Return the run of a morph of phase and amplitude.

    The pyramid has as many scales as possible, and frames are clipped to [0, 1].
    """
    return _frozen(shape, who, "joint", filters.max_scales(shape[-2:]), ORDER, DIGIT_FRAMES, (0, 1), device)


def _frozen(shape, who, edit, height, order, frames, bounds, device) -> Run:
    image, gradient = image_of(shape, device), gradient_of(shape, device)
    factors = torch.arange(1.0, frames + 1.0, device=device)  # not 0, at which ours copies the source
    options = height, order, device
    if who == "ffts":
        from lower_bounds import morph_ffts

        return Run(morph_ffts(shape, frames, *options), (image, gradient))
    if who == "plenoptic":
        import plenoptic_baseline

        pyramid, joint = plenoptic_of(shape, *options), edit == "joint"
        function = lambda: plenoptic_baseline.morph(pyramid, image, gradient, factors, joint, bounds)
        return Run(function, (image, gradient), grad=True)
    if who == "ours":
        family = sf.CSPFamily(pyramid_of(shape, *options), edit)
        return Run(lambda: family.prepare(image, gradient).render(factors, bounds=bounds), (image, gradient))
    plain, planes = plain_of(shape, who, *options), (planes_of(image), planes_of(gradient))
    return Run(lambda: plain.morph(*planes, factors, edit == "joint", bounds), (image, gradient))


# --- The lens ---


def lens_morph(shape, who, frames=FRAMES, device="cpu") -> Run:
    """Return the run of a morph in the regime "frozen" with a ResNet-50 as classifier. Frames are not scored.

    "gradient" is the gradient alone.
    """
    images, target = image_of(shape, device), torch.arange(shape[0], device=device)
    model = networks.resnet50().to(device)
    if who == "ours":
        lens, factors = sf.SteerableLens(model), torch.linspace(0, 250, frames)
        return Run(lambda: lens.morph(images, target, factors=factors, score="none").frames, (images,), grad=True)
    return Run(lambda: gradients(model, images, target), (images,), grad=True)


def gradients(model, images: Tensor, target: Tensor) -> Tensor:
    """Return the gradient of the loss with respect to the images."""
    x = images.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(model(x), target, reduction="sum")
    return torch.autograd.grad(loss, x)[0]


class Mean(torch.nn.Module):
    """A classifier of negligible cost.

    Its three scores are multiples of the mean pixel value.
    """

    def __init__(self):
        super().__init__()
        self.register_buffer("gains", torch.tensor([1.0, -1.0, 2.0]))

    def forward(self, x):
        return x.mean((1, 2, 3))[:, None] * self.gains


def cheap_lens(regime="frozen", device="cpu") -> sf.SteerableLens:
    return sf.SteerableLens(Mean().eval().to(device), regime=regime)


def cheap_morph(shape, regime: str, frames: int) -> Run:
    """Return the run of a morph whose model has negligible cost."""
    images, lens = image_of(shape), cheap_lens(regime)
    return Run(lambda: lens.morph(images, 1, factors=1e3, frames=frames, score="none").frames, grad=True)


def persistent_morph(shape, who, device="cpu") -> Run:
    """Return the run of steps of the persistent regime, with a model of negligible cost."""
    images, lens = image_of(shape, device), cheap_lens("persistent", device)
    extent = {"factors": 1e3, "frames": PERSISTENT_STEPS + 1, "steps": PERSISTENT_STEPS}
    return Run(lambda: lens.morph(images, 1, **extent, score="none").frames, (images,), grad=True)


# --- float64 ---


def in_float64(setup: Callable) -> Callable:
    """Return a set-up of the same work in float64. "float32" is the work in float32."""

    def run(shape, who, device="cpu") -> Run:
        if who == "float32":
            return setup(shape, "ours", device=device)
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)  # the dtype of images and gradients that the set-up makes
        try:
            return setup(shape, "ours", device=device)
        finally:
            torch.set_default_dtype(before)

    return run


# --- Small images, for which Python and the launch of ops take most of the time ---


def linear(shape, device) -> Callable:
    """Return a classifier of ten classes, linear in the pixels."""
    count, generator = torch.Size(shape[1:]).numel(), torch.Generator().manual_seed(0)
    weights = (torch.randn(10, count, generator=generator) / 20).to(device)
    return lambda x: x.flatten(1) @ weights.T


def _linear_morph(shape, device, extent: dict, regime="frozen") -> Run:
    images, target = image_of(shape, device), torch.zeros(shape[0], dtype=torch.int64, device=device)
    lens = sf.SteerableLens(linear(shape, device), regime=regime)
    lens.warn_about_results = False
    return Run(lambda: lens.morph(images, target, score="none", **extent).frames, (images,), grad=True)


def small_morph(shape, who, device="cpu") -> Run:
    """Return the run of a morph by factors, in the regime "frozen".

    "parts" are the model's gradient and the rendering of frames.
    """
    if who == "ours":
        return _linear_morph(shape, device, {"factors": 20.0, "frames": FRAMES})
    images, target = image_of(shape, device), torch.zeros(shape[0], dtype=torch.int64, device=device)
    model, family = linear(shape, device), sf.CSPFamily(sf.SteerablePyramid(shape[-2:]))
    factors = torch.linspace(0, 20, FRAMES)

    def parts():
        gradient = gradients(model, images, target)
        return family.prepare(images, gradient).render(factors, bounds=(0, 1))

    return Run(parts, (images,), grad=True)


def small_distance(shape, who, device="cpu") -> Run:
    """Return the run of a morph to a distance, in the regime "frozen".

    "factors" is the morph by factors.
    """
    if who == "factors":
        return small_morph(shape, "ours", device)
    return _linear_morph(shape, device, {"max_l2": 2.0, "frames": FRAMES})


def small_steps(shape, who, device="cpu") -> Run:
    """Return the run of persistent steps by factors.

    "parts" are a gradient, an analysis and a synthesis per step.
    """
    if who == "ours":
        extent = {"factors": 20.0, "frames": PERSISTENT_STEPS + 1, "steps": PERSISTENT_STEPS}
        return _linear_morph(shape, device, extent, "persistent")
    images, target = image_of(shape, device), torch.zeros(shape[0], dtype=torch.int64, device=device)
    model, pyramid = linear(shape, device), sf.SteerablePyramid(shape[-2:])

    def parts():
        for _ in range(PERSISTENT_STEPS):
            gradients(model, images, target)
            image = pyramid.synthesize(pyramid(images))
        return image

    return Run(parts, (images,), grad=True)


def small_steps_to_distance(shape, who, device="cpu") -> Run:
    """Return the run of persistent steps to a distance.

    "factors" are the steps by factors.
    """
    if who == "factors":
        return small_steps(shape, "ours", device)
    extent = {"max_l2": 2.0, "frames": PERSISTENT_STEPS + 1, "steps": PERSISTENT_STEPS}
    return _linear_morph(shape, device, extent, "persistent")


# --- Searches for a distance ---


def photographs(shape, device="cpu") -> Tensor:
    """Return images of this shape: square crops, of several sizes, of scikit-learn's two photographs, resized.

    They are grey if the shape has one channel.
    """
    from sklearn.datasets import load_sample_images

    B, C, H, W = shape
    china, flower = (torch.from_numpy(p.copy()).permute(2, 0, 1) / 255.0 for p in load_sample_images().images)
    squares = []
    for i in range(B):
        side = china.shape[1] - 40 * (i // 2)
        square = (china, flower)[i % 2][None, :, :side, 40 * i : 40 * i + side]
        squares.append(torch.nn.functional.interpolate(square, (H, W), mode="bilinear", antialias=True))
    images = torch.cat(squares)
    return (images if C == 3 else images.mean(1, keepdim=True)).to(device)


class Patches(torch.nn.Module):
    """A cheap classifier whose gradient varies over the image.

    It has five classes, whose scores are correlations with 8 x 8 patches.
    """

    def __init__(self, channels: int):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("patches", torch.randn(5, channels, 8, 8, generator=generator))

    def forward(self, x):
        return 5 * torch.tanh(torch.nn.functional.conv2d(x, self.patches, stride=8) / 5).mean((2, 3))


def distance_morph(shape, who, family, rule, device="cpu") -> Run:
    """Return the run of a morph of photographs to an L2 distance, in the regime "frozen".

    "factors" is a morph by the factors that the search for this distance finds.
    """
    images = photographs(shape, device)
    lens = sf.SteerableLens(Patches(shape[1]).eval().to(device), family=family, rule=rule)
    lens.warn_about_results = False
    extent = {"max_l2": MORPHED_L2[shape], "frames": FRAMES}
    if who == "factors":
        extent = {"factors": lens.morph(images, 1, score="none", **extent).factors}
    return Run(lambda: lens.morph(images, 1, score="none", **extent).frames, (images,), grad=True)


# --- A busy machine ---


def beside_spinner(shape, who, device="cpu") -> Run:
    """Return the run of a phase morph while another process keeps one core busy. "alone" is the morph alone."""
    alone = morph(shape, "ours", device=device)
    if who == "alone":
        return alone
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    atexit.register(process.kill)
    os.kill(process.pid, signal.SIGSTOP)

    def disturbed():
        os.kill(process.pid, signal.SIGCONT)
        try:
            return alone.function()
        finally:
            os.kill(process.pid, signal.SIGSTOP)

    return Run(disturbed, alone.inputs)


# --- All workloads, by suite ---

OTHERS = ("plenoptic", "plain", "ffts")
ANALYSIS, SYNTHESIS, BACKWARD = "analysis", "synthesis", "backward of synthesis"
PHASE_MORPH = f"{FRAMES}-frame phase morph"

PYRAMID = {
    ANALYSIS: Workload(analysis, SHAPES, (*OTHERS, "compiled")),
    SYNTHESIS: Workload(synthesis, SHAPES, (*OTHERS, "compiled")),
    BACKWARD: Workload(synthesis_backward, SHAPES, (*OTHERS, "compiled")),
}
MORPHS = {
    PHASE_MORPH: Workload(morph, MORPH_SHAPES, (*OTHERS, "compiled")),
    f"{DIGIT_FRAMES}-frame joint morph": Workload(joint_morph, [(256, 1, 32, 32)], OTHERS),
    f"frozen {FRAMES}-frame morph, ResNet-50": Workload(lens_morph, [BATCH], ("gradient",)),
    f"{PERSISTENT_STEPS} persistent steps": Workload(persistent_morph, [SMALL_IMAGE, (64, 1, 64, 64)], ()),
}
TRANSFORMS = {**PYRAMID, PHASE_MORPH: MORPHS[PHASE_MORPH]}
FLOAT64 = {f"{work}, float64": Workload(in_float64(w.setup), w.shapes, ("float32",)) for work, w in TRANSFORMS.items()}
# "tuned" is ours in a process with the tuned allocator settings
ALLOCATOR = {f"{work}, default allocator": Workload(w.setup, w.shapes, ("tuned",)) for work, w in TRANSFORMS.items()}
# Measured with one thread
SMALL = {
    f"frozen {FRAMES}-frame morph by factors": Workload(small_morph, [SMALL_IMAGE], ("parts",)),
    f"frozen {FRAMES}-frame morph to a distance": Workload(small_distance, [SMALL_IMAGE], ("factors",)),
    f"{PERSISTENT_STEPS} persistent steps by factors": Workload(small_steps, [SMALL_IMAGE], ("parts",)),
    f"{PERSISTENT_STEPS} persistent steps to a distance": Workload(
        small_steps_to_distance, [SMALL_IMAGE], ("factors",)
    ),
}
DISTANCES = {
    f"{FRAMES}-frame morph to a distance, {family}, {rule}": Workload(
        partial(distance_morph, family=family, rule=rule), list(MORPHED_L2), ("factors",)
    )
    for family, rule in (("csp-phase", "complex"), ("csp-joint", "polar"))
}
BUSY = {f"{PHASE_MORPH} beside a spinning process": Workload(beside_spinner, [ONE_IMAGE], ("alone",))}

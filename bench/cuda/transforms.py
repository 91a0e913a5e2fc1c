"""GPU times of transforms and morphs: this package, plenoptic, torch's FFTs alone. Time and memory of the lens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import torch
from clock import captured, median_ms, peak_beyond
from common import BENCH
from plane_ops import plane_ops

sys.path.append(str(BENCH))
import plenoptic_baseline  # noqa: E402
import workloads  # noqa: E402
from classifier import resnet50  # noqa: E402
from eager_pyramid import EagerPyramid  # noqa: E402

import steerlens_fast as sf  # noqa: E402
from steerlens_fast import memory  # noqa: E402

LARGE, ONE = (64, 3, 224, 224), (1, 3, 224, 224)
SMALL = (2, 3, 32, 32)
CHUNKS_MIB = (32, 64, 128, 256, 512)
FRAME_COUNTS = (8, 24, 48)
NO_CLUSTERS = "ours, no clusters"
Measurement = Callable[[], dict]  # returns a row


def rows(device: torch.device) -> Iterator[Measurement]:
    """Yield a function for each row of the table.

    Without a GPU, rows that need one are left out.
    """
    on_gpu = device.type == "cuda"
    shape = LARGE if on_gpu else SMALL
    for work in ("analysis", "synthesis", "8-frame phase morph"):
        for who in ("ours", "ours, ops on bands", "plenoptic", "ffts"):
            yield lambda work=work, who=who: timed(work, shape, who, device)
    yield lambda: without_clusters(device)
    one_image = ONE if on_gpu else (1, 3, 32, 32)
    for work in ("analysis", "synthesis", "8-frame phase morph"):
        for who in ("ours", "ours, graph", "plenoptic") if on_gpu else ("ours", "plenoptic"):
            yield lambda work=work, who=who: timed(work, one_image, who, device)
    yield lambda: lens_row(shape, device)
    if on_gpu:
        for mib in CHUNKS_MIB:
            yield lambda mib=mib: chunk_row(mib, shape, device)
        for frames in FRAME_COUNTS:
            yield lambda frames=frames: memory_row(frames, shape, device)


def timed(work: str, shape, who: str, device: torch.device) -> dict:
    """Return the row of one implementation: "who" is its short name, and "name" its full one."""
    name = plenoptic_name() if who == "plenoptic" else who
    with torch.set_grad_enabled("morph" in work and who == "plenoptic"):  # its morph calls autograd
        function = setup(work, shape, who.partition(",")[0], device)
        function = captured(function) if who.endswith("graph") else function
        with plane_ops(device.type, who != "ours, ops on bands"):
            ms = median_ms(function, device, rounds=7 if "morph" in work else 15)
    return {"work": work, "shape": workloads.label(shape), "who": who, "name": name, "ms": round(ms, 4)}


def without_clusters(device: torch.device) -> dict:
    """Return the row of a morph whose kernels use no clusters of blocks.

    It is measured by a process of its own, since the environment variable is read only once.
    """
    environment = os.environ | {"STEERLENS_CUDA_CLUSTERS": "0"}
    command = [sys.executable, __file__, device.type]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def setup(work: str, shape, who: str, device: torch.device) -> Callable:
    if who != "plenoptic":
        return {"analysis": workloads.analysis, "synthesis": workloads.synthesis}.get(work, workloads.morph)(
            shape, who, device=device
        )
    image, gradient, pyramid = (
        workloads.image_of(shape, device),
        workloads.gradient_of(shape, device),
        plenoptic_pyramid(shape, device),
    )
    if work == "analysis":
        return lambda: pyramid(image)
    if work == "synthesis":
        coefficients = pyramid(image)
        return lambda: pyramid.recon_pyr(coefficients)
    factors = torch.arange(1.0, workloads.FRAMES + 1.0, device=device)
    return lambda: plenoptic_baseline.morph(pyramid, image, gradient, factors)


def plenoptic_pyramid(shape, device: torch.device):
    """Return plenoptic's pyramid, or the copy in eager_pyramid.py if plenoptic is not installed."""
    if plenoptic_name().startswith("plenoptic"):
        return workloads.plenoptic_of(shape, device=device)
    return EagerPyramid(shape[-2:], workloads.height_for(shape), workloads.ORDER).to(device)


def plenoptic_name() -> str:
    try:
        import plenoptic
    except ImportError:
        return "plenoptic's algorithm in plain torch"
    return f"plenoptic {plenoptic.__version__}"


# --- Morphs of the lens ---


def lens_row(shape, device: torch.device) -> dict:
    """Return the row of a morph in the regime "frozen", with a ResNet-50.

    Frames are not scored. The row also has the time of the gradient alone.
    """
    model, name = resnet50() if device.type == "cuda" else (workloads.Mean().eval(), "a mean (dry run)")
    model = model.to(device, memory_format=torch.channels_last)
    images = workloads.image_of(shape, device).contiguous(memory_format=torch.channels_last)
    targets = torch.arange(len(images)) % 3
    on_device = targets.to(device)
    lens, factors = sf.SteerableLens(model), torch.linspace(0, 250, workloads.FRAMES)

    @torch.enable_grad()
    def gradient():
        x = images.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(model(x), on_device, reduction="sum")
        return torch.autograd.grad(loss, x)

    alone = median_ms(gradient, device, rounds=7)
    morph = median_ms(lambda: lens.morph(images, targets, factors=factors, score="none"), device, rounds=7)
    result = {
        "work": f"frozen {workloads.FRAMES}-frame morph, ResNet-50, channels-last",
        "shape": workloads.label(shape),
    }
    result |= {"who": "lens", "name": name, "ms": round(morph, 3), "gradient_ms": round(alone, 3)}
    return result | {"ratio": round(morph / alone, 3), "tf32_convolutions": torch.backends.cudnn.allow_tf32}


def morph_of(frames: int, shape, device: torch.device) -> Callable[[], torch.Tensor]:
    """Return a function that morphs with a model of negligible size, and returns the frames."""
    images, lens = workloads.image_of(shape, device), workloads.cheap_lens(device=device)
    return lambda: lens.morph(images, 1, factors=1e3, frames=frames, score="none").frames


def memory_row(frames: int, shape, device: torch.device) -> dict:
    """Measure the memory that a morph needs beyond frames and model."""
    beyond = peak_beyond(morph_of(frames, shape, device), device)
    result = {"work": f"frozen {frames}-frame morph by the lens", "shape": workloads.label(shape), "who": "memory"}
    return result | {"mib_beyond_frames_and_model": round(beyond, 1), "chunk_mib": memory.CHUNK_BYTES["cuda"] >> 20}


def chunk_row(mib: int, shape, device: torch.device) -> dict:
    """Return time and memory of a morph with chunks of this size, from which to choose ``memory.CHUNK_BYTES``."""
    before = memory.CHUNK_BYTES["cuda"]
    memory.CHUNK_BYTES["cuda"] = mib << 20
    try:
        morph = morph_of(workloads.FRAMES, shape, device)
        ms, beyond = median_ms(morph, device, rounds=5), peak_beyond(morph, device)
    finally:
        memory.CHUNK_BYTES["cuda"] = before
    result = {
        "work": f"frozen {workloads.FRAMES}-frame morph by the lens",
        "shape": workloads.label(shape),
        "who": "chunks",
    }
    return result | {"chunk_mib": mib, "ms": round(ms, 3), "mib_beyond_frames_and_model": round(beyond, 1)}


if __name__ == "__main__":  # see without_clusters
    torch.manual_seed(0)
    device = torch.device(sys.argv[1], 0) if sys.argv[1] == "cuda" else torch.device("cpu")
    with torch.no_grad():
        print(json.dumps(timed("8-frame phase morph", LARGE if device.type == "cuda" else SMALL, NO_CLUSTERS, device)))

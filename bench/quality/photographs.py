"""Measures the tables of steerlens_fast/lens/photographs.md: ``python bench/quality/photographs.py PART [OUT]``.

PART is "settings" (the first table: settings of the lens), "steps" (numbers of steps) or "smoothing" (the last table:
averaged gradients), which write a JSON file; or "picture", which draws the first figure. The gradients are those of
EfficientNet-Lite0 (the driver); Lite1 and Lite2 also classify the frames (the judges). Needs the extra
steerlens_fast[photographs].
"""

from __future__ import annotations

import json
import sys
from importlib.resources import files
from pathlib import Path
from statistics import mean, median

import torch
from matplotlib.figure import Figure
from PIL import Image

from steerlens_fast import Morphs, SteerableLens, proportion, smooth_reconstruction
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
BATCH = 3
COARSE = 4  # images are averaged over 4 x 4 pixels before a warp is fitted

# --- Settings of the lens

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
DISTANCE = 12.0  # default distance of the settings for photographs


def measure_settings() -> dict:
    """Return predictions, and the shares of the change that a smooth warp explains: {setting: {distance: ...}}."""
    networks, images, targets = load()
    results = {}
    for name, settings in SETTINGS.items():
        morphs = morph(networks[0], images, targets, DISTANCES, settings, steps=12)
        results[name] = {}
        print(name)
        for distance, frames in zip(DISTANCES, morphs.frames[:, 1:].unbind(1)):
            row = results[name][distance] = predictions(networks, frames, targets) | smoothness(images, frames)
            print(f"  L2 {distance:g}: {summary(row)}; {smoothness_text(row)}", flush=True)
    return results


def smoothness(images: torch.Tensor, frames: torch.Tensor) -> dict[str, list[float]]:
    """Return the shares of the change that a smooth warp explains, without and with gain.

    Gain is a smooth change of brightness (steerlens_fast/lens/photographs.md).
    """
    coarse = lambda pictures: torch.nn.functional.avg_pool2d(pictures, COARSE)
    smooth = smooth_reconstruction(coarse(images), coarse(frames.contiguous()), restarts=1)
    return {"warp": smooth.warp.tolist(), "gain": smooth.gain.tolist()}


def smoothness_text(row: dict) -> str:
    """Return the medians of :func:`smoothness`."""
    return f"warp {median(row['warp']):.2f}, with gain {median(row['gain']):.2f}"


# --- Numbers of steps

STEPS = (5, 11, 22, 44)


def measure_steps() -> dict:
    """Return what :func:`measure_settings` returns, for the settings for photographs: {number of steps: ...}."""
    networks, images, targets = load()
    results = {}
    for steps in STEPS:
        morphs = morph(networks[0], images, targets, (DISTANCE,), SETTINGS["phase"], steps=steps)
        frames = morphs.frames[:, -1].contiguous()
        row = predictions(networks, frames, targets) | smoothness(images, frames)
        results[steps] = row | {"l2": morphs.l2[:, -1].tolist()}
        print(f"{steps} steps: {summary(row)}, lowest {min(row['p'][0]):.2f}; {smoothness_text(row)}", flush=True)
    return results


# --- The picture of the settings

PICTURE = ("phase", "phase, rgb", "phase, complex", "pixel, live", "phase, frozen")  # columns, from SETTINGS
PICTURE_TARGETS = ("lynx", "castle", "space shuttle")  # rows, from PHOTOGRAPHS


def draw_settings(file: str) -> None:
    """Draw photographs, and their frames at one distance under several settings, as a PNG file."""
    networks, images, targets = load()
    rows = [[target for *_, target in PHOTOGRAPHS].index(target) for target in PICTURE_TARGETS]
    columns = {"photograph": images[rows]}
    for name in PICTURE:
        morphs = morph(networks[0], images[rows], [targets[row] for row in rows], DISTANCES, SETTINGS[name], steps=12)
        columns[_heading(SETTINGS[name])] = morphs.frames[:, 1 + DISTANCES.index(DISTANCE)]
    figure = Figure(figsize=(1.55 * len(columns), 1.6 * len(rows) + 0.35), layout="constrained")
    all_axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for column, (heading, pictures) in enumerate(columns.items()):
        all_axes[0, column].set_title(heading, fontsize=8, weight="bold" if column == 1 else "normal")
        for axes, picture in zip(all_axes[:, column], pictures):
            axes.imshow(picture.movedim(0, -1).numpy(), interpolation="none")
            axes.axis("off")
    figure.savefig(file)


def _heading(settings: dict) -> str:
    words = [settings["family"].removeprefix("csp-"), settings.get("rule"), settings["color"], settings["regime"]]
    words = [word for word in words if word]
    half = (len(words) + 1) // 2
    return f"{', '.join(words[:half])},\n{', '.join(words[half:])}"


# --- Averaged gradients

LENSES = {  # targets are the classes in PHOTOGRAPHS or, where the name says so, runner-ups
    "csp-phase, polar, luma, persistent": {"family": "csp-phase", **COMMON},
    "csp-phase, complex, rgb, frozen": {"family": "csp-phase"},
    "csp-joint, polar, rgb, frozen": {"family": "csp-joint", "rule": "polar"},
    "csp-phase, complex, rgb, frozen, runner-up": {"family": "csp-phase"},
    "csp-joint, complex, rgb, frozen, runner-up": {"family": "csp-joint"},
}
SMOOTHING: dict[str, dict | None] = {
    "noise off": None,
    **{f"noise {noise}": {"noise": noise} for noise in (0.05, 0.1, 0.2)},
    "moved": {"noise": 0.0, "shift": 4.0, "scale": 0.05, "flip": True},
}
SMOOTHING_DISTANCES = {"persistent": (4.0, 8.0, 12.0), "frozen": (2.0, 4.0, 8.0)}


def measure_smoothing() -> dict:
    """Return the predictions: {"lens, smoothing, distance": ...}."""
    networks, images, targets = load()
    results = {}
    for name, settings in LENSES.items():
        distances = SMOOTHING_DISTANCES[settings.get("regime", "frozen")]
        target = "runner-up" if name.endswith("runner-up") else targets
        for smoothing_name, smoothing in SMOOTHING.items():
            morphs = morph(networks[0], images, target, distances, settings | {"smoothing": smoothing}, steps=9)
            for distance, frames in zip((0.0, *distances), morphs.frames.unbind(1)):
                key = f"{name}, {smoothing_name}, L2 {distance:g}"
                results[key] = predictions(networks, frames, morphs.target.tolist())
                print(key, summary(results[key]), sep=": ", flush=True)
    return results


# --- All parts


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


def morph(driver, images: torch.Tensor, target, distances: tuple[float, ...], settings: dict, steps: int) -> Morphs:
    """Return morphs with a frame at distance 0 and at each of ``distances``."""
    lens = SteerableLens(driver.model, preprocessing=driver.preprocessing, **settings)
    lens.warn_about_results = False
    extent = {"distances": distances, "steps": None if settings.get("regime", "frozen") == "frozen" else steps}
    return lens.morph(images, target, **extent, score="none", internal_batch_size=BATCH)


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


def summary(row: dict) -> str:
    """Return mean probabilities and counts of predicted targets.

    Then follow the number of photographs for which at least one judge predicts the target, and the confidence interval
    of their share. (The judges' predictions are not independent, since all judges see the same photographs.)
    """
    judges, hits = sum(row["p"][1:], []), sum(row["hit"][1:], [])
    any_judge = [any(of_photograph) for of_photograph in zip(*row["hit"][1:])]
    share = proportion(torch.tensor(any_judge))
    interval = f"{sum(hits)} of {len(hits)}; {sum(any_judge)} of {share.cases}, {share.low:.2f} to {share.high:.2f}"
    return f"driver {mean(row['p'][0]):.2f} ({sum(row['hit'][0])}), judges {mean(judges):.2f} ({interval})"


def main() -> None:
    """Measure a part, print a line for each distance, and write the results; or draw the picture."""
    parts = {"settings": measure_settings, "steps": measure_steps, "smoothing": measure_smoothing}
    if sys.argv[1:2] == ["picture"] and len(sys.argv) == 3:
        return draw_settings(sys.argv[2])
    if not 2 <= len(sys.argv) <= 3 or sys.argv[1] not in parts:
        name = "python bench/quality/photographs.py"
        sys.exit(f"usage: {name} {{settings,steps,smoothing}} [OUT.json], or {name} picture OUT.png")
    results = parts[sys.argv[1]]()
    if sys.argv[2:]:
        Path(sys.argv[2]).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Compares averaged gradients on photographs: python bench/smoothing.py [OUT.json]

Measures the last table of steerlens_fast/lens/photographs.md, with the photographs, networks and measures of
bench/photographs.py. Needs the extra steerlens_fast[photographs], and about 8 minutes on an idle core.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from statistics import mean

from photographs import BATCH, COMMON, STEPS, load, predictions

from steerlens_fast import SteerableLens

SETTINGS = {  # targets are the classes in PHOTOGRAPHS or, where the name says so, runner-ups
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
DISTANCES = {"persistent": (4.0, 8.0, 12.0), "frozen": (2.0, 4.0, 8.0)}


def main() -> None:
    """Measure all settings with each kind of smoothing.

    Print a line for each distance, and write the results.
    """
    networks, images, targets = load()
    results = {}
    for name, settings in SETTINGS.items():
        regime = settings.get("regime", "frozen")
        steps = None if regime == "frozen" else STEPS * 3 // 4  # for 3 distances; STEPS is for 4
        extent = {"distances": DISTANCES[regime], "steps": steps}
        for copies, smoothing in SMOOTHING.items():
            lens = SteerableLens(
                networks[0].model, preprocessing=networks[0].preprocessing, smoothing=smoothing, **settings
            )
            lens.warn_about_results = False
            target = "runner-up" if name.endswith("runner-up") else targets
            morphs = lens.morph(images, target, **extent, score="none", internal_batch_size=BATCH)
            for distance, frames in zip((0.0, *extent["distances"]), morphs.frames.unbind(1)):
                key = f"{name}, {copies}, L2 {distance:g}"
                results[key] = predictions(networks, frames, morphs.target.tolist())
                print(key, _line(results[key]), sep=": ", flush=True)
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(json.dumps(results))


def _line(m: dict) -> str:
    judges = [p for network in m["p"][1:] for p in network]
    hits, verdicts = sum(map(sum, m["hit"][1:])), len(judges)
    low, high = wilson(hits, verdicts)
    interval = f"{hits} of {verdicts}, {low:.2f} to {high:.2f}"
    return f"driver {mean(m['p'][0]):.2f} ({sum(m['hit'][0])}), judges {mean(judges):.2f} ({interval})"


def wilson(hits: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Return the Wilson interval of a proportion.

    By default its level is 95 %: (.06, .39) for 3 of 18.
    """
    share, spread = hits / count, z * z / count
    middle = share + spread / 2
    half = z * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    return (middle - half) / (1 + spread), (middle + half) / (1 + spread)


if __name__ == "__main__":
    main()

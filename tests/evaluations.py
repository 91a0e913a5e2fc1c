"""Small evaluations: images, untrained networks and fast options."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch.utils.data import StackDataset

from steerlens_fast import evaluate_families

FAST = {"families": ["pixel", "csp-phase"], "frames": 3, "restarts": 1, "draws": 50, "probe_directions": 1}
FAST |= {"channels": 1, "batch_size": 10, "grid": 4, "samples": 2, "figures": False, "threads": 1}


def pictures(count: int = 10, size: int = 16) -> torch.Tensor:
    """Return smooth images, uint8 [N, H, W, 1]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        coarse = torch.rand(count, 1, 5, 5)
    images = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)
    return (images * 255).round().byte().permute(0, 2, 3, 1).contiguous()


def net(seed: int, classes: int = 3, size: int = 16) -> torch.nn.Module:
    """Return a network with one hidden layer.

    The mean output over ``pictures`` is 0 for each class, so that several classes are predicted.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = torch.nn.Flatten(), torch.nn.Linear(size * size, 16), torch.nn.GELU(), torch.nn.Linear(16, classes)
        model = torch.nn.Sequential(*layers).eval()
    with torch.no_grad():
        layers[-1].bias -= model(pictures(size=size).float() / 255).mean(0)
    return model


def dataset(images=None, labels=None) -> StackDataset:
    images = pictures() if images is None else images
    return StackDataset(images, [n % 3 for n in range(len(images))] if labels is None else labels)


def run(out, data=None, driver=None, judges=None, **settings):
    judges = {"a": net(1), "b": net(2)} if judges is None else judges
    distances = {} if "max_l2" in settings else {"distances": [1.0, 0.5]}
    options = {**FAST, "select": "all", **distances, **settings}
    return evaluate_families(data or dataset(), driver or net(0), judges, out=out, **options)


def records(out) -> list[dict]:
    return [json.loads(line) for line in (Path(out) / "results.jsonl").read_text().splitlines()]

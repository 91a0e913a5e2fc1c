"""Networks of the benchmarks.

They have a module of their own, so that workers import little else.
"""

import sys
from pathlib import Path

import torch


def resnet50() -> torch.nn.Module:
    """Return timm's ResNet-50 with random weights."""
    return _timm("resnet50")


def resnet18() -> torch.nn.Module:
    """Return timm's ResNet-18 with random weights."""
    return _timm("resnet18")


def _timm(name: str) -> torch.nn.Module:
    sys.path.append(str(Path(__file__).parent.parent / "tests"))
    from optional_libraries import timm  # succeeds even if torchvision was built for another torch

    torch.manual_seed(0)
    return timm().create_model(name).eval()


def tiny() -> torch.nn.Module:
    """Return a network with one hidden layer for digits of 32 x 32."""
    torch.manual_seed(0)
    layers = torch.nn.Flatten(), torch.nn.Linear(1024, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)
    return torch.nn.Sequential(*layers).eval()


def smallest() -> torch.nn.Module:
    """Return a linear network for images of 8 x 8."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)).eval()

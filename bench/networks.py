"""Networks that the benchmarks name; apart, so that a worker that loads one imports nothing else."""

import sys
from pathlib import Path

import torch


def resnet50() -> torch.nn.Module:
    """timm's, with random weights."""
    return _timm("resnet50")


def resnet18() -> torch.nn.Module:
    """timm's, with random weights."""
    return _timm("resnet18")


def _timm(name: str) -> torch.nn.Module:
    sys.path.append(str(Path(__file__).parent.parent / "tests"))
    from peers import timm

    torch.manual_seed(0)
    return timm().create_model(name).eval()


def tiny() -> torch.nn.Module:
    """One hidden layer, for 32 x 32 digits."""
    torch.manual_seed(0)
    layers = torch.nn.Flatten(), torch.nn.Linear(1024, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)
    return torch.nn.Sequential(*layers).eval()


def smallest() -> torch.nn.Module:
    """Linear, of 8 x 8 pixels."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)).eval()

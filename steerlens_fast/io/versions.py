"""Versions of the software and the device, recorded in plans."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from ..version import __version__

PACKAGES = ("numpy", "pillow", "torchcodec", "timm", "torchvision")


def versions(device: str) -> dict[str, str]:
    """Return the versions of the software and the device. A change of them may change bytes of the output."""
    device_name = torch.cuda.get_device_name() if device == "cuda" else _cpu_capability()
    packages = {"steerlens_fast": __version__, "torch": torch.__version__}
    packages |= {name: _version(name) for name in PACKAGES}
    system = {"python": platform.python_version(), "device": device_name, "machine": platform.machine()}
    cuda = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()} if device == "cuda" else {}
    return {**packages, **system, **cuda}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _cpu_capability() -> str:
    return f"cpu {torch.backends.cpu.get_cpu_capability()}"

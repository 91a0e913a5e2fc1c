"""Libraries that users combine with this package.

``torchvision``, ``timm``, ``captum`` and ``quantus`` return the library, or skip the test if it is missing.
"""

import importlib
import importlib.util
import sys
from types import ModuleType

import pytest
import torch

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_kept = []  # keeps Library objects alive; torch removes the ops of one that is garbage-collected


def import_torchvision() -> ModuleType | None:
    """Return torchvision, or None if it is not installed.

    A torchvision that was built for CUDA, as on PyPI, cannot load its C++ ops into a torch for CPUs. Its import then
    fails, since it registers functions for ops that are not defined. This function defines the schemas of these ops,
    and imports torchvision again. The tests need only its models, which do not call these ops.
    """
    try:
        return importlib.import_module("torchvision")
    except ModuleNotFoundError:
        return None
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    for name in [m for m in sys.modules if m.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # modules that the failed import has initialised only partly
    library = torch.library.Library("torchvision", "DEF")
    for op in ("nms", "qnms"):
        library.define(op + SCHEMA)
    _kept.append(library)
    return importlib.import_module("torchvision")


def _imported(name: str) -> ModuleType:
    import_torchvision()  # the other libraries import torchvision, too
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        pytest.skip(f"{name} (extra test) cannot be imported: {error}")


def is_installed(name: str) -> bool:
    import_torchvision()
    return importlib.util.find_spec(name) is not None


def torchvision() -> ModuleType:
    return _imported("torchvision")


def timm() -> ModuleType:
    return _imported("timm")


def captum() -> ModuleType:
    return _imported("captum")


def quantus() -> ModuleType:
    return _imported("quantus")

"""Optional libraries that users combine with this one: each function imports one, or skips the test."""

import importlib
import sys
from types import ModuleType

import pytest
import torch

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_kept = []  # a Library that is garbage-collected takes its definitions with it


def importable_torchvision() -> ModuleType | None:
    """torchvision, or None where it is not installed.

    A torchvision built for CUDA, as PyPI's wheels are, cannot load its C++ ops into a torch for CPU. Its Python then
    fails on import, where it registers shapes and quantised kernels for ops that nobody defined. With their schemas
    defined here it imports; the models, which is all that the tests need, do not call those ops.
    """
    try:
        return importlib.import_module("torchvision")
    except ModuleNotFoundError:
        return None
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    for name in [m for m in sys.modules if m.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # what the failed import left behind, half initialised
    library = torch.library.Library("torchvision", "DEF")
    for op in ("nms", "qnms"):
        library.define(op + SCHEMA)
    _kept.append(library)
    return importlib.import_module("torchvision")


def _peer(name: str) -> ModuleType:
    importable_torchvision()  # the others import it, too
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        pytest.skip(f"{name} (a test extra) cannot be imported: {error}")


def torchvision() -> ModuleType:
    return _peer("torchvision")


def timm() -> ModuleType:
    return _peer("timm")


def captum() -> ModuleType:
    return _peer("captum")


def quantus() -> ModuleType:
    return _peer("quantus")

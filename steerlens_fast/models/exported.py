"""Models that are a file: exported programs, TorchScript, pickled modules."""

from __future__ import annotations

import io
import json
import os
import warnings
from pathlib import Path

import torch
from torch import nn

from ..errors import USAGE, JobError
from ..io.atomic_io import sha256_of
from ..torch_internals import read_pt2
from .checkpoints import is_torchscript, read_pickle, zip_names
from .loaded import Built

SUFFIXES = (".pt2", ".pt", ".pth", ".ts", ".torchscript")


def from_file(path: str, weights: str | None, trust: bool, device: torch.device) -> Built:
    """The model in a file; its content decides what it is."""
    if not os.path.isfile(path):
        raise JobError(f"model must be a file that exists, got {path!r}", USAGE)
    if weights is not None:
        raise JobError(f"weights must be left out where model is a file, which has its own, got {weights!r}", USAGE)
    if path.endswith(".pt2") or any(name.rpartition("/")[2] == "archive_format" for name in zip_names(path)):
        return Built(_exported(path, trust, device), sha256=sha256_of(Path(path)))
    if is_torchscript(path):
        return Built(_scripted(path, device), sha256=sha256_of(Path(path)))
    return Built(_pickled(path, trust))


def _scripted(path: str, device: torch.device) -> nn.Module:
    # Its unpickler is torch's own, in C++, and knows of no Python function: nothing but TorchScript runs.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.load` is (deprecated|not supported)", DeprecationWarning)
        try:
            return torch.jit.load(path, map_location=device)
        except Exception as error:
            raise JobError(f"model {path} cannot be read as TorchScript: {str(error).strip()}", USAGE) from error


def _pickled(path: str, trust: bool) -> nn.Module:
    found = read_pickle(path, trust, "model")
    if isinstance(found, nn.Module):
        return found
    hint = f"with its architecture: a model pkg.mod:callable and weights {path}"
    raise JobError(f"model {path} must hold a module, got {type(found).__name__}; load weights {hint}", USAGE)


# --- Exported programs ---


def _exported(path: str, trust: bool, device: torch.device) -> nn.Module:
    if not zip_names(path):
        raise JobError(f"model {path} must be a file that torch.export.save has written", USAGE)
    if not trust:
        _refuse_pickles(path)
    try:
        program = torch.export.load(path)
        if device.type != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, str(device))
        return program.module()
    except Exception as error:
        raise JobError(f"model {path} cannot be read as an exported program: {error}", USAGE) from error


def _refuse_pickles(path: str) -> None:
    """torch.export.load unpickles without restraint; so nothing may be there that ``weights_only`` would not load."""
    try:
        if "version" in zip_names(path):
            raise ValueError("it is in the format of torch before 2.8, which is pickled")
        with read_pt2(path) as archive:
            for name in archive.get_file_names():
                _check_entry(name, archive.read_bytes)
    except Exception as error:
        text = f"model {path} holds more than a program and tensors, and loading it may run any code"
        raise JobError(f"{text}: --trust-checkpoint loads it all the same ({error})", USAGE) from error


def _check_entry(name: str, read) -> None:
    if name.startswith("data/aotinductor/"):
        raise ValueError(f"{name} is compiled")
    if name.endswith("_config.json"):
        for entry in json.loads(read(name))["config"].values():
            if entry["use_pickle"] or not entry["path_name"].startswith(("weight_", "tensor_")):
                raise ValueError(f"{entry['path_name']} is pickled")
    elif name.startswith(("data/weights/", "data/constants/")) and name.endswith(".pt"):
        raise ValueError(f"{name} is pickled")
    elif name.startswith("data/sample_inputs/"):
        torch.load(io.BytesIO(read(name)), weights_only=True)

"""Loads models from files: exported programs, TorchScript, pickled modules."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import torch
from torch import nn

from ..errors import usage_error
from ..io.atomic_io import sha256_of
from .checkpoints import is_torchscript, read_pickle, zip_names
from .loaded import RawModel

SUFFIXES = (".pt2", ".pt", ".pth", ".ts", ".torchscript")  # model names with one of these are files


def load_from_file(path: str, weights: str | None, trust: bool, device: torch.device) -> RawModel:
    """Return the model in a file.

    The kind of file is detected from its content, but a file named .pt2 must be an exported program.
    """
    if not os.path.isfile(path):
        raise usage_error(f"model must be an existing file, got {path!r}")
    if weights is not None:
        raise usage_error(f"weights must be None if model is a file, which contains its weights, got {weights!r}")
    if path.endswith(".pt2") or any(name.rpartition("/")[2] == "archive_format" for name in zip_names(path)):
        return RawModel(_load_exported(path, trust, device), sha256=sha256_of(Path(path)))
    if is_torchscript(path):
        return RawModel(_load_torchscript(path, device), sha256=sha256_of(Path(path)))
    return RawModel(_load_pickled(path, trust))


def _load_torchscript(path: str, device: torch.device) -> nn.Module:
    # TorchScript files need no trust, because torch's C++ unpickler cannot call Python functions.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.load` is (deprecated|not supported)", DeprecationWarning)
        try:
            return torch.jit.load(path, map_location=device)
        except Exception as error:
            raise usage_error(f"model {path} cannot be read as TorchScript: {str(error).strip()}") from error


def _load_pickled(path: str, trust: bool) -> nn.Module:
    model = read_pickle(path, trust, "model")
    if isinstance(model, nn.Module):
        return model
    hint = "for a checkpoint, pass its architecture as model (pkg.mod:callable) and the file as weights"
    raise usage_error(f"model {path} must contain a module, got {type(model).__name__}; {hint}")


# --- Exported programs ---


def _load_exported(path: str, trust: bool, device: torch.device) -> nn.Module:
    if not zip_names(path):
        raise usage_error(f"model {path} must be a file written by torch.export.save")
    if not trust:  # torch.export.load evaluates the sizes in the file as Python expressions, and unpickles objects
        text = f"model {path} is an exported program, which may run arbitrary code when it is loaded"
        raise usage_error(f"{text}: give --trust-checkpoint (in Python trust_checkpoint=True) if you trust the file")
    try:
        program = torch.export.load(path)
        if device.type != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, str(device))
        return program.module()
    except Exception as error:
        raise usage_error(f"model {path} cannot be read as an exported program: {error}") from error

"""Checkpoints: tensors read from a file without running what else is in it, and loaded into a model."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..errors import USAGE, JobError
from ..extras import MissingExtra, require_extra

WRAPPERS = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "_orig_mod.", "model.")  # of DataParallel, torch.compile, and what is trained as self.model
SHOWN = 4  # names in a message


def load_weights(model: nn.Module, path: str, trust: bool) -> None:
    """Put all weights of a checkpoint, and nothing else, into a model; JobError names those that do not fit."""
    put_weights(model, read_weights(path, trust), path)


def put_weights(model: nn.Module, state: Mapping[str, Tensor], path: str) -> None:
    """As :func:`load_weights`, of what :func:`read_weights` gave."""
    state = _without_prefixes(state, model.state_dict())
    try:
        fit = model.load_state_dict(state, strict=False)
    except RuntimeError as error:  # shapes
        lines = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
        raise JobError(f"weights {path} do not fit the model: {' '.join(lines[:SHOWN])}", USAGE) from error
    said = [_named("missing", fit.missing_keys), _named("unexpected", fit.unexpected_keys)]
    if any(said):
        raise JobError(f"weights {path} must be those of the model, got {'; '.join(filter(None, said))}", USAGE)


def read_weights(path: str, trust: bool) -> Mapping[str, Tensor]:
    """The state dict in a .safetensors file, or in what ``torch.save`` wrote."""
    if not os.path.isfile(path):
        raise JobError(f"weights must be a file that exists, got {path!r}", USAGE)
    if path.endswith(".safetensors"):
        return _read_safetensors(path)
    if is_torchscript(path):
        raise JobError(f"weights must be a checkpoint, got a TorchScript file: {path}; give it as the model", USAGE)
    found = read_pickle(path, trust, "weights")
    for name in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(name), (Mapping, nn.Module)):
            found = found[name]
            break
    found = found.state_dict() if isinstance(found, nn.Module) else found
    if not isinstance(found, Mapping) or not any(isinstance(value, Tensor) for value in found.values()):
        keys = f" with keys {list(found)[:SHOWN]}" if isinstance(found, Mapping) else ""
        raise JobError(f"weights {path} must hold a state dict, got {type(found).__name__}{keys}", USAGE)
    return found


def read_pickle(path: str, trust: bool, argument: str):
    """What ``torch.save`` wrote: tensors and plain containers, or, where it is trusted, anything."""
    if not _is_pickle(path):
        raise JobError(f"{argument} must be a file that torch has written, got {path}", USAGE)
    try:
        return torch.load(path, map_location="cpu", weights_only=not trust)
    except pickle.UnpicklingError as error:
        if trust:
            raise JobError(f"{argument} {path} cannot be read: {error}", USAGE) from error
        text = f"{argument} {path} holds more than tensors, and loading it may run any code"
        raise JobError(f"{text}: --trust-checkpoint loads it all the same ({_cause(error)})", USAGE) from error
    except Exception as error:
        raise JobError(f"{argument} {path} cannot be read: {_first_line(error)}", USAGE) from error


def zip_names(path: str) -> list[str]:
    """The entries of a zip file; none where it is no such file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return []


def is_torchscript(path: str) -> bool:
    """Whether it is a zip file as ``torch.jit.save`` writes it. Nothing in it is run."""
    return any(name.split("/")[1:] == ["constants.pkl"] for name in zip_names(path))


def _is_pickle(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(1) == b"\x80" or zipfile.is_zipfile(path)


def _read_safetensors(path: str) -> dict[str, Tensor]:
    try:
        load_file = require_extra("save", "safetensors.torch").load_file
        return load_file(path)
    except MissingExtra as error:
        raise JobError(f"weights {path}: {error}", USAGE) from error
    except Exception as error:
        raise JobError(f"weights {path} cannot be read: {_first_line(error)}", USAGE) from error


def _without_prefixes(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Without the prefixes that all names have, and the model's own do not."""
    while True:
        everywhere = [p for p in PREFIXES if _all_begin(state, p) and not _all_begin(own, p)]
        if not everywhere:
            return state
        state = {name.removeprefix(everywhere[0]): value for name, value in state.items()}


def _all_begin(names: Mapping, prefix: str) -> bool:
    return bool(names) and all(isinstance(n, str) and n.startswith(prefix) for n in names)


def _named(what: str, names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{what} {', '.join(map(str, names[:SHOWN]))}{more}" if names else ""


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _cause(error: Exception) -> str:
    """What torch objected to; its advice is for who calls torch.load."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line.partition("WeightsUnpickler error: ")[2] for line in lines if "WeightsUnpickler error: " in line]
    return told[0] if told else "torch does not say what"

"""Reads checkpoints, and loads them into a model.

No code in the file is run, unless the caller trusts it.
"""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..errors import usage_error
from ..extras import MissingExtra, require_extra

WRAPPERS = ("state_dict", "model_state_dict", "model")  # keys under which training scripts save the state dict
PREFIXES = ("module.", "_orig_mod.", "model.")  # from DataParallel, torch.compile, and trainers with self.model
MAX_NAMES = 4  # largest number of names in a message


def put_weights(model: nn.Module, state: Mapping[str, Tensor], path: str) -> None:
    """Load a state dict from :func:`read_weights` into a model. Raise a JobError if names or shapes differ.

    ``path`` is the file's path, for messages.
    """
    state = _without_prefixes(state, model.state_dict())
    try:
        keys = model.load_state_dict(state, strict=False)
    except RuntimeError as error:  # shapes
        lines = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
        raise usage_error(f"weights {path} do not fit the model: {' '.join(lines[:MAX_NAMES])}") from error
    differences = [_list_names("missing", keys.missing_keys), _list_names("unexpected", keys.unexpected_keys)]
    if any(differences):
        text = "; ".join(filter(None, differences))
        raise usage_error(f"weights {path} must have the names of the model's parameters, got {text}")


def read_weights(path: str, trust: bool) -> Mapping[str, Tensor]:
    """Return the state dict in a .safetensors file, or in a file written by ``torch.save``."""
    if not os.path.isfile(path):
        raise usage_error(f"weights must be an existing file, got {path!r}")
    if path.endswith(".safetensors"):
        return _read_safetensors(path)
    if is_torchscript(path):
        text = f"weights must be a checkpoint, got the TorchScript file {path}; pass it as the model instead"
        raise usage_error(text)
    state = read_pickle(path, trust, "weights")
    for name in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(name), (Mapping, nn.Module)):
            state = state[name]
            break
    state = state.state_dict() if isinstance(state, nn.Module) else state
    if not isinstance(state, Mapping) or not any(isinstance(value, Tensor) for value in state.values()):
        keys = f" with keys {list(state)[:MAX_NAMES]}" if isinstance(state, Mapping) else ""
        raise usage_error(f"weights {path} must contain a state dict, got {type(state).__name__}{keys}")
    return state


def read_pickle(path: str, trust: bool, argument: str):
    """Return the content of a file written by ``torch.save``.

    Without ``trust``, a file that ``torch.load(..., weights_only=True)`` does not accept raises a JobError.
    """
    if not _is_torch_save_file(path):
        raise usage_error(f"{argument} must be a file written by torch.save, got {path}")
    try:
        return torch.load(path, map_location="cpu", weights_only=not trust)
    except pickle.UnpicklingError as error:
        if trust:
            raise usage_error(f"{argument} {path} cannot be read: {error}") from error
        text = f"{argument} {path} contains pickled objects, and loading them may run arbitrary code"
        raise usage_error(
            f"{text}: give --trust-checkpoint (in Python trust_checkpoint=True) if you trust the file ({_cause(error)})"
        ) from error
    except Exception as error:
        raise usage_error(f"{argument} {path} cannot be read: {_first_line(error)}") from error


def zip_names(path: str) -> list[str]:
    """Return the names of the entries of a zip file; none for other files."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return []


def is_torchscript(path: str) -> bool:
    """Return whether a file was written by ``torch.jit.save``, without running any of it."""
    return any(name.split("/")[1:] == ["constants.pkl"] for name in zip_names(path))


def _is_torch_save_file(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(1) == b"\x80" or zipfile.is_zipfile(path)  # the old format of torch.save, or the current one


def _read_safetensors(path: str) -> dict[str, Tensor]:
    try:
        load_file = require_extra("save", "safetensors.torch").load_file
        return load_file(path)
    except MissingExtra as error:
        raise usage_error(f"weights {path}: {error}") from error
    except Exception as error:
        raise usage_error(f"weights {path} cannot be read: {_first_line(error)}") from error


def _without_prefixes(state: Mapping[str, Tensor], model_state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Remove each prefix that all names have, unless all of the model's names have it, too."""
    while True:
        common = [p for p in PREFIXES if _all_start_with(state, p) and not _all_start_with(model_state, p)]
        if not common:
            return state
        state = {name.removeprefix(common[0]): value for name, value in state.items()}


def _all_start_with(names: Mapping, prefix: str) -> bool:
    return bool(names) and all(isinstance(n, str) and n.startswith(prefix) for n in names)


def _list_names(label: str, names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f"{label} {', '.join(map(str, names[:MAX_NAMES]))}{more}" if names else ""


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _cause(error: Exception) -> str:
    """Return the cause in torch's message, without its advice for callers of torch.load."""
    lines = [line.strip() for line in str(error).splitlines()]
    causes = [line.partition("WeightsUnpickler error: ")[2] for line in lines if "WeightsUnpickler error: " in line]
    return causes[0] if causes else "torch gives no cause"

"""Models after loading: their metadata, hashing, and moving to a device."""

from __future__ import annotations

import copy
import json
import os
from dataclasses import dataclass, field, replace
from hashlib import sha256
from types import MethodType

import torch
from torch import Tensor, nn

from ..classifier.modules import is_exported, module_of
from ..errors import usage_error


@dataclass
class RawModel:
    """A model and its metadata, before it is moved to a device.

    Attributes
    ----------
    model : callable
    metadata : dict
        Any of size, mean, std, channels, interpolation and crop_pct.
    class_names : list of str or None
    sha256 : str or None
        The hash of the file of an exported program or TorchScript; None for other models.
    owned : bool
        Whether the model may be changed in place; False for an object that the caller passed.
    """

    model: object
    metadata: dict = field(default_factory=dict)
    class_names: list[str] | None = None
    sha256: str | None = None
    owned: bool = True


def model_name(spec) -> str:
    """Return a name or path as a str, otherwise the qualified name of a function or of an object's class."""
    if isinstance(spec, (str, os.PathLike)):
        return str(spec)
    named = spec if hasattr(spec, "__qualname__") and not isinstance(spec, nn.Module) else type(spec)
    return f"{named.__module__}.{named.__qualname__}"


def hash_model(model) -> str:
    """Return the SHA-256 of a model's state dict (names, dtypes, shapes, bytes).

    For a model without state, this is the hash of its name.
    """
    module = module_of(model)
    state = {} if module is None else module.state_dict()
    digest = sha256()
    for name in sorted(state):
        value = state[name]
        if isinstance(value, Tensor):
            digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
            digest.update(_bytes_of(value))
        else:  # extra state, which may be of any type, has no defined bytes
            digest.update(json.dumps([name, type(value).__qualname__]).encode())
    if not state:
        digest.update(model_name(model).encode())
    return digest.hexdigest()


def _bytes_of(tensor: Tensor) -> memoryview:
    tensor = tensor.detach().cpu()
    tensor = tensor.int_repr() if tensor.is_quantized else tensor.to_dense()
    return memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())


def count_parameters(model) -> int:
    """Return the number of parameters; 0 for functions."""
    module = module_of(model)
    return 0 if module is None else sum(p.numel() for p in module.parameters())


def place_model(raw: RawModel, device: torch.device, dtype: torch.dtype, channels_last: bool):
    """Return the model on a device, in a dtype and memory format.

    An object that the caller passed is returned if it needs no change, otherwise a changed copy of it. Other models are
    changed in place. Their parameters are also frozen, and they are set to eval mode (except exported programs, which
    have no modes).
    """
    model, module = raw.model, module_of(raw.model)
    if module is None:
        return model  # a function has nothing to move
    if module is not model:  # a method of the module
        placed = place_model(replace(raw, model=module), device, dtype, channels_last)
        return model if placed is module else MethodType(model.__func__, placed)
    if raw.owned:
        for parameter in model.parameters():  # not model.requires_grad_, which some kinds of modules lack
            parameter.requires_grad_(False)
        model = model if is_exported(model) else model.eval()
    elif _is_placed(model, device, dtype, channels_last):
        return model
    else:
        model = copy_model(model, "pass it on the device and in the dtype in which it is to run")
    tensors = _floating_tensors(model)
    # No cast where none is needed, since a cast drops the imaginary parts of complex buffers.
    dtype = dtype if any(t.dtype != dtype for t in tensors) else None
    model = model.to(device=device, dtype=dtype)
    return model.to(memory_format=torch.channels_last) if channels_last else model


def copy_model(model: nn.Module, hint: str) -> nn.Module:
    """Return a deep copy. Raise a JobError with a hint if the model cannot be copied."""
    try:
        return copy.deepcopy(model)
    except Exception as error:
        raise usage_error(f"model {model_name(model)} cannot be copied ({error}): {hint}") from error


def _floating_tensors(model: nn.Module) -> list[Tensor]:
    return [t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()]


def _is_placed(model: nn.Module, device: torch.device, dtype: torch.dtype, channels_last: bool) -> bool:
    tensors = [*model.parameters(), *model.buffers()]
    if any(t.device.type != device.type or device.index not in (None, t.device.index) for t in tensors):
        return False
    filters = [t for t in tensors if t.dim() == 4] if channels_last else []
    return all(t.dtype == dtype for t in _floating_tensors(model)) and all(
        t.is_contiguous(memory_format=torch.channels_last) for t in filters
    )

"""What every kind of model becomes: an object with what its origin tells of it; hashed, and put where it is to run."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from hashlib import sha256

import torch
from torch import Tensor, nn

from ..classifier.isolation import is_exported
from ..errors import USAGE, JobError


@dataclass
class Built:
    """A model as its origin gives it.

    Attributes
    ----------
    model : callable
    told : dict
        Of size, mean, std, channels, interpolation and crop_pct those that the origin knows.
    class_names : list of str or None
    sha256 : str or None
        Of the file, where the model is one.
    ours : bool
        Whether it may be changed: nobody else has it.
    """

    model: object
    told: dict = field(default_factory=dict)
    class_names: list[str] | None = None
    sha256: str | None = None
    ours: bool = True


def model_name(spec) -> str:
    """What a model is called: its specification, or an object's qualified name."""
    if isinstance(spec, nn.Module) or not hasattr(spec, "__qualname__"):
        spec = str(spec) if hasattr(spec, "__fspath__") else spec if isinstance(spec, str) else type(spec)
    return spec if isinstance(spec, str) else f"{spec.__module__}.{spec.__qualname__}"


def hash_model(model) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of the state, in the order of names; without any, of the name."""
    owner = getattr(model, "__self__", None)
    model = owner if isinstance(owner, nn.Module) else model  # a bound method's module has the weights
    state = model.state_dict() if isinstance(model, nn.Module) else {}
    digest = sha256()
    for name in sorted(state):
        value = state[name]
        if isinstance(value, Tensor):
            digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
            digest.update(_bytes_of(value))
        else:  # extra state: no agreed bytes
            digest.update(json.dumps([name, type(value).__qualname__]).encode())
    if not state:
        digest.update(model_name(model).encode())
    return digest.hexdigest()


def _bytes_of(tensor: Tensor) -> memoryview:
    tensor = tensor.detach().cpu()
    tensor = tensor.int_repr() if tensor.is_quantized else tensor.to_dense()
    return memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())


def count_parameters(model) -> int:
    """0 for what is no module."""
    return sum(p.numel() for p in model.parameters()) if isinstance(model, nn.Module) else 0


def placed(built: Built, device: torch.device, dtype: torch.dtype, channels_last: bool):
    """The model on its device, in its dtype and memory format: itself where it is ours or is there, else a copy."""
    model = built.model
    if not isinstance(model, nn.Module):
        return model  # a function: nothing of it can be moved
    if not built.ours:
        if _is_there(model, device, dtype, channels_last):
            return model
        model = copied(model, "pass it where it is to run")
    if built.ours:
        for parameter in model.parameters():  # requires_grad_ is not there for all kinds of modules
            parameter.requires_grad_(False)
        model = model if is_exported(model) else model.eval()
    tensors = _floating(model)
    # A cast where there is none to do would take complex buffers' imaginary part away.
    dtype = dtype if any(t.dtype != dtype for t in tensors) else None
    model = model.to(device=device, dtype=dtype)
    return model.to(memory_format=torch.channels_last) if channels_last else model


def copied(model: nn.Module, instead: str) -> nn.Module:
    """A deep copy; JobError where there is none."""
    try:
        return copy.deepcopy(model)
    except Exception as error:
        raise JobError(f"model {model_name(model)} cannot be copied ({error}): {instead}", USAGE) from error


def _floating(model: nn.Module) -> list[Tensor]:
    return [t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()]


def _is_there(model: nn.Module, device: torch.device, dtype: torch.dtype, channels_last: bool) -> bool:
    tensors = [*model.parameters(), *model.buffers()]
    if any(t.device.type != device.type or device.index not in (None, t.device.index) for t in tensors):
        return False
    images = [t for t in tensors if t.dim() == 4] if channels_last else []
    return all(t.dtype == dtype for t in _floating(model)) and all(
        t.is_contiguous(memory_format=torch.channels_last) for t in images
    )

"""Reads preprocessing and class names from a model's attributes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor, nn

from ..checks import shown
from ..classifier.class_names import as_class_names, attribute_owner
from ..errors import usage_error
from .preprocessing import CHECKS

CONFIG_ATTRIBUTES = ("pretrained_cfg", "default_cfg")  # attributes of timm's models
ATTRIBUTES = ("size", "mean", "std", "channels", "class_names")
CONFIG_ENTRIES = ("mean", "std", "interpolation", "crop_pct")


def read_attributes(model, spec: str, overrides: Mapping, channels: int) -> tuple[dict, list[str] | None]:
    """Read preprocessing and class names from attributes of a model.

    ========================================= ============================================================
    attribute                                 value
    ========================================= ============================================================
    ``class_names``                           a sequence of str, or a mapping {0: str, 1: str, ...}
    ``mean``, ``std``                         a float for each channel, or one float; for images in [0, 1]
    ``size``                                  an int or (H, W), 8 or more
    ``channels``                              1 or 3; if missing, the length of ``mean`` or ``std``
    ``pretrained_cfg`` or ``default_cfg``     as in timm: a mapping or dataclass with any of ``mean``,
                                              ``std``, ``input_size`` (C, H, W), ``interpolation``,
                                              ``crop_pct``, ``label_names``; the attributes above
                                              take precedence
    ========================================= ============================================================

    Methods, buffers and parameters are ignored: a module that has ``mean`` and ``std`` as buffers normalises images
    itself.

    Parameters
    ----------
    model : callable
        A module, also in a wrapper (compiled, data-parallel), a function or a bound method.
    spec : str
        The model's name, for messages.
    overrides : mapping
        The caller's options. Attributes of these names are not used.
    channels : int
        The number of channels if neither the overrides nor the attributes have it.

    Returns
    -------
    (dict, list of str or None)
        The values that the model has and the caller does not override (size, mean, std, channels, interpolation,
        crop_pct), and the class names.

    Raises
    ------
    JobError
        If an attribute is invalid; the message names it.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Linear(3, 2)
    >>> net.class_names, net.mean, net.std, net.size = ["cat", "dog"], 0.5, [0.2, 0.2, 0.3], 32
    >>> read_attributes(net, "net", {}, channels=3)
    ({'size': (32, 32), 'mean': [0.5, 0.5, 0.5], 'std': [0.2, 0.2, 0.3], 'channels': 3}, ['cat', 'dog'])
    """
    owner = attribute_owner(model)
    config = next((c for name in CONFIG_ATTRIBUTES if (c := _data_attribute(owner, name)) is not None), None)
    own = {name: (f"attribute {name!r}", _data_attribute(owner, name)) for name in ATTRIBUTES}
    values = _read_config(config, spec) | {name: pair for name, pair in own.items() if pair[1] is not None}
    values = {name: pair for name, pair in values.items() if name not in overrides}
    class_names = values.pop("class_names", None)  # (where, value)
    metadata = {name: _check_value(name, where, value, spec) for name, (where, value) in values.items()}
    per_channel = next((name for name in ("mean", "std") if isinstance(metadata.get(name), list)), None)
    # The length of the model's mean or std is the number of channels, unless the caller sets one of these options.
    if per_channel and not {"channels", "mean", "std"} & {*overrides} and "channels" not in metadata:
        where = f"length of {values[per_channel][0]}"
        metadata["channels"] = _check_value("channels", where, len(metadata[per_channel]), spec)
    channels = overrides.get("channels", metadata.get("channels", channels))
    for name in ("mean", "std"):
        if isinstance(metadata.get(name), float):
            metadata[name] = [metadata[name]] * channels
    return metadata, None if class_names is None else _check_class_names(*class_names, spec)


def _data_attribute(owner, name: str):
    """Return an attribute; None if it is missing, a method, or part of the module's state."""
    value = getattr(owner, name, None)
    state = (
        (*owner.buffers(), *owner.parameters()) if isinstance(value, Tensor) and isinstance(owner, nn.Module) else ()
    )
    return None if callable(value) or any(value is tensor for tensor in state) else value


def _read_config(config, spec: str) -> dict[str, tuple[str, object]]:
    """Return a timm configuration as {our name: (location for messages, value)}."""
    if config is None:
        return {}
    if dataclasses.is_dataclass(config):
        config = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    if not isinstance(config, Mapping):
        name = f"{' or '.join(CONFIG_ATTRIBUTES)} of model {spec}"
        raise usage_error(f"attribute {name} must be a mapping or dataclass, got {shown(config)}")
    metadata = {name: (_entry(name), config[name]) for name in CONFIG_ENTRIES if config.get(name) is not None}
    if config.get("label_names") is not None:
        metadata["class_names"] = (_entry("label_names"), config["label_names"])
    shape = config.get("input_size")
    if shape is not None:
        if not isinstance(shape, Sequence) or isinstance(shape, str) or len(shape) != 3:
            raise usage_error(f"{_entry('input_size')} of model {spec} must be (C, H, W), got {shown(shape)}")
        where = _entry("input_size")
        metadata |= {"channels": (where, shape[0]), "size": (where, tuple(shape[1:]))}
    return metadata


def _entry(name: str) -> str:
    return f"entry {name!r} of attribute {CONFIG_ATTRIBUTES[0]!r} or {CONFIG_ATTRIBUTES[1]!r}"


def _check_value(name: str, where: str, value, spec: str):
    """Check a value as ``load_model`` checks its option ``name``, and return it; ``mean`` and ``std`` may be one float.

    Arrays become lists.
    """
    plain = value.tolist() if isinstance(value, (Tensor, np.ndarray, np.generic)) else value
    single = name in ("mean", "std") and isinstance(plain, (int, float)) and not isinstance(plain, bool)
    try:
        checked = CHECKS[name](f"{where} of model {spec}", [plain] if single else plain)
    except (TypeError, ValueError) as error:
        raise usage_error(f"{error}; option {name!r} overrides it") from error
    return checked[0] if single else checked


def _check_class_names(where: str, value, spec: str) -> list[str]:
    try:
        return as_class_names(f"{where} of model {spec}", value)
    except (TypeError, ValueError) as error:
        raise usage_error(f"{error}; option 'class_names' overrides it") from error

"""What a model's own attributes say of its classes and images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import USAGE, JobError
from .preprocessing import CHECKS

CONFIGS = ("pretrained_cfg", "default_cfg")  # as timm calls them
PLAIN = ("size", "mean", "std", "channels")
FROM_CONFIG = ("mean", "std", "interpolation", "crop_pct")


def read_attributes(model, spec: str, asked: Mapping, channels: int) -> tuple[dict, list[str] | None]:
    """Read preprocessing and class names from attributes of a model.

    ========================================= ============================================================
    attribute                                 what is expected
    ========================================= ============================================================
    ``class_names``                           a sequence of str, or a mapping {0: str, 1: str, ...}
    ``mean``, ``std``                         a float per channel, or one float; of images in [0, 1]
    ``size``                                  an int or (H, W), 8 or more
    ``channels``                              1 or 3
    ``pretrained_cfg`` or ``default_cfg``     as timm has it: a mapping or dataclass with any of ``mean``,
                                              ``std``, ``input_size`` (C, H, W), ``interpolation``,
                                              ``crop_pct``, ``label_names``; the attributes above win
    ========================================= ============================================================

    None is as good as no attribute; so are methods, and registered buffers and parameters: a module that has ``mean``
    and ``std`` in its state normalises images itself.

    Parameters
    ----------
    model : callable
        A module, a wrapper of one (compiled, data-parallel), a function or bound method.
    spec : str
        What messages call it.
    asked : mapping
        What the caller says; attributes of the same meaning are not looked at.
    channels : int
        Those of the images where nothing says more.

    Returns
    -------
    (dict, list of str or None)
        Some of size, mean, std, channels, interpolation and crop_pct, without those that are asked; class names.

    Raises
    ------
    JobError
        Naming the attribute, what was expected and what came.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Linear(3, 2)
    >>> net.class_names, net.mean, net.std, net.size = ["cat", "dog"], 0.5, [0.2, 0.2, 0.3], 32
    >>> read_attributes(net, "net", {}, channels=3)
    ({'size': (32, 32), 'mean': [0.5, 0.5, 0.5], 'std': [0.2, 0.2, 0.3], 'channels': 3}, ['cat', 'dog'])
    """
    owner = _owner(model)
    config = next((c for name in CONFIGS if (c := _data(owner, name)) is not None), None)
    found = _of_config(config, spec)
    names = found.pop("class_names", None)
    found |= {name: (f"attribute {name!r}", value) for name in PLAIN if (value := _data(owner, name)) is not None}
    own_names = _data(owner, "class_names")
    names = names if own_names is None else ("attribute 'class_names'", own_names)
    found = {name: pair for name, pair in found.items() if name not in asked}
    told = {name: _checked(name, where, value, spec) for name, (where, value) in found.items()}
    per_channel = next((name for name in ("mean", "std") if isinstance(told.get(name), list)), None)
    if per_channel and not {"channels", "mean", "std"} & {*asked} and "channels" not in told:
        told["channels"] = _checked("channels", f"count of {found[per_channel][0]}", len(told[per_channel]), spec)
    channels = asked.get("channels", told.get("channels", channels))
    told |= {name: [told[name]] * channels for name in ("mean", "std") if isinstance(told.get(name), float)}
    return told, None if names is None else _class_names(*names, spec)


def _owner(model):
    """What has the attributes: a bound method's object, a data-parallel wrapper's module."""
    model = model if isinstance(model, nn.Module) else getattr(model, "__self__", model)
    return model.module if isinstance(model, (nn.DataParallel, DistributedDataParallel)) else model


def _data(owner, name: str):
    """An attribute that is data; None where there is none."""
    value = getattr(owner, name, None)
    state = isinstance(owner, nn.Module) and isinstance(value, Tensor) and _is_state(owner, value)
    return None if callable(value) or state else value


def _is_state(module: nn.Module, value: Tensor) -> bool:
    return any(value is own for own in (*module.buffers(), *module.parameters()))


def _of_config(config, spec: str) -> dict[str, tuple[str, object]]:
    """(where it stands, value) by our names, of a configuration as timm has it."""
    if config is None:
        return {}
    if dataclasses.is_dataclass(config):
        config = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    if not isinstance(config, Mapping):
        got = f"{' or '.join(CONFIGS)} of model {spec}"
        raise JobError(f"attribute {got} must be a mapping or dataclass, got {config!r}", USAGE)
    entry = lambda name: f"entry {name!r} of attribute {CONFIGS[0]!r} or {CONFIGS[1]!r}"
    told = {name: (entry(name), config[name]) for name in FROM_CONFIG if config.get(name) is not None}
    if config.get("label_names") is not None:
        told["class_names"] = (entry("label_names"), config["label_names"])
    shape = config.get("input_size")
    if shape is not None:
        if not isinstance(shape, Sequence) or isinstance(shape, str) or len(shape) != 3:
            raise JobError(f"{entry('input_size')} of model {spec} must be (C, H, W), got {shape!r}", USAGE)
        told |= {"channels": (entry("input_size"), shape[0]), "size": (entry("input_size"), tuple(shape[1:]))}
    return told


def _checked(name: str, where: str, value, spec: str):
    """A value as an option of that name would be; arrays are lists, and one float may stand for all channels."""
    plain = value.tolist() if isinstance(value, (Tensor, np.ndarray, np.generic)) else value
    single = name in ("mean", "std") and isinstance(plain, (int, float)) and not isinstance(plain, bool)
    try:
        checked = CHECKS[name](f"{where} of model {spec}", [plain] if single else plain)
    except (TypeError, ValueError) as error:
        raise JobError(f"{error}; an option {name} given for the job is taken in its place", USAGE) from error
    return checked[0] if single else checked


def _class_names(where: str, value, spec: str) -> list[str]:
    expected = f"{where} of model {spec} must be a sequence of str, or a mapping from 0, 1, ... to str"
    if isinstance(value, Mapping):
        if sorted(map(str, value)) != sorted(map(str, range(len(value)))):
            raise JobError(f"{expected}, got keys {list(value)[:8]}", USAGE)
        value = [value.get(number, value.get(str(number))) for number in range(len(value))]
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence) or not value:
        raise JobError(f"{expected}, got {value!r}", USAGE)
    for number, name in enumerate(value):
        if not isinstance(name, str):
            raise JobError(f"{expected}, got {name!r} for class {number}", USAGE)
    return [str(name) for name in value]

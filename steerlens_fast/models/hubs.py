"""Loads models of timm and torchvision by name."""

from __future__ import annotations

import warnings
from types import ModuleType

import torch
from torch import Tensor

from ..checks import did_you_mean
from ..classifier.isolation import warning_stacklevel
from ..errors import JobError, usage_error
from ..extras import MissingExtra, require_extra
from .checkpoints import put_weights, read_weights
from .loaded import RawModel

RANDOM = "random"


def load_from_timm(name: str, weights: str | None, trust: bool, overrides: dict) -> RawModel:
    """Return a timm model: pretrained, randomly initialised, or with weights from a file."""
    timm, spec = _import_hub("timm", "timm"), f"timm:{name}"
    if ":" not in name and not timm.is_model(name):  # hf-hub:NAME is not in timm's list
        raise _unknown_model_error(spec, name, timm.list_models())
    config = timm.get_pretrained_cfg(name)
    options = {"in_chans": overrides["channels"]} if "channels" in overrides else {}
    if (
        config is not None
        and config.fixed_input_size
        and overrides.get("size", config.input_size[1:]) != config.input_size[1:]
    ):
        options["img_size"] = overrides["size"]
    state = _read_state(weights, trust)
    if state is not None and config is not None and isinstance(config.classifier, str):
        options |= _num_classes(state, f"{config.classifier}.weight")
    model = _create(spec, weights, lambda: timm.create_model(name, pretrained=weights is None, **options))
    if state is not None:
        put_weights(model, state, weights)
    return RawModel(
        model, _timm_metadata(timm, spec, model), _timm_class_names(timm, model) if weights is None else None
    )


def _timm_metadata(timm: ModuleType, spec: str, model) -> dict:
    config = timm.data.resolve_model_data_config(model)
    if config["crop_mode"] != "center" or config["crop_pct"] > 1:
        crop = f"crop_mode {config['crop_mode']!r} and crop_pct {config['crop_pct']}"
        text = f"model {spec} was evaluated with {crop}; images are centre-cropped with crop_pct at most 1 instead"
        warnings.warn(text, UserWarning, stacklevel=warning_stacklevel())
    return {
        "size": tuple(config["input_size"][1:]),
        "channels": config["input_size"][0],
        "mean": [float(value) for value in config["mean"]],
        "std": [float(value) for value in config["std"]],
        "interpolation": config["interpolation"],
        "crop_pct": min(1.0, float(config["crop_pct"])),
    }


def _timm_class_names(timm: ModuleType, model) -> list[str] | None:
    if model.pretrained_cfg.get("label_names"):
        return list(model.pretrained_cfg["label_names"])
    subset = timm.data.infer_imagenet_subset(model)
    return None if subset is None else timm.data.ImageNetInfo(subset).label_descriptions()


def load_from_torchvision(name: str, weights: str | None, trust: bool, overrides: dict) -> RawModel:
    """Return a torchvision model: pretrained, randomly initialised, or with weights from a file."""
    spec = f"torchvision:{name}"
    models = _import_hub("torchvision", "torchvision.models")
    if name not in models.list_models():
        raise _unknown_model_error(spec, name, models.list_models())
    if overrides.get("channels", 3) != 3:
        raise usage_error(f"channels must be 3 for model {spec}, got {overrides['channels']}")
    default = models.get_model_weights(name).DEFAULT
    state = _read_state(weights, trust)
    options = {} if state is None else _num_classes(state)
    model = _create(
        spec, weights, lambda: models.get_model(name, weights=default if weights is None else None, **options)
    )
    if state is not None:
        put_weights(model, state, weights)
    return RawModel(
        model,
        {"channels": 3} | _torchvision_metadata(default),
        default.meta.get("categories") if weights is None else None,
    )


def _torchvision_metadata(weights) -> dict:
    transforms = weights.transforms()
    if not hasattr(transforms, "crop_size"):
        return {}  # detection and segmentation models take images of any size
    size, resized = transforms.crop_size[0], transforms.resize_size[0]
    return {
        "size": (size, size),
        "mean": list(transforms.mean),
        "std": list(transforms.std),
        "interpolation": transforms.interpolation.value,
        "crop_pct": size / resized,
    }


def _import_hub(extra: str, module: str) -> ModuleType:
    try:
        return require_extra(extra, module)
    except MissingExtra as error:
        raise usage_error(f"model {extra}:NAME: {error}") from error
    except Exception as error:
        text = f"model {extra}:NAME: {module} cannot be imported: {error}"
        if "torchvision::" in str(error):  # its C++ ops could not be loaded
            index = "for CPUs, --index-url https://download.pytorch.org/whl/cpu"
            text += f"; torchvision does not fit torch {torch.__version__}: install it from the same index ({index})"
        raise usage_error(text) from error


def _unknown_model_error(spec: str, name: str, known: list[str]) -> JobError:
    hint = did_you_mean(name.partition(".")[0], known)
    return usage_error(f"model must be one of {spec.partition(':')[0]}'s models, got {spec!r}{hint}")


def _read_state(weights: str | None, trust: bool) -> dict[str, Tensor] | None:
    return None if weights in (None, RANDOM) else read_weights(weights, trust)


def _num_classes(state: dict[str, Tensor], head: str = "") -> dict[str, int]:
    """Return ``{"num_classes": n}``, an argument of the functions that create models.

    n is the number of rows of the last matrix whose name ends with ``head``. Without such a matrix, the dict is empty.
    """
    matrices = [v for n, v in state.items() if isinstance(v, Tensor) and v.dim() == 2 and n.endswith(head)]
    return {"num_classes": len(matrices[-1])} if matrices else {}


def _create(spec: str, weights: str | None, create_model):
    try:
        return create_model()
    except Exception as error:
        if weights is not None:
            raise usage_error(f"model {spec} cannot be created: {error}") from error
        text = f"model {spec} with its pretrained weights cannot be created: {error}"
        raise usage_error(f"{text}; if they cannot be downloaded, use --weights FILE or --weights random") from error

"""Models that timm and torchvision know by name."""

from __future__ import annotations

import warnings
from types import ModuleType

from torch import Tensor

from ..checks import did_you_mean
from ..classifier.isolation import frames_within_the_package
from ..errors import USAGE, JobError
from ..extras import MissingExtra, require_extra
from .checkpoints import put_weights, read_weights
from .loaded import Built

RANDOM = "random"


def from_timm(name: str, weights: str | None, trust: bool, asked: dict) -> Built:
    """A model of timm: pretrained, random, or with the weights of a file."""
    timm, spec = _hub("timm", "timm"), f"timm:{name}"
    if ":" not in name and not timm.is_model(name):  # hf-hub:... is looked up there
        raise _unknown(spec, name, timm.list_models())
    config = timm.get_pretrained_cfg(name)
    options = {"in_chans": asked["channels"]} if "channels" in asked else {}
    if (
        config is not None
        and config.fixed_input_size
        and asked.get("size", config.input_size[1:]) != config.input_size[1:]
    ):
        options["img_size"] = asked["size"]
    state = _state(weights, trust)
    if state is not None and config is not None and isinstance(config.classifier, str):
        options |= _classes(state, f"{config.classifier}.weight")
    model = _made(spec, weights, lambda: timm.create_model(name, pretrained=weights is None, **options))
    if state is not None:
        put_weights(model, state, weights)
    return Built(model, _told_by_timm(timm, spec, model), _names_in_timm(timm, model) if weights is None else None)


def _told_by_timm(timm: ModuleType, spec: str, model) -> dict:
    told = timm.data.resolve_model_data_config(model)
    if told["crop_mode"] != "center" or told["crop_pct"] > 1:
        how = f"crop_mode {told['crop_mode']!r} and crop_pct {told['crop_pct']}"
        text = f"model {spec} was evaluated with {how}; here images are centre-cropped, with crop_pct at most 1"
        warnings.warn(text, UserWarning, stacklevel=frames_within_the_package())
    return {
        "size": tuple(told["input_size"][1:]),
        "channels": told["input_size"][0],
        "mean": [float(value) for value in told["mean"]],
        "std": [float(value) for value in told["std"]],
        "interpolation": told["interpolation"],
        "crop_pct": min(1.0, float(told["crop_pct"])),
    }


def _names_in_timm(timm: ModuleType, model) -> list[str] | None:
    if model.pretrained_cfg.get("label_names"):
        return list(model.pretrained_cfg["label_names"])
    subset = timm.data.infer_imagenet_subset(model)
    return None if subset is None else timm.data.ImageNetInfo(subset).label_descriptions()


def from_torchvision(name: str, weights: str | None, trust: bool, asked: dict) -> Built:
    """A model of torchvision: pretrained, random, or with the weights of a file."""
    spec = f"torchvision:{name}"
    models = _hub("torchvision", "torchvision.models")
    if name not in models.list_models():
        raise _unknown(spec, name, models.list_models())
    if asked.get("channels", 3) != 3:
        raise JobError(f"channels must be 3 for model {spec}, got {asked['channels']}", USAGE)
    default = models.get_model_weights(name).DEFAULT
    state = _state(weights, trust)
    options = {} if state is None else _classes(state)
    model = _made(
        spec, weights, lambda: models.get_model(name, weights=default if weights is None else None, **options)
    )
    if state is not None:
        put_weights(model, state, weights)
    return Built(
        model,
        {"channels": 3} | _told_by_torchvision(default),
        default.meta.get("categories") if weights is None else None,
    )


def _told_by_torchvision(weights) -> dict:
    transforms = weights.transforms()
    if not hasattr(transforms, "crop_size"):
        return {}  # a detector, a segmenter: images of any size
    size, resized = transforms.crop_size[0], transforms.resize_size[0]
    return {
        "size": (size, size),
        "mean": list(transforms.mean),
        "std": list(transforms.std),
        "interpolation": transforms.interpolation.value,
        "crop_pct": size / resized,
    }


def _hub(extra: str, module: str) -> ModuleType:
    try:
        return require_extra(extra, module)
    except MissingExtra as error:
        raise JobError(f"model {extra}:NAME: {error}", USAGE) from error
    except Exception as error:  # a torchvision that was built for another torch
        raise JobError(f"model {extra}:NAME: {module} cannot be imported: {error}", USAGE) from error


def _unknown(spec: str, name: str, known: list[str]) -> JobError:
    hint = did_you_mean(name.partition(".")[0], known)
    return JobError(f"model must be one that {spec.partition(':')[0]} knows, got {spec!r}{hint}", USAGE)


def _state(weights: str | None, trust: bool) -> dict[str, Tensor] | None:
    return None if weights in (None, RANDOM) else read_weights(weights, trust)


def _classes(state: dict[str, Tensor], head: str = "") -> dict[str, int]:
    """How many classes a checkpoint has, told by its classifier, by default its last matrix."""
    matrices = [v for n, v in state.items() if isinstance(v, Tensor) and v.dim() == 2 and n.endswith(head)]
    return {"num_classes": len(matrices[-1])} if matrices else {}


def _made(spec: str, weights: str | None, make):
    try:
        return make()
    except Exception as error:
        if weights is not None:
            raise JobError(f"model {spec} cannot be made: {error}", USAGE) from error
        text = f"the pretrained weights of model {spec} cannot be had"
        raise JobError(f"{text}; give --weights FILE, or --weights random ({error})", USAGE) from error

"""Preprocesses images for a model, and checks the options of the preprocessing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..checks import check_choice, check_int, check_number, shown
from ..data.resize import INTERPOLATIONS
from ..errors import usage_error
from ..io.base_config import plain_data

MIN_SIZE = 8  # pixels per side of the smallest image that has one scale of a pyramid


class Preprocessing:
    """Normalises images [B, C, H, W] in [0, 1].

    Also converts them to the model's dtype and memory format.

    Examples
    --------
    >>> Preprocessing([0.5], [0.25])(torch.ones(1, 1, 1, 2))
    tensor([[[[2., 2.]]]])
    """

    def __init__(self, mean=None, std=None, device="cpu", dtype=torch.float32, channels_last=False):
        wide = torch.promote_types(dtype, torch.float32)
        self.mean = None if mean is None else torch.tensor(mean, dtype=wide, device=device)[:, None, None]
        self.std = None if std is None else torch.tensor(std, dtype=wide, device=device)[:, None, None]
        self.dtype = dtype
        self.memory_format = torch.channels_last if channels_last else torch.preserve_format

    def __call__(self, images: Tensor) -> Tensor:
        if self.mean is not None:
            images = (images - self.mean) / self.std
        return images.to(self.dtype, memory_format=self.memory_format)


def preprocessing_for(
    spec: str, options: dict, device: torch.device, dtype: torch.dtype, channels_last: bool
) -> Preprocessing | None:
    """Return the preprocessing for mean, std, dtype and memory format; None if there is nothing to do."""
    mean, std = options.get("mean"), options.get("std")
    if (mean is None) != (std is None):
        raise usage_error(f"mean and std must be given together for model {spec}, got mean {mean} and std {std}")
    for name, values in (("mean", mean), ("std", std)):
        if values is not None and len(values) != options["channels"]:
            expected = f"{options['channels']} values, one for each channel of model {spec}"
            raise usage_error(f"{name} must have {expected}, got {values}")
    unchanged = mean is None and dtype == torch.float32 and not channels_last
    return None if unchanged else Preprocessing(mean, std, device, dtype, channels_last)


def check_options(options: dict) -> dict:
    """Check the options that are not None, and return them."""
    try:
        return {name: CHECKS[name](name, plain_data(value)) for name, value in options.items() if value is not None}
    except (TypeError, ValueError) as error:
        raise usage_error(str(error)) from error


def _check_size(name: str, value) -> tuple[int, int]:
    sides = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value, value)
    if len(sides) != 2:
        raise ValueError(f"{name} must be an int or (H, W), got {shown(value)}")
    height, width = (check_int(name, side, MIN_SIZE, None) for side in sides)
    return height, width


def _check_channels(name: str, value) -> int:
    value = check_int(name, value, 1, 3)
    if value == 2:
        raise ValueError(f"{name} must be 1 or 3, got 2")
    return value


def _check_numbers(above: float | None) -> Callable[[str, object], list[float]]:
    def check(name: str, values) -> list[float]:
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise TypeError(f"{name} must be a sequence of floats, one for each channel, got {shown(values)}")
        return [check_number(name, v, *([] if above is None else [above])) for v in values]

    return check


def _check_crop(name: str, value) -> float:
    value = check_number(name, value, 0.0)
    if value > 1:
        raise ValueError(f"{name} must be above 0 and at most 1, got {value}")
    return value


def _check_interpolation(name: str, value) -> str:
    return check_choice(name, value, INTERPOLATIONS)


CHECKS = {
    "size": _check_size,
    "mean": _check_numbers(None),
    "std": _check_numbers(0.0),
    "channels": _check_channels,
    "interpolation": _check_interpolation,
    "crop_pct": _check_crop,
}

"""What images become before a model sees them, and the checks of what is asked of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..checks import check_choice, check_int, check_number
from ..data.resize import INTERPOLATIONS
from ..errors import USAGE, JobError
from ..io.base_config import plain_data

LEAST = 8  # pixels: the smallest image that holds one scale of a pyramid


class Preprocessing:
    """Images [B, C, H, W] in [0, 1] as the model takes them: normalised, then in its dtype and memory format.

    Examples
    --------
    >>> Preprocessing([0.5], [0.25])(torch.ones(1, 1, 1, 2))
    tensor([[[[2., 2.]]]])
    """

    def __init__(self, mean=None, std=None, device="cpu", dtype=torch.float32, channels_last=False):
        wide = torch.promote_types(dtype, torch.float32)
        plane = lambda v: None if v is None else torch.tensor(v, dtype=wide, device=device)[:, None, None]
        self.mean, self.std, self.dtype = plane(mean), plane(std), dtype
        self.format = torch.channels_last if channels_last else torch.preserve_format

    def __call__(self, images: Tensor) -> Tensor:
        if self.mean is not None:
            images = (images - self.mean) / self.std
        return images.to(self.dtype, memory_format=self.format)


def preprocessing_for(
    spec: str, told: dict, device: torch.device, dtype: torch.dtype, channels_last: bool
) -> Preprocessing | None:
    """The preprocessing of what is told, or None where images are given as they are."""
    mean, std = told.get("mean"), told.get("std")
    if (mean is None) != (std is None):
        raise JobError(f"mean and std must be given together for model {spec}, got mean {mean} and std {std}", USAGE)
    for name, values in (("mean", mean), ("std", std)):
        if values is not None and len(values) != told["channels"]:
            expected = f"{told['channels']} values, one for each channel of model {spec}"
            raise JobError(f"{name} must have {expected}, got {values}", USAGE)
    plain = mean is None and dtype == torch.float32 and not channels_last
    return None if plain else Preprocessing(mean, std, device, dtype, channels_last)


def check_options(asked: dict) -> dict:
    """Those that are not None, checked."""
    try:
        return {name: CHECKS[name](name, plain_data(value)) for name, value in asked.items() if value is not None}
    except (TypeError, ValueError) as error:
        raise JobError(str(error), USAGE) from error


def _check_size(name: str, value) -> tuple[int, int]:
    sides = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value, value)
    if len(sides) != 2:
        raise ValueError(f"{name} must be an int or (H, W), got {value!r}")
    for side in sides:
        check_int(name, side, LEAST, None)
    return sides


def _check_channels(name: str, value) -> int:
    if check_int(name, value, 1, 3) == 2:
        raise ValueError(f"{name} must be 1 or 3, got 2")
    return value


def _numbers(above: float | None) -> Callable[[str, object], list[float]]:
    def check(name: str, values) -> list[float]:
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise TypeError(f"{name} must be a sequence of floats, one for each channel, got {values!r}")
        return [check_number(name, v, *([] if above is None else [above])) for v in values]

    return check


def _check_crop(name: str, value) -> float:
    if check_number(name, value, 0.0) > 1:
        raise ValueError(f"{name} must be above 0, at most 1, got {value}")
    return float(value)


CHECKS = {
    "size": _check_size,
    "mean": _numbers(None),
    "std": _numbers(0.0),
    "channels": _check_channels,
    "interpolation": lambda name, value: check_choice(name, value, INTERPOLATIONS),
    "crop_pct": _check_crop,
}

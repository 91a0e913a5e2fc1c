"""Resizes and centre-crops images to the model's size."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..checks import check_choice, check_number
from ..extras import require_extra

if TYPE_CHECKING:
    from PIL.Image import Image

    from .deep_colour import FloatColours

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box")
FLOAT_MODES = ("F", "RGBF")
# Maximum ratio of the resized image's longer side to the crop's. Above this ratio, only the crop is resized, since the
# resized image could be huge.
MAX_RATIO = 16


def resize_and_crop(
    image: Image | FloatColours, size: tuple[int, int] | None, *, crop_pct: float = 1.0, interpolation: str = "bicubic"
) -> np.ndarray:
    """Return an image's pixels at the model's size, as timm does.

    The image is resized with antialiasing until it just covers ``floor(size / crop_pct)``, and its centre is cropped.
    For a square size, the result equals torchvision's ``Resize`` and ``CenterCrop`` of a PIL image. (If the longer
    side of the resized image would exceed 16 times the crop's, rounding differs.) The pixels are not normalised.

    Parameters
    ----------
    image : PIL.Image.Image or FloatColours
        Mode ``"RGB"``, ``"L"``, or floats in [0, 1] as from :func:`steerlens_fast.data.decoding.decode`.
    size : tuple of int or None
        (H, W) of the result; None leaves the size unchanged.
    crop_pct : float
        The share of the resized image's shorter side that the crop keeps, in (0, 1].
    interpolation : str
        ``"nearest"``, ``"bilinear"``, ``"bicubic"``, ``"lanczos"`` or ``"box"``.

    Returns
    -------
    numpy.ndarray
        Contiguous [C, H, W] with C = 3 or 1: uint8, or float32 in [0, 1] if the image has floats.

    Examples
    --------
    >>> from PIL import Image
    >>> resize_and_crop(Image.new("RGB", (500, 375)), (224, 224), crop_pct=0.875).shape
    (3, 224, 224)
    """
    check_choice("interpolation", interpolation, INTERPOLATIONS)
    crop_pct = check_number("crop_pct", crop_pct, above=0)
    if crop_pct > 1:
        raise ValueError(f"crop_pct must be above 0 and at most 1, got {crop_pct}")
    if size is not None:
        image = _resize(
            image, size, crop_pct, getattr(require_extra("cli", "PIL.Image").Resampling, interpolation.upper())
        )
    is_float = image.mode in FLOAT_MODES
    pixels = np.frombuffer(image.tobytes(), np.float32 if is_float else np.uint8).reshape(image.height, image.width, -1)
    pixels = pixels.transpose(2, 0, 1)
    return pixels.clip(0, 1, order="C") if is_float else pixels.copy()  # interpolation may overshoot


def size_change(source: tuple[int, int], size: tuple[int, int], crop_pct: float = 1.0) -> tuple[bool, float]:
    """Return whether :func:`resize_and_crop` enlarges an image, and the share of its area that the crop keeps.

    Examples
    --------
    >>> size_change((60, 900), (30, 30)), size_change((1, 1), (30, 30))
    ((False, 0.06666666666666667), (True, 1.0))
    """
    full_height, full_width = _size_before_crop(source, size, crop_pct)
    return full_height > source[0] or full_width > source[1], size[0] * size[1] / (full_height * full_width)


def _resize(image: Image | FloatColours, size: tuple[int, int], crop_pct: float, resample: int) -> Image | FloatColours:
    height, width = size
    full_height, full_width = _size_before_crop((image.height, image.width), size, crop_pct)
    top, left = round((full_height - height) / 2), round((full_width - width) / 2)
    if max(full_height, full_width) > MAX_RATIO * max(size):
        y_scale, x_scale = image.height / full_height, image.width / full_width
        box = (left * x_scale, top * y_scale, (left + width) * x_scale, (top + height) * y_scale)
        return image.resize((width, height), resample, box=box)
    if image.size != (full_width, full_height):
        image = image.resize((full_width, full_height), resample)
    return image if image.size == (width, height) else image.crop((left, top, left + width, top + height))


def _size_before_crop(source: tuple[int, int], size: tuple[int, int], crop_pct: float) -> tuple[int, int]:
    """Return (H, W) before the crop. For square sizes, it is rounded as in torchvision, for others as in timm."""
    height, width = (math.floor(side / crop_pct) for side in size)
    if height != width:
        ratio = min(source[0] / height, source[1] / width)
        return round(source[0] / ratio), round(source[1] / ratio)
    shorter, longer = sorted(source)
    full = height, int(height * longer / shorter)
    return full if source[0] <= source[1] else full[::-1]

"""From an image of any size to the pixels that the model takes: shorter side resized, centre cropped."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..checks import check_choice, check_number
from ..extras import require_extra

if TYPE_CHECKING:
    from PIL.Image import Image

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box")
NARROW = 16  # from this ratio of sides on, what will be cropped away is not resized first: it would fill the memory


def resize_and_crop(
    image: Image, size: tuple[int, int] | None, *, crop_pct: float = 1.0, interpolation: str = "bicubic"
) -> np.ndarray:
    """The pixels of an image in the model's size, as timm's evaluation transforms make them, before normalisation.

    The shorter side is resized to ``floor(size / crop_pct)``, antialiased, the other one in proportion; then the centre
    is cropped. For a square size these are torchvision's ``Resize`` and ``CenterCrop`` on a PIL image; for another, the
    image is resized to just cover it.

    Parameters
    ----------
    image : PIL.Image.Image
        Mode ``"RGB"``, ``"L"``, or ``"F"`` with values in [0, 1].
    size : tuple of int or None
        (H, W) of the result; None leaves the image as it is.
    crop_pct : float
        In (0, 1]: how much of the resized image's shorter side is kept.
    interpolation : str
        ``"nearest"``, ``"bilinear"``, ``"bicubic"``, ``"lanczos"`` or ``"box"``.

    Returns
    -------
    numpy.ndarray
        uint8 [C, H, W], contiguous, C = 3 or 1; float32 in [0, 1] of mode ``"F"``.

    Examples
    --------
    >>> from PIL import Image
    >>> resize_and_crop(Image.new("RGB", (500, 375)), (224, 224), crop_pct=0.875).shape
    (3, 224, 224)
    """
    check_choice("interpolation", interpolation, INTERPOLATIONS)
    if check_number("crop_pct", crop_pct, above=0) > 1:
        raise ValueError(f"crop_pct must be above 0, at most 1, got {crop_pct}")
    if size is not None:
        image = _fitted(
            image, size, crop_pct, getattr(require_extra("cli", "PIL.Image").Resampling, interpolation.upper())
        )
    deep = image.mode == "F"
    pixels = np.frombuffer(image.tobytes(), np.float32 if deep else np.uint8).reshape(image.height, image.width, -1)
    pixels = pixels.transpose(2, 0, 1)
    return pixels.clip(0, 1) if deep else pixels.copy()  # interpolation may leave the range


def _fitted(image: Image, size: tuple[int, int], crop_pct: float, resample: int) -> Image:
    height, width = size
    whole_height, whole_width = _resized_size((image.height, image.width), size, crop_pct)
    top, left = round((whole_height - height) / 2), round((whole_width - width) / 2)
    if max(whole_height, whole_width) > NARROW * max(size):
        down, across = image.height / whole_height, image.width / whole_width
        box = (left * across, top * down, (left + width) * across, (top + height) * down)
        return image.resize((width, height), resample, box=box)
    if image.size != (whole_width, whole_height):
        image = image.resize((whole_width, whole_height), resample)
    return image if image.size == (width, height) else image.crop((left, top, left + width, top + height))


def _resized_size(given: tuple[int, int], size: tuple[int, int], crop_pct: float) -> tuple[int, int]:
    """(H, W) before the crop: torchvision's rounding for squares, timm's for others."""
    height, width = (math.floor(side / crop_pct) for side in size)
    if height != width:
        ratio = min(given[0] / height, given[1] / width)
        return round(given[0] / ratio), round(given[1] / ratio)
    shorter, longer = sorted(given)
    other = int(height * longer / shorter)
    return (height, other) if given[0] <= given[1] else (other, height)

"""Images of more than 8 bits: their value range, and the dtype of stored frames."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from ..data.decoding import decode, is_narrow_range, pixel_value_range
from ..data.items import Item
from ..errors import USAGE, BadItem, JobError
from .config import JobConfig

if TYPE_CHECKING:
    from PIL.Image import Image

    from .planning import JobInputs

SAMPLED = 16  # images that are checked before a job
THREADS = 4
logger = logging.getLogger("steerlens_fast.job.api")


def check_depth(config: JobConfig, channels: int) -> None:
    """Raise a JobError if the format cannot store frames of this dtype and number of channels."""
    if config.format == "folder" and config.frame_dtype != "uint8" and channels != 1:
        text = f"frame_dtype must be uint8 with format 'folder' for frames in colour, got {config.frame_dtype!r}"
        raise JobError(f"{text}: PNG files of 16 bits are grey; use format 'safetensors'", USAGE)


def read_image(inputs: JobInputs, item: Item) -> Image:
    """Decode an item's image at its own size; raise BadItem if it cannot be decoded."""
    value_range = "image" if inputs.config.range == "auto" else inputs.config.range
    return decode(inputs.source.read(item), max_pixels=inputs.config.max_pixels, range=value_range)


def value_range_of(inputs: JobInputs) -> tuple[float, float] | None:
    """Return the lowest and the highest value of all images of more than 8 bits; None if there are none."""
    low, high = float("inf"), float("-inf")
    with ThreadPoolExecutor(THREADS) as pool:
        items = inputs.items()
        while chunk := list(islice(items, 16 * THREADS)):
            for values in pool.map(partial(_values, inputs), chunk):
                if values is not None:
                    low, high = min(low, values["low"]), max(high, values["high"])
    if low > high:
        return None
    return float(low), float(high if high > low else low + 1)


def _values(inputs: JobInputs, item: Item) -> dict | None:
    try:
        return pixel_value_range(read_image(inputs, item))
    except BadItem:
        return None


def data_warnings(inputs: JobInputs) -> list[str]:
    """Return a warning if the first images use a small part of the value range."""
    if inputs.config.range is not None:
        return []
    narrow = []
    for n, item in enumerate(islice(inputs.items(), SAMPLED)):
        values = _values(inputs, item)
        if n == 0 and values is None:
            return []  # 8 bits, the common case: no further images are checked
        if is_narrow_range(values):
            narrow.append(values)
    if not narrow:
        return []
    low, high = min(v["low"] for v in narrow), max(v["high"] for v in narrow)
    return [narrow_warning(len(narrow), n + 1, f", {low} to {high} of {narrow[0]['full']}")]


def narrow_warning(narrow: int, total: int, used: str = "") -> str:
    """Return a warning about images that use a small part of their value range.

    Examples
    --------
    >>> narrow_warning(16, 16, ", 0 to 4095 of 65535")
    '16 of 16 images use at most a quarter of the range of 16 bits, 0 to 4095 of 65535, which leaves few grey levels: use --range LOW,HIGH, auto or image (in Python range=)'
    """  # noqa: E501
    hint = "use --range LOW,HIGH, auto or image (in Python range=)"
    return f"{narrow} of {total} images use at most a quarter of the range of 16 bits{used}, which leaves few grey levels: {hint}"  # noqa: E501

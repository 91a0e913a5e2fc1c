"""Images of more than 8 bits: which of their values become black and white, and how deep frames are stored."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING

from ..data.decoding import decode, is_narrow_range, pixel_value_range
from ..data.items import Item
from ..errors import USAGE, BadItem, JobError
from .config import JobConfig

if TYPE_CHECKING:
    from PIL.Image import Image

    from .planning import Inputs

SAMPLED = 16  # images that are looked at before a job
THREADS = 4
logger = logging.getLogger("steerlens_fast.job.api")


def check_depth(config: JobConfig, channels: int) -> None:
    """JobError where frames of so many channels cannot be stored as deep as asked."""
    if config.format == "folder" and config.frame_dtype != "uint8" and channels != 1:
        wanted = "uint8 with format 'folder' for frames in colour (PNG is written with 16 bits for grey frames only)"
        raise JobError(f"frame_dtype must be {wanted}, got {config.frame_dtype!r}; safetensors has it", USAGE)


def read_image(inputs: Inputs, item: Item) -> Image:
    """An item's image at its own size, whatever its range will be; BadItem where there is none."""
    given = inputs.config.range
    value_range = "image" if given == "auto" else given
    return decode(inputs.source.read(item), max_pixels=inputs.config.max_pixels, range=value_range)


def value_range_of(inputs: Inputs) -> tuple[float, float] | None:
    """The lowest and the highest value of all images of more than 8 bits; None where there are none."""
    low, high = float("inf"), float("-inf")
    with ThreadPoolExecutor(THREADS) as pool:
        items = inputs.items()
        while some := list(islice(items, 16 * THREADS)):
            for values in pool.map(lambda item: _values(inputs, item), some):
                if values is not None:
                    low, high = min(low, values["low"]), max(high, values["high"])
    if low > high:
        return None
    return float(low), float(high if high > low else low + 1)


def _values(inputs: Inputs, item: Item) -> dict | None:
    try:
        return pixel_value_range(read_image(inputs, item))
    except BadItem:
        return None


def data_warnings(inputs: Inputs) -> list[str]:
    """What the first images say of a range that does not fit the data."""
    if inputs.config.range is not None:
        return []
    narrow = []
    for n, item in enumerate(islice(inputs.items(), SAMPLED)):
        values = _values(inputs, item)
        if n == 0 and values is None:
            return []  # 8 bits, as nearly always: no others are looked at
        if is_narrow_range(values):
            narrow.append(values)
    if not narrow:
        return []
    low, high = min(v["low"] for v in narrow), max(v["high"] for v in narrow)
    return [narrow_warning(len(narrow), n + 1, f", {low} to {high} of {narrow[0]['full']}")]


def narrow_warning(narrow: int, of: int, used: str = "") -> str:
    """What to say of images that use a small part of their range.

    Examples
    --------
    >>> narrow_warning(16, 16, ", 0 to 4095 of 65535")
    '16 of 16 images use a fourth of the range of their 16 bits or less, 0 to 4095 of 65535, which leaves few grey levels: give --range LOW,HIGH, auto or image (in Python range=)'
    """  # noqa: E501
    hint = "give --range LOW,HIGH, auto or image (in Python range=)"
    return f"{narrow} of {of} images use a fourth of the range of their 16 bits or less{used}, which leaves few grey levels: {hint}"  # noqa: E501

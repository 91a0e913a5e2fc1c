"""Finds the range of values in images of more than 8 bits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from ..errors import NO_THREAD, BadItem, to_job_error
from .decoding import decode, is_narrow_range, pixel_value_range
from .items import Item
from .sources import Source

if TYPE_CHECKING:
    from PIL.Image import Image

# Number of images that are checked for a narrow range of values. More than one, since some may have only 8 bits
SAMPLED = 16
THREADS = 4


def read_image(source: Source, item: Item, range=None, **decode_options) -> Image:
    """Decode an item's image at its original size.

    Raise BadItem if it cannot be decoded.

    Parameters
    ----------
    source, item
    range
        As in :class:`~steerlens_fast.data.config.DataConfig`, but "auto" scales by the range of the image, since the
        range of all images is not known yet.
    **decode_options
        Options of :func:`~steerlens_fast.data.decoding.decode`.
    """
    return decode(source.read(item), range="image" if range == "auto" else range, **decode_options)


def value_range_of(source: Source, items: Iterable[Item], **decode_options) -> tuple[float, float] | None:
    """Return the lowest and the highest value of all images.

    Images of 8 bits, and images that cannot be decoded, do not count. The result is None if there are no other images.
    """
    low, high, items = float("inf"), float("-inf"), iter(items)
    with _thread_pool() as pool:
        while chunk := list(islice(items, 16 * THREADS)):
            for values in pool.map(partial(_values, source, range="auto", **decode_options), chunk):
                if values is not None:
                    low, high = min(low, values["low"]), max(high, values["high"])
    if low > high:
        return None
    return float(low), float(high if high > low else low + 1)  # a range must not be empty


@contextmanager
def _thread_pool() -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of threads. If the system cannot start them, raise a JobError with a remedy."""
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            yield pool
    except RuntimeError as error:
        if NO_THREAD in str(error):
            raise to_job_error(error) from error
        raise


def _values(source: Source, item: Item, **options) -> dict | None:
    try:
        return pixel_value_range(read_image(source, item, **options))
    except BadItem:
        return None


def narrow_range_warnings(source: Source, items: Iterable[Item], **decode_options) -> list[str]:
    """Return a list with a warning if images use a small part of their type's range.

    Only the first images are read. If none of them has a narrow range, the list is empty.
    """
    sampled = list(islice(items, SAMPLED))
    with _thread_pool() as pool:
        values = pool.map(partial(_values, source, **decode_options), sampled)
        deep = [value for value in values if value is not None]  # values of images of more than 8 bits
    narrow = [value for value in deep if is_narrow_range(value)]
    if not narrow:
        return []
    low, high = min(v["low"] for v in narrow), max(v["high"] for v in narrow)
    among = f" among the first {SAMPLED} images" if len(sampled) == SAMPLED else ""
    return [narrow_warning(len(narrow), len(deep), among, f", {low} to {high} of {narrow[0]['full']}")]


def narrow_warning(narrow: int, deep: int, among: str = "", used: str = "") -> str:
    """Return a warning about images with a narrow range of values.

    ``deep`` is the number of images of more than 8 bits.

    Examples
    --------
    >>> narrow_warning(16, 16, used=", 0 to 4095 of 65535")
    '16 of 16 images of more than 8 bits use at most a quarter of the range of their type, 0 to 4095 of 65535, which leaves few levels: use --range LOW,HIGH, auto or image (in Python range=)'
    """  # noqa: E501
    hint = "use --range LOW,HIGH, auto or image (in Python range=)"
    images = f"{narrow} of {deep} images of more than 8 bits{among}"
    return f"{images} use at most a quarter of the range of their type{used}, which leaves few levels: {hint}"

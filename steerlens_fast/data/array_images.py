"""Images in arrays and tensors: their shapes, channels and dtypes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ..errors import BadItem

ONE_IMAGE = "; for one image pass array[None]"  # end of messages about arrays that may be one image


def image_array(data: np.ndarray | Tensor, any_values: bool = False) -> np.ndarray:
    """Return an image as an array [H, W] or [H, W, 3].

    The image may have the shape [H, W], [H, W, C] or [C, H, W], with C 1 or 3, and values that are uint8, uint16, or
    floats in [0, 1]. Raise a BadItem for all others. With ``any_values``, the values may be any integers or floats.

    Examples
    --------
    >>> image_array(np.zeros((1, 8, 9), np.uint8)).shape, image_array(np.zeros((3, 8, 9), np.uint8)).shape
    ((8, 9), (8, 9, 3))
    """
    if isinstance(data, Tensor):
        array = data.detach().cpu()
        array = (array.float() if array.is_floating_point() else array).numpy()
    else:
        array = data
    is_uint8_or_uint16 = array.dtype == np.uint8 or array.dtype.newbyteorder("=") == np.uint16
    if not is_uint8_or_uint16 and not (any_values and array.dtype.kind in "iuf"):
        if not np.issubdtype(array.dtype, np.floating):
            raise BadItem("bad-array", f"image must be uint8, uint16 or floats, got {array.dtype}")
        if array.size and not (array.min() >= 0 and array.max() <= 1):  # also true for NaN
            raise BadItem("bad-array", f"floats must be in [0, 1], got {array.min():g} to {array.max():g}")
    if array.ndim == 3:
        axis = channel_axis(array.shape, isinstance(data, Tensor))
        if axis is None:
            raise BadItem("bad-array", f"image must have 1 or 3 channels, got shape {list(array.shape)}")
        array = array.transpose(1, 2, 0) if axis == 0 else array
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise BadItem("bad-array", f"image must be [H, W], [H, W, C] or [C, H, W], got shape {list(array.shape)}")
    return array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array


def channel_axis(shape: Sequence[int], tensor: bool) -> int | None:
    """Return the axis of the channels in the shape of an image with three axes.

    It is the first or the last axis, whichever has the size 1 or 3. If both have, it is the first axis of a tensor, and
    the last axis of an array. If neither has, the result is None.

    Examples
    --------
    >>> channel_axis((1, 32, 32), tensor=True), channel_axis((32, 32, 3), tensor=True), channel_axis((3, 8, 1), False)
    (0, 2, 2)
    """
    last, first = shape[-1] in (1, 3), shape[0] in (1, 3)
    return 0 if first and (tensor or not last) else 2 if last else None


def array_channels(image: np.ndarray | Tensor) -> int | None:
    """Return the number of channels of an array or tensor, 1 or 3; None if it is not an image."""
    if image.ndim != 3:
        return 1 if image.ndim == 2 else None
    axis = channel_axis(image.shape, isinstance(image, Tensor))
    return None if axis is None else image.shape[axis]


def may_be_one_image(shape: Sequence[int]) -> bool:
    """Return whether an array may be a single image, [H, W] or [H, W, C], in place of several.

    If such an array were taken as several images, each of its rows would be taken as an image.

    Examples
    --------
    >>> may_be_one_image((40, 50, 3)), may_be_one_image((1000, 28, 28)), may_be_one_image((7, 40, 50, 3))
    (True, False, False)
    """
    return len(shape) < 3 or (len(shape) == 3 and shape[2] in (1, 3, 4))


def array_may_be_one_image(array: np.ndarray | Tensor) -> bool:
    """Return whether an array may be a single image, see :func:`may_be_one_image`.

    An array of objects or strings may contain several images in one dimension: PIL images, paths or encoded bytes.

    Examples
    --------
    >>> array_may_be_one_image(np.zeros((40, 50))), array_may_be_one_image(np.array(["a.png", "b.png"]))
    (True, False)
    """
    numeric = isinstance(array, Tensor) or array.dtype.kind in "buifc"
    return array.ndim == 0 or (numeric and may_be_one_image(array.shape))

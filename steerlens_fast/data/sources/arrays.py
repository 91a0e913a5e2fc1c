"""Reads arrays of images: .npy files and .safetensors files.

The images are read from the file one at a time.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence

import numpy as np

from ...errors import BadItem, usage_error
from ...extras import require_extra
from ..array_images import ONE_IMAGE, may_be_one_image
from ..items import Item
from ..labels import class_number, parse_class, sorted_class_names
from .base import LeftOut, Source, numbered_key, printable

DTYPES = ("U8", "U16", "F16", "BF16", "F32", "F64")  # named as in safetensors
RANGE_DTYPES = ("I8", "I16", "I32", "U32", "I64", "U64")  # supported only with a range
EXPECTED_DTYPES = "uint8, uint16 or floats in [0, 1], or other integers with a range (--range)"


class ArraySource(Source):
    """The images of one array.

    The array is [N, H, W], [N, H, W, C] or [N, C, H, W] with C 1 or 3.

    Values are uint8, uint16, or floats in [0, 1]; with ``any_values``, any integers or floats. Of four axes, the last
    one is the channel axis if its size is 1 or 3, otherwise the second one. Labels, if there are any, are N class
    numbers or names.
    """

    def __init__(
        self,
        path,
        description: dict,
        shape,
        read_row,
        labels: Labels | None,
        other_tensors: Sequence[str] = (),
        any_values=False,
    ):
        self._any_values, self._other_tensors = any_values, other_tensors
        self.path, self._read_row, self._labels = path, read_row, labels
        self.layout = _layout(tuple(shape), printable(path))
        shape = list(map(int, shape))
        names = None if labels is None else labels.names
        super().__init__({**description, "path": path, "shape": shape, "layout": self.layout, "items": shape[0]}, names)

    def channels(self) -> int:
        axis = {"NHWC": 3, "NCHW": 1}.get(self.layout)
        return self.description["shape"][axis] if axis else 1

    def listing(self) -> Iterator[Item]:
        self.left_out = LeftOut()
        for tensor in self._other_tensors:
            self.left_out.add("another tensor", tensor)
        count, name = self.description["items"], os.path.basename(self.path)
        for n in range(count):
            label = None if self._labels is None else self._labels.number(n)
            yield Item(n, numbered_key(n, count), f"{name}[{n}]", label, [n])

    def read(self, item: Item) -> np.ndarray:
        """Return an image [H, W] or [H, W, C].

        It is uint8, uint16 or float32 in [0, 1]; with ``any_values``, also other integers, and floats outside [0, 1].
        """
        row = self._read_row(item.place[0])
        if self.layout == "NCHW":
            row = row.transpose(1, 2, 0)
        if row.dtype.kind in "iu":
            return np.array(row)
        row = np.array(row, np.float32)
        if not self._any_values and not (row.min() >= 0 and row.max() <= 1):  # also true for NaN
            raise BadItem(
                "bad-array", f"{printable(item.path)}: floats must be in [0, 1], got {row.min():g} to {row.max():g}"
            )
        return row


def npy_source(path: str, labels: str | None, any_values: bool = False) -> ArraySource:
    """Open a .npy file of images; ``labels`` is another .npy file."""
    images = _load(path, "data")
    supported = images.dtype == np.uint8 or images.dtype.newbyteorder("=") == np.uint16 or images.dtype.kind == "f"
    if not supported and not (any_values and images.dtype.kind in "iu"):
        raise usage_error(f"data must be {EXPECTED_DTYPES}, got {images.dtype} in {printable(path)}")
    _layout(images.shape, printable(path))  # first, since the check of the labels uses the number of images
    row_labels = None if labels is None else Labels(_load(labels, "labels"), images.shape[:1], labels)
    description = {"kind": "npy", "labels": _absolute(labels)}
    rows = np.asarray(images)  # without the class memmap, which makes each access slower
    return ArraySource(_absolute(path), description, images.shape, rows.__getitem__, row_labels, any_values=any_values)


def safetensors_source(path: str, labels: str | None, any_values: bool = False) -> ArraySource:
    """Open a .safetensors file of images.

    It must have a tensor "images", or only one tensor with 3 or 4 axes.

    Labels come from a .npy file, or from the tensor "labels".
    """
    safetensors = require_extra("save", "safetensors")
    try:
        file = safetensors.safe_open(path, framework="pt")  # numpy has no bfloat16
    except (OSError, safetensors.SafetensorError) as error:
        raise usage_error(f"data must be a complete safetensors file, got {printable(path)}: {error}") from error
    name = _images_name(file, path)
    rows = file.get_slice(name)
    kind = rows.get_dtype()
    if kind not in DTYPES and not (any_values and kind in RANGE_DTYPES):
        raise usage_error(f"data must be {EXPECTED_DTYPES}, got {kind} in {printable(path)}, tensor {name!r}")
    shape = rows.get_shape()
    if labels is None and "labels" in file.keys():
        file_labels = file.get_tensor("labels")
        row_labels = Labels(
            (file_labels.double() if file_labels.is_floating_point() else file_labels).numpy(),
            shape[:1],
            f"{path}, labels",
        )
    else:
        row_labels = None if labels is None else Labels(_load(labels, "labels"), shape[:1], labels)

    def read_row(n: int) -> np.ndarray:
        tensor = rows[n : n + 1][0]
        return (tensor.float() if tensor.is_floating_point() else tensor).numpy()

    description = {"kind": "safetensors", "tensor": name, "labels": _absolute(labels)}
    other_tensors = sorted(n for n in file.keys() if n != name and not (n == "labels" and labels is None))
    return ArraySource(_absolute(path), description, shape, read_row, row_labels, other_tensors, any_values)


class Labels:
    """The labels of an array's rows.

    Parameters
    ----------
    values : numpy.ndarray
        A number or name for each row.
    shape : tuple of int
        (N,) for N images.
    path : str
        The labels' file, for messages.
    """

    def __init__(self, values: np.ndarray, shape: Sequence[int], path: str):
        if values.shape != tuple(shape) or values.dtype.kind not in "iufU":
            got = f"{values.dtype} {list(values.shape)}"
            raise usage_error(
                f"labels must be {shape[0]} class numbers or names, one for each image, got {got} in {printable(path)}"
            )
        self._values, self._path = values, printable(path)
        if values.dtype.kind in "iuf" and len(values):  # finds the first invalid value, for which parse_class raises
            whole = values if values.dtype.kind in "iu" else np.floor(values)
            wrong = np.flatnonzero(~((values == whole) & (values >= 0)))
            if len(wrong):
                parse_class(values[wrong[0]].item(), f"{self._path}[{wrong[0]}]")
        named = ((f"{self._path}[{n}]", str(value)) for n, value in enumerate(values))
        self.names = sorted_class_names(named) if values.dtype.kind == "U" else None
        self._numbers = {name: n for n, name in enumerate(self.names or ())}

    def number(self, n: int) -> int | None:
        """Return the class number of row ``n``."""
        return class_number(self._values[n].item(), f"{self._path}[{n}]", self._numbers)


def _images_name(file, path: str) -> str:
    shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}
    candidates = [name for name, shape in shapes.items() if len(shape) in (3, 4)]
    if "images" in candidates:
        return "images"
    if len(candidates) != 1:
        expected = 'a tensor "images", or only one tensor with 3 or 4 axes'
        raise usage_error(f"data must have {expected}, got {shapes} in {printable(path)}")
    return candidates[0]


def _layout(shape: tuple[int, ...], name: str) -> str:
    if 0 in shape or len(shape) not in (3, 4) or may_be_one_image(shape):
        layout = None
    elif len(shape) == 3:
        layout = "NHW"
    else:
        layout = "NHWC" if shape[3] in (1, 3) else "NCHW" if shape[1] in (1, 3) else None
    if layout is None:
        expected = "[N, H, W], [N, H, W, C] or [N, C, H, W] with C 1 or 3"
        got = f"{list(shape)} ({math.prod(shape)} values) in {name}"
        raise usage_error(f"data must be {expected}, got {got}{ONE_IMAGE if may_be_one_image(shape) else ''}")
    return layout


def _load(path: str, what: str) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise usage_error(f"{what} must be a complete .npy file, got {printable(path)}: {error}") from error
    if not isinstance(array, np.ndarray):
        raise usage_error(f"{what} must be a .npy file, got an archive of several arrays: {printable(path)}")
    return array


def _absolute(path: str | None) -> str | None:
    return None if path is None else os.path.abspath(path)

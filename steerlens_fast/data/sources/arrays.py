"""Images that are rows of one array: .npy, read through a memory map, and .safetensors, read row by row."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence

import numpy as np

from ...errors import BadItem
from ...extras import require_extra
from ..items import Item
from ..labels import class_number, parse_class, sorted_class_names
from .base import LeftOut, Source, numbered, printable, usage_error

PLAIN = ("U8", "U16", "F16", "BF16", "F32", "F64")  # safetensors' names
OTHER = ("I8", "I16", "I32", "I64")  # for which a range must be given
WANTED = "uint8, uint16 or floats in [0, 1], or other ints with a range (--range)"


class ArraySource(Source):
    """Rows of an array [N, H, W], [N, H, W, C] or [N, C, H, W] with C 1 or 3; uint8, uint16, or floats in [0, 1].

    Where the last axis has 1 or 3 it is the channels, else the second one is; ``about["layout"]`` says how the array
    was read. Labels, if any, are N class numbers, of any type, or N class names. Tensors of a .safetensors beside the
    images and their labels are left out, and counted.
    """

    def __init__(
        self, path, about: dict, shape, row, labels: Labels | None, others: Sequence[str] = (), any_values=False
    ):
        self._any_values, self._others = any_values, others
        self.path, self._row, self._labels = path, row, labels
        self.layout = _layout(tuple(shape), printable(path))
        shape = list(map(int, shape))
        names = None if labels is None else labels.names
        super().__init__({**about, "path": path, "shape": shape, "layout": self.layout, "items": shape[0]}, names)

    def listing(self) -> Iterator[Item]:
        self.left_out = LeftOut()
        for tensor in self._others:
            self.left_out.add("another tensor", tensor)
        count, name = self.description["items"], os.path.basename(self.path)
        for n in range(count):
            label = None if self._labels is None else self._labels.number(n)
            yield Item(n, numbered(n, count), f"{name}[{n}]", label, [n])

    def read(self, item: Item) -> np.ndarray:
        """uint8, uint16, or float32 in [0, 1], or any values where a range is given: [H, W] or [H, W, C]."""
        row = self._row(item.place[0])
        if self.layout == "NCHW":
            row = row.transpose(1, 2, 0)
        if row.dtype.kind in "iu":
            return np.array(row)
        row = np.array(row, np.float32)
        if not self._any_values and not (row.min() >= 0 and row.max() <= 1):  # NaN compares with nothing
            raise BadItem(
                "bad-array", f"{printable(item.path)}: floats must be in [0, 1], got {row.min():g} to {row.max():g}"
            )
        return row


def npy_source(path: str, labels: str | None, any_values: bool = False) -> ArraySource:
    """A .npy of images; ``labels`` is another one, of ints."""
    images = _load(path, "data")
    plain = images.dtype == np.uint8 or images.dtype.newbyteorder("=") == np.uint16 or images.dtype.kind == "f"
    if not plain and not (any_values and images.dtype.kind in "iu"):
        raise usage_error(f"data must be {WANTED}, got {images.dtype} in {printable(path)}")
    given = None if labels is None else Labels(_load(labels, "labels"), images.shape[:1], labels)
    about = {"kind": "npy", "labels": _absolute(labels)}
    return ArraySource(_absolute(path), about, images.shape, images.__getitem__, given, any_values=any_values)


def safetensors_source(path: str, labels: str | None, any_values: bool = False) -> ArraySource:
    """A .safetensors with "images", or one tensor of 3 or 4 axes, and "labels", or ``labels`` as for a .npy."""
    safetensors = require_extra("save", "safetensors")
    try:
        file = safetensors.safe_open(path, framework="pt")  # numpy has no bfloat16
    except (OSError, safetensors.SafetensorError) as error:
        raise usage_error(f"data must be a whole safetensors file, got {printable(path)}: {error}") from error
    name = _images_name(file, path)
    rows = file.get_slice(name)
    kind = rows.get_dtype()
    if kind not in PLAIN and not (any_values and kind in OTHER):
        raise usage_error(f"data must be {WANTED}, got {kind} in {printable(path)}, tensor {name!r}")
    shape = rows.get_shape()
    if labels is None and "labels" in file.keys():
        own = file.get_tensor("labels")
        given = Labels((own.double() if own.is_floating_point() else own).numpy(), shape[:1], f"{path}, labels")
    else:
        given = None if labels is None else Labels(_load(labels, "labels"), shape[:1], labels)

    def row(n: int) -> np.ndarray:
        tensor = rows[n : n + 1][0]
        return (tensor.float() if tensor.is_floating_point() else tensor).numpy()

    about = {"kind": "safetensors", "tensor": name, "labels": _absolute(labels)}
    others = sorted(n for n in file.keys() if n != name and not (n == "labels" and labels is None))
    return ArraySource(_absolute(path), about, shape, row, given, others, any_values)


class Labels:
    """The labels of an array's rows.

    Parameters
    ----------
    values : numpy.ndarray
        One for each row: numbers or text.
    count : tuple of int
        (N,), of the images.
    path : str
        Where they stand, for messages.
    """

    def __init__(self, values: np.ndarray, count: Sequence[int], path: str):
        if values.shape != tuple(count) or values.dtype.kind not in "iufU":
            got = f"{values.dtype} {list(values.shape)}"
            raise usage_error(
                f"labels must be {count[0]} ints from 0 on, one for each image, got {got} in {printable(path)}"
            )
        self._values, self._path = values, printable(path)
        if values.dtype.kind in "iuf" and len(values):  # each by the same rule; the first that breaks it is named
            whole = values if values.dtype.kind in "iu" else np.floor(values)
            wrong = np.flatnonzero(~((values == whole) & (values >= 0)))
            if len(wrong):
                parse_class(values[wrong[0]].item(), f"{self._path}[{wrong[0]}]")
        told = ((f"{self._path}[{n}]", str(value)) for n, value in enumerate(values))
        self.names = sorted_class_names(told) if values.dtype.kind == "U" else None
        self._numbers = {name: n for n, name in enumerate(self.names or ())}

    def number(self, n: int) -> int | None:
        """The class of a row."""
        return class_number(self._values[n].item(), f"{self._path}[{n}]", self._numbers)


def _images_name(file, path: str) -> str:
    shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}
    candidates = [name for name, shape in shapes.items() if len(shape) in (3, 4)]
    if "images" in candidates:
        return "images"
    if len(candidates) != 1:
        raise usage_error(f'data must have a tensor "images", or one of 3 or 4 axes, got {shapes} in {printable(path)}')
    return candidates[0]


def _layout(shape: tuple[int, ...], name: str) -> str:
    if 0 in shape or len(shape) not in (3, 4):
        layout = None
    elif len(shape) == 3:
        layout = "NHW"
    else:
        layout = "NHWC" if shape[3] in (1, 3) else "NCHW" if shape[1] in (1, 3) else None
    if layout is None:
        wanted = "[N, H, W], [N, H, W, C] or [N, C, H, W] with C 1 or 3"
        raise usage_error(f"data must be {wanted}, got {list(shape)} ({math.prod(shape)} values) in {name}")
    return layout


def _load(path: str, what: str) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise usage_error(f"{what} must be a whole .npy file, got {printable(path)}: {error}") from error
    if not isinstance(array, np.ndarray):
        raise usage_error(f"{what} must be a .npy file, got an archive of several: {printable(path)}")
    return array


def _absolute(path: str | None) -> str | None:
    return None if path is None else os.path.abspath(path)

"""Reads map-style data sets: objects with ``__len__`` and ``__getitem__``."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from numbers import Number
from threading import RLock

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader

from ...checks import is_int, shown
from ...errors import BadItem, JobError, describe_error, usage_error
from ..array_images import ONE_IMAGE, array_channels, array_may_be_one_image
from ..import_object import import_object, user_code_error
from ..items import Item
from ..labels import class_number, parse_class
from .base import Source, check_key, numbered_key, read_with_retries

CLASSES = "a sequence of names, or a mapping between names and 0, 1, ..."  # accepted types


class PythonSource(Source):
    """A data set of (image, label), (image, label, key), or images.

    **Images.** An image is a PIL image, a tensor or array (for dtypes and shapes, see
    :func:`steerlens_fast.data.decoding.decode`), or encoded bytes.

    **Class names.** They come from the attribute ``classes`` (a sequence, or a mapping between names and 0, 1, ...) or,
    without it, are the keys of ``class_to_idx``.

    **Labels.** A label is a class number or a class name; -1 means no label, as in torchvision. Labels come from the
    first of the attributes ``targets``, ``labels`` and ``samples`` that has one for each item. (The entries of
    ``samples`` are pairs such as (path, class number).) An attribute with names that are not class names is not used.
    If no attribute is used, or the data set has a ``target_transform``, the label of an item is read together with its
    image. Boxes, several labels and the like are not labels.

    **Errors.** A number or string is an invalid label if it is no class, such as 1.5 or an unknown name, or if several
    classes have this name. The listing raises an error for an invalid label that is in an attribute (except an unknown
    name, see above), or is read with an item's key. If the label is read together with an image, only this item fails.

    **Keys.** They come from the attribute ``keys`` or, without it, from the items (image, label, key), each of which
    is then read once more. Otherwise they are numbers.
    """

    labels_read_with_images = True
    key_hint = "give each item its own key, or give no keys, so that items are numbered"

    def __init__(self, data, spec: str | None = None):
        if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
            expected = "a path, or a data set with __len__ and __getitem__"
            hint = " (pass its dataset)" if isinstance(data, DataLoader) else ""
            got = f"{type(data).__name__}{f' from {spec}' if spec else ''}"
            raise usage_error(f"data must be {expected}, got {got}{hint}")
        if isinstance(data, (np.ndarray, Tensor)) and array_may_be_one_image(data):
            raise usage_error(f"data must be several images, got an array {list(data.shape)}{ONE_IMAGE}")
        self.data, kind = data, type(data)
        self.name = spec or kind.__name__
        description = {
            "kind": "python",
            "spec": spec,
            "class": f"{kind.__module__}.{kind.__qualname__}",
            "items": len(data),
        }
        super().__init__(description, _class_names(data))
        self._number_by_name = self.class_numbers
        counts = Counter(self.class_names or ())
        self._ambiguous = {name for name, count in counts.items() if count > 1}  # such as ImageNet's "crane"
        # Items are read one at a time, as in a worker of torch's DataLoader, since data sets may share file handles.
        self._lock = RLock()

    def channels(self) -> int | None:
        """Return the number of channels of the first image; None unless it is an array or tensor that can be read."""
        try:
            image = self._get(0)[0]
        except (BadItem, JobError):
            return None
        return array_channels(image) if isinstance(image, (np.ndarray, Tensor)) else None

    def listing(self) -> Iterator[Item]:
        count = len(self.data)
        labels, keys = self._labels(count), _of_length(self.data, "keys", count)
        read_keys = keys is None and self._has_keys(count)
        for n in range(count):
            path, key, label = f"{self.name}[{n}]", numbered_key(n, count), None if labels is None else labels[n]
            if read_keys:
                label, key = self._read_key(n, label, key)
            key = key if keys is None else check_key(keys[n], path)
            yield Item(n, key, path, label, [n])
        if not count:
            raise usage_error(f"data must have items, got none in {self.name}")

    def read(self, item: Item):
        return self._get(item.place[0])[0]

    def read_with_label(self, item: Item) -> tuple[object, int | None]:
        image, label, _ = self._get(item.place[0])
        if item.label is not None:
            return image, item.label
        try:
            return image, self._number_of_label(label, item.path)
        except JobError as error:
            raise BadItem("bad-label", str(error)) from error

    def _get(self, n: int) -> tuple:
        """Return the image, label and key of an item; label and key are None if it has none."""
        try:
            with self._lock:
                item = read_with_retries(lambda: self.data[n], f"{self.name}[{n}]")
        except (BadItem, JobError, MemoryError):
            raise
        except (Exception, SystemExit) as error:  # the data set's code may raise anything
            raise BadItem("unreadable", f"{self.name}[{n}]: {describe_error(error)}") from error
        if isinstance(item, Mapping):
            got = f"a mapping with the keys {list(item)}"
            raise BadItem("unreadable", f"{self.name}[{n}] must be an image or (image, label[, key]), got {got}")
        if not isinstance(item, (tuple, list)):
            return item, None, None
        if not 1 <= len(item) <= 3:
            raise BadItem("unreadable", f"{self.name}[{n}] must be (image, label[, key]), got {len(item)} parts")
        return (*item, None, None)[:3]

    def _has_keys(self, count: int) -> bool:
        """Return whether the first readable item has a key."""
        for n in range(count):
            try:
                return self._get(n)[2] is not None
            except BadItem:
                continue
        return False

    def _read_key(self, n: int, label: int | None, key: str) -> tuple[int | None, str]:
        """Return ``label`` or, if this is None, the item's label; and the item's key or, without one, ``key``."""
        path = f"{self.name}[{n}]"
        try:
            _, own_label, own_key = self._get(n)
        except BadItem:
            return label, key
        label = self._number_of_label(own_label, path) if label is None else label
        return label, check_key(own_key, path) if own_key else key

    def _number_of_label(self, label, where: str) -> int | None:
        """Return the class number of a label; None if the label is not a single number or string."""
        if not _is_one_value(label):
            return None
        value = _class_of(label, where)
        if isinstance(value, str) and not self.class_names:
            hint = f"for class names, the data set must have the attribute classes, {CLASSES}"
            raise usage_error(f"{where}: label must be a non-negative int, got {shown(value)}; {hint}")
        return self._number_of_class(value, where)

    def _number_of_class(self, value: int | str | None, where: str) -> int | None:
        if value in self._ambiguous:
            raise usage_error(f"{where}: label must be the name of one class, got {shown(value)}, the name of several")
        return class_number(value, where, self._number_by_name)

    def _labels(self, count: int) -> list[int | None] | None:
        """Return the labels in the data set's attributes.

        The result is None if there are none, or a ``target_transform`` changes labels.
        """
        if getattr(self.data, "target_transform", None) is not None:
            return None
        for name in ("targets", "labels", "samples"):
            values = _read_attribute(self.data, name, count)
            if values is None:
                continue
            places = [f"{self.name}.{name}[{n}]" for n in range(count)]
            classes = [_class_of(value, place) for value, place in zip(values, places)]
            if all(value in self._number_by_name for value in classes if isinstance(value, str)):
                return [self._number_of_class(value, place) for value, place in zip(classes, places)]
        return None


def call_factory(spec: str):
    """Return the data set that ``pkg.mod:callable`` returns.

    Examples
    --------
    >>> call_factory("collections:OrderedDict")
    OrderedDict()
    """
    factory = import_object("data", spec)
    if not callable(factory):
        raise usage_error(f"data must be pkg.mod:callable, got {spec!r}, which is {type(factory).__name__}")
    try:
        return factory()
    except JobError:
        raise
    except (Exception, SystemExit) as error:
        raise user_code_error("data", spec, "calling it without arguments") from error


def _read_attribute(data, name: str, count: int) -> Sequence | None:
    """Return an attribute with a number, a string or None for each item.

    The result is None for any other attribute.
    """
    entries = _of_length(data, name, count)
    if entries is None:
        return None
    if name == "samples":
        pairs = all(isinstance(entry, (tuple, list)) and len(entry) > 1 and is_int(entry[1]) for entry in entries)
        return [entry[1] for entry in entries] if pairs else None
    return entries if all(v is None or isinstance(v, (str, bytes, Number)) or _is_scalar(v) for v in entries) else None


def _class_of(value, where: str) -> int | str | None:
    """Return the class of a value, see :func:`parse_class`.

    The class -1 means "no label", as in torchvision's data sets, and gives None.
    """
    is_number = _is_one_value(value) and not isinstance(value, (str, bytes))
    return None if is_number and value == -1 else parse_class(value, where)


def _is_one_value(value) -> bool:
    """Return whether a value is a single number or string."""
    shape = getattr(value, "shape", None) if hasattr(value, "item") else None
    return isinstance(value, (str, bytes, Number)) or (shape is not None and math.prod(shape) == 1)


def _is_scalar(value) -> bool:
    """Return whether a value is a numpy or torch scalar."""
    return hasattr(value, "item") and getattr(value, "shape", None) == ()


def _of_length(data, name: str, count: int) -> Sequence | None:
    """Return an attribute as a sequence, if it has the given length; None for any other attribute."""
    value = _sequence(getattr(data, name, None))
    return value if value is not None and len(value) == count else None


def _sequence(value) -> Sequence | None:
    """Return a sequence, or an array as a list; None for other objects, such as strings, mappings and sets."""
    value = value.tolist() if hasattr(value, "tolist") else value  # reading a tensor's scalars one by one is slow
    return value if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray)) else None


def _class_names(data) -> list[str] | None:
    """Return the names of a data set's classes, by number; None if it has none."""
    classes, class_to_idx = getattr(data, "classes", None), getattr(data, "class_to_idx", None)
    names = _in_order(classes) if isinstance(classes, Mapping) else _sequence(classes)
    if not names and isinstance(class_to_idx, Mapping):
        names = _in_order(class_to_idx)
    return [_class_name_text(name) for name in names] if names else None


def _in_order(mapping: Mapping) -> list | None:
    """Return the names of a mapping between names and 0, 1, ...

    They are in the order of the numbers. The result is None for any other mapping.
    """
    names, numbers = list(mapping), list(mapping.values())
    if not all(map(is_int, numbers)):
        names, numbers = numbers, names
    by_number = {int(number): name for number, name in zip(numbers, names) if is_int(number)}
    return [by_number[n] for n in range(len(names))] if by_number.keys() == set(range(len(names))) else None


def _class_name_text(name) -> str:
    if isinstance(name, bytes):
        return name.decode(errors="backslashreplace")
    return ", ".join(map(str, name)) if isinstance(name, tuple) else str(name)

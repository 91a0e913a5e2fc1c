"""Map-style data sets: objects with ``__len__`` and ``__getitem__``, given or built by ``pkg.mod:callable``."""

from __future__ import annotations

import operator
from collections.abc import Iterator

from ...driver.isolation import OneAtATime
from ..items import Item
from ..named import failed, find
from ..outcome import BadItem
from .base import Source, check_key, numbered, usage


class PythonSource(Source):
    """A data set whose items are (image, target), (image, target, key), or images alone.

    An image is a PIL image, a uint8 tensor or array [H, W, C] or [C, H, W], a float tensor in [0, 1], or encoded bytes.
    Nothing is decoded to list it where the data set tells its labels in ``targets``, ``labels`` or ``samples``, as
    torchvision's do; else a label is known when its item is read. Keys are numbers, or the data set's ``keys``. Where
    items are triples and there are no ``keys``, listing must read every item once. Class names are its ``classes``.
    """

    labels_late = True

    def __init__(self, data, spec: str | None = None):
        if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
            wanted = "a path, or a data set with __len__ and __getitem__"
            raise usage(f"data must be {wanted}, got {type(data).__name__}{f' from {spec}' if spec else ''}")
        self.data, kind = data, type(data)
        self.name = spec or kind.__name__
        about = {"kind": "python", "spec": spec, "class": f"{kind.__module__}.{kind.__qualname__}", "items": len(data)}
        super().__init__(about, _class_names(data))
        self._one_at_a_time = OneAtATime()  # as in a worker of torch's DataLoader: files have one position

    def listing(self) -> Iterator[Item]:
        count = len(self.data)
        labels, keys = _labels(self.data, count), _of_length(self.data, "keys", count)
        slow = keys is None and self._has_keys(count)
        for n in range(count):
            path, key, label = f"{self.name}[{n}]", numbered(n, count), None if labels is None else labels[n]
            if slow:
                label, key = self._told(n, label, key)
            key = key if keys is None else check_key(keys[n], path)
            yield Item(n, key, path, label, [n])
        if not count:
            raise usage(f"data must have items, got none in {self.name}")

    def read(self, item: Item):
        return self._get(item.place[0])[0]

    def read_labelled(self, item: Item) -> tuple[object, int | None]:
        image, target, _ = self._get(item.place[0])
        return image, _label(target) if item.label is None else item.label

    def _get(self, n: int) -> tuple:
        """Image, target and key of an item, None where it has none."""
        try:
            with self._one_at_a_time:
                item = self.data[n]
        except (BadItem, MemoryError):
            raise
        except Exception as error:  # whatever the data set's own code raises
            raise BadItem("unreadable", f"{self.name}[{n}]: {type(error).__name__}: {error}") from error
        if not isinstance(item, (tuple, list)):
            return item, None, None
        if not 1 <= len(item) <= 3:
            raise BadItem("unreadable", f"{self.name}[{n}]: must be (image, target[, key]), got {len(item)} parts")
        return (*item, None, None)[:3]

    def _has_keys(self, count: int) -> bool:
        """What the first item says that can be read."""
        for n in range(count):
            try:
                return self._get(n)[2] is not None
            except BadItem:
                continue
        return False

    def _told(self, n: int, label: int | None, key: str) -> tuple[int | None, str]:
        path = f"{self.name}[{n}]"
        try:
            _, target, told = self._get(n)
            return _label(target) if label is None else label, check_key(told, path) if told else key
        except BadItem:
            return label, key


def imported(spec: str):
    """What ``pkg.mod:callable`` returns.

    Examples
    --------
    >>> imported("collections:OrderedDict")
    OrderedDict()
    """
    build = find("data", spec)
    if not callable(build):
        raise usage(f"data must be pkg.mod:callable, got {spec!r}, which is {type(build).__name__}")
    try:
        return build()
    except Exception as error:
        raise failed("data", spec, "called without arguments, to give the data set, it") from error


def _label(target) -> int | None:
    if target is None:
        return None
    try:
        label = operator.index(target.item() if hasattr(target, "item") else target)
    except (TypeError, ValueError, RuntimeError):
        return None  # a word, several: only who asks for a label misses it
    return label if label >= 0 else None


def _labels(data, count: int) -> list[int | None] | None:
    """The labels that it tells without being read; those that a transform changes it does not tell."""
    if getattr(data, "target_transform", None) is not None:
        return None
    for name in ("targets", "labels", "samples"):
        found = _of_length(data, name, count)
        if found is not None:
            try:
                told = [t[1] if name == "samples" else t for t in found]
            except (TypeError, IndexError, KeyError):  # something else of that name
                continue
            labels = list(map(_label, told))
            if not any(label is None and t is not None for label, t in zip(labels, told)):
                return labels
    return None


def _of_length(data, name: str, count: int):
    found = getattr(data, name, None)
    found = found.tolist() if hasattr(found, "tolist") else found  # a tensor's scalars are slow one by one
    try:
        return found if len(found) == count else None
    except TypeError:
        return None


def _class_names(data) -> list[str] | None:
    names = getattr(data, "classes", None)
    if not isinstance(names, (list, tuple)) or not names:
        return None
    return [n if isinstance(n, str) else ", ".join(map(str, n)) if isinstance(n, tuple) else str(n) for n in names]

"""Map-style data sets: objects with ``__len__`` and ``__getitem__``, given or built by ``pkg.mod:callable``."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Number

from ...classifier.isolation import ForkSafeLock
from ...errors import BadItem, JobError, describe_error
from ..import_object import import_object, user_code_error
from ..items import Item
from ..labels import class_number, parse_class, sorted_class_names
from .base import Source, check_key, numbered, usage_error


class PythonSource(Source):
    """A data set whose items are (image, target), (image, target, key), or images alone.

    An image is a PIL image, a uint8 tensor or array [H, W, C] or [C, H, W], a float tensor in [0, 1], or encoded bytes.
    Nothing is decoded to list it where the data set tells its labels in ``targets``, ``labels`` or ``samples``, as
    torchvision's do; else a label is known when its item is read. A label is a class number of any type, or a class
    name: one of ``classes``, or, where all that are told are names, the names sorted are the classes; -1 is none, as in
    torchvision's data sets. Numbers that are no class are an error where they are told beforehand. Targets that are no
    class (boxes, several labels, fractions) count as no label where they come with the item: only targets that go by
    labels miss it. Keys are numbers, or the data set's ``keys``. Where items are triples and there are no ``keys``,
    listing must read every item once. Class names are its ``classes``.
    """

    labels_late = True

    def __init__(self, data, spec: str | None = None):
        if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
            wanted = "a path, or a data set with __len__ and __getitem__"
            raise usage_error(f"data must be {wanted}, got {type(data).__name__}{f' from {spec}' if spec else ''}")
        self.data, kind = data, type(data)
        self.name = spec or kind.__name__
        about = {"kind": "python", "spec": spec, "class": f"{kind.__module__}.{kind.__qualname__}", "items": len(data)}
        super().__init__(about, _class_names(data))
        self._one_at_a_time = ForkSafeLock()  # as in a worker of torch's DataLoader: files have one position

    def listing(self) -> Iterator[Item]:
        count = len(self.data)
        labels, keys = self._labels(count), _of_length(self.data, "keys", count)
        slow = keys is None and self._has_keys(count)
        for n in range(count):
            path, key, label = f"{self.name}[{n}]", numbered(n, count), None if labels is None else labels[n]
            if slow:
                label, key = self._told(n, label, key)
            key = key if keys is None else check_key(keys[n], path)
            yield Item(n, key, path, label, [n])
        if not count:
            raise usage_error(f"data must have items, got none in {self.name}")

    def read(self, item: Item):
        return self._get(item.place[0])[0]

    def read_with_label(self, item: Item) -> tuple[object, int | None]:
        image, target, _ = self._get(item.place[0])
        return image, self._label(target) if item.label is None else item.label

    def _get(self, n: int) -> tuple:
        """Image, target and key of an item, None where it has none."""
        try:
            with self._one_at_a_time:
                item = self.data[n]
        except (BadItem, MemoryError):
            raise
        except Exception as error:  # whatever the data set's own code raises
            raise BadItem("unreadable", f"{self.name}[{n}]: {describe_error(error)}") from error
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
            return self._label(target) if label is None else label, check_key(told, path) if told else key
        except BadItem:
            return label, key

    def _label(self, target) -> int | None:
        """The class that comes with an item; None where it is none, which only who asks for a label misses."""
        try:
            found = _class(target, self.name)
        except JobError:
            return None
        return self._numbers().get(found) if isinstance(found, str) else found

    def _numbers(self) -> dict[str, int]:
        return {name: n for n, name in enumerate(self.class_names or ())}

    def _labels(self, count: int) -> list[int | None] | None:
        """The labels that the data set tells without being read; those that a transform changes it does not tell."""
        if getattr(self.data, "target_transform", None) is not None:
            return None
        named = None
        for name in ("targets", "labels", "samples"):
            told = _told(self.data, name, count)
            if told is None:
                continue
            where = [f"{self.name}.{name}[{n}]" for n in range(count)]
            classes = [_class(value, at) for value, at in zip(told, where)]
            if not any(isinstance(found, str) for found in classes):
                return classes
            named = named or list(zip(where, classes))
        if named is None:
            return None
        self.class_names = self.class_names or sorted_class_names(named)
        numbers = self._numbers()
        return [class_number(found, at, numbers) for at, found in named]


def imported(spec: str):
    """What ``pkg.mod:callable`` returns.

    Examples
    --------
    >>> imported("collections:OrderedDict")
    OrderedDict()
    """
    build = import_object("data", spec)
    if not callable(build):
        raise usage_error(f"data must be pkg.mod:callable, got {spec!r}, which is {type(build).__name__}")
    try:
        return build()
    except Exception as error:
        raise user_code_error("data", spec, "called without arguments, to give the data set, it") from error


def _told(data, name: str, count: int) -> list | None:
    """What an attribute tells of each item, if it is one number or word for each: not several, not something else."""
    found = _of_length(data, name, count)
    if found is None:
        return None
    try:
        told = [t[1] if name == "samples" else t for t in found]
    except (TypeError, IndexError, KeyError):
        return None
    return told if all(t is None or isinstance(t, (str, Number)) or _is_scalar(t) for t in told) else None


def _class(value, where: str) -> int | str | None:
    """See :func:`parse_class`; -1 is none, as in torchvision's data sets."""
    none = (isinstance(value, Number) or _is_scalar(value)) and value == -1
    return None if none else parse_class(value, where)


def _is_scalar(value) -> bool:
    """Of numpy or torch."""
    return hasattr(value, "item") and getattr(value, "shape", None) == ()


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

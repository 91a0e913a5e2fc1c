"""Data sets of the Hugging Face ``datasets`` library, by name or path.

Needs the extra ``steerlens_fast[hf]``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from ...errors import BadItem, remove_volatile_text, usage_error
from ...extras import require_extra
from ..items import Item
from ..labels import class_number, sorted_class_names
from .base import LeftOut, Source, numbered_key, printable, read_file, read_with_retries

SPLITS = ("test", "train")  # default splits; the first that exists is used


class HubSource(Source):
    """The data set ``NAME`` or ``NAME#split`` of the library ``datasets``.

    NAME is a name on the hub, a folder of images, or a folder written by ``save_to_disk``.

    If no split is named, the only split is used or, if there are several, "test" or else "train".

    Images are read from the first column of type Image. Labels are read from the first column of type ClassLabel, in
    which -1 means no label. If there is no such column, they are read from the column "label".
    """

    def __init__(self, spec: str):
        name, _, split = os.path.expanduser(spec).partition("#")
        data, split, self._other_splits = _load(name, split)
        datasets = require_extra("hf", "datasets")
        self.name = f"hf:{name}#{split}"
        self._image_column = _first_column(data, datasets.Image)
        if self._image_column is None:
            raise usage_error(f"data must have a column of type Image, got {dict(data.features)} in {self.name}")
        self._label_column = _first_column(data, datasets.ClassLabel) or ("label" if "label" in data.features else None)
        types = {column: type(feature) for column, feature in data.features.items()}
        self._other_image_columns = [c for c, t in types.items() if t is datasets.Image and c != self._image_column]
        self._is_class_label = types.get(self._label_column) is datasets.ClassLabel
        self._data = data.cast_column(self._image_column, datasets.Image(decode=False)).with_format(None)
        columns = {"image": self._image_column, "label": self._label_column}
        description = {"kind": "hf", "name": os.path.abspath(name) if os.path.exists(name) else name, "split": split}
        super().__init__({**description, **columns, "items": len(data)}, self._read_class_names(data, datasets))

    def listing(self) -> Iterator[Item]:
        count, self.left_out = len(self._data), LeftOut()
        for split in self._other_splits:
            self.left_out.add("another split", split)
        for column in self._other_image_columns:
            self.left_out.add("another column of images", column)
        numbers = self.class_numbers
        for n, label in enumerate(self._labels(count)):
            where = f"{self.name}[{n}], column {self._label_column!r}"
            number = None if self._is_class_label and label == -1 else class_number(label, where, numbers)
            yield Item(n, numbered_key(n, count), f"{self.name}[{n}]", number, [n])
        if not count:
            raise usage_error(f"data must have rows, got none in {self.name}")

    def read(self, item: Item) -> bytes:
        try:
            image = read_with_retries(lambda: self._data[item.place[0]][self._image_column], item.path)
        except OSError as error:
            raise BadItem("unreadable", f"{item.path}: {remove_volatile_text(str(error))}") from error
        if image is None or (image["bytes"] is None and image["path"] is None):
            raise BadItem("unreadable", f"{item.path} must contain an image, got None")
        if image["bytes"] is None:
            return read_file(image["path"])
        if not image["bytes"]:
            raise BadItem("empty", f"{item.path} has 0 bytes")
        return image["bytes"]

    def _labels(self, count: int) -> Iterator:
        if self._label_column is None:
            yield from [None] * count
            return
        for rows in self._data.select_columns([self._label_column]).iter(1000):
            yield from rows[self._label_column]

    def _read_class_names(self, data, datasets) -> list[str] | None:
        column = self._label_column
        feature = data.features.get(column)
        if isinstance(feature, datasets.ClassLabel):
            return list(feature.names)
        if not column:
            return None
        return sorted_class_names((f"{self.name}, column {column!r}", value) for value in data.unique(column))


def _load(name: str, split: str):
    """Return a data set, the name of its split, and the names of the other splits."""
    datasets = require_extra("hf", "datasets")
    try:
        if os.path.exists(os.path.join(name, "dataset_info.json")) and os.path.exists(os.path.join(name, "state.json")):
            return (*_single_split(datasets.load_from_disk(name), split), [])
        if os.path.exists(os.path.join(name, "dataset_dict.json")):
            data = datasets.load_from_disk(name)
            split = _choose_split(list(data), split, name)
            return data[split], split, [other for other in data if other != split]
        names = datasets.get_dataset_split_names(name)
        split = _choose_split(names, split, name)
        return datasets.load_dataset(name, split=split), split, [other for other in names if other != split]
    except (OSError, ValueError, RuntimeError) as error:
        expected = "a data set that the package datasets can load"
        raise usage_error(f"data must be {expected}, got {printable(name)}: {error}") from error


def _single_split(data, split: str):
    """Return a data set that was saved without other splits, and the name of its split."""
    name = str(data.split or "train")
    _choose_split([name], split, "this data set")
    return data, name


def _choose_split(names: list[str], requested: str, where: str) -> str:
    chosen = requested or (names[0] if len(names) == 1 else next((s for s in SPLITS if s in names), None))
    if chosen not in names:
        raise usage_error(
            f"data must name a split, as hf:NAME#split, one of {names} in {printable(where)}, got {requested!r}"
        )
    return chosen


def _first_column(data, kind: type) -> str | None:
    return next((name for name, feature in data.features.items() if isinstance(feature, kind)), None)

"""Tables of images: csv with a header, or a JSON object a line; ``path``, ``target`` or ``label``, ``key``."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator

from ..items import Item
from .base import Source, check_key, check_label, is_name, parse_json, safe_key, show, usage

LABELS = ("target", "label")  # either name
Row = tuple[str, str, object, object]  # where it stands ("data.csv, line 3"), path, label, key


def has_targets(path: str) -> bool:
    """Whether this is a table whose labels are called targets: what they are there for."""
    if not path.lower().endswith((".csv", ".jsonl")) or not os.path.isfile(path):
        return False
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        if path.lower().endswith(".csv"):
            return "target" in [column.strip() for column in next(csv.reader(file), ())]
        return "target" in parse_json(file.readline() or "{}", path)


class TableSource(Source):
    """Image files that a .csv or .jsonl names.

    Paths are relative to the table's folder, or absolute. A label is an int, or a class's name: then the names,
    sorted, are the classes. An empty label is none. The key is by default the path as written, without what leads
    upwards.
    """

    def __init__(self, path: str):
        self.path = os.path.abspath(path)
        super().__init__({"kind": "table", "path": self.path})
        self._rows = _jsonl_rows if self.path.lower().endswith(".jsonl") else _csv_rows

    def listing(self) -> Iterator[Item]:
        folder, index = os.path.dirname(self.path), 0
        self.class_names = self._names()
        numbers = {name: n for n, name in enumerate(self.class_names or ())}
        for where, path, label, key in self._read():
            key = (safe_key(path) or path) if key in (None, "") else check_key(key, where)
            yield Item(index, key, os.path.join(folder, path), _number(label, numbers, where))
            index += 1
        if not index:
            raise usage(f"data must be a table with rows, got none in {show(self.path)}")

    def _names(self) -> list[str] | None:
        """A pass over the table: its classes, where they are named; either all are, or none is."""
        names, first = set(), None
        for where, _, label, _ in self._read():
            if label is None or label == "":
                continue
            named = isinstance(label, str) and not _is_int(label)
            first = first or (where, label, named)
            if named != first[2]:
                raise usage(f"{where}: labels must be all ints or all names, got {label!r}; {first[1]!r} at {first[0]}")
            if named:
                names.add(label)
        return sorted(names) or None

    def _read(self) -> Iterator[Row]:
        try:
            # files' names need not be UTF-8; "sig": spreadsheets put a mark before the first letter
            with open(self.path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
                yield from self._rows(file, show(self.path))
        except OSError as error:
            raise usage(f"data must be a table that can be read, got {show(self.path)}: {error.strerror}") from error


def _number(label, numbers: dict[str, int], where: str) -> int | None:
    if label is None or label == "":
        return None
    if isinstance(label, str):
        label = numbers[label] if label in numbers else int(label)
    return check_label(label, where)


def _is_int(text: str) -> bool:
    try:
        int(text)
        return True
    except ValueError:
        return False


def _csv_rows(file, name: str) -> Iterator[Row]:
    reader = csv.reader(file, strict=True)
    try:
        columns = [c.strip() for c in next(reader, ())]
        label = _label_name(columns, f"{name}, line 1")
        places = [columns.index(c) if c in columns else None for c in ("path", label, "key")]
        for row in reader:
            if not row:
                continue
            where = f"{name}, line {reader.line_num}"
            if len(row) != len(columns):
                raise usage(f"{where}: must have {len(columns)} fields, as the header, got {len(row)}")
            path, label, key = (None if p is None else row[p] for p in places)
            yield where, _path(path, where), label, key
    except csv.Error as error:
        raise usage(f"{name}, line {reader.line_num}: must be csv: {error}") from error


def _jsonl_rows(file, name: str) -> Iterator[Row]:
    for n, line in enumerate(file, 1):
        if line.strip():
            where = f"{name}, line {n}"
            row = parse_json(line, where)
            label = row.get(_label_name(row, where))
            if label is not None and not isinstance(label, str):
                check_label(label, where)
            yield where, _path(row["path"], where), label, row.get("key")


def _label_name(columns, where: str) -> str | None:
    """Checks that there is a path, and says what the label is called."""
    if "path" not in columns:
        kind = "the first line must be a header with path" if isinstance(columns, list) else "must have a path"
        raise usage(f"{where}: {kind} (and target or label, and key, where known), got {list(columns)}")
    names = [n for n in LABELS if n in columns]
    if len(names) == 2:
        raise usage(f"{where}: must have target or label, got both")
    return names[0] if names else None


def _path(path, where: str) -> str:
    if not isinstance(path, str) or not path or not is_name(path):
        raise usage(f"{where}: path must be a file's name, got {path!r}")
    return path

"""Reads tables of image files: .csv, or .jsonl with one object per line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial

from ...classifier.targets import ABSENT
from ...errors import usage_error
from ..items import Item
from ..labels import class_number, parse_class, sorted_class_names
from ..tables import csv_header, csv_rows, json_object, json_rows, open_table
from .base import LeftOut, Source, check_key, is_valid_path, printable, safe_key


def has_target_column(path: str) -> bool:
    """Return whether a file is a table with a column ``target``. Of a .jsonl, only the first object is read."""
    if not path.lower().endswith((".csv", ".jsonl")) or not os.path.isfile(path):
        return False
    with open_table(path, printable(path)) as file:
        if path.lower().endswith(".csv"):
            return "target" in csv_header(file, printable(path))
        lines = ((n, line) for n, line in enumerate(file, 1) if line.strip())
        n, line = next(lines, (1, "{}"))
        return "target" in json_object(line, f"{printable(path)}, line {n}")


class TableSource(Source):
    """Image files named in a .csv or .jsonl table.

    ======== ===========================================================================================================
    column   contents
    ======== ===========================================================================================================
    path     the file, as an absolute path, a path relative to the table's folder, or a path in the home directory
             (``~/a.png``)
    label    the true class of the image; optional
    target   the class to morph the image toward, or ``not:CLASS`` for the absence of a class; optional
    key      the name of the outputs; by default the path without its empty, "." and ".." parts
    ======== ===========================================================================================================

    Either all labels and targets are class numbers, or all are class names, which are sorted and numbered from 0.
    (These numbers are later replaced by the model's numbers for the same names.) An empty field means no class. The
    order and case of column names do not matter. Other columns are ignored. The text is UTF-8.
    """

    key_hint = "give each row its own name in the column key"

    def __init__(self, path: str):
        self.path = os.path.abspath(path)
        super().__init__({"kind": "table", "path": self.path})
        self._rows, self._check = csv_rows, partial(_check_columns, "columns of the header must include path")
        if self.path.lower().endswith(".jsonl"):
            self._rows, self._check = json_rows, partial(_check_columns, "names must include path")

    def listing(self) -> Iterator[Item]:
        folder, index = os.path.dirname(self.path), 0
        self.class_names = sorted_class_names(self._classes(), "labels and targets")
        numbers = self.class_numbers
        self.left_out = LeftOut()
        for where, row in self._read():
            path, key = os.path.expanduser(_path(row["path"], where)), row.get("key")
            key = (safe_key(path) or path) if key in (None, "") else check_key(key, where)
            label = class_number(row.get("label"), where, numbers)
            value, is_absent = _target_class(row.get("target"))
            target = class_number(value, where, numbers, "target")
            target = ~target if is_absent and target is not None else target  # ~n: the absence of class n
            line = int(where.rpartition(" ")[2])  # `where` is "FILE, line N"
            yield Item(index, key, os.path.join(folder, path), label, [line], target)
            index += 1
        if not index:
            raise usage_error(f"data must be a table with rows, got none in {printable(self.path)}")

    def where(self, item: Item) -> str:
        """Return the line of the table that has an item, for messages."""
        return f"{printable(self.path)}, line {item.place[0]} ({printable(item.path)})"

    def _leave_out_line(self, line: int) -> None:
        self.left_out.add("empty line", f"line {line}")

    def _classes(self) -> Iterator[tuple[str, object]]:
        for where, row in self._read():
            yield where, parse_class(row.get("label"), where)
            yield where, parse_class(_target_class(row.get("target"))[0], where, "target")

    def _read(self) -> Iterator[tuple[str, dict]]:
        try:
            name = printable(self.path)
            with open_table(self.path, name) as file:
                yield from self._rows(file, name, self._check, self._leave_out_line)
        except OSError as error:
            raise usage_error(f"data must be a readable table, got {printable(self.path)}: {error.strerror}") from error


def _check_columns(expected: str, columns: list[str], where: str) -> None:
    if "path" not in columns:
        raise usage_error(f"{where}: {expected} (optional: label, target, key), got {columns}")


def _target_class(value) -> tuple[object, bool]:
    """Return the class of a target, and whether the target is its absence ("not:cat")."""
    is_absent = isinstance(value, str) and value.strip().startswith(ABSENT)
    return (value.strip().removeprefix(ABSENT) if is_absent else value), is_absent


def _path(path, where: str) -> str:
    if not isinstance(path, str) or not path or not is_valid_path(path):
        raise usage_error(f"{where}: path must be a file name, got {path!r}")
    return path

"""Reads the rows of .csv and .jsonl files.

Each row comes with its file and line, for messages.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO

from ..errors import usage_error

Row = tuple[str, dict]  # location ("data.csv, line 3") and values by column
BYTE_ORDER_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def _ignore(line: int) -> None:
    """Ignore an empty line."""


@contextmanager
def open_table(path: str, name: str) -> Iterator[TextIO]:
    """Open a table as UTF-8 text, with or without a byte order mark.

    Surrogates preserve bytes that are not UTF-8.

    Raises
    ------
    JobError
        If the file is UTF-16, which spreadsheet programs call "Unicode text".
    """
    with open(path, "rb") as file:
        encoding = BYTE_ORDER_MARKS.get(file.read(2))
    if encoding:
        raise usage_error(f"{name} must be UTF-8 text, got {encoding}: save it as UTF-8")
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        yield file


def csv_header(file: TextIO, name: str) -> list[str]:
    """Return the column names of a csv file, in lower case and stripped."""
    return _columns(_csv_lines(csv.reader(file, strict=True), name), name)


def csv_rows(file: TextIO, name: str, check: Callable[[list[str], str], None], skipped=_ignore):
    """Yield each row of a csv file, with its location.

    Parameters
    ----------
    file : TextIO
    name : str
        The file's name, for messages.
    check : callable
        Called with the columns and their location; raises an error if a column is missing.
    skipped : callable
        Called with the number of each empty line.

    Yields
    ------
    (str, dict)
        The row's location, and its values by column.

    Examples
    --------
    >>> import io
    >>> list(csv_rows(io.StringIO("Path, label\\na.png,3\\n"), "t.csv", lambda columns, where: None))
    [('t.csv, line 2', {'path': 'a.png', 'label': '3'})]
    """
    reader = csv.reader(file, strict=True)
    rows = _csv_lines(reader, name)
    columns = _columns(rows, name)
    check(columns, f"{name}, line 1")
    for row in rows:
        where = f"{name}, line {reader.line_num}"
        if not row:
            skipped(reader.line_num)
        elif len(row) != len(columns):
            raise usage_error(f"{where}: must have {len(columns)} fields like the header, got {len(row)}")
        else:
            yield where, dict(zip(columns, row))


def json_rows(file: TextIO, name: str, check: Callable, skipped=_ignore) -> Iterator[Row]:
    """Yield each row of a file with one JSON object per line.

    Each row comes with its location; see :func:`csv_rows`.
    """
    for n, line in enumerate(file, 1):
        where = f"{name}, line {n}"
        if not line.strip():
            skipped(n)
            continue
        row = json_object(line, where)
        check(list(row), where)
        yield where, row


def json_object(text: str | bytes, where: str) -> dict:
    """Return the values of a JSON object by name.

    Names are in lower case, without spaces around them.

    Examples
    --------
    >>> json_object('{"Path": "a.png"}', "line 1")
    {'path': 'a.png'}
    """
    try:
        value = json.loads(text, object_pairs_hook=_Pairs)  # a dict would drop repeated names
    except (ValueError, RecursionError) as error:
        raise usage_error(f"{where}: must be a JSON object: {error}") from error
    if not isinstance(value, _Pairs):
        raise usage_error(f"{where}: must be a JSON object, got {type(value).__name__}")
    return dict(zip(_distinct([name for name, _ in value], where, "names"), [entry for _, entry in value]))


class _Pairs(list):
    """The (name, value) pairs of a JSON object."""


def _csv_lines(reader, name: str) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise usage_error(f"{name}, line {reader.line_num}: must be csv: {error}") from error


def _columns(rows: Iterator[list[str]], name: str) -> list[str]:
    header = next(rows, [])
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise usage_error(f"{name}, line 1: must have columns separated by commas, got {header[0]!r}")
    return _distinct(header, f"{name}, line 1", "columns")


def _distinct(names: Iterable[str], where: str, what: str) -> list[str]:
    """Return the names in lower case and stripped. Raise an error if two names that are not empty are equal."""
    names = list(names)
    normalized = [name.strip().lower() for name in names]
    for name in normalized:
        if name and normalized.count(name) > 1:
            same = ", ".join(repr(given) for given, other in zip(names, normalized) if other == name)
            raise usage_error(f"{where}: {what} must differ, got {same}")
    return normalized


def distinct_pairs(expected: str, pairs: list[tuple[str, object]]) -> dict:
    """Return the pairs of a JSON object as a dict.

    Raise a JobError that begins with ``expected`` if a name repeats.

    Examples
    --------
    >>> distinct_pairs("names must differ", [("a", 1), ("b", 2)])
    {'a': 1, 'b': 2}
    """
    table: dict = {}
    for name, value in pairs:
        if name in table:
            raise usage_error(f"{expected}, got {name!r} twice")
        table[name] = value
    return table

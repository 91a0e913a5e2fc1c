"""Rows of .csv and .jsonl files, by column, each with the place where it stands."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO

from ..errors import USAGE, JobError

Row = tuple[str, dict]  # where it stands ("data.csv, line 3"), values by column
OTHER_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def usage_error(message: str) -> JobError:
    """An error of whoever wrote the table."""
    return JobError(message, USAGE)


@contextmanager
def open_table(path: str, name: str) -> Iterator[TextIO]:
    """The open file as text: UTF-8, with or without a byte order mark, where names of files may be any bytes.

    Raises
    ------
    JobError
        Where it is UTF-16, which spreadsheets call Unicode text.
    """
    with open(path, "rb") as file:
        encoding = OTHER_MARKS.get(file.read(2))
    if encoding:
        raise usage_error(f"{name} must be UTF-8 text, got {encoding}: save it as UTF-8")
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        yield file


def csv_header(file: TextIO, name: str) -> list[str]:
    """The columns of a csv file, in lower case and without blanks around them."""
    return _columns(_checked(csv.reader(file, strict=True), name), name)


def csv_rows(file: TextIO, name: str, check: Callable[[list[str], str], None], skipped=lambda line: None):
    """Each row of a csv file.

    Parameters
    ----------
    file : TextIO
    name : str
        What messages call it.
    check : callable
        Given the columns and where they stand; raises where one is missing.
    skipped : callable
        Given the number of each empty line.

    Yields
    ------
    (str, dict)
        Where the row stands, and its values by column.

    Examples
    --------
    >>> import io
    >>> list(csv_rows(io.StringIO("Path, label\\na.png,3\\n"), "t.csv", lambda columns, where: None))
    [('t.csv, line 2', {'path': 'a.png', 'label': '3'})]
    """
    reader = csv.reader(file, strict=True)
    rows = _checked(reader, name)
    columns = _columns(rows, name)
    check(columns, f"{name}, line 1")
    for row in rows:
        where = f"{name}, line {reader.line_num}"
        if not row:
            skipped(reader.line_num)
        elif len(row) != len(columns):
            raise usage_error(f"{where}: must have {len(columns)} fields, as the header, got {len(row)}")
        else:
            yield where, dict(zip(columns, row))


def json_rows(file: TextIO, name: str, check: Callable, skipped=lambda line: None) -> Iterator[Row]:
    """Each object of a file with one a line; see :func:`csv_rows`."""
    for n, line in enumerate(file, 1):
        where = f"{name}, line {n}"
        if not line.strip():
            skipped(n)
            continue
        row = json_object(line, where)
        check(list(row), where)
        yield where, row


def json_object(text: str | bytes, where: str) -> dict:
    """One JSON object, its names in lower case and without blanks around them.

    Examples
    --------
    >>> json_object('{"Path": "a.png"}', "line 1")
    {'path': 'a.png'}
    """
    try:
        value = json.loads(text, object_pairs_hook=_Pairs)  # a dict would keep the last of several of one name
    except ValueError as error:
        raise usage_error(f"{where}: must be a JSON object: {error}") from error
    if not isinstance(value, _Pairs):
        raise usage_error(f"{where}: must be a JSON object, got {type(value).__name__}")
    return dict(zip(_distinct([name for name, _ in value], where, "names"), [told for _, told in value]))


class _Pairs(list):
    """The names and values of a JSON object."""


def _checked(reader, name: str) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise usage_error(f"{name}, line {reader.line_num}: must be csv: {error}") from error


def _columns(rows: Iterator[list[str]], name: str) -> list[str]:
    header = next(rows, [])
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise usage_error(f"{name}, line 1: must have commas between its columns, got {header[0]!r}")
    return _distinct(header, f"{name}, line 1", "columns")


def _distinct(names: Iterable[str], where: str, what: str) -> list[str]:
    """Names as they are compared; several may be empty, as those of a row that ends in commas."""
    names = list(names)
    found = [name.strip().lower() for name in names]
    for name in found:
        if name and found.count(name) > 1:
            same = ", ".join(repr(n) for n, f in zip(names, found) if f == name)
            raise usage_error(f"{where}: {what} must differ, got {same}")
    return found

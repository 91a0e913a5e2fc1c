"""Which class each item is to be morphed toward: by rank, by label, by a table, or one for all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

from ..classifier.targets import RANKS
from ..errors import USAGE, JobError
from ..io.atomic_io import sha256_of
from ..io.paths import expand_home
from .items import Item
from .labels import Class, parse_class
from .tables import csv_rows, open_table

LABEL, COLUMN, MAP = "label", "column", "map:"
ABSENT = "not:"  # before a label that is to go, of models of several labels
GRAMMAR = f"one of {(LABEL, COLUMN, *RANKS)}, a class, 'map:FROM=TO,FROM=TO', or a file .csv or .json"
SHOWN = 4  # names in a message


@dataclass
class TargetRule:
    """What :func:`parse_target` gives.

    Attributes
    ----------
    kind : {"rank", "label", "column", "class", "map", "csv"}
    description : dict
        JSON-able, for the configuration: what was asked, with the SHA-256 of a csv file.
    rank : str or None
        "runner-up", "argmax" or "least", which the model decides.
    column : {"key", "path"} or None
        By which attribute of an item a csv finds its target.
    dropped : int
        Items that a map or csv says nothing about, so far.
    """

    kind: str
    description: dict
    rank: str | None = None
    column: str | None = None
    dropped: int = 0
    table: Mapping[Class, Class] = field(default_factory=dict, repr=False)  # of a class, its only value is the target

    def resolve(
        self,
        items: Iterable[Item],
        class_names: Sequence[str] | None = None,
        model_names: Sequence[str] | None = None,
    ) -> Iterator[Item]:
        """The items, with their targets where these are decided beforehand; without those that the table leaves out.

        Parameters
        ----------
        items : iterable of Item
            Taken one by one.
        class_names : sequence of str, optional
            Of the data's classes, in the order of their numbers.
        model_names : sequence of str, optional
            Of the model's classes. A name that is to be morphed toward is the model's, or else the data's; one that an
            image has is the data's, or the model's where the data have none.

        Returns
        -------
        iterator of Item
            An item without a label stays, without target, where the label would decide.

        Raises
        ------
        JobError
            At once, where a class is no number and no name of the data. At the end of the items, where none has a
            target, or where a csv names some that are not there.

        Examples
        --------
        >>> rule = parse_target("map:cat=dog")
        >>> items = [Item(0, "a", "a.png", label=0), Item(1, "b", "b.png", label=1)]
        >>> [(item.key, item.target) for item in rule.resolve(items, ["cat", "dog"])], rule.dropped
        ([('a', 1)], 1)
        """
        self.dropped = 0
        if self.kind == "rank":
            return (item if item.target is None else replace(item, target=None) for item in items)
        known = _Names(class_names, model_names)
        if self.kind == "label":
            return (replace(item, target=item.label) for item in items)
        if self.kind == "column":
            return (_by_name(item, class_names, known) for item in items)
        if self.kind == "class":
            target = known.number(self.table[0])
            return (replace(item, target=target) for item in items)
        return self._by_table(items, self._numbered(known))

    def target_of(
        self,
        label: int | None,
        class_names: Sequence[str] | None = None,
        model_names: Sequence[str] | None = None,
    ) -> int | None:
        """The target of an item whose label is known only now, or None; for kinds "label" and "map".

        Examples
        --------
        >>> parse_target({3: 8}).target_of(3), parse_target("label").target_of(3)
        (8, 3)
        """
        if self.kind == "map":
            return self._numbered(_Names(class_names, model_names)).get(label)
        return label if self.kind == "label" else None

    def _numbered(self, known: _Names) -> dict[Class, int]:
        source = known.label if self.kind == "map" else lambda key: key
        numbered: dict[Class, int] = {}
        for key, value in self.table.items():
            if numbered.setdefault(source(key), known.number(value)) != known.number(value):
                raise JobError(f"target must map a class once, got {key!r} twice, by number and by name", USAGE)
        return numbered

    def _key(self, item: Item, table: dict[Class, int]) -> Class | None:
        """What the table calls an item."""
        if self.column != "path":
            return item.label if self.kind == "map" else item.key
        relative = os.path.relpath(item.path, os.path.dirname(os.path.abspath(self.description["path"])))
        return next((name for name in (item.path, relative) if name in table), item.key)

    def _by_table(self, items: Iterable[Item], table: dict[Class, int]) -> Iterator[Item]:
        found, unseen = False, set(table) if self.kind == "csv" else set()
        for item in items:
            key = self._key(item, table)
            unseen.discard(key)
            if key is not None and key not in table:
                self.dropped += 1
                continue
            found |= key is not None
            yield replace(item, target=table.get(key))
        if self.dropped and not found:
            mentions = f"{_shown(list(table))} and the data have none of them"
            raise JobError(f"target must leave at least one item, got a {self.kind} that mentions {mentions}", USAGE)
        if unseen:
            where = f"{self.description['path']} has {len(unseen)} that are not there: {_shown(sorted(unseen))}"
            raise JobError(f"target must name items of the data by {self.column}, but {where}", USAGE)


def parse_target(value: str | int | Mapping | os.PathLike) -> TargetRule:
    """Read a target as a configuration or a command line has it.

    Parameters
    ----------
    value : str, int, mapping or os.PathLike
        * ``"runner-up"``, ``"argmax"``, ``"least"``: a rank among the model's scores at the source.
        * ``"label"``: the data's own class, the truth.
        * ``"column"``: what the column ``target`` of a data table has for each image; the default where there is one.
        * A whole number of any type (7, 7.0, "7"; see :func:`~steerlens_fast.data.labels.parse_class`), or a name of
          one of the model's or the data's classes: this for all; digits are a number. Of the synonyms "goldfish,
          Carassius auratus" each is a name. For a model of several labels (``task="multilabel"``) ``"not:cat"`` or
          ``"not:3"`` is a label that is to go; also in maps and tables.
        * ``"map:3=8,cat=dog"``, a mapping, or a .json file with one: from label to target. Other items are dropped.
        * A .csv file with the columns ``target``, the class to morph toward, and ``key`` or ``path``, of an item: the
          path as the data have it, or relative to the csv's folder, or a key. Other items are dropped.

    Raises
    ------
    JobError
        Naming target, what was expected and what came; with code ``USAGE``.

    Examples
    --------
    >>> parse_target("7").description, parse_target("map:3=8,7=2").description
    ({'kind': 'class', 'class': 7}, {'kind': 'map', 'map': {'3': 8, '7': 2}})
    """
    if isinstance(value, Mapping):
        return _mapped(value)
    if not isinstance(value, (str, os.PathLike)):
        return _one_class(_class(value))
    text = expand_home(value)
    if text in RANKS:
        return TargetRule("rank", {"kind": "rank", "rank": text}, rank=text)
    if text == LABEL:
        return TargetRule("label", {"kind": "label"})
    if text == COLUMN:
        return TargetRule("column", {"kind": "column"})
    if text.startswith(MAP):
        return _mapped(_pairs(text))
    if text.lower().endswith(".csv"):
        return _csv(text)
    return _mapped(_json(text)) if text.lower().endswith(".json") else _one_class(_class(text))


def batch_target(rule: TargetRule, targets: Sequence[int | None]) -> list[int] | str:
    """What :meth:`steerlens_fast.SteerableLens.morph` is given for a batch; who has no target gets class 0.

    Examples
    --------
    >>> batch_target(parse_target("label"), [3, None, 5])
    [3, 0, 5]
    >>> batch_target(parse_target("least"), [None, None, None])
    'least'
    """
    return rule.rank if rule.rank is not None else [0 if target is None else target for target in targets]


def target_number(value: Class, class_names: Sequence[str] | None, model_names: Sequence[str] | None = None) -> int:
    """The number of a class to be morphed toward, by number or name; ``~n`` of a label that is to go.

    Examples
    --------
    >>> target_number("dog", ["dog", "cat"], ["ant", "cat, tabby", "dog"]), target_number("tabby", None, ["cat, tabby"])
    (2, 0)
    """
    return _Names(class_names, model_names).number(value)


class _Names:
    """The numbers of classes by name: of the model's, of the data's."""

    def __init__(self, of_data: Sequence[str] | None, of_model: Sequence[str] | None = None):
        self._of_data, self._of_model = (None if names is None else list(names) for names in (of_data, of_model))

    def number(self, value: Class) -> int:
        """Of a class to be morphed toward: the model's of that name, else the data's."""
        return self._find(value, (_whole, self._of_model), (_whole, self._of_data), (_synonyms, self._of_model))

    def model_number(self, name: str, default: int) -> int:
        """The model's of that name, or synonym, else ``default``."""
        names = _whole(self._of_model), _synonyms(self._of_model)
        if not any(name in one for split in names for one in split):
            return default
        return self._find(name, (_whole, self._of_model), (_synonyms, self._of_model))

    def label(self, value: Class) -> int:
        """Of a class that images have: the data's of that name; the model's where the data have no names."""
        if self._of_data is not None:
            return self._find(value, (_whole, self._of_data))
        return self._find(value, (_whole, self._of_model), (_synonyms, self._of_model))

    def _find(self, value: Class, *among: tuple[Callable, list[str] | None]) -> int:
        if isinstance(value, int):
            return value
        for split, names in among:
            numbers = [number for number, name in enumerate(split(names)) if value in name]
            if len(numbers) > 1:
                text = f"target must name one class, got {value!r}, which several have"
                raise JobError(f"{text}: give the number", USAGE)
            if numbers:
                return numbers[0]
        if value.startswith(ABSENT):
            return ~self._find(_class(value.removeprefix(ABSENT)), *among)
        known = [("model", self._of_model)] if self._of_model is not None else []
        known += [("data", self._of_data)] if self._of_data is not None or not known else []
        said = " and the ".join(f"{who} {'has no names' if n is None else f'knows {_shown(n)}'}" for who, n in known)
        raise JobError(f"target must be {GRAMMAR}, got {value!r}, and the {said}", USAGE)


def _by_name(item: Item, class_names: Sequence[str] | None, known: _Names) -> Item:
    """An item of a table whose target is one of the data's names: the model's class of that name, if it has one."""
    if item.target is None or class_names is None:
        return item
    return replace(item, target=known.model_number(class_names[item.target], item.target))


def _whole(names: list[str] | None) -> list[tuple[str, ...]]:
    return [(name,) for name in names or []]


def _synonyms(names: list[str] | None) -> list[tuple[str, ...]]:
    """What stands between the commas of each name, as ImageNet has it."""
    return [tuple(part.strip() for part in name.split(",")) for name in names or []]


def _class(value) -> Class:
    """A number from 0 on, or a name."""
    try:
        found = parse_class(value, "target", "target")
    except JobError:
        found = None
    if found is None:
        raise JobError(f"target must be {GRAMMAR}, classes numbered from 0, got {value!r}", USAGE)
    return found


def _one_class(value: Class) -> TargetRule:
    return TargetRule("class", {"kind": "class", "class": value}, table={0: value})


def _mapped(pairs: Mapping) -> TargetRule:
    table = {_class(source): _class(target) for source, target in pairs.items()}
    if not table:
        raise JobError("target must map at least one class, got none", USAGE)
    return TargetRule("map", {"kind": "map", "map": {str(k): v for k, v in table.items()}}, table=table)


def _pairs(text: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for pair in text.removeprefix(MAP).split(","):
        source, equals, target = (part.strip() for part in pair.partition("="))
        if not (source and equals and target) or "=" in target:
            raise JobError(f"target must be 'map:FROM=TO,FROM=TO', got {pair!r} in {text!r}", USAGE)
        if pairs.setdefault(source, target) != target:
            raise JobError(f"target must map a class once, got {source!r} twice in {text!r}", USAGE)
    return pairs


def _json(path: str) -> dict:
    try:
        pairs = json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise JobError(f"target {path} cannot be read as JSON: {error}", USAGE) from error
    if not isinstance(pairs, dict):
        raise JobError(f"target {path} must hold an object from class to class, got {type(pairs).__name__}", USAGE)
    return pairs


def _csv(path: str) -> TargetRule:
    try:
        with open_table(path, f"target {path}") as file:
            column, table = _csv_table(path, file)
        about = {"kind": "csv", "path": path, "sha256": sha256_of(Path(path))}
    except OSError as error:
        raise JobError(f"target {path} cannot be read: {error}", USAGE) from error
    return TargetRule("csv", about, column=column, table=table)


def _csv_table(path: str, file: TextIO) -> tuple[str, dict[str, Class]]:
    column, table = None, {}
    for where, row in csv_rows(file, f"target {path}", _check_columns):
        column = next(name for name in ("key", "path") if name in row)
        if not row[column] or not row["target"].strip():
            raise JobError(f"{where}: must have {column} and target, got {row}", USAGE)
        target = parse_class(row["target"], f"{where}, column 'target', {column} {row[column]!r}", "target")
        if table.setdefault(row[column], target) != target:
            raise JobError(f"{where}: {row[column]!r} has another target above", USAGE)
    if not table:
        raise JobError(f"target {path} must have at least one line besides the header, got none", USAGE)
    return column, table


def _check_columns(columns: list[str], where: str) -> None:
    if "target" not in columns or not {"key", "path"} & set(columns):
        raise JobError(f"{where}: must have the columns 'target', and 'key' or 'path', got {columns}", USAGE)


def _shown(names: Sequence) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(repr(name) for name in names[:SHOWN]) + more

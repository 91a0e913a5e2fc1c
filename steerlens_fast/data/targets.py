"""Rules that give each item its target class.

The target depends on the model's scores, the label, a map, a table, or is one class for all items.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TextIO

from ..checks import shown
from ..classifier.named_classes import Lookup, find_class, full_names, shorten, synonyms, unknown_class
from ..classifier.targets import ABSENT, RANKS
from ..errors import NO_LABEL, NO_TARGET, JobError, usage_error
from ..io.atomic_io import sha256_of
from .class_matching import ClassMatch
from .items import Item, target_class
from .labels import Class, parse_class
from .sources.base import printable
from .sources.table import has_target_column
from .tables import csv_rows, distinct_pairs, open_table

LABEL, COLUMN, MAP = "label", "column", "map:"
TARGET_FORMS = f"one of {(LABEL, COLUMN, *RANKS)}, a class, 'not:CLASS', 'map:FROM=TO,FROM=TO', or a file .csv or .json"


@dataclass
class TargetRule:
    """A rule that gives each item its target, made by :func:`parse_target`.

    Attributes
    ----------
    kind : {"rank", "label", "column", "class", "map", "csv"}
    description : dict
        The rule as JSON-serialisable data; for a csv file, with its path and SHA-256.
    rank : str or None
        "runner-up", "argmax" or "least" among the model's scores, for the kind "rank".
    csv_column : {"key", "path"} or None
        The column by which a csv file names items, for the kind "csv".
    dropped : int
        Number of items that were dropped so far, because they are not in the map or csv file.
    """

    kind: str
    description: dict
    rank: str | None = None
    csv_column: str | None = None
    dropped: int = 0
    table: Mapping[Class, Class] = field(default_factory=dict, repr=False)  # {0: target} for kind "class"

    def resolve(self, items: Iterable[Item], classes: ClassMatch | None = None) -> Iterator[Item]:
        """Yield the items with their targets, and with labels that are classes of the model.

        Items that are not in the map or csv file are dropped.

        The target of an item is None if it depends on the model.

        Parameters
        ----------
        items : iterable of Item
            Read one at a time.
        classes : ClassMatch, optional
            The classes of data and model; by default, they have no names. A label that is no class of the model becomes
            None. The name of a target is looked up among the model's names first, then among the data's. The name of a
            label in a map is looked up among the model's names only if the data have none.

        Returns
        -------
        iterator of Item
            If targets depend on labels, items without a label have the target None.

        Raises
        ------
        JobError
            If a class name is unknown (raised immediately or, for the kind "column", at the item), or if no item is in
            the map or csv file, or a csv file names items that do not exist (raised after the last item).

        Examples
        --------
        >>> rule = parse_target("map:cat=dog")
        >>> items = [Item(0, "a", "a.png", label=0), Item(1, "b", "b.png", label=1)]
        >>> [(item.key, item.target) for item in rule.resolve(items, ClassMatch(["cat", "dog"]))], rule.dropped
        ([('a', 1)], 1)
        """
        self.dropped = 0
        classes = classes or ClassMatch()
        resolved = self._with_targets(items, classes)
        if classes.numbers is None:
            return iter(resolved)
        return (replace(item, label=classes.model_label(item.label)) for item in resolved)

    def _with_targets(self, items: Iterable[Item], classes: ClassMatch) -> Iterable[Item]:
        if self.kind == "rank":
            return (item if item.target is None else replace(item, target=None) for item in items)
        if self.kind == "label":
            return (replace(item, target=classes.model_label(item.label)) for item in items)
        if self.kind == "column":
            # Names in the column are matched even with labels='numbered', which is about the labels only.
            by_name = ClassMatch(classes.data_names, classes.model_names)
            return items if by_name.numbers is None else (_with_model_target(item, by_name) for item in items)
        if self.kind == "class":
            target = target_number(self.table[0], classes)
            return (replace(item, target=target) for item in items)
        return self._by_table(items, self._numbered(classes))

    def target_of(self, label: int | None, classes: ClassMatch | None = None) -> int | None:
        """Return the target of an item whose label was read with its image.

        The label is a class number of the data. The result is None unless the kind is "label" or "map".

        Examples
        --------
        >>> parse_target({3: 8}).target_of(3), parse_target("label").target_of(3)
        (8, 3)
        """
        classes = classes or ClassMatch()
        if self.kind == "label":
            return classes.model_label(label)
        return self._numbered(classes).get(label) if self.kind == "map" else None

    def reason_without_target(self, label: int | None) -> str:
        """Return the reason, a key of ``errors.REASONS``, why an item with this label has no target.

        Examples
        --------
        >>> parse_target({3: 8}).reason_without_target(None), parse_target({3: 8}).reason_without_target(4)
        ('no-label', 'no-target')
        """
        return NO_LABEL if label is None and self.kind in ("label", "map") else NO_TARGET

    def where(self, item: Item) -> str:
        """Return the item of a target, for messages; "" if all items have the same target.

        Examples
        --------
        >>> parse_target("label").where(Item(0, "a", "a.png")), parse_target(7).where(Item(0, "a", "a.png"))
        (' for a.png', '')
        """
        return "" if self.kind == "class" else f" for {printable(item.path)}"

    def _numbered(self, classes: ClassMatch) -> dict[Class, int]:
        """Return the table with class names replaced by numbers."""
        numbered: dict[Class, int] = {}
        pairs: dict[Class, str] = {}
        for key, value in self.table.items():
            pair = f"{key}={value}"
            where = f" in {pair!r}" if self.kind == "map" else f" in {self.description['path']}, for {key!r}"
            source = _label_number(key, classes, where) if self.kind == "map" else key
            target = target_number(value, classes, where)
            if numbered.setdefault(source, target) != target:
                text = f"{pairs[source]!r} and {pair!r}, which name the same class"
                raise usage_error(f"target must map each class only once, got {text}")
            pairs[source] = pair
        return numbered

    def _key(self, item: Item, table: dict[Class, int]) -> Class | None:
        """Return the table's key for an item: the label in a map, else the item's key or path.

        A csv file with paths may have keys in place of paths.
        """
        if self.csv_column != "path":
            return item.label if self.kind == "map" else item.key
        relative = os.path.relpath(item.path, os.path.dirname(os.path.abspath(self.description["path"])))
        return next((name for name in (item.path, relative) if name in table), item.key)

    def _by_table(self, items: Iterable[Item], table: dict[Class, int]) -> Iterator[Item]:
        any_found, unused = False, set(table) if self.kind == "csv" else set()
        for item in items:
            key = self._key(item, table)
            unused.discard(key)
            if key is not None and key not in table:
                self.dropped += 1
                continue
            any_found |= key is not None
            yield replace(item, target=table.get(key))
        if self.dropped and not any_found:
            text = f"a {self.kind} with {shorten(list(table))}, none of which is in the data"
            raise usage_error(f"target must apply to at least one item, got {text}")
        if unused:
            text = f"{self.description['path']} with {len(unused)} that do not exist: {shorten(sorted(unused))}"
            raise usage_error(f"target must refer to items of the data by {self.csv_column}, got {text}")


def parse_target(value: str | int | Mapping | os.PathLike) -> TargetRule:
    """Parse the option ``target`` of a configuration or command line.

    Parameters
    ----------
    value : str, int, mapping or os.PathLike
        * ``"runner-up"``, ``"argmax"``, ``"least"``: the class with the second highest, highest or lowest score of the
          model for the unedited image.
        * ``"label"``: the true class of each image.
        * ``"column"``: the column ``target`` of a data table. It is the default if the table has this column.
        * A class number of any type (7, 7.0, "7"), or a class name of the model or the data: the target of all items.
          Each synonym in a name such as "goldfish, Carassius auratus" is a name, too. With ``task="multilabel"``,
          ``"not:cat"`` or ``"not:3"`` removes a label, also in maps and tables.
        * ``"map:3=8,cat=dog"``, a mapping, or a .json file with a mapping: the target for each label. Items with other
          labels are left out.
        * A .csv file with the columns ``target``, and ``key`` or ``path``: a target for each item. Paths are written as
          in the data, or relative to the folder of the .csv file. Items that are not in the file are left out.

    Raises
    ------
    JobError
        If the target is invalid; with code ``USAGE``.

    Examples
    --------
    >>> parse_target("7").description, parse_target("map:3=8,7=2").description
    ({'kind': 'class', 'class': 7}, {'kind': 'map', 'map': {'3': 8, '7': 2}})
    """
    if isinstance(value, Mapping):
        return _map_rule(value)
    if not isinstance(value, (str, os.PathLike)):
        return _class_rule(_parse_target_class(value))
    text = os.path.expanduser(value)
    if text in RANKS:
        return TargetRule("rank", {"kind": "rank", "rank": text}, rank=text)
    if text == LABEL:
        return TargetRule("label", {"kind": "label"})
    if text == COLUMN:
        return TargetRule("column", {"kind": "column"})
    if text.startswith(MAP):
        return _map_rule(_parse_map(text))
    if text.lower().endswith(".csv"):
        return _csv_rule(text)
    return _map_rule(_read_json(text)) if text.lower().endswith(".json") else _class_rule(_parse_target_class(text))


def with_default_target(options: Mapping) -> dict:
    """Set the option target to "column" if it is not given and the data are a table with a column ``target``."""
    unset = options.get("target") is None and isinstance(options.get("data"), (str, os.PathLike))
    return {**options, "target": COLUMN} if unset and has_target_column(os.fspath(options["data"])) else dict(options)


def batch_target(rule: TargetRule, targets: Sequence[int | None]) -> list[int] | str:
    """Return the argument ``target`` of :meth:`steerlens_fast.SteerableLens.morph` for a batch.

    Unless the target is a rank, items without a target get class 0. Their morphs are not used.

    Examples
    --------
    >>> batch_target(parse_target("label"), [3, None, 5])
    [3, 0, 5]
    >>> batch_target(parse_target("least"), [None, None, None])
    'least'
    """
    return rule.rank if rule.rank is not None else [0 if target is None else target for target in targets]


def check_target_number(target: int, count: int | None, task: str, where: str = "") -> None:
    """Raise a JobError if a target is invalid for the model or the task.

    ``count`` is the number of the model's classes, or None if unknown. ``where`` is the target's item, for messages.

    Examples
    --------
    >>> check_target_number(7, 5, "multiclass", " for cats/3.png")
    Traceback (most recent call last):
    steerlens_fast.errors.JobError: target must be one of the model's 5 classes, 0 to 4, got 7 for cats/3.png
    """
    if target < 0 and task != "multilabel":
        raise usage_error(f"target 'not:...' needs task 'multilabel', got task {task!r}{where}")
    if count is not None and target_class(target) >= count:
        text = f"target must be one of the model's {count} classes, 0 to {count - 1}"
        raise usage_error(f"{text}, got {target_class(target)}{where}")


def target_number(value: Class, classes: ClassMatch, where: str = "") -> int:
    """Return the number of a target class given by number or name.

    A name is looked up among the model's classes, then among the data's, then among synonyms in the model's; see
    :func:`find_class`. The number is ``~n`` if label n is to be removed. ``where`` is the location of the value in a
    map or file, for messages.

    Examples
    --------
    >>> target_number("dog", ClassMatch(["dog", "cat"], ["ant", "cat, tabby", "dog"]))
    2
    >>> target_number("not:tabby", ClassMatch(model_names=["cat, tabby"]))
    -1
    """
    model, data = classes.model_names, classes.data_names
    lookups = (full_names, model), (classes.data_names_by_class, data), (synonyms, model)
    return _find(value, classes, where, *lookups)


def _label_number(value: Class, classes: ClassMatch, where: str) -> int:
    """Return the number of a label given by number or name.

    A name is looked up among the data's classes, or among the model's if the data have no names.
    """
    if isinstance(value, int) and classes.numbers is not None:
        text = "target must name the data's classes if their numbers differ from the model's"
        raise usage_error(f"{text}, got {value}{where}; classes of the data: {shorten(classes.data_names or ())}")
    if classes.data_names is not None:
        return _find(value, classes, where, (full_names, classes.data_names))
    return _find(value, classes, where, (full_names, classes.model_names), (synonyms, classes.model_names))


def _with_model_target(item: Item, classes: ClassMatch) -> Item:
    """Return an item with its target, a class of the data, replaced by the model's class of the same name.

    Raise a JobError if the model does not have this class.
    """
    if item.target is None:
        return item
    of_data = target_class(item.target)
    number = classes.model_label(of_data)
    if number is None:  # no class of the model matches, or several do, so _find raises the error
        lookups = (full_names, classes.model_names), (synonyms, classes.model_names)
        name = classes.data_names[of_data]
        number = _find(name, classes, f" for {item.path}", *lookups)
    return replace(item, target=number if item.target >= 0 else ~number)


def _find(value: Class, classes: ClassMatch, where: str, *lookups: Lookup) -> int:
    """Return the number of a class given by number or name; raise a JobError if no lookup finds the name."""
    if isinstance(value, int):
        return value
    try:
        number = find_class(value, lookups, where)
    except ValueError as error:
        raise usage_error(str(error)) from error
    if number is not None:
        return number
    if value.startswith(ABSENT):
        return ~_find(_parse_target_class(value.removeprefix(ABSENT), f" in {value!r}"), classes, where, *lookups)
    searched = [names for _, names in lookups if names is not None]
    owners = ("model", classes.model_names), ("data", classes.data_names)
    known = [(owner, names) for owner, names in owners if any(names is other for other in searched)]
    known = known or [("data", None)]  # no names: the message ends with "(classes of the data: no names)"
    expected = "the number or name of a class" if where else TARGET_FORMS
    keywords = () if where else (LABEL, COLUMN, *RANKS)
    raise usage_error(f"target must be {expected}, {unknown_class(value, lookups, known, keywords, where)}")


def _parse_target_class(value, where: str = "") -> Class:
    """Return a class number or name. Raise a JobError for anything else. ``where`` is the location, for messages."""
    try:
        parsed = parse_class(value, "target", "target")
    except JobError:
        parsed = None
    if parsed is None:
        expected = "the number or name of a class" if where else TARGET_FORMS
        raise usage_error(f"target must be {expected}, got {shown(value)}{where}; classes are numbered from 0")
    return parsed


def _class_rule(value: Class) -> TargetRule:
    return TargetRule("class", {"kind": "class", "class": value}, table={0: value})


def _map_rule(pairs: Mapping) -> TargetRule:
    table: dict[Class, Class] = {}
    for source, value in pairs.items():
        where = f" in '{source}={value}'"
        key, target = _parse_target_class(source, where), _parse_target_class(value, where)
        if table.setdefault(key, target) != target:
            text = f"{key!r} twice: with {table[key]!r}, and{where}"
            raise usage_error(f"target must map each class only once, got {text}")
    if not table:
        raise usage_error("target must map at least one class, got none")
    return TargetRule("map", {"kind": "map", "map": {str(k): v for k, v in table.items()}}, table=table)


def _parse_map(text: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for pair in text.removeprefix(MAP).split(","):
        source, equals, target = (part.strip() for part in pair.partition("="))
        if not (source and equals and target) or "=" in target:
            raise usage_error(f"target must be 'map:FROM=TO,FROM=TO' with classes, got {pair!r} in {text!r}")
        if pairs.setdefault(source, target) != target:
            both = f"'{source}={pairs[source]}' and '{source}={target}'"
            raise usage_error(f"target must map each class only once, got {source!r} twice: {both} in {text!r}")
    return pairs


def _read_json(path: str) -> dict:
    try:
        once = partial(distinct_pairs, f"target {path} must map each class only once")
        pairs = json.loads(Path(path).read_bytes(), object_pairs_hook=once)
    except (OSError, ValueError, RecursionError) as error:
        raise usage_error(f"target {path} must be a readable JSON file: {error}") from error
    if not isinstance(pairs, dict):
        raise usage_error(f"target {path} must contain a JSON object from class to class, got {type(pairs).__name__}")
    return pairs


def _csv_rule(path: str) -> TargetRule:
    try:
        with open_table(path, f"target {path}") as file:
            column, table = _csv_table(path, file)
        about = {"kind": "csv", "path": path, "sha256": sha256_of(Path(path))}
    except OSError as error:
        raise usage_error(f"target {path} must be a readable file: {error}") from error
    return TargetRule("csv", about, csv_column=column, table=table)


def _csv_table(path: str, file: TextIO) -> tuple[str, dict[str, Class]]:
    column, table = None, {}
    for where, row in csv_rows(file, f"target {path}", _check_columns):
        column = next(name for name in ("key", "path") if name in row)
        name = row[column]
        if not name or not row["target"].strip():
            raise usage_error(f"{where}: {column} and target must not be empty, got {row}")
        name = os.path.expanduser(name) if column == "path" else name
        target = parse_class(row["target"], f"{where}, column 'target', {column} {name!r}", "target")
        if table.setdefault(name, target) != target:
            text = f"target of {name!r} must be the same in all lines"
            raise usage_error(f"{where}: {text}, got {target!r} after {table[name]!r}")
    if not table:
        raise usage_error(f"target {path} must have at least one line after the header, got none")
    return column, table


def _check_columns(columns: list[str], where: str) -> None:
    if "target" not in columns or not {"key", "path"} & set(columns):
        raise usage_error(f"{where}: columns must include 'target', and 'key' or 'path', got {columns}")

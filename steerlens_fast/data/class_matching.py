"""Matches the classes of a data set with those of a model, by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from ..classifier.named_classes import (
    Names,
    aliases,
    all_aliases,
    full_names,
    normalized,
    normalized_names,
    numbers_by_name,
    synonyms,
)
from ..errors import usage_error

# Value of the option labels, in place of a file: the class numbers of the data are those of the model
NUMBERED = "numbered"
MAX_NAMES = 20  # largest number of names in a message
UNMATCHED_HINT = (
    "rename these classes, or set --labels numbered (in Python labels='numbered') if the class numbers of the data are "
    "those of the model"
)
WORDNET_ID = re.compile(r"n\d{8}")


class ClassMatch:
    """The classes of a data set and of a model, matched by name.

    Names match if they are equal, or if one is a synonym of the other ("tabby" and "tabby, tabby cat"), or if they
    differ only in case or in spaces, underscores and hyphens. WordNet ids such as "n02124075" are names, too. If all
    names of the data are whole numbers, a name that no class of the model has is taken as the number of a class of the
    model. If the data have as many classes as the model, all with WordNet ids that no class of the model has, the
    classes of both are taken to be in the order of ImageNet.

    Parameters
    ----------
    data_names, model_names : sequence of str, optional
        Names of the classes, in the order of their numbers.
    labels : str, optional
        "numbered" if the class numbers of the data are those of the model, whatever their names.

    Attributes
    ----------
    data_names, model_names : sequence of str or None
    numbers : list of (int or None), or None
        The number of the model's class for each class of the data. If several classes match, only the class with the
        same number as the data's class can be taken, and only if data and model have equally many classes. An entry is
        None if no class is taken. ``numbers`` is None if the data's class numbers are used unchanged: if data or model
        have no class names, if ``labels`` is "numbered", or if each class has the same number in both.

    Examples
    --------
    >>> classes = ClassMatch(["Egyptian_cat", "espresso", "owl"], ["tench", "espresso", "Egyptian cat"])
    >>> classes.numbers, classes.model_label(0), classes.unmatched()
    ([2, 1, None], 2, ['owl'])
    >>> ClassMatch(["cat", "dog"]).numbers is None
    True
    """

    def __init__(self, data_names: Names = None, model_names: Names = None, labels: str | None = None):
        self.data_names, self.model_names, self.numbers = data_names, model_names, None
        if data_names is not None and model_names is not None and labels != NUMBERED:
            numbers = list(_match(tuple(data_names), tuple(model_names)))
            self.numbers = None if numbers == list(range(len(numbers))) else numbers

    def model_label(self, label: int | None) -> int | None:
        """Return the model's class for a label, a class of the data; None if there is none."""
        return matched_label(label, self.numbers)

    def unmatched(self) -> list[str]:
        """Return the names of the data's classes whose entry in :attr:`numbers` is None.

        Examples
        --------
        >>> ClassMatch(["cat", "dgo"], ["cat", "dog"]).unmatched()
        ['dgo']
        """
        return [name for name, number in zip(self.data_names or (), self.numbers or ()) if number is None]

    def check(self, needed_by: str | None, *, model: str = "model", more_hints: str = "") -> list[str]:
        """Return a list of at most one warning, about the classes that :meth:`unmatched` returns.

        ``needed_by`` is an option, such as "target 'label'", for which labels must be classes of the model. With this
        option, a JobError is raised instead. ``model`` and ``more_hints`` are words of the message.
        """
        names = self.unmatched()
        if not names:
            return []
        more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        shown = ", ".join(map(repr, names[:MAX_NAMES]))
        text = f"these classes of the data match no class of the model, or several: {shown}{more}"
        if needed_by is not None:
            needs = f"{needed_by} needs labels that are classes of the {model}"
            raise usage_error(f"{needs}; {text}: {UNMATCHED_HINT}{more_hints}")
        return [f"{text}; their images count as images without a label: {UNMATCHED_HINT}"]

    def data_names_by_class(self, data_names: Names) -> list[tuple[str, ...]]:
        """Return the data's names for each class of the model, in the order of the model's classes.

        The argument is always :attr:`data_names`: :func:`.find_class` needs a function of names.
        """
        if self.numbers is None:
            return full_names(data_names)
        names: list[tuple[str, ...]] = [()] * len(self.model_names or ())
        for name, number in zip(data_names or (), self.numbers):
            if number is not None:
                names[number] += (name,)
        return names


def matched_label(label: int | None, numbers: Sequence[int | None] | None) -> int | None:
    """Return the model's class for a label, where ``numbers`` are those of a :class:`ClassMatch`.

    Examples
    --------
    >>> matched_label(1, [7, 3]), matched_label(1, None), matched_label(0, [None])
    (3, 1, None)
    """
    if label is None or numbers is None:
        return label
    return numbers[label] if label < len(numbers) else None


@lru_cache(8)
def _match(data_names: tuple[str, ...], model_names: tuple[str, ...]) -> tuple[int | None, ...]:
    tables = _lookup_tables(model_names)
    same_count = len(data_names) == len(model_names)
    if same_count and all(map(WORDNET_ID.fullmatch, data_names)) and not any(name in tables[-1] for name in data_names):
        return tuple(range(len(data_names)))
    numeric = all(name.isdecimal() for name in data_names)
    return tuple(
        _find(name, number if same_count else None, tables, len(model_names) if numeric else 0)
        for number, name in enumerate(data_names)
    )


def _find(name: str, position: int | None, tables: list[dict[str, list[int]]], num_classes: int) -> int | None:
    """Return the number of the model's class with a name of the data.

    If several classes have the name, the result is ``position`` if this class has the name, else None. A name that is a
    number below ``num_classes`` is the number of a class; ``num_classes`` is 0 unless all data names are numbers.
    """
    exact, loose = [name, *synonyms([name])[0]], [normalized(name), *sorted(aliases(name))]
    for names, table in zip((exact[:1], exact, loose[:1], loose), tables):
        found = set().union(*(table.get(entry, ()) for entry in names))
        if len(found) > 1 and position not in found:
            return None
        if found:
            return found.pop() if len(found) == 1 else position
    return int(name) if num_classes and int(name) < num_classes else None


def _lookup_tables(model_names: tuple[str, ...]) -> list[dict[str, list[int]]]:
    """Return four tables from names to numbers of classes: full names, synonyms, normalized full names, aliases."""
    # Each pair has the arguments names_of and split of numbers_by_name.
    pairs = ((set, full_names), (set, synonyms), (normalized_names, full_names), (all_aliases, full_names))
    return [numbers_by_name(names_of, split, model_names) for names_of, split in pairs]

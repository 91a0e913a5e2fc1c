"""Finds the numbers of classes by their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from ..checks import did_you_mean

MAX_NAMES = 4  # largest number of names in a message
WORDNET_PREFIX = re.compile(r"(n\d{8})[\s_:,-]+(.+)")  # such as "n02124075-Egyptian_cat"
Names = Sequence[str] | None
# One way to find a class: a function such as full_names or synonyms, and the class names to call it with
Lookup = tuple[Callable[[Names], list[tuple[str, ...]]], Names]


def full_names(names: Names) -> list[tuple[str, ...]]:
    """Return the full name of each class, as a tuple of this one name."""
    return [(name,) for name in names or []]


def synonyms(names: Names) -> list[tuple[str, ...]]:
    """Return the synonyms in the name of each class. Commas separate them, as in ImageNet."""
    return [tuple(part.strip() for part in name.split(",")) for name in names or []]


def find_class(name: str, lookups: Sequence[Lookup], where: str = "") -> int | None:
    """Return the number of the class with a name; None if there is none.

    ``where`` says in error messages where the name was found, such as a line of a file. The lookups are tried in order:
    all for the exact name, then all for names that differ from it only in case, or in spaces, underscores and hyphens,
    then all for :func:`aliases`. The first that finds the name decides.

    Raises
    ------
    ValueError
        If the lookup that decides finds several classes.

    Examples
    --------
    >>> lookups = [(full_names, ["ant", "Egyptian cat, mau"])]
    >>> [find_class(name, lookups) for name in ("ant", "egyptian_cat, mau", "Mau", "owl")]
    [0, 1, 1, None]
    """
    loose = normalized(name)
    for wanted, names_of in ((name, set), (loose, normalized_names), (loose, all_aliases)):
        for split, names in lookups:
            numbers = numbers_by_name(names_of, split, None if names is None else tuple(names)).get(wanted, ())
            if len(numbers) > 1:
                text = f"target must name one class, got {name!r}{where}, the name of {len(numbers)} classes"
                by_number = split(names)  # ``names`` may have another order, see ClassMatch.data_names_by_class
                known = ", ".join(f"{number} {', '.join(by_number[number])!r}" for number in numbers[:MAX_NAMES])
                raise ValueError(f"{text} ({known}): give the number")
            if numbers:
                return numbers[0]
    return None


@lru_cache(16)  # enough for a model and its data
def numbers_by_name(
    names_of: Callable[[tuple[str, ...]], set[str]], split: Callable, names: tuple[str, ...] | None
) -> dict[str, list[int]]:
    """Return, for each name, the numbers of the classes that have it.

    ``split`` returns the names of each class, and ``names_of`` turns those of one class into all names by which it is
    found. The result must not be changed, since it is cached.
    """
    numbers: dict[str, list[int]] = {}
    for number, of_class in enumerate(split(names)):
        for name in names_of(of_class):
            numbers.setdefault(name, []).append(number)
    return numbers


def normalized_names(names: tuple[str, ...]) -> set[str]:
    """Return all names of a class, normalized."""
    return set(map(normalized, names))


def all_aliases(names: tuple[str, ...]) -> set[str]:
    """Return the aliases of all names of a class."""
    return set().union(*map(aliases, names))


def normalized(name: str) -> str:
    """Return a name in lower case, with single spaces in place of spaces, underscores and hyphens.

    Examples
    --------
    >>> normalized("Egyptian_Cat")
    'egyptian cat'
    """
    return " ".join(re.split(r"[\s_-]+", name.strip().casefold()))


def aliases(name: str) -> set[str]:
    """Return all normalized names of a class: its name, its WordNet id, and its synonyms with and without this id.

    Examples
    --------
    >>> sorted(aliases("n02123045-tabby, tabby cat"))
    ['n02123045', 'n02123045 tabby', 'n02123045 tabby, tabby cat', 'tabby', 'tabby cat']
    """
    names = [name, *synonyms([name])[0]]
    for text in list(names):
        if prefixed := WORDNET_PREFIX.fullmatch(text):
            names += [prefixed[1], *synonyms([prefixed[2]])[0]]
    return {normalized(text) for text in names}


def unknown_class(
    name: str,
    lookups: Sequence[Lookup],
    owners: Sequence[tuple[str, Names]],
    keywords: Sequence[str] = (),
    where: str = "",
) -> str:
    """Return the end of a message about an unknown name: similar names, and some existing names.

    Parameters
    ----------
    name, lookups, where
        As in :func:`find_class`.
    owners : sequence of (str, sequence of str or None)
        "model" or "data", with the names of its classes.
    keywords : sequence of str
        Other texts that are valid in place of a name.

    Examples
    --------
    >>> unknown_class("cta", [(full_names, ["cat", "dog"])], [("model", ["cat", "dog"])])
    "got 'cta'; did you mean 'cat'? (classes of the model: 'cat', 'dog')"
    """
    words = list(dict.fromkeys(word for split, names in lookups for of_class in split(names) for word in of_class))
    close = _suggest_containing(name, words) or did_you_mean(name, [*words, *keywords])
    known = (f"classes of the {owner}: {shorten(names) if names else 'no names'}" for owner, names in owners)
    return f"got {name!r}{where}{close} ({'; '.join(known)})"


def shorten(names: Sequence) -> str:
    """Return the first names as text, and the number of the others."""
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(repr(name) for name in names[:MAX_NAMES]) + more


def _suggest_containing(value: str, names: list[str]) -> str:
    """Return the end of a message that suggests names with the word ``value``; "" if there are none.

    Examples
    --------
    >>> _suggest_containing("Cat", ["tiger cat", "Egyptian cat", "cattle"]), _suggest_containing("cow", ["tiger cat"])
    ("; did you mean 'tiger cat' or 'Egyptian cat'?", '')
    """
    word = re.compile(rf"\b{re.escape(value)}\b", re.IGNORECASE)
    close = [repr(name) for name in names if word.search(name) and "," not in name]  # single synonyms only
    more = f" or {len(close) - MAX_NAMES} others" if len(close) > MAX_NAMES else ""
    return f"; did you mean {' or '.join(close[:MAX_NAMES])}{more}?" if close else ""

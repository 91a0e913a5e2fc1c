"""Items of a data set, and the file that lists them."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from hashlib import blake2b, sha256
from itertools import zip_longest
from operator import attrgetter
from pathlib import Path

import numpy as np

from ..errors import usage_error
from ..io.atomic_io import atomic_write


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a data set.

    Attributes
    ----------
    index : int
        Position in the data set, counted from 0.
    key : str
        Unique name of the item's outputs: a relative path with "/" between its parts.
    path : str
        The image's file. If the image has no file of its own, a text for messages, such as
        ``"train-000.tar!0001.jpg"`` or ``"images.npy[17]"``.
    label : int or None
        The item's class: a class of the data or, after :meth:`.TargetRule.resolve`, of the model.
    place : list or None
        What the source needs to read the image; JSON-serialisable.
    target : int or None
        The class to morph toward, or ~n to remove label n. None if the target depends on the model, or if the item has
        no target.
    """

    index: int
    key: str
    path: str
    label: int | None = None
    place: list | None = None
    target: int | None = None


@dataclass(frozen=True)
class Listing:
    """What :func:`write_listing` has written.

    The byte of the file at which each shard begins, the number of items, the file's SHA-256, and the largest class
    number among the targets (None if no item has a target).
    """

    offsets: list[int]
    items: int
    sha256: str
    max_target: int | None


def write_listing(
    path: Path,
    items: Iterable[Item],
    shard_size: int,
    where: Callable[[Item], str] = attrgetter("path"),
    key_hint: str = "",
) -> Listing:
    """Write every item as a line of ``path``. A shard is ``shard_size`` consecutive items.

    Raises
    ------
    JobError
        If two items have the same key. The message has the locations of both items, as ``where`` returns them, and
        ``key_hint``, which says how to make keys unique.
    """
    digest, offsets, size, hashes, max_target = sha256(), [], 0, array("Q"), None
    with atomic_write(path) as file:
        for n, item in enumerate(items):
            if n % shard_size == 0:
                offsets.append(size)
            line = _line(item)
            file.write(line)
            digest.update(line)
            size += len(line)
            hashes.append(_hash(item.key))
            if item.target is not None:
                max_target = max(target_class(item.target), max_target or 0)
        file.flush()
        _check_unique_keys(hashes, Path(file.name), where, key_hint)
    return Listing(offsets, len(hashes), digest.hexdigest(), max_target)


def target_class(target: int) -> int:
    """Return the class number of a target, which is n for n and for ~n.

    Examples
    --------
    >>> target_class(3), target_class(~3)
    (3, 3)
    """
    return max(target, ~target)


def hash_items(items: Iterable[Item]) -> str:
    """Return the SHA-256 of the listing that :func:`write_listing` would write."""
    digest = sha256()
    for item in items:
        digest.update(_line(item))
    return digest.hexdigest()


def describe_first_change(listing: Path, items: Iterable[Item]) -> str:
    """Describe the first item that differs from a listing, or return "" if none does.

    Examples
    --------
    >>> import tempfile
    >>> listing = Path(tempfile.mkdtemp()) / "items.jsonl"
    >>> _ = write_listing(listing, [Item(0, "a", "a.png", label=3)], shard_size=1)
    >>> describe_first_change(listing, [Item(0, "a", "a.png", label=4)])
    'a.png (label was 3 and is 4 now)'
    """
    for before, now in zip_longest(read_listing(listing), (_parse(_line(item)) for item in items)):
        if before == now:
            continue
        if before is None:
            return f"the new item {now.path}"
        if now is None or before.path != now.path:
            return f"{'no item' if now is None else now.path} where {before.path} was"
        names = [field.name for field in fields(Item) if getattr(before, field.name) != getattr(now, field.name)]
        changes = (f"{name} was {getattr(before, name)} and is {getattr(now, name)} now" for name in names)
        return f"{now.path} ({', '.join(changes)})"
    return ""


def read_listing(path: Path, offset: int = 0, count: int | None = None) -> Iterator[Item]:
    """Yield the items of a listing from byte ``offset`` on, at most ``count``."""
    with open(path, "rb") as file:
        file.seek(offset)
        for n, line in enumerate(file):
            if n == count:
                return
            yield _parse(line)


# json.dumps would make an encoder for each call.
compact_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _line(item: Item) -> bytes:
    # dataclasses.astuple would make deep copies.
    values = (item.index, item.key, item.path, item.label, item.place, item.target)
    # surrogateescape keeps the bytes of file names that are not UTF-8.
    return compact_json(values).encode(errors="surrogateescape") + b"\n"


def _parse(line: bytes) -> Item:
    return Item(*json.loads(line.decode(errors="surrogateescape")))


def _hash(key: str) -> int:
    # A hash of 8 bytes takes less memory than the key; a data set may have millions of keys.
    return int.from_bytes(blake2b(key.encode(errors="surrogateescape"), digest_size=8).digest(), "little")


def _check_unique_keys(hashes: array, listing: Path, where: Callable[[Item], str], hint: str) -> None:
    values, counts = np.unique(np.frombuffer(hashes, np.uint64), return_counts=True) if hashes else ((), ())
    if len(values) != len(hashes):
        repeated = set(values[counts > 1].tolist())
        first = next(h for h in hashes if h in repeated)
        items = [item for item, h in zip(read_listing(listing), hashes) if h == first][:2]
        both = " and ".join(where(item) for item in items)
        text = f"keys must be unique in the data set, got {items[0].key!r} twice: {both}"
        raise usage_error(f"{text}; {hint}" if hint else text)

"""The items of a data set, and their listing on disk: one JSON line each, written and read as a stream."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b, sha256
from pathlib import Path

import numpy as np

from ..errors import USAGE, JobError
from ..io.atomic_io import atomic_write


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a data set.

    Attributes
    ----------
    index : int
        Its place in the data set, from 0.
    key : str
        What outputs call it: unique in the data set, a relative name with "/" between its parts.
    path : str
        Where it is, for people: a file, ``"train-000.tar!0001.jpg"``, ``"images.npy[17]"``.
    label : int or None
        The data's own class.
    place : list or None
        What its source needs to find it again; JSON-able.
    target : int or None
        The class to morph toward, where it is known before the model is run.
    """

    index: int
    key: str
    path: str
    label: int | None = None
    place: list | None = None
    target: int | None = None


@dataclass(frozen=True)
class Listing:
    """What :func:`write_listing` wrote: where each shard begins, how many items there are, the file's SHA-256."""

    offsets: list[int]
    items: int
    sha256: str


def write_listing(
    path: Path, items: Iterable[Item], shard_size: int, where: Callable[[Item], str] = lambda item: item.path
) -> Listing:
    """Write every item as a line of ``path``; JobError, saying ``where`` both are, where two have the same key."""
    digest, offsets, at, keys = sha256(), [], 0, array("Q")
    with atomic_write(path) as file:
        for n, item in enumerate(items):
            if n % shard_size == 0:
                offsets.append(at)
            line = _line(item)
            file.write(line)
            digest.update(line)
            at += len(line)
            keys.append(_hash(item.key))
        file.flush()
        _check_unique(keys, Path(file.name), where)
    return Listing(offsets, len(keys), digest.hexdigest())


def hash_items(items: Iterable[Item]) -> str:
    """The SHA-256 of the listing that :func:`write_listing` would write."""
    digest = sha256()
    for item in items:
        digest.update(_line(item))
    return digest.hexdigest()


def read_listing(path: Path, offset: int = 0, count: int | None = None) -> Iterator[Item]:
    """The items from byte ``offset`` on, at most ``count`` of them."""
    with open(path, "rb") as file:
        file.seek(offset)
        for n, line in enumerate(file):
            if n == count:
                return
            yield Item(*json.loads(line.decode(errors="surrogateescape")))


compact_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode  # json.dumps makes one for each call


def _line(item: Item) -> bytes:
    fields = item.index, item.key, item.path, item.label, item.place, item.target  # astuple() copies deeply
    return compact_json(fields).encode(errors="surrogateescape") + b"\n"  # names that are not UTF-8 keep their bytes


def _hash(key: str) -> int:
    # 8 bytes each instead of all names: a hundred thousand keys must not weigh on the driver
    return int.from_bytes(blake2b(key.encode(errors="surrogateescape"), digest_size=8).digest(), "little")


def _check_unique(hashes: array, listing: Path, where: Callable[[Item], str]) -> None:
    values, counts = np.unique(np.frombuffer(hashes, np.uint64), return_counts=True) if hashes else ((), ())
    if len(values) != len(hashes):
        twice = set(values[counts > 1].tolist())
        same = next(h for h in hashes if h in twice)
        items = [item for item, h in zip(read_listing(listing), hashes) if h == same][:2]
        both = " and ".join(where(item) for item in items)
        raise JobError(f"keys must be unique in the data set, got {items[0].key!r} twice: {both}", USAGE)

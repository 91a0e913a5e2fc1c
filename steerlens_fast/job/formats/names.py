"""Converts keys to names of files, folders and tar members.

The names are valid on the file systems of Linux, and different for different keys.

The parts of a key, between slashes, are converted as follows:

- "%", control characters, a leading "." and bytes that are not valid text are percent-encoded, as in a URL. The
  functions below say which other dots and underscores are encoded.
- Other characters, such as letters of any script, are unchanged.
- An empty part becomes "%".
- A part of more than 230 bytes is truncated, and ends in "%=" and a hash of the part.

A name of more than 1000 bytes is converted as if it were one part. Names that are not truncated and have no empty part
can be decoded by ``urllib.parse.unquote(name, errors="surrogatepass")``.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable
from hashlib import blake2b

import numpy as np

from ...data.sources.base import ENDINGS

MAX_PART_BYTES, MAX_NAME_BYTES = 230, 1000  # file systems allow 255 and 4096, and suffixes are appended
UNSAFE = re.compile("[%\x00-\x1f\x7f\ud800-\udfff]|^\\.")
FRAME = re.compile(r"frame_\d+\.png")


def directory_name(key: str) -> str:
    """Return the name of the folder with a key's frames.

    No part of it can be equal to a frame's file name, so that folders and frames cannot collide.

    Examples
    --------
    >>> directory_name("cats/a.jpg"), directory_name("../100%"), directory_name("a/frame_00.png")
    ('cats/a.jpg', '%2E./100%25', 'a/frame_00%2Epng')
    """
    return _join([_safe(part, encode_dots=bool(FRAME.fullmatch(part))) for part in key.split("/")])


def member_name(key: str) -> str:
    """Return the name of a key in a webdataset tar.

    It has no dots, since a sample's name ends at the first dot, and no part such as "__meta__", which webdataset skips.

    Examples
    --------
    >>> member_name("cats/a.b.jpg"), member_name("__meta__/x")
    ('cats/a%2Eb%2Ejpg', '%5F_meta__/x')
    """
    parts = [_safe(part, encode_dots=True) for part in key.split("/")]
    return _join(["%5F" + part[1:] if re.fullmatch("__.*__", part) else part for part in parts])


class FileNames:
    """The file names of a data set's keys.

    The image suffix of a key is left out, unless two names would then be equal.

    Parameters
    ----------
    keys : iterable of str
        All keys of the data set, so that a name does not depend on which items are written.

    Examples
    --------
    >>> names = FileNames(["1.png", "2.png", "2.jpg"])
    >>> [names(key, ".gif") for key in ("1.png", "2.png", "2.jpg")]
    ['1.gif', '2.png.gif', '2.jpg.gif']
    """

    def __init__(self, keys: Iterable[str]):
        hashes = array("Q")  # 8 bytes each, instead of names: a data set may have millions of keys
        for key in keys:
            # The two possible names of a key. They are a set, so that equal ones count once.
            hashes.extend({_hash(key), _hash(_without_suffix(key))})
        values, counts = np.unique(np.frombuffer(hashes, np.uint64), return_counts=True) if hashes else ((), ())
        self._ambiguous = {value for value, count in zip(values, counts) if count > 1}  # possible names of several keys

    def __call__(self, key: str, suffix: str) -> str:
        """Return the name of the file for a key."""
        short = _without_suffix(key)
        return file_name(key if _hash(short) in self._ambiguous else short, suffix)


def _without_suffix(key: str) -> str:
    """Return a key without its image suffix. The suffix remains if it is the whole name."""
    folder, slash, name = key.rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    return folder + slash + stem if stem.strip(".") and (dot + suffix).lower() in ENDINGS else key


def _hash(key: str) -> int:
    return int.from_bytes(blake2b(key.encode(errors="surrogatepass"), digest_size=8).digest(), "little")


def file_name(key: str, suffix: str) -> str:
    """Return the file name of a key.

    Dots in its folders are encoded, so that no folder has the name of a file.

    Examples
    --------
    >>> file_name("a.gif/b.jpg", ".gif")
    'a%2Egif/b.jpg.gif'
    """
    *folders, last = key.split("/")
    return _join([*(_safe(part, encode_dots=True) for part in folders), _safe(last, encode_dots=False)]) + suffix


def _safe(part: str, encode_dots: bool) -> str:
    part = UNSAFE.sub(lambda m: _percent(m[0]), part) or "%"
    return part.replace(".", "%2E") if encode_dots else part


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode(errors="surrogatepass"))


def _join(parts: list[str]) -> str:
    name = "/".join(part if len(part.encode()) <= MAX_PART_BYTES else _truncate(part) for part in parts)
    return name if len(name.encode()) <= MAX_NAME_BYTES else _truncate("%2F".join(parts))


def _truncate(part: str) -> str:
    digest = blake2b(part.encode(), digest_size=16).hexdigest()  # 128 bits, so that names of different keys differ
    # 190 bytes, "%=" and 32 digits are less than MAX_PART_BYTES.
    return f"{part.encode()[:190].decode(errors='ignore')}%={digest}"

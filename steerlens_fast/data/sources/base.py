"""What every source of images can do, and what several of them need."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator

from ...errors import USAGE, BadItem, JobError
from ..items import Item

# Of image files, in any case
SUFFIXES = ("jpg", "jpeg", "png", "bmp", "tif", "tiff", "gif", "webp", "ppm", "pgm", "pnm", "pbm", "jpe", "jfif")
ENDINGS = tuple(f".{s}" for s in SUFFIXES)
MAX_FILE = 1 << 30  # bytes; a larger file is no image that could be decoded here
EXAMPLES = 3  # of what is left out, by reason

# Folders that operating systems and other programs put beside data; those that begin with "." are hidden anyway
SYSTEM_FOLDERS = ("__MACOSX", "__pycache__", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information")
SYSTEM_FOLDERS += ("lost+found",)
HIDDEN, SYSTEM, NO_IMAGE = "hidden", "in a system folder", "no image file"  # reasons why an entry is left out


class LeftOut:
    """What a source holds that is neither an item nor part of one: counted by reason, with a few names.

    Examples
    --------
    >>> left_out = LeftOut()
    >>> left_out.add("hidden", ".DS_Store")
    >>> left_out.as_dict()
    {'hidden': {'count': 1, 'examples': ['.DS_Store']}}
    """

    def __init__(self):
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}

    def add(self, reason: str, name: str) -> None:
        """Count an entry."""
        self._counts[reason] = self._counts.get(reason, 0) + 1
        examples = self._examples.setdefault(reason, [])
        if len(examples) < EXAMPLES:
            examples.append(printable(name))

    def as_dict(self) -> dict[str, dict]:
        """JSON-able, sorted by reason."""
        return {r: {"count": n, "examples": self._examples[r]} for r, n in sorted(self._counts.items())}

    def as_text(self) -> str:
        """For messages: ``"2 hidden (.a, .b), 1 no image file (notes.txt)"``; empty where nothing is left out."""
        told = self.as_dict().items()
        return ", ".join(f"{of['count']} {reason} ({', '.join(of['examples'])})" for reason, of in told)


class Source:
    """Images, listed and read.

    Attributes
    ----------
    description : dict
        What it is, for people and for the plan; JSON-able, known from the start.
    class_names : list of str or None
        Names of the labels, known when the listing is at its end; None where there are none.
    labels_late : bool
        Whether a label may be known only when its item is read.
    left_out : LeftOut
        What the last listing, as far as it went, found to be neither an item nor part of one.
    """

    labels_late = False

    def __init__(self, about: dict, class_names: list[str] | None = None):
        self.description, self.class_names, self.left_out = about, class_names, LeftOut()

    def where(self, item: Item) -> str:
        """Where the item is told of, for messages."""
        return printable(item.path)

    def listing(self) -> Iterator[Item]:
        """Every item in a fixed order, the same on every machine, as a stream.

        Raises
        ------
        JobError
            Where nothing is there to be listed, or what says so is damaged.
        """
        raise NotImplementedError

    def read(self, item: Item):
        """The item's image: encoded bytes, or an array, tensor or PIL image for :func:`decode`.

        Any thread may call it, also of a process that never listed.

        Raises
        ------
        BadItem
            Where it cannot be read.
        """
        return read_file(item.path)

    def read_with_label(self, item: Item) -> tuple[object, int | None]:
        """What :meth:`read` gives, and the item's label, told only now where ``labels_late``."""
        return self.read(item), item.label


def usage_error(message: str) -> JobError:
    """An error of whoever started the job."""
    return JobError(message, USAGE)


def read_file(path: str) -> bytes:
    """All bytes of a file; BadItem where there are none to be had."""
    try:
        # unbuffered: one read of the known size; not blocking: a pipe without a writer would be waited for for ever
        with open(path, "rb", buffering=0, opener=lambda p, flags: os.open(p, flags | os.O_NONBLOCK)) as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise BadItem("unreadable", f"{printable(path)} is not a file")
            if about.st_size > MAX_FILE:
                raise BadItem("too-large", f"{about.st_size} bytes, at most {MAX_FILE} are read")
            data = file.readall()
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        raise BadItem("unreadable", f"{printable(path)}: {getattr(error, 'strerror', None) or error}") from error
    if not data:
        raise BadItem("empty", f"{printable(path)} has 0 bytes")
    return data


def printable(name: str | os.PathLike) -> str:
    """A file's name as text that can be printed anywhere: bytes that are not UTF-8 as escapes."""
    return os.fspath(name).encode(errors="surrogateescape").decode(errors="backslashreplace")


def safe_key(name: str) -> str:
    """A relative name: outputs are written under it, so no root and no step upwards stay in.

    Examples
    --------
    >>> safe_key("/data/../cats/./1.png")
    'data/cats/1.png'
    """
    return "/".join(part for part in name.split("/") if part not in ("", ".", ".."))


def check_key(key, where: str) -> str:
    """A key that someone chose: text that names something below a folder, in UTF-8 or a file system's bytes."""
    if isinstance(key, str) and key and safe_key(key) == key and is_name(key):
        return key
    raise usage_error(f"{where}: key must be a relative name without empty, '.' or '..' parts, got {key!r}")


def is_name(text: str) -> bool:
    """Whether a file could be called so: no NUL, and UTF-8 or, in Python's escapes, any bytes."""
    try:
        return b"\0" not in text.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # half of a pair, which JSON can tell
        return False


def numbered(index: int, count: int) -> str:
    """The key of an item that has no name.

    Examples
    --------
    >>> numbered(17, 50_000)
    '00017'
    """
    return f"{index:0{len(str(count))}}"


def parse_json(text: str | bytes, where: str) -> dict:
    """One JSON object."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise usage_error(f"{where}: must be a JSON object: {error}") from error
    if not isinstance(value, dict):
        raise usage_error(f"{where}: must be a JSON object, got {type(value).__name__}")
    return value


def in_system_folder(name: str) -> bool:
    """Whether one of the folders of a relative name is a system's.

    Examples
    --------
    >>> in_system_folder("data/__MACOSX/a.png"), in_system_folder("data/a.png")
    (True, False)
    """
    return any(part in SYSTEM_FOLDERS for part in name.split("/")[:-1])


def is_image_name(name: str) -> bool:
    """Whether a file is taken for an image: by its suffix, and not hidden."""
    return name.lower().endswith(ENDINGS) and not name.startswith(".")

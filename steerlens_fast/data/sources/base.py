"""The base class of sources, and helpers that several sources share."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from typing import TypeVar

from ...errors import BadItem, JobError, is_system_fault, to_job_error, usage_error
from ..items import Item

# Suffixes of image files; compared in lower case
SUFFIXES = ("jpg", "jpeg", "png", "bmp", "tif", "tiff", "gif", "webp", "ppm", "pgm", "pnm", "pbm", "jpe", "jfif")
ENDINGS = tuple(f".{s}" for s in SUFFIXES)
MAX_FILE = 1 << 30  # bytes; larger files are not read
RETRIES = 2  # how often an image is read again after a system fault (errors.is_system_fault)
MAX_EXAMPLES = 3  # names of left-out entries that are stored for each reason

# Folders that operating systems and other programs create; names that begin with "." are left out as hidden
SYSTEM_FOLDERS = ("__MACOSX", "__pycache__", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information")
SYSTEM_FOLDERS += ("lost+found",)
HIDDEN, SYSTEM, NO_IMAGE = "hidden", "in a system folder", "not an image"  # reasons to leave an entry out

Result = TypeVar("Result")


class LeftOut:
    """Counts the entries of a source that are not used.

    They are counted by reason, with a few names as examples.

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
        if len(examples) < MAX_EXAMPLES:
            examples.append(printable(name))

    def as_dict(self) -> dict[str, dict]:
        """Return the counts and examples, sorted by reason and JSON-serialisable."""
        return {r: {"count": n, "examples": self._examples[r]} for r, n in sorted(self._counts.items())}

    def as_text(self) -> str:
        """Return text such as ``"2 hidden (.a, .b), 1 not an image (notes.txt)"``.

        The result is "" if nothing is left out.
        """
        entries = self.as_dict().items()
        return ", ".join(f"{entry['count']} {reason} ({', '.join(entry['examples'])})" for reason, entry in entries)


class Source:
    """A data set of images, which can be listed and read.

    Attributes
    ----------
    description : dict
        Kind, paths and shape of the source; JSON-serialisable, recorded in the plan.
    class_names : list of str or None
        Names of the classes; None if they have no names. Some sources know them only after the first item.
    labels_read_with_images : bool
        Whether a label can be unknown until its image is read.
    left_out : LeftOut
        Entries that the last listing left out.
    key_hint : str
        How to make the keys of the items unique, for messages.
    """

    labels_read_with_images, key_hint = False, ""
    _names_looked_for = False

    def __init__(self, description: dict, class_names: list[str] | None = None):
        self.description, self.class_names, self.left_out = description, class_names, LeftOut()

    @property
    def class_numbers(self) -> dict[str, int]:
        """The numbers of the classes by name; empty if they have no names."""
        return {name: number for number, name in enumerate(self.class_names or ())}

    def where(self, item: Item) -> str:
        """Return the location of an item, for messages."""
        return printable(item.path)

    def channels(self) -> int | None:
        """Return the number of channels of the images, or of the first one: 1 or 3; None if it is not known."""
        return None

    def find_class_names(self) -> list[str] | None:
        """Return the names of the classes; None if they have no names.

        If they are not known yet, the source finds them by listing its first item. This is done only once, since it may
        read large files.
        """
        if self.class_names is None and not self._names_looked_for:
            self._names_looked_for = True
            next(self.listing(), None)
        return self.class_names

    def listing(self) -> Iterator[Item]:
        """Yield every item, in an order that is the same on every machine.

        Raises
        ------
        JobError
            If there are no items, or the source is damaged.
        """
        raise NotImplementedError

    def read(self, item: Item):
        """Return the image of an item, for :func:`decode`.

        The image is encoded bytes, an array, a tensor or a PIL image.

        This method must be thread-safe, and must work in a process that has not listed the source.

        Raises
        ------
        BadItem
            If the image cannot be read.
        JobError
            If the storage or this process is the cause (:func:`is_system_fault`), so that other images cannot be read
            either.
        """
        return read_file(item.path)

    def read_with_label(self, item: Item) -> tuple[object, int | None]:
        """Return the image as :meth:`read` does, and the label of the item."""
        return self.read(item), item.label


def read_file(path: str) -> bytes:
    """Return all bytes of a file.

    Raise BadItem if the file is empty or cannot be read, and a JobError after a system fault (:func:`is_system_fault`).
    """
    try:
        data = read_with_retries(lambda: _read_regular_file(path), printable(path))
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL character
        raise BadItem("unreadable", f"{printable(path)}: {getattr(error, 'strerror', None) or error}") from error
    if not data:
        raise BadItem("empty", f"{printable(path)} has 0 bytes")
    return data


def read_with_retries(read: Callable[[], Result], where: str, retries: int = RETRIES) -> Result:
    """Return the result of ``read``, which reads the image at ``where``.

    After a system fault (:func:`is_system_fault`), ``read`` is called again. If this does not help, a JobError is
    raised. Other errors are raised unchanged.
    """
    try:
        return read()
    except Exception as error:
        if not is_system_fault(error):
            raise
        if retries:
            return read_with_retries(read, where, retries - 1)
        failure = to_job_error(error)
        raise JobError(f"{where} cannot be read: {failure}", failure.code) from error


def _read_regular_file(path: str) -> bytes:
    # Unbuffered, so that one call reads the file. Non-blocking, since opening a pipe could wait forever.
    with open(path, "rb", buffering=0, opener=lambda p, flags: os.open(p, flags | os.O_NONBLOCK)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise BadItem("unreadable", f"{printable(path)} must be a regular file")
        if status.st_size > MAX_FILE:
            raise BadItem("too-large", f"{printable(path)} must have at most {MAX_FILE} bytes, got {status.st_size}")
        return file.readall()


def printable(name: str | os.PathLike) -> str:
    """Return a file name as text, with undecodable bytes escaped."""
    return os.fspath(name).encode(errors="surrogateescape").decode(errors="backslashreplace")


def safe_key(name: str) -> str:
    """Return a name as a path that cannot leave the output folder.

    Examples
    --------
    >>> safe_key("/data/../cats/./1.png")
    'data/cats/1.png'
    """
    return "/".join(part for part in name.split("/") if part not in ("", ".", ".."))


def check_key(key, where: str) -> str:
    """Check that a key is a valid relative path, and return it."""
    if isinstance(key, str) and key and safe_key(key) == key and is_valid_path(key):
        return key
    raise usage_error(f"{where}: key must be a relative path without empty, '.' or '..' parts, got {key!r}")


def is_valid_path(text: str) -> bool:
    """Return whether a string can be a path: without NUL, and with surrogates only for undecodable bytes."""
    try:
        return b"\0" not in text.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # a lone surrogate, which JSON can contain
        return False


def numbered_key(index: int, count: int) -> str:
    """Return the key of an item without a name: its padded index.

    Examples
    --------
    >>> numbered_key(17, 50_000)
    '00017'
    """
    return f"{index:0{len(str(count))}}"


def in_system_folder(name: str) -> bool:
    """Return whether a relative path is inside one of ``SYSTEM_FOLDERS``.

    Examples
    --------
    >>> in_system_folder("data/__MACOSX/a.png"), in_system_folder("data/a.png")
    (True, False)
    """
    return any(part in SYSTEM_FOLDERS for part in name.split("/")[:-1])


def is_image_name(name: str) -> bool:
    """Return whether a file name has the suffix of an image, and is not hidden."""
    return name.lower().endswith(ENDINGS) and not name.startswith(".")

"""Reads webdataset tars.

Members with the same name before the first dot form a sample.
"""

from __future__ import annotations

import glob
import os
import re
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from ...errors import BadItem, usage_error
from ..items import Item
from ..labels import class_number, parse_class, sorted_class_names
from ..tables import json_object
from .base import (
    HIDDEN,
    NO_IMAGE,
    SUFFIXES,
    SYSTEM,
    LeftOut,
    Source,
    in_system_folder,
    printable,
    read_with_retries,
    safe_key,
)

LABEL_NAMES = ("label", "target", "cls")  # in a sample's .json; the first that exists is used
COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
COMPRESSED_ENDINGS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
BLOCK = tarfile.BLOCKSIZE
NO_LABELLED_IMAGE = "a label without an image of the same name"
NO_EARLIER_FILE = "a hard link without an earlier file"
SYMBOLIC_LINK, DEVICE, SPARSE = "symbolic link", "device or pipe", "sparse file"
# These members are left out. They still replace an earlier member of the same name, as when tar extracts them.
REPLACING = (SYMBOLIC_LINK, DEVICE, SPARSE)


class Member(NamedTuple):
    """A member of a .tar file: its name, and the offset and size of its bytes."""

    name: str
    offset: int
    size: int


class TarSource(Source):
    """The samples of .tar files, in their order in the files.

    The members ``a/1.jpg`` and ``a/1.cls``, for example, form the sample ``a/1``: a sample's name ends at the first dot
    of the file name, and the rest is the suffix. The image is the first member with a suffix such as ``jpg``, or else
    the first one whose suffix ends in ``.jpg`` or the like. The true label is in the member ``.cls``, or in ``.json``
    under "label", "target" or "cls". The key consists of the names of the file and the sample.

    Of several members with the same name, the last one is used, as when tar extracts them. Other members (folders,
    symbolic links, hidden files, and so on) and samples without an image are left out and counted.
    """

    key_hint = "give each sample its own name"

    def __init__(self, pattern: str):
        self.tars, self._other_files = find_tars(pattern), _other_files(pattern)
        super().__init__({"kind": "webdataset", "tars": self.tars})
        self._prefixes = _prefixes(self.tars)
        self._open = threading.local()  # the file that each thread has open; samples are mostly read in order

    def listing(self) -> Iterator[Item]:
        self.class_names, self.left_out = self._read_class_names(), LeftOut()
        numbers = self.class_numbers
        for name in self._other_files:
            self.left_out.add(HIDDEN if name.startswith(".") else "not a .tar file", name)
        index = 0
        for n, base, members in self._samples(self.left_out):
            image, key = _image(members), safe_key(f"{self._prefixes[n]}/{base}")
            where, label = self._label(n, members)
            number = class_number(label, where, numbers)
            yield Item(index, key, f"{self.tars[n]}!{image.name}", number, [n, image.offset, image.size])
            index += 1
        if not index:
            more = f" and {len(self.tars) - 1} more" if len(self.tars) > 1 else ""
            content = f"; unused entries: {self.left_out.as_text()}" if self.left_out.as_dict() else ": no entries"
            expected = f"data must be .tar files with images ({', '.join(SUFFIXES)})"
            raise usage_error(f"{expected}, got none in {printable(self.tars[0])}{more}{content}")

    def read(self, item: Item) -> bytes:
        number, offset, size = item.place
        try:
            data = read_with_retries(lambda: self._pread(number, size, offset), printable(item.path))
        except OSError as error:
            raise BadItem("unreadable", f"{printable(item.path)}: {error.strerror}") from error
        if len(data) < size:
            raise BadItem("truncated", f"{printable(item.path)} must have {size} bytes, got {len(data)}")
        if not data:
            raise BadItem("empty", f"{printable(item.path)} has 0 bytes")
        return data

    def _samples(self, left_out: LeftOut) -> Iterator[tuple[int, str, dict[str, Member]]]:
        """Yield each sample with an image: the number of its file, its name, and its members by suffix."""
        for n, tar in enumerate(self.tars):
            leave_out = partial(_leave_out, left_out, os.path.basename(tar))
            for base, members in _samples_of(tar, leave_out).items():
                image = _image(members)
                for suffix, member in members.items():
                    if image is None:
                        leave_out(NO_LABELLED_IMAGE if suffix in ("cls", "json") else NO_IMAGE, member.name)
                    elif member.name != image.name and _is_image_suffix(suffix):
                        leave_out("another image of one sample (names end at the first dot)", member.name)
                if image is not None:
                    yield n, base, members

    def _read_class_names(self) -> list[str] | None:
        """Return the class names; None if there are no labels, or the first one is a number."""
        classes = (parse_class(label, where) for where, label in self._labels())
        first = next((value for value in classes if value is not None), None)
        return sorted_class_names(self._labels()) if isinstance(first, str) else None

    def _labels(self) -> Iterator[tuple[str, object]]:
        return (self._label(n, members) for n, _, members in self._samples(LeftOut()))

    def _label(self, number: int, members: dict[str, Member]) -> tuple[str, object]:
        """Return the location of a sample's label, and the label or None."""
        for suffix in ("cls", "json"):
            if suffix not in members:
                continue
            name, offset, size = members[suffix]
            where = f"{printable(self.tars[number])}!{printable(name)}"
            text = self._pread(number, size, offset)
            if suffix == "cls" and not text.strip():
                continue  # the .cls is empty, but the label may be in the .json
            if suffix == "cls":
                return where, text.decode(errors="backslashreplace")
            row = json_object(text, where)
            return where, next((row[name] for name in LABEL_NAMES if name in row), None)
        return printable(self.tars[number]), None

    def _pread(self, number: int, size: int, offset: int) -> bytes:
        try:
            return os.pread(self._descriptor(number), size, offset)
        except OSError:
            self._open.number = None  # so that the file is opened again, which helps after ESTALE (errors.EXPLANATIONS)
            raise

    def _descriptor(self, number: int) -> int:
        if getattr(self._open, "number", None) != number:
            self._open.file = open(self.tars[number], "rb", buffering=0)  # closes the previous file
            self._open.number = number
        return self._open.file.fileno()


def _leave_out(left_out: LeftOut, tar: str, reason: str, name: str) -> None:
    left_out.add(reason, f"{tar}!{name}")


def find_tars(pattern: str) -> list[str]:
    """Return the absolute paths of .tar files.

    They are the tars in a folder, or those that match a pattern ({000..003}, {a,b}, *, ?).
    """
    if os.path.isdir(pattern):
        with os.scandir(pattern) as entries:
            names = [e.name for e in entries if e.name.lower().endswith(".tar") and not e.name.startswith(".")]
        return [os.path.join(os.path.abspath(pattern), name) for name in sorted(names)]
    tars = []
    for name in [pattern] if os.path.exists(pattern) else expand_braces(pattern):
        matches = [name] if os.path.exists(name) else sorted(glob.glob(name))
        if not matches:
            raise usage_error(f"data must name .tar files that exist, got {printable(name)}")
        if name.lower().endswith(COMPRESSED_ENDINGS):
            raise usage_error(f"data must be uncompressed .tar files, got {printable(name)}: decompress it first")
        tars += [os.path.abspath(m) for m in matches]
    return tars


def _other_files(pattern: str) -> list[str]:
    """Return the names in a folder that :func:`find_tars` does not use."""
    if not os.path.isdir(pattern):
        return []
    return sorted(n for n in os.listdir(pattern) if not n.lower().endswith(".tar") or n.startswith("."))


def expand_braces(pattern: str) -> list[str]:
    """Expand {000..003} and {a,b} as a shell does.

    Examples
    --------
    >>> expand_braces("{train,val}-{08..10}.tar")[1:4]
    ['train-09.tar', 'train-10.tar', 'val-08.tar']
    """
    match = re.search(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}", pattern)
    if match is None:
        return [pattern]
    first, last, names = match.groups()
    if names is None:
        width = len(first) if first.startswith("0") or len(first) == len(last) else 0
        middles = [f"{n:0{width}}" for n in range(int(first), int(last) + 1)]
    else:
        middles = names.split(",")
    before, after = pattern[: match.start()], pattern[match.end() :]
    return [before + middle + end for middle in middles for end in expand_braces(after)]


def _prefixes(tars: list[str]) -> list[str]:
    """Return for each file the prefix of its samples' keys.

    It is the name of the file, with its folders if two files have the same name.
    """
    names = [os.path.basename(t) for t in tars]
    if len(set(names)) < len(names):
        common = os.path.commonpath([os.path.dirname(t) for t in tars])
        names = [os.path.relpath(t, common) for t in tars]
    return [os.path.splitext(n)[0] for n in names]


def _samples_of(tar: str, leave_out: Callable[[str, str], None]) -> dict[str, dict[str, Member]]:
    """Return the members of each sample in a .tar file, by suffix."""
    samples: dict[str, dict[str, Member]] = {}
    for name, member in _files(tar, leave_out).items():
        folder, slash, file = name.rpartition("/")
        base, _, suffix = file.partition(".")
        if not base:
            leave_out(HIDDEN, member.name)
        elif in_system_folder(name):
            leave_out(SYSTEM, member.name)
        elif not suffix:
            leave_out("no suffix", member.name)
        else:
            members = samples.setdefault(folder + slash + base, {})
            if suffix.lower() in members:
                leave_out("another member whose name differs only in case", member.name)
            members.setdefault(suffix.lower(), member)
    return samples


def _files(tar: str, leave_out: Callable[[str, str], None]) -> dict[str, Member]:
    """Return the regular files and hard links, by their normalised names.

    Of several members with the same name, the last one counts, as for ``tar -x``.
    """
    files: dict[str, Member] = {}
    for member in _members(tar):
        name, reason = _normalized(member.name), _reason_to_leave_out(member)
        file = Member(member.name, member.offset_data, member.size)
        if member.islnk():  # a link to the last earlier file of the name linkname
            linked = files.get(_normalized(member.linkname))
            file, reason = (file, NO_EARLIER_FILE) if linked is None else (Member(member.name, *linked[1:]), None)
        if name in files and reason in (None, *REPLACING):
            leave_out("an earlier member of the same name", files.pop(name).name)
        if reason is None:
            files[name] = file
        else:
            leave_out(reason, member.name)
    return files


def _normalized(name: str) -> str:
    """Return a name without "./", "//" and a leading "/"."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _reason_to_leave_out(member: tarfile.TarInfo) -> str | None:
    """Return why a member cannot be read in place; None for regular files and hard links."""
    if member.isdir():
        return "directory"
    if member.issym():
        return SYMBOLIC_LINK
    if member.isdev():
        return DEVICE
    if member.issparse():
        return SPARSE
    return None if member.isreg() or member.islnk() else f"member of type {member.type!r}"


def _members(tar: str) -> Iterator[tarfile.TarInfo]:
    try:
        with open(tar, "rb") as file:
            head, size = file.read(8), os.fstat(file.fileno()).st_size
            compression = next((p for mark, p in COMPRESSIONS.items() if head.startswith(mark)), None)
            if compression:
                raise usage_error(
                    f"data must be uncompressed .tar files, got {compression} in {printable(tar)}: decompress it first"
                )
            file.seek(0)
            yield from _checked_members(
                tarfile.open(fileobj=file, mode="r:", errors="surrogateescape"), file, tar, size
            )
    except (OSError, tarfile.TarError) as error:
        raise usage_error(f"data must be complete .tar files, got {printable(tar)}: {error}") from error


def _checked_members(archive: tarfile.TarFile, file, tar: str, size: int) -> Iterator[tarfile.TarInfo]:
    """Yield the members, and check the end of the archive. tarfile would treat a damaged header as the end."""
    end = 0
    while (member := archive.next()) is not None:
        archive.members.clear()  # tarfile keeps them all in memory
        end = archive.offset  # end of its last block
        yield member
    file.seek(end)
    if end > size or file.read(BLOCK) != bytes(BLOCK):
        raise usage_error(
            f"data must be complete .tar files, got {printable(tar)}, truncated or damaged at byte {min(end, size)}"
        )
    while block := file.read(1 << 20):
        if any(block):
            got = f"{printable(tar)} with more bytes after the end of the archive at byte {end}"
            hint = "unpack it with tar --ignore-zeros"
            raise usage_error(f"data must be .tar files of one archive each, got {got}: {hint}")


def _is_image_suffix(suffix: str) -> bool:
    return suffix.rpartition(".")[2] in SUFFIXES


def _image(members: dict[str, Member]) -> Member | None:
    exact = (member for suffix, member in members.items() if suffix in SUFFIXES)
    return next(exact, None) or next((m for suffix, m in members.items() if _is_image_suffix(suffix)), None)

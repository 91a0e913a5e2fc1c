"""Webdataset shards: .tar files whose members are grouped to samples by their names."""

from __future__ import annotations

import glob
import os
import re
import tarfile
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ...errors import BadItem
from ..items import Item
from ..labels import class_number, parse_class, sorted_class_names
from .base import (
    HIDDEN,
    NO_IMAGE,
    SUFFIXES,
    SYSTEM,
    LeftOut,
    Source,
    in_system_folder,
    parse_json,
    printable,
    safe_key,
    usage_error,
)

LABELS = ("label", "target", "cls")  # in a sample's .json
PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
PACKED_ENDINGS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
BLOCK = tarfile.BLOCKSIZE
LINKS = 40  # at most followed from one member, as a kernel does


class Member(NamedTuple):
    """A member's name, and offset and size of its bytes in the tar."""

    name: str
    offset: int
    size: int


class TarSource(Source):
    """Samples of .tar files, in the tars' order.

    A sample is what has the same name up to the first dot after the last "/"; suffixes may be in any case. Its image is
    the first member that has only an image's suffix after it (else the first that ends in one), its label is in
    ``.cls``, or in ``.json`` under "label", "target" or "cls" (all its own class, the truth): a class number, or in all
    samples a class name; then the names, sorted, are the classes. The key is the tar's name and the sample's.

    A hard link stands for the member that it names. Of several members of one name the last one counts, as for tar.
    What is no part of a sample with an image is left out, and counted: directories, symbolic links, devices, hidden
    and system files, members without suffix, and samples without image.
    """

    def __init__(self, pattern: str):
        self.tars, self._other_files = find_tars(pattern), _other_files(pattern)
        super().__init__({"kind": "webdataset", "tars": self.tars})
        self._prefixes = _prefixes(self.tars)
        self._open = threading.local()  # each thread's last tar: samples are read in order, mostly

    def listing(self) -> Iterator[Item]:
        self.class_names, self.left_out = self._names(), LeftOut()
        numbers = {name: n for n, name in enumerate(self.class_names or ())}
        for name in self._other_files:
            self.left_out.add("no .tar file", name)
        index = 0
        for n, base, members in self._samples(self.left_out):
            image, key = _image(members), safe_key(f"{self._prefixes[n]}/{base}")
            where, label = self._label(n, members)
            number = class_number(label, where, numbers)
            yield Item(index, key, f"{self.tars[n]}!{image.name}", number, [n, image.offset, image.size])
            index += 1
        if not index:
            more = f" and {len(self.tars) - 1} more" if len(self.tars) > 1 else ""
            held = f": it has {self.left_out.as_text()}" if self.left_out.as_dict() else ", which is empty"
            wanted = f"data must be .tar files with images ({', '.join(SUFFIXES)})"
            raise usage_error(f"{wanted}, got none in {printable(self.tars[0])}{more}{held}")

    def read(self, item: Item) -> bytes:
        number, offset, size = item.place
        try:
            data = os.pread(self._descriptor(number), size, offset)
        except OSError as error:
            raise BadItem("unreadable", f"{printable(item.path)}: {error.strerror}") from error
        if len(data) < size:
            raise BadItem("truncated", f"{printable(item.path)}: {len(data)} of {size} bytes are in the tar")
        if not data:
            raise BadItem("empty", f"{printable(item.path)} has 0 bytes")
        return data

    def _samples(self, left_out: LeftOut) -> Iterator[tuple[int, str, dict[str, Member]]]:
        """Each sample with an image: its tar's number, its name, and its members by suffix."""
        for n, tar in enumerate(self.tars):
            leave = lambda reason, name, tar=tar: left_out.add(reason, f"{os.path.basename(tar)}!{name}")
            for base, members in _samples(tar, leave).items():
                image = _image(members)
                for suffix, member in members.items() if image is None else ():
                    leave("no image of its name" if suffix in ("cls", "json") else NO_IMAGE, member.name)
                for suffix, member in members.items() if image is not None else ():
                    if member.name != image.name and _is_image_suffix(suffix):
                        leave("another image of one sample (names end at the first dot)", member.name)
                if image is not None:
                    yield n, base, members

    def _names(self) -> list[str] | None:
        """The classes' names; all labels are read for them where the first one is a name."""
        labels = lambda: (self._label(n, members) for n, _, members in self._samples(LeftOut()))
        first = next((found for where, label in labels() if (found := parse_class(label, where)) is not None), None)
        return sorted_class_names(labels()) if isinstance(first, str) else None

    def _label(self, number: int, members: dict[str, Member]) -> tuple[str, object]:
        """Where a sample's label stands, and the label, None where there is none."""
        for suffix in ("cls", "json"):
            if suffix not in members:
                continue
            name, offset, size = members[suffix]
            where = f"{printable(self.tars[number])}!{printable(name)}"
            text = os.pread(self._descriptor(number), size, offset)
            if suffix == "cls":
                return where, text.decode(errors="backslashreplace")
            row = parse_json(text, where)
            return where, next((row[name] for name in LABELS if name in row), None)
        return printable(self.tars[number]), None

    def _descriptor(self, number: int) -> int:
        if getattr(self._open, "number", None) != number:
            self._open.file = open(self.tars[number], "rb", buffering=0)  # closes the one before
            self._open.number = number
        return self._open.file.fileno()


def find_tars(pattern: str) -> list[str]:
    """The tars that a folder, a name, or a pattern of {000..003}, {a,b}, * and ? means, as absolute paths."""
    if os.path.isdir(pattern):
        with os.scandir(pattern) as entries:
            names = [e.name for e in entries if e.name.lower().endswith(".tar") and not e.name.startswith(".")]
        return [os.path.join(os.path.abspath(pattern), name) for name in sorted(names)]
    found = []
    for name in [pattern] if os.path.exists(pattern) else expand(pattern):
        matches = [name] if os.path.exists(name) else sorted(glob.glob(name))
        if not matches:
            raise usage_error(f"data must name .tar files that exist, got {printable(name)}")
        if name.lower().endswith(PACKED_ENDINGS):
            raise usage_error(
                f"data must be plain .tar files, whose samples are read in place: unpack {printable(name)} first"
            )
        found += [os.path.abspath(m) for m in matches]
    return found


def _other_files(pattern: str) -> list[str]:
    """What a folder of tars holds besides."""
    if not os.path.isdir(pattern):
        return []
    return sorted(n for n in os.listdir(pattern) if not n.lower().endswith(".tar") or n.startswith("."))


def expand(pattern: str) -> list[str]:
    """Braces as a shell expands them.

    Examples
    --------
    >>> expand("{train,val}-{08..10}.tar")[1:4]
    ['train-09.tar', 'train-10.tar', 'val-08.tar']
    """
    found = re.search(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}", pattern)
    if found is None:
        return [pattern]
    first, last, names = found.groups()
    if names is None:
        width = len(first) if first.startswith("0") or len(first) == len(last) else 0
        middles = [f"{n:0{width}}" for n in range(int(first), int(last) + 1)]
    else:
        middles = names.split(",")
    before, after = pattern[: found.start()], pattern[found.end() :]
    return [before + m + rest for m in middles for rest in expand(after)]


def _prefixes(tars: list[str]) -> list[str]:
    """What keys begin with: the tars' names, with their folders where the names alone are not enough."""
    names = [os.path.basename(t) for t in tars]
    if len(set(names)) < len(names):
        common = os.path.commonpath([os.path.dirname(t) for t in tars])
        names = [os.path.relpath(t, common) for t in tars]
    return [os.path.splitext(n)[0] for n in names]


def _samples(tar: str, leave_out: Callable[[str, str], None]) -> dict[str, dict[str, Member]]:
    """Each sample's name and its members by suffix, from the tar's headers alone."""
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
                leave_out("another member of one name in other case", member.name)
            members.setdefault(suffix.lower(), member)
    return samples


def _files(tar: str, leave_out: Callable[[str, str], None]) -> dict[str, Member]:
    """The members that have bytes, by their plain names; hard links among them, which have another's."""
    found: dict[str, Member | tuple[str, str]] = {}  # a link: its name as written, the plain name that it links to
    for member in _members(tar):
        name, kind = _plain(member.name), _kind(member)
        if kind is not None:
            leave_out(kind, member.name)
            continue
        if name in found:
            leave_out("an earlier member of the same name", member.name)
        whole = Member(member.name, member.offset_data, member.size)
        found[name] = (member.name, _plain(member.linkname)) if member.islnk() else whole
    files = {name: _linked(member, found) for name, member in found.items()}
    for name, member in files.items():
        if member is None:
            leave_out("a hard link to what is not in the tar", found[name][0])
    return {name: member for name, member in files.items() if member is not None}


def _linked(member: Member | tuple[str, str], found: dict[str, Member | tuple[str, str]]) -> Member | None:
    """The member, or under its own name the one that it links to; None where that is not there."""
    target = member
    for _ in range(LINKS):
        if isinstance(target, Member) or target is None:
            break
        target = found.get(target[1])
    return Member(member[0], *target[1:]) if isinstance(target, Member) else None


def _plain(name: str) -> str:
    """A name without "./", "//" and the root."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _kind(member: tarfile.TarInfo) -> str | None:
    """Why a member has no bytes to be read in place; None where it has, itself or through a hard link."""
    if member.isdir():
        return "directory"
    if member.issym():
        return "symbolic link"
    if member.isdev():
        return "device or pipe"
    if member.issparse():
        return "sparse file"
    return None if member.isreg() or member.islnk() else f"member of type {member.type!r}"


def _members(tar: str) -> Iterator[tarfile.TarInfo]:
    try:
        with open(tar, "rb") as file:
            head, size = file.read(8), os.fstat(file.fileno()).st_size
            packing = next((p for mark, p in PACKED.items() if head.startswith(mark)), None)
            if packing:
                raise usage_error(
                    f"data must be plain .tar files, got {printable(tar)} packed by {packing}: unpack it first"
                )
            file.seek(0)
            yield from _whole(tarfile.open(fileobj=file, mode="r:", errors="surrogateescape"), file, tar, size)
    except (OSError, tarfile.TarError) as error:
        raise usage_error(f"data must be whole .tar files, got {printable(tar)}: {error}") from error


def _whole(archive: tarfile.TarFile, file, tar: str, size: int) -> Iterator[tarfile.TarInfo]:
    """The members, if the archive's end is there; tarfile takes a cut or a damaged header for it."""
    end = 0
    while (member := archive.next()) is not None:
        archive.members.clear()  # it remembers every one
        end = archive.offset  # of its last block
        yield member
    file.seek(end)
    if end > size or file.read(BLOCK) != bytes(BLOCK):
        raise usage_error(
            f"data must be whole .tar files, got {printable(tar)}, truncated or damaged at byte {min(end, size)}"
        )
    while block := file.read(1 << 20):
        if any(block):
            more = f"got {printable(tar)} with another one, or other bytes, after its end at byte {end}"
            raise usage_error(f"data must be one archive in each .tar file, {more}: unpack it by tar --ignore-zeros")


def _is_image_suffix(suffix: str) -> bool:
    return suffix.rpartition(".")[2] in SUFFIXES


def _image(members: dict[str, Member]) -> Member | None:
    exact = (member for suffix, member in members.items() if suffix in SUFFIXES)
    return next(exact, None) or next((m for suffix, m in members.items() if _is_image_suffix(suffix)), None)

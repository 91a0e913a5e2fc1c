"""Webdataset shards: .tar files whose members are grouped to samples by their names."""

from __future__ import annotations

import glob
import os
import re
import tarfile
import threading
from collections.abc import Iterator

from ..items import Item
from ..outcome import BadItem
from .base import SUFFIXES, Source, check_label, parse_json, safe_key, show, usage

LABELS = ("label", "target", "cls")  # in a sample's .json
PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
PACKED_ENDINGS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
BLOCK = tarfile.BLOCKSIZE
Member = tuple[int, int]  # offset and size of its bytes in the tar


class TarSource(Source):
    """Samples of .tar files, in the tars' order.

    A sample is what has the same name up to the first dot after the last "/". Its image is the first member that has
    only an image's suffix after it (else the first that ends in one), its label an int in ``.cls``, or in ``.json``
    under "label", "target" or "cls". Samples without image are left out. The key is the tar's name and the sample's.
    """

    def __init__(self, pattern: str):
        self.tars = find_tars(pattern)
        super().__init__({"kind": "webdataset", "tars": self.tars})
        self._prefixes = _prefixes(self.tars)
        self._open = threading.local()  # each thread's last tar: samples are read in order, mostly

    def listing(self) -> Iterator[Item]:
        index = 0
        for n, tar in enumerate(self.tars):
            for base, members in _samples(tar):
                suffix = _image_suffix(members)
                if suffix is not None:
                    key, path = safe_key(f"{self._prefixes[n]}/{base}"), f"{tar}!{base}.{suffix}"
                    yield Item(index, key, path, self._label(n, base, members), [n, *members[suffix]])
                    index += 1
        if not index:
            tars = f"{show(self.tars[0])} and {len(self.tars) - 1} more"
            raise usage(f"data must be .tar files with images ({', '.join(SUFFIXES)}), got none in {tars}")

    def read(self, item: Item) -> bytes:
        number, offset, size = item.place
        try:
            data = os.pread(self._descriptor(number), size, offset)
        except OSError as error:
            raise BadItem("unreadable", f"{show(item.path)}: {error.strerror}") from error
        if len(data) < size:
            raise BadItem("truncated", f"{show(item.path)}: {len(data)} of {size} bytes are in the tar")
        if not data:
            raise BadItem("empty", f"{show(item.path)} has 0 bytes")
        return data

    def _label(self, number: int, base: str, members: dict[str, Member]) -> int | None:
        for suffix in ("cls", "json"):
            if suffix not in members:
                continue
            where, (offset, size) = f"{show(self.tars[number])}!{show(base)}.{suffix}", members[suffix]
            text = os.pread(self._descriptor(number), size, offset)
            if suffix == "json":
                row = parse_json(text, where)
                label = next((row[name] for name in LABELS if name in row), None)
                return None if label is None else check_label(label, where)
            if not text.strip().isdigit():
                raise usage(f"{where}: must be an int from 0 on, got {text[:40]!r}")
            return int(text)
        return None

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
            raise usage(f"data must name .tar files that exist, got {show(name)}")
        if name.lower().endswith(PACKED_ENDINGS):
            raise usage(f"data must be plain .tar files, whose samples are read in place: unpack {show(name)} first")
        found += [os.path.abspath(m) for m in matches]
    return found


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


def _samples(tar: str) -> Iterator[tuple[str, dict[str, Member]]]:
    """Each sample's name and its members by suffix, from the tar's headers alone."""
    samples: dict[str, dict[str, Member]] = {}
    for member in _members(tar):
        folder, slash, name = member.name.rpartition("/")
        base, _, suffix = name.partition(".")
        if member.isreg() and not member.issparse() and base and suffix:
            samples.setdefault(folder + slash + base, {})[suffix] = (member.offset_data, member.size)
    yield from samples.items()


def _members(tar: str) -> Iterator[tarfile.TarInfo]:
    try:
        with open(tar, "rb") as file:
            head, size = file.read(8), os.fstat(file.fileno()).st_size
            packing = next((p for mark, p in PACKED.items() if head.startswith(mark)), None)
            if packing:
                raise usage(f"data must be plain .tar files, got {show(tar)} packed by {packing}: unpack it first")
            file.seek(0)
            yield from _whole(tarfile.open(fileobj=file, mode="r:", errors="surrogateescape"), file, tar, size)
    except (OSError, tarfile.TarError) as error:
        raise usage(f"data must be whole .tar files, got {show(tar)}: {error}") from error


def _whole(archive: tarfile.TarFile, file, tar: str, size: int) -> Iterator[tarfile.TarInfo]:
    """The members, if the archive's end is there; tarfile takes a cut or a damaged header for it."""
    end = 0
    while (member := archive.next()) is not None:
        archive.members.clear()  # it remembers every one
        end = archive.offset  # of its last block
        yield member
    file.seek(end)
    if end > size or file.read(BLOCK) != bytes(BLOCK):
        raise usage(f"data must be whole .tar files, got {show(tar)}, truncated or damaged at byte {min(end, size)}")


def _image_suffix(members: dict[str, Member]) -> str | None:
    exact = (s for s in members if s.lower() in SUFFIXES)
    return next(exact, None) or next((s for s in members if s.lower().rpartition(".")[2] in SUFFIXES), None)

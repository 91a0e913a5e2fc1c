"""IDX files of images and labels, the format of MNIST and Fashion-MNIST.

Files may be compressed with gzip.
"""

from __future__ import annotations

import gzip
import os
import re
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ...errors import usage_error
from .arrays import ArraySource, Labels
from .base import printable

PREFIX = "idx:"
FILE = re.compile(
    r"(?P<part>.+?)[-_.]*(?P<kind>images|labels)[-_.]*idx(?P<axes>[13])[-_.]ubyte(?P<gz>\.gz)?", re.IGNORECASE
)
ALIASES = {"t10k": "test"}  # MNIST's name of its test images
MAGIC = {"images": 0x803, "labels": 0x801}  # unsigned bytes, 3 axes or 1
DEFAULT = "train"
BLOCK_BYTES = 1 << 24


def idx_source(spec: str) -> ArraySource:
    """Open ``idx:FOLDER[#part]``: files such as ``train-images-idx3-ubyte`` and ``train-labels-idx1-ubyte``, also .gz.

    The part is the prefix of the file names, such as "train"; "test" also stands for MNIST's prefix "t10k". By default,
    the only part is opened or, if there are several, "train". The file of labels is optional.

    Raises
    ------
    JobError
        If the file of images is missing, or a file has a wrong magic number, count or length. The message names the
        file.
    """
    files = idx_files(spec)
    images = read_idx(files["images"], "images")
    labels = None
    if "labels" in files:
        labels = Labels(read_idx(files["labels"], "labels"), images.shape[:1], files["labels"])
    description = {"kind": "idx", "labels": files.get("labels")}
    return ArraySource(files["images"], description, images.shape, images.__getitem__, labels)


def split_spec(spec: str) -> tuple[str, str | None]:
    """Return the folder and the part of ``idx:FOLDER[#part]``; the part is None if it is not given.

    Examples
    --------
    >>> split_spec("mnist#test"), split_spec("mnist")
    (('mnist', 'test'), ('mnist', None))
    """
    folder, mark, part = spec.removeprefix(PREFIX).rpartition("#")
    return (folder, part) if mark else (part, None)


def absolute_spec(spec: str) -> str:
    """Return ``idx:FOLDER[#part]`` with ``~`` expanded and, if the folder exists, its absolute path."""
    folder, part = split_spec(spec)
    folder = os.path.expanduser(folder)
    return (
        PREFIX + (os.path.abspath(folder) if os.path.isdir(folder) else folder) + ("" if part is None else f"#{part}")
    )


def idx_files(spec: str) -> dict[str, str]:
    """Return the paths of the files of a part, by kind.

    The kinds are "images" and, if there is such a file, "labels".
    """
    folder, part = split_spec(spec)
    if not os.path.isdir(folder):
        raise usage_error(f"data must be idx:FOLDER[#part], got {printable(folder)}: no such folder")
    parts: dict[str, dict[str, str]] = {}
    for name in sorted(os.listdir(folder), reverse=True):  # so that a plain file takes precedence over its .gz
        path = os.path.abspath(os.path.join(folder, name))
        if (match := FILE.fullmatch(name)) and not os.path.isdir(path):
            file_part = match["part"].lower()
            parts.setdefault(ALIASES.get(file_part, file_part), {})[match["kind"].lower()] = path
    with_images = {name: files for name, files in parts.items() if "images" in files}
    chosen = part or (next(iter(with_images)) if len(with_images) == 1 else DEFAULT)
    lower = chosen.lower()
    if ALIASES.get(lower, lower) not in with_images:
        known = f"with the parts {', '.join(sorted(with_images))}" if with_images else "without such a file"
        expected = f"a folder with {chosen}-images-idx3-ubyte or {chosen}-images-idx3-ubyte.gz"
        raise usage_error(f"data must be {expected}, got {printable(folder)} {known}")
    return with_images[ALIASES.get(lower, lower)]


def read_idx(path: str, kind: str) -> np.ndarray:
    """Return the array in a file of images or labels. It is memory-mapped if the file is not compressed."""
    axes, name = MAGIC[kind] & 0xFF, printable(path)
    header = 4 * (1 + axes)
    compressed = path.lower().endswith(".gz")
    try:
        with gzip.open(path) if compressed else open(path, "rb") as file:
            magic, *shape = _header(file.read(header), kind, name)
            expected = int(np.prod(shape, dtype=object))
            body = _read_at_most(file, expected + 1) if compressed else None
    except (OSError, EOFError, gzip.zlib.error) as error:
        raise usage_error(f"{kind} must be a complete IDX file, got {name}: {error}") from error
    length = len(body) if compressed else Path(path).stat().st_size - header
    if length != expected:
        got = f"more than {expected}" if compressed and length > expected else length
        text = f"{expected} bytes after the header, which gives the shape {shape}"
        raise usage_error(f"{kind} must have {text}, got {got} in {name}")
    if not expected:
        raise usage_error(f"{kind} must have at least one value, got the shape {shape} in {name}")
    if compressed:
        return np.frombuffer(body, np.uint8).reshape(shape)
    return np.memmap(path, np.uint8, "r", header, tuple(shape))


def _read_at_most(file: BinaryIO, count: int) -> bytes:
    """Return up to ``count`` bytes. They are read in blocks, since a damaged header may have a huge ``count``."""
    body = bytearray()
    while len(body) < count and (part := file.read(min(BLOCK_BYTES, count - len(body)))):
        body += part
    return bytes(body)


def _header(data: bytes, kind: str, name: str) -> tuple[int, ...]:
    """Return the magic number and the shape of a file."""
    expected = MAGIC[kind]
    magic = int.from_bytes(data[:4], "big")
    if magic != expected:
        text = f"the magic number {expected} ({expected:#010x}, unsigned bytes with {expected & 0xFF} axes)"
        raise usage_error(f"{kind} must begin with {text}, got {magic} ({magic:#010x}) in {name}")
    if len(data) != 4 * (1 + (expected & 0xFF)):
        raise usage_error(
            f"{kind} must have a header of {4 * (1 + (expected & 0xFF))} bytes, got {len(data)} in {name}"
        )
    return struct.unpack(f">{len(data) // 4}I", data)

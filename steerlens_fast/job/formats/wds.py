"""Stores a shard as a webdataset tar.

Each morph has the lossless frames KEY.00.webp and so on, and a record KEY.json.

KEY is :func:`~steerlens_fast.job.formats.names.member_name` of the record's key. Items without frames are skipped.
"""

from __future__ import annotations

import io
import json
import tarfile
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from ...extras import require_extra
from ...io.atomic_io import atomic_write, existing_path
from .common import check_frames, map_in_threads, num_digits, read_image, records_with_frames, to_pil
from .names import member_name

suffix = ".tar"

# The fastest settings. (For lossless files, quality means effort.) For photographs, method 1 saves 7 % of the bytes and
# takes 4 times as long; method 4 saves 11 % and takes 20 times as long.
LOSSLESS = {"format": "webp", "lossless": True, "method": 0, "quality": 20}


def write(folder: Path, shard_name: str, frames: Tensor, records: list[dict], metadata: dict) -> dict[str, dict]:
    """Write a shard, see :class:`~steerlens_fast.job.formats.formats.Format`.

    The tar's comment has ``metadata``, and the numbers of frames and channels.
    """
    path, frames, stored = folder / (shard_name + suffix), check_frames(frames, (1, 3)), records_with_frames(records)
    require_extra("cli", "PIL.Image")
    comment = {"metadata": metadata, "channels": frames.shape[2], "frames": frames.shape[1]}
    # An empty tar gets no comment, since Python cannot open a tar that has only a comment.
    headers = {"comment": json.dumps(comment, sort_keys=True)} if stored else {}
    with atomic_write(path) as opened:
        file = _HashingWriter(opened)
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT, pax_headers=headers) as tar:
            for record, images in zip(stored, map_in_threads(lambda r: _encode(frames[r["row"]]), stored)):
                base, width = member_name(record["key"]), num_digits(len(images))
                for f, image in enumerate(images):
                    _add(tar, f"{base}.{f:0{width}d}.webp", image)
                _add(tar, f"{base}.json", json.dumps(record).encode())
    return {path.name: file.entry()}


def read(folder: Path, shard_name: str, records: list[dict]) -> Tensor:
    """Read morphs, see :class:`~steerlens_fast.job.formats.formats.Format`."""
    path, stored = existing_path(folder / (shard_name + suffix)), records_with_frames(records)
    if not stored:
        return torch.empty(0, 0, 0, 0, 0, dtype=torch.uint8, device="cpu")
    try:
        with tarfile.open(path, mode="r:") as tar:
            comment = json.loads(tar.pax_headers["comment"])
            count, channels = comment["frames"], comment["channels"]
            members = {member.name: member for member in tar}
            encoded = (_encoded(tar, members, record["key"], count) for record in stored)
            return torch.stack(list(map_in_threads(lambda images: _decode(images, channels), encoded)))
    except (tarfile.TarError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} must be an undamaged tar of format 'wds': {error}") from error
    except KeyError as error:
        raise ValueError(f"{path} must be a tar of format 'wds': {error} is missing") from error


def encode_lossless(image) -> bytes:
    """Encode a Pillow image as lossless WebP.

    Grey images are stored with three equal channels.

    Examples
    --------
    >>> encode_lossless(to_pil(torch.zeros(1, 8, 8, dtype=torch.uint8)))[8:16]
    b'WEBPVP8L'
    """
    file = io.BytesIO()
    image.convert("RGB").save(file, **LOSSLESS)
    return file.getvalue()


class _HashingWriter:
    """Wraps a file, and computes the hash and length of its content."""

    def __init__(self, file: BinaryIO):
        self.file, self.sha256, self.bytes = file, sha256(), 0

    def write(self, data) -> int:
        """Write bytes and return their number."""
        self.sha256.update(data)
        self.bytes += len(data)
        return self.file.write(data)

    def tell(self) -> int:
        """Return the number of bytes written."""
        return self.bytes

    def entry(self) -> dict:
        """Return the file's entry in the marker of a complete shard (``*.done.json``)."""
        return {"sha256": self.sha256.hexdigest(), "bytes": self.bytes}


def _encode(frames: Tensor) -> list[bytes]:
    return [encode_lossless(to_pil(frame)) for frame in frames]


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # mode 0644, time 0, owner 0: the same bytes for every user
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _encoded(tar: tarfile.TarFile, members: dict, key: str, count: int) -> list[bytes]:
    base, width = member_name(key), num_digits(count)
    return [tar.extractfile(members[f"{base}.{f:0{width}d}.webp"]).read() for f in range(count)]


def _decode(images: list[bytes], channels: int) -> Tensor:
    return torch.stack([read_image(io.BytesIO(image), "WEBP", channels) for image in images])

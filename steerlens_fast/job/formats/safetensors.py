"""Stores a shard as one safetensors file. It has the tensor "frames" [n, F, C, H, W] and metadata."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from ...extras import require_extra
from ...io.atomic_io import atomic_write, existing_path
from ...io.tensor_files import KEY
from .common import check_frames, records_with_frames

suffix = ".safetensors"
DTYPES = {torch.uint8: "U8", torch.uint16: "U16", torch.float32: "F32"}
# Bytes per write. With writes of 8 MiB or more, Linux 6.18 (ext4) takes 7 times the CPU time for the same file.
PIECE_BYTES = 1 << 20


def write(folder: Path, shard_name: str, frames: Tensor, records: list[dict], metadata: dict) -> dict[str, dict]:
    """Write a shard, see :class:`~steerlens_fast.job.formats.formats.Format`.

    The file is written without the package safetensors, which would copy all frames twice.
    """
    path, frames = folder / (shard_name + suffix), check_frames(frames, dtypes=tuple(DTYPES)).contiguous()
    header, data = _header(frames, metadata), memoryview(frames.reshape(-1).numpy()).cast("B")
    digest = sha256(header)
    with ThreadPoolExecutor(1) as pool:
        hashing = pool.submit(digest.update, data)  # runs while the file is written and flushed
        with atomic_write(path) as file:
            file.write(header)
            for start in range(0, len(data), PIECE_BYTES):
                file.write(data[start : start + PIECE_BYTES])
        hashing.result()
    return {path.name: {"sha256": digest.hexdigest(), "bytes": len(header) + len(data)}}


def read(folder: Path, shard_name: str, records: list[dict]) -> Tensor:
    """Read frames, see :class:`~steerlens_fast.job.formats.formats.Format`."""
    path = existing_path(folder / (shard_name + suffix))
    rows = [record["row"] for record in records_with_frames(records)]
    safetensors = require_extra("save", "safetensors")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            frames = file.get_slice("frames")
            shape = frames.get_shape()
            if any(row >= shape[0] for row in rows):
                raise ValueError(f"{path} must have at least {max(rows) + 1} rows, got {shape[0]}")
            if rows == list(range(shape[0])):
                return file.get_tensor("frames")
            selected = [frames[row : row + 1] for row in rows]
            return torch.cat(selected) if selected else frames[:0]
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} must be an undamaged safetensors file with frames: {error}") from error


def _header(frames: Tensor, metadata: dict) -> bytes:
    """Return the file's header, a length and padded JSON: https://github.com/huggingface/safetensors#format."""
    size = frames.numel() * frames.itemsize
    entry = {"dtype": DTYPES[frames.dtype], "shape": list(frames.shape), "data_offsets": [0, size]}
    text_metadata = {KEY: json.dumps(metadata, sort_keys=True)}
    text = json.dumps({"__metadata__": text_metadata, "frames": entry}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text

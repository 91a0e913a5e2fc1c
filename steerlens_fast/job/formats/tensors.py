"""A shard as one safetensors file: the tensor "frames" [n, F, C, H, W], and in its metadata what it is."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from ...extras import require_extra
from ...io.atomic_io import atomic_write
from ...io.tensor_files import KEY
from .common import check_frames, with_row

name = "safetensors"
suffix = ".safetensors"
DTYPES = {torch.uint8: "U8", torch.uint16: "U16", torch.float32: "F32"}


def write(folder: Path, stem: str, frames: Tensor, records: list[dict], about: dict) -> dict[str, dict]:
    """See :class:`~steerlens_fast.job.formats.formats.Format`.

    The package safetensors would copy all frames twice before it wrote them; the format is a header and the bytes.
    """
    path, frames = folder / (stem + suffix), check_frames(frames, dtypes=tuple(DTYPES)).contiguous()
    header, data = _header(frames, about), memoryview(frames.reshape(-1).numpy()).cast("B")
    digest = sha256(header)
    with ThreadPoolExecutor(1) as pool:
        hashing = pool.submit(digest.update, data)  # while the file is written, and while the disk takes it
        with atomic_write(path) as file:
            file.write(header)
            file.write(data)
        hashing.result()
    return {path.name: {"sha256": digest.hexdigest(), "bytes": len(header) + len(data)}}


def read(folder: Path, stem: str, records: list[dict]) -> Tensor:
    """See :class:`~steerlens_fast.job.formats.formats.Format`."""
    path, rows = folder / (stem + suffix), [record["row"] for record in with_row(records)]
    safetensors = require_extra("save", "safetensors")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            frames = file.get_slice("frames")
            shape = frames.get_shape()
            if any(row >= shape[0] for row in rows):
                raise ValueError(f"{path} must have a row {max(rows)}, got {shape[0]} rows")
            if rows == list(range(shape[0])):
                return file.get_tensor("frames")
            some = [frames[row : row + 1] for row in rows]
            return torch.cat(some) if some else frames[:0]
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} must be a whole safetensors file with frames: {error}") from error


def _header(frames: Tensor, about: dict) -> bytes:
    """Length and JSON, padded to 8 bytes: https://github.com/huggingface/safetensors#format."""
    size = frames.numel() * frames.itemsize
    told = {"dtype": DTYPES[frames.dtype], "shape": list(frames.shape), "data_offsets": [0, size]}
    metadata = {KEY: json.dumps(about, sort_keys=True)}
    text = json.dumps({"__metadata__": metadata, "frames": told}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text

"""Stores a shard as a folder of PNG images.

A morph is a folder KEY with the files frame_00.png and so on.

KEY is :func:`~steerlens_fast.job.formats.names.directory_name` of the record's key.
"""

from __future__ import annotations

import io
import os
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from ...extras import require_extra
from ...io.atomic_io import existing_path, sync_file, sync_folder
from .common import check_frames, map_in_threads, num_digits, read_image, records_with_frames, replacing_folder, to_pil
from .names import FRAME, directory_name

suffix = ""

DTYPES = (torch.uint8, torch.uint16)  # uint16 only for grey frames, as 16-bit PNG
LEVEL = 1  # zlib level; for photographs, level 6 saves 8 % of the bytes but takes twice the time


def write(folder: Path, shard_name: str, frames: Tensor, records: list[dict], metadata: dict) -> dict[str, dict]:
    """Write a shard, see :class:`~steerlens_fast.job.formats.formats.Format`; ``metadata`` is not stored."""
    path, frames, files = folder / (shard_name + suffix), check_frames(frames, (1, 3), DTYPES), {}
    if frames.dtype != torch.uint8 and frames.shape[2] != 1:
        raise ValueError(f"colour frames must be uint8, got {frames.dtype}")
    require_extra("cli", "PIL.Image")
    with replacing_folder(path) as temporary:
        for entries in map_in_threads(
            lambda r: write_morph(temporary, r["key"], frames[r["row"]]), records_with_frames(records)
        ):
            files |= entries
        for inner, _, _ in os.walk(temporary, topdown=False):
            sync_folder(Path(inner))
    sync_folder(folder)
    return {f"{path.name}/{file}": entry for file, entry in files.items()}


def read(folder: Path, shard_name: str, records: list[dict]) -> Tensor:
    """Read morphs, see :class:`~steerlens_fast.job.formats.formats.Format`."""
    path = existing_path(folder / (shard_name + suffix))
    morphs = list(map_in_threads(lambda r: _read_morph(path / directory_name(r["key"])), records_with_frames(records)))
    return torch.stack(morphs) if morphs else torch.empty(0, 0, 0, 0, 0, dtype=torch.uint8, device="cpu")


def write_morph(folder: Path, key: str, frames: Tensor, overwrite: bool = False) -> dict[str, dict]:
    """Write the frames of a morph to a folder in ``folder``; return the hash and size of each file by its name.

    Existing files are an error unless ``overwrite``. They may be those of another key, if the file system ignores case.
    """
    base, files = directory_name(key), {}
    (folder / base).mkdir(parents=True, exist_ok=True)
    for f, frame in enumerate(frames):
        file = f"{base}/frame_{f:0{num_digits(len(frames))}d}.png"
        buffer = io.BytesIO()
        to_pil(frame).save(buffer, "png", compress_level=LEVEL)
        with open(folder / file, "wb" if overwrite else "xb") as opened:
            opened.write(buffer.getbuffer())
            sync_file(opened)
        files[file] = {"sha256": sha256(buffer.getbuffer()).hexdigest(), "bytes": buffer.tell()}
    return files


def _read_morph(folder: Path) -> Tensor:
    names = sorted(file.name for file in folder.iterdir() if FRAME.fullmatch(file.name))
    if not names or names != [f"frame_{f:0{num_digits(len(names))}d}.png" for f in range(len(names))]:
        raise ValueError(f"{folder} must have the frames frame_00.png and so on, got {names}")
    try:
        return torch.stack([read_image(io.BytesIO((folder / file).read_bytes()), "PNG") for file in names])
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{folder} must have undamaged frames of one size: {error}") from error

"""A shard as a folder of pictures: KEY/frame_00.png and so on of each morph.

KEY is :func:`~steerlens_fast.job.formats.names.directory_name` of the record's own key. What is to be known about
the shard stands in the files beside it.
"""

from __future__ import annotations

import io
import os
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from ...extras import require_extra
from ...io.atomic_io import sync_file, sync_folder
from .common import ahead, check_frames, digits, read_picture, replacing_folder, to_picture, with_row
from .names import FRAME, directory_name

name = "folder"
suffix = ""

DTYPES = (torch.uint8, torch.uint16)  # the second of grey frames, as PNG of 16 bits
LEVEL = 1  # of zlib: of photographs, level 6 makes 8 % fewer bytes in twice the time


def write(folder: Path, stem: str, frames: Tensor, records: list[dict], about: dict) -> dict[str, dict]:
    """See :class:`~steerlens_fast.job.formats.formats.Format`. ``about`` is not written."""
    path, frames, files = folder / (stem + suffix), check_frames(frames, (1, 3), DTYPES), {}
    if frames.dtype != torch.uint8 and frames.shape[2] != 1:
        raise ValueError(f"frames must be uint8 to be pictures in colour, got {frames.dtype}")
    require_extra("cli", "PIL.Image")
    with replacing_folder(path) as temporary:
        for told in ahead(lambda r: _write_morph(temporary, r["key"], frames[r["row"]]), with_row(records)):
            files |= told
        for inner, _, _ in os.walk(temporary, topdown=False):
            sync_folder(Path(inner))
    sync_folder(folder)
    return {f"{path.name}/{file}": told for file, told in files.items()}


def read(folder: Path, stem: str, records: list[dict]) -> Tensor:
    """See :class:`~steerlens_fast.job.formats.formats.Format`."""
    morphs = list(ahead(lambda r: _read_morph(folder / (stem + suffix) / directory_name(r["key"])), with_row(records)))
    return torch.stack(morphs) if morphs else torch.empty(0, 0, 0, 0, 0, dtype=torch.uint8, device="cpu")


def _write_morph(folder: Path, key: str, frames: Tensor) -> dict[str, dict]:
    base, files = directory_name(key), {}
    (folder / base).mkdir(parents=True, exist_ok=True)
    for f, frame in enumerate(frames):
        file = f"{base}/frame_{f:0{digits(len(frames))}d}.png"
        buffer = io.BytesIO()
        to_picture(frame).save(buffer, "png", compress_level=LEVEL)
        with open(folder / file, "xb") as opened:
            opened.write(buffer.getbuffer())
            sync_file(opened)
        files[file] = {"sha256": sha256(buffer.getbuffer()).hexdigest(), "bytes": buffer.tell()}
    return files


def _read_morph(folder: Path) -> Tensor:
    found = sorted(file.name for file in folder.iterdir() if FRAME.fullmatch(file.name))
    if not found or found != [f"frame_{f:0{digits(len(found))}d}.png" for f in range(len(found))]:
        raise ValueError(f"{folder} must have frames from 0 on, got {found}")
    try:
        return torch.stack([read_picture(io.BytesIO((folder / file).read_bytes()), "PNG") for file in found])
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{folder} must have whole frames of one size: {error}") from error

"""Helpers for all formats: checks, images, threads, and atomic replacement of folders."""

from __future__ import annotations

import errno
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor

from ...errors import remove_volatile_text
from ...extras import require_extra
from ...io.atomic_io import backup_path, replace_keeping_backup, restore_backup, with_file_name

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_THREADS = 4  # few, since the model runs at the same time


def records_with_frames(records: list[dict]) -> list[dict]:
    """Return the records of items that have frames, in order."""
    return [record for record in records if record["row"] is not None]


def check_frames(
    frames: Tensor, channels: tuple[int, ...] | None = None, dtypes: tuple[torch.dtype, ...] = (torch.uint8,)
) -> Tensor:
    """Check the shape, device and dtype of frames.

    They must be [n, F, C, H, W] on the CPU, with one of ``channels`` and one of ``dtypes``.
    """
    if not isinstance(frames, Tensor) or frames.dtype not in dtypes or frames.device.type != "cpu":
        names = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise TypeError(f"frames must be a {names} tensor on the CPU, got {_describe(frames)}")
    if frames.dim() != 5:
        raise ValueError(f"frames must be [n, F, C, H, W], got {list(frames.shape)}")
    if channels is not None and frames.shape[2] not in channels:
        raise ValueError(f"frames must have 1 channel (grey) or 3 (RGB) to be stored as images, got {frames.shape[2]}")
    return frames.detach()


def as_8_bit(frames: Tensor) -> Tensor:
    """Convert stored frames of any dtype to uint8, for images.

    Examples
    --------
    >>> as_8_bit(torch.tensor([0.0, 0.5, 1.0])), as_8_bit(torch.tensor([0, 257, 65535], dtype=torch.uint16))
    (tensor([  0, 128, 255], dtype=torch.uint8), tensor([  0,   1, 255], dtype=torch.uint8))
    """
    if frames.dtype == torch.uint16:
        return ((frames.to(torch.int32) + 128) // 257).to(torch.uint8)
    return frames.mul(255).round_().to(torch.uint8) if frames.is_floating_point() else frames


def num_digits(count: int) -> int:
    """Return how many digits the frame numbers in file names have."""
    return max(2, len(str(count - 1)))


def to_pil(frame: Tensor) -> Image:
    """Convert a frame to a Pillow image. The frame is uint8 [C, H, W] with 1 or 3 channels, or uint16 [1, H, W]."""
    pixels = frame[0] if len(frame) == 1 else frame.movedim(0, -1)
    return require_extra("cli", "PIL.Image").fromarray(pixels.contiguous().numpy())


def read_image(file: BinaryIO, format: str, channels: int | None = None) -> Tensor:
    """Decode an image file to a frame. Only the first ``channels`` are returned, by default all."""
    try:
        pixels = torch.from_numpy(np.array(require_extra("cli", "PIL.Image").open(file, formats=[format])))
    except (OSError, SyntaxError, EOFError) as error:  # raised by Pillow for damaged files
        raise ValueError(f"a {format} image is damaged: {remove_volatile_text(str(error))}") from error
    return pixels[None] if pixels.dim() == 2 else pixels.movedim(-1, 0)[:channels]


def map_in_threads(function: Callable, items: Iterable) -> Iterator:
    """Yield ``function(item)`` for all items, in order.

    A few threads compute some results in advance.

    Examples
    --------
    >>> list(map_in_threads(abs, [-1, 2, -3]))
    [1, 2, 3]
    """
    threads = min(MAX_THREADS, len(os.sched_getaffinity(0)))
    with ThreadPoolExecutor(threads) as pool:
        pending = deque()
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > 2 * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Create a temporary folder that replaces ``path`` after the block.

    If the block raises an error, the temporary folder is deleted.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for word in ("old", "new"):
    ...         with replacing_folder(Path(folder, "a")) as temporary:
    ...             _ = Path(temporary, word).write_text(word)
    ...     [str(file.relative_to(folder)) for file in Path(folder).rglob("*")]
    ['a', 'a/new']
    """
    restore_backup(path, is_folder=True)
    temporary = path.with_name(f".{uuid4().hex}.tmp")
    try:
        temporary.mkdir()
        yield temporary
        if os.path.lexists(path):
            _replace_folder(temporary, path)
        else:
            os.rename(temporary, path)
    except OSError as error:
        raise with_file_name(error, path, temporary) from error
    finally:
        _remove(temporary)


def _replace_folder(temporary: Path, path: Path) -> None:
    """Replace a folder. Delete it first if it cannot be renamed, as in a lower layer of an overlay file system."""
    try:
        replace_keeping_backup(temporary, path)
    except OSError as error:
        if error.errno != errno.EXDEV or path.is_symlink():
            raise
        shutil.rmtree(path)
        os.rename(temporary, path)
    _remove(backup_path(path))


def _remove(path: Path) -> None:
    with suppress(OSError):  # an error here would hide the original one
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def _describe(value) -> str:
    return f"{value.dtype} on {value.device}" if isinstance(value, Tensor) else type(value).__name__

"""What the formats share: rows, pictures, work ahead in threads, digests of what is written, whole folders."""

from __future__ import annotations

import errno
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor

from ...extras import require_extra
from ...io.atomic_io import with_file_name

if TYPE_CHECKING:
    from PIL.Image import Image

THREADS = 4  # at most: beside them the model works


class Digested:
    """A file to write to, with the SHA-256 and the length of what was written."""

    def __init__(self, file: BinaryIO):
        self.file, self.sha256, self.bytes = file, sha256(), 0

    def write(self, data) -> int:
        """As a file's."""
        self.sha256.update(data)
        self.bytes += len(data)
        return self.file.write(data)

    def tell(self) -> int:
        """Bytes written so far."""
        return self.bytes

    def told(self) -> dict:
        """What a marker says of the file."""
        return {"sha256": self.sha256.hexdigest(), "bytes": self.bytes}


def with_row(records: list[dict]) -> list[dict]:
    """The records of items that have frames, in order."""
    return [record for record in records if record["row"] is not None]


def check_frames(
    frames: Tensor, channels: tuple[int, ...] | None = None, dtypes: tuple[torch.dtype, ...] = (torch.uint8,)
) -> Tensor:
    """Frames [n, F, C, H, W] on the CPU, of ``channels`` and ``dtypes`` that can be stored."""
    if not isinstance(frames, Tensor) or frames.dtype not in dtypes or frames.device.type != "cpu":
        names = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise TypeError(f"frames must be a {names} tensor on the CPU, got {_kind(frames)}")
    if frames.dim() != 5:
        raise ValueError(f"frames must be [n, F, C, H, W], got {list(frames.shape)}")
    if channels is not None and frames.shape[2] not in channels:
        raise ValueError(f"frames must have 1 channel (grey) or 3 (RGB) to be pictures, got {frames.shape[2]}")
    return frames.detach()


def as_8_bit(frames: Tensor) -> Tensor:
    """Stored frames of any type as uint8, for pictures.

    Examples
    --------
    >>> as_8_bit(torch.tensor([0.0, 0.5, 1.0])), as_8_bit(torch.tensor([0, 257, 65535], dtype=torch.uint16))
    (tensor([  0, 128, 255], dtype=torch.uint8), tensor([  0,   1, 255], dtype=torch.uint8))
    """
    if frames.dtype == torch.uint16:
        return ((frames.to(torch.int32) + 128) // 257).to(torch.uint8)
    return frames.mul(255).round_().to(torch.uint8) if frames.is_floating_point() else frames


def digits(count: int) -> int:
    """Of the numbers of so many frames, in file names."""
    return max(2, len(str(count - 1)))


def to_picture(frame: Tensor) -> Image:
    """A frame uint8 [C, H, W], of 1 or 3 channels, as a Pillow image, grey or RGB; or uint16 [1, H, W], 16-bit grey."""
    pixels = frame[0] if len(frame) == 1 else frame.movedim(0, -1)
    return require_extra("cli", "PIL.Image").fromarray(pixels.contiguous().numpy())


def read_picture(file: BinaryIO, kind: str, channels: int | None = None) -> Tensor:
    """What :func:`to_picture` was given, from an encoded file of one ``kind``; its first ``channels``, or all."""
    try:
        pixels = torch.from_numpy(np.array(require_extra("cli", "PIL.Image").open(file, formats=[kind])))
    except (OSError, SyntaxError, EOFError) as error:  # Pillow's words for damage: a ValueError here, not the disk's
        raise ValueError(f"a {kind} picture is damaged: {error}") from error
    return pixels[None] if pixels.dim() == 2 else pixels.movedim(-1, 0)[:channels]


def ahead(function: Callable, things: Iterable) -> Iterator:
    """``function`` of each, in order; worked out in a few threads, a few things ahead.

    Examples
    --------
    >>> list(ahead(abs, [-1, 2, -3]))
    [1, 2, 3]
    """
    threads = min(THREADS, len(os.sched_getaffinity(0)))
    with ThreadPoolExecutor(threads) as pool:
        waiting = deque()
        for thing in things:
            waiting.append(pool.submit(function, thing))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A new folder beside ``path``: renamed to ``path``, in place of an old one, when the block ends well, else gone.

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
    temporary, old = (path.with_name(f".{uuid4().hex}.tmp") for _ in range(2))
    try:
        temporary.mkdir()
        yield temporary
        if os.path.lexists(path):
            _rename_or_remove(path, old)
        try:
            os.rename(temporary, path)
        except OSError:
            if os.path.lexists(old):
                os.rename(old, path)
            raise
    except OSError as error:
        raise with_file_name(error, path, temporary) from error
    finally:
        for left in (temporary, old):
            with suppress(OSError):  # the error that is on its way says more
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink(missing_ok=True)


def _rename_or_remove(path: Path, old: Path) -> None:
    """Rename a folder that another replaces; one of a lower layer, as containers have them, can only be removed."""
    try:
        os.rename(path, old)
    except OSError as error:
        if error.errno != errno.EXDEV or path.is_symlink():
            raise
        shutil.rmtree(path)


def _kind(value) -> str:
    return f"{value.dtype} on {value.device}" if isinstance(value, Tensor) else type(value).__name__

"""The storage formats of shards, which are lossless.

A shard is a safetensors file, a tar of WebP images, or a folder of PNG images.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Protocol

from torch import Tensor

from ...checks import check_choice

FORMATS = ("safetensors", "wds", "folder")  # a format has the name of its module


class Format(Protocol):
    """The interface of a format's module.

    Attributes
    ----------
    suffix : str
        A shard is the file or folder ``shard_name + suffix``.
    """

    suffix: str

    def write(
        self, folder: Path, shard_name: str, frames: Tensor, records: list[dict], metadata: dict
    ) -> dict[str, dict]:
        """Write a shard, replacing an older one.

        If this fails, no new files remain.

        Parameters
        ----------
        folder : Path
            An existing folder.
        shard_name : str
            Beginning of the file names, such as ``"00000"``.
        frames : Tensor [n, F, C, H, W] on the CPU
            One row for each record whose "row" is not None. All formats store uint8; "safetensors" also stores uint16
            and float32, and "folder" uint16 if C is 1. For formats that store images, C is 1 or 3.
        records : list of dict
            Records of all items of the shard, in order, each with ``"key"`` and ``"row"``.
        metadata : dict
            Stored as JSON; equal metadata give equal bytes. "folder" does not store it.

        Returns
        -------
        dict
            ``{"sha256": str, "bytes": int}`` for each file, by its path in ``folder``; all are flushed to disk.

        Raises
        ------
        OSError
            If the file system raises an error, for example because it is full (``errno.ENOSPC``).
        TypeError, ValueError
            If the format cannot store the frames.
        """

    def read(self, folder: Path, shard_name: str, records: list[dict]) -> Tensor:
        """Read the frames of some records, exactly as written.

        The result is [n, F, C, H, W], with a row for each record that has one.

        If a process was killed while it replaced the shard, the shard's backup is read.

        Parameters
        ----------
        folder, shard_name
            As for :meth:`write`.
        records : list of dict
            All records of the shard, or some. If no record has a row, n is 0, and the other sizes may be 0, too.

        Raises
        ------
        OSError, ValueError
            If the shard is missing or damaged; a ValueError names the file or, with "folder", the folder of the morph.
        """


def get_format(name: str) -> Format:
    """Return the module of a format.

    Its optional packages are imported when it is used.

    Examples
    --------
    >>> import tempfile, torch
    >>> frames, records = torch.zeros(1, 2, 3, 8, 8, dtype=torch.uint8), [{"key": "cat/1.jpg", "row": 0}]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = get_format("safetensors").write(Path(folder), "00000", frames, records, {"frames": 2})
    ...     same = torch.equal(get_format("safetensors").read(Path(folder), "00000", records), frames)
    >>> list(files), same
    (['00000.safetensors'], True)
    """
    return importlib.import_module(f".{check_choice('format', name, FORMATS)}", __package__)

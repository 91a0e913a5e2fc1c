"""How a finished shard is stored: one safetensors file, a tar of WebP, or a folder of PNG; written whole, read bit for bit."""  # noqa: E501

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Protocol

from torch import Tensor

from ...checks import check_choice

MODULES = {"safetensors": "tensors", "wds": "wds", "folder": "folder"}


class Format(Protocol):
    """What every module of this room has.

    Attributes
    ----------
    name : str
        What the configuration calls it.
    suffix : str
        A shard is the file, or the folder, ``stem + suffix``.
    """

    name: str
    suffix: str

    def write(self, folder: Path, stem: str, frames: Tensor, records: list[dict], about: dict) -> dict[str, dict]:
        """Store a shard; what was there under its name is replaced. Nothing of it is left where that fails.

        Parameters
        ----------
        folder : Path
            Where to; it exists.
        stem : str
            What the shard's files begin with, ``"00000"``.
        frames : Tensor [n, F, C, H, W] on the CPU
            One row for each record that has one: uint8; "safetensors" also uint16 and float32, "folder" uint16 where C
            is 1. C is 1 or 3 where they become pictures.
        records : list of dict
            Of all items of the shard, in order, each with ``"key"`` and ``"row"``.
        about : dict
            What the file tells about itself, as JSON; the same ``about`` gives the same bytes.

        Returns
        -------
        dict
            ``{"sha256": str, "bytes": int}`` of each file, by its path relative to ``folder``. All are on the disk.

        Raises
        ------
        OSError
            From the file system: ``errno.ENOSPC`` where it is full.
        TypeError, ValueError
            Where the frames are none that can be stored so.
        """

    def read(self, folder: Path, stem: str, records: list[dict]) -> Tensor:
        """Frames [n, F, C, H, W] of those records that have a row, in their order, bit for bit what was written.

        Parameters
        ----------
        folder, stem
            As they were written.
        records : list of dict
            All of the shard's, or some: what belongs to others is not read, or at least not decoded. Where none has
            a row, sizes that no file tells are 0.

        Raises
        ------
        OSError, ValueError
            Where it is missing or damaged; a ValueError names the file.
        """


def get_format(name: str) -> Format:
    """The format that the configuration calls so; its packages are imported when it is used.

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
    return importlib.import_module(f".{MODULES[check_choice('format', name, tuple(MODULES))]}", __name__)

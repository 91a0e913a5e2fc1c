"""Reads and writes tensors in safetensors files, with settings in the metadata."""

from __future__ import annotations

import json
import os

from torch import Tensor

from ..checks import shown
from ..extras import require_extra
from .atomic_io import atomic_path

KEY = "steerlens_fast"  # the entry of the metadata that has kind, version and settings, as JSON


def write_tensors(path: str | os.PathLike, kind: str, tensors: dict[str, Tensor | None], settings: dict) -> None:
    """Write a safetensors file with the tensors that are not None.

    Its metadata contains ``settings``, and ``kind``, the name of the saved object's class.

    Examples
    --------
    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_tensors(f"{folder}/a.safetensors", "Pair", {"x": torch.ones(2), "y": None}, {"rule": "polar"})
    ...     read_tensors(f"{folder}/a.safetensors", "Pair")
    ({'x': tensor([1., 1.])}, {'rule': 'polar'})
    """
    from ..version import __version__

    safetensors = require_extra("save", "safetensors.torch")
    metadata = as_json({"kind": kind, "version": __version__, "settings": settings})
    with atomic_path(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        safetensors.save_file(_without_shared_memory(tensors), temporary, metadata={KEY: metadata})
        temporary.chmod(mode)  # the mode of the umask; safetensors makes files that only their owner can read


def read_tensors(path: str | os.PathLike, kind: str) -> tuple[dict[str, Tensor], dict]:
    """Return the tensors, on the CPU, and the settings that :func:`write_tensors` wrote."""
    safetensors = require_extra("save", "safetensors")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get(KEY, "{}"))
            if metadata.get("kind") == kind:
                return {name: file.get_tensor(name) for name in file.keys()}, metadata["settings"]
    except safetensors.SafetensorError as error:
        raise ValueError(f"path must be a complete safetensors file, got {os.fspath(path)!r}: {error}") from error
    raise ValueError(f"path must be a file that {kind}.save wrote, got {os.fspath(path)!r}")


def as_json(settings: dict) -> str:
    """Return settings as JSON; raise a TypeError if that is not possible."""
    try:
        return json.dumps(settings)
    except (TypeError, ValueError) as error:
        raise TypeError(f"settings must be JSON-serialisable, got {shown(settings)}: {error}") from error


def _without_shared_memory(tensors: dict[str, Tensor | None]) -> dict[str, Tensor]:
    """Return contiguous tensors in separate memory. safetensors does not store strides and views."""
    separate, seen = {}, set()
    for name, t in tensors.items():
        if t is not None:
            t = t.detach().contiguous()
            memory = t.untyped_storage().data_ptr()
            separate[name] = t.clone() if memory in seen else t
            seen.add(memory)
    return separate

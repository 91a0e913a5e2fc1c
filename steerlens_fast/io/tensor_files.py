"""Files that appear whole or not at all, and tensors in them."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from torch import Tensor

from ..extras import require_extra

# Of a storage device, not of whatever else a block does: where they name no file, it is the one that is written
STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE)
# What file systems answer that cannot rename over an existing file; sshfs says EPERM
NO_REPLACE = (errno.EEXIST, errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)

KEY = "steerlens_fast"  # under it, in the metadata of a file, stands what is told about the tensors


def expand_home(path: str | os.PathLike) -> str:
    """A path with the home directory in place of a leading ``~``, which a shell leaves alone in ``--out=~/x``.

    Examples
    --------
    >>> expand_home("~/morphs") == os.path.expanduser("~") + "/morphs", expand_home("a~b")
    (True, 'a~b')
    """
    return os.path.expanduser(os.fspath(path))


def output_folder(path: str | os.PathLike) -> Path:
    """A folder to be made; ValueError where it begins with the home of a user that there is not.

    Examples
    --------
    >>> output_folder("~no-such-user/morphs")
    Traceback (most recent call last):
    ValueError: out must be below a home directory that is known, got ~no-such-user/morphs; write ./~ for such a name
    """
    expanded = Path(expand_home(path))
    if str(expanded).startswith("~") and not os.path.lexists(expanded.parts[0]):
        text = f"out must be below a home directory that is known, got {expanded}; write ./~ for such a name"
        raise ValueError(text)
    return expanded


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A path beside ``path`` to write to: renamed to ``path`` when the block ends well, gone when it does not.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder, "a")) as temporary:
    ...         _ = temporary.write_text("whole")
    ...     [file.name for file in Path(folder).iterdir()]
    ['a']
    """
    path = Path(path)
    if not path.parent.is_dir():  # named by what was asked for, not by the temporary file's name
        raise FileNotFoundError(errno.ENOENT, "the folder to write into must exist", str(path.parent))
    temporary = path.with_name(f".{uuid4().hex}.tmp")  # of its own length: the file's name may be as long as names get
    try:
        yield temporary
        _replace(temporary, path)
    except OSError as error:
        raise with_path(error, path, temporary) from error
    finally:
        with suppress(OSError):  # the error that is on its way says more
            temporary.unlink(missing_ok=True)


def with_path(error: OSError, path: Path, temporary: Path | None = None) -> OSError:
    """The same error naming ``path``, where it names what is temporary, or nothing although a storage device raised it.

    Examples
    --------
    >>> with_path(OSError(errno.ENOSPC, "full"), Path("a")).filename
    'a'
    >>> with_path(OSError(errno.EINVAL, "no such name", ".0.tmp/x:y"), Path("a"), Path(".0.tmp")).filename
    'a/x:y'
    """
    named = None if error.filename is None else os.fspath(error.filename)
    if named is None and error.errno in STORAGE:
        return OSError(error.errno, error.strerror, str(path))
    if temporary is not None and isinstance(named, str) and Path(named).is_relative_to(temporary):
        return OSError(error.errno, error.strerror, str(path / Path(named).relative_to(temporary)))
    return error


def _replace(temporary: Path, path: Path) -> None:
    """``os.replace``; where the file system cannot, with a moment in which the old file has another name."""
    try:
        os.replace(temporary, path)
    except OSError as error:
        if error.errno not in NO_REPLACE or not path.is_file():
            raise
        old = path.with_name(f".{uuid4().hex}.tmp")
        try:
            os.rename(path, old)
        except OSError:
            raise error from None
        try:
            os.rename(temporary, path)
        except OSError:
            os.rename(old, path)
            raise
        with suppress(OSError):
            old.unlink()


@contextmanager
def atomic(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """An open binary file that becomes ``path`` when the block ends well; see :func:`replacing`."""
    with replacing(path) as temporary, open(temporary, "xb") as file:
        yield file


def write_tensors(path: str | os.PathLike, kind: str, tensors: dict[str, Tensor | None], settings: dict) -> None:
    """A safetensors file of the tensors that are there; ``kind``, version and settings as JSON in its metadata.

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
    about = as_json({"kind": kind, "version": __version__, "settings": settings})
    with replacing(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        safetensors.save_file(_apart(tensors), temporary, metadata={KEY: about})
        temporary.chmod(mode)  # safetensors' own files can be read by nobody else, whatever the umask says


def read_tensors(path: str | os.PathLike, kind: str) -> tuple[dict[str, Tensor], dict]:
    """What :func:`write_tensors` wrote: tensors on the CPU, and settings."""
    safetensors = require_extra("save", "safetensors")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(KEY, "{}"))
            if about.get("kind") == kind:
                return {name: file.get_tensor(name) for name in file.keys()}, about["settings"]
    except safetensors.SafetensorError as error:
        raise ValueError(f"path must be a whole safetensors file, got {os.fspath(path)!r}: {error}") from error
    raise ValueError(f"path must be a file that {kind}.save wrote, got {os.fspath(path)!r}")


def as_json(settings: dict) -> str:
    """Settings as JSON."""
    try:
        return json.dumps(settings)
    except (TypeError, ValueError) as error:
        raise TypeError(f"settings must be JSON-able, got {settings!r}: {error}") from error


def _apart(tensors: dict[str, Tensor | None]) -> dict[str, Tensor]:
    """Contiguous, and no two in one memory: the format keeps neither strides nor views."""
    apart, seen = {}, set()
    for name, t in tensors.items():
        if t is not None:
            t = t.detach().contiguous()
            memory = t.untyped_storage().data_ptr()
            apart[name] = t.clone() if memory in seen else t
            seen.add(memory)
    return apart

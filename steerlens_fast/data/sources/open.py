"""Opens a source.

The kind of data is detected from its name or type.
"""

from __future__ import annotations

import os
import re

from ...errors import usage_error
from ..class_matching import NUMBERED
from .base import Source, is_image_name, printable

CALLABLE_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_][\w.]*")
KINDS = (
    "a folder of images or .tar files, a .csv or .jsonl table, .tar files (also train-{000..003}.tar, *.tar), "
    "an image file, a .npy or .safetensors array, idx:FOLDER[#part], hf:NAME[#split], or pkg.mod:callable"
)


def open_source_from_config(config, data=None) -> Source:
    """Open the data of a configuration, or ``data`` if it is given."""
    data = config.data if data is None else data
    labels = None if config.labels == NUMBERED else config.labels  # a file of labels, or None
    return open_source(data, labels=labels, any_values=config.range is not None)


def open_source(data, *, labels: str | os.PathLike | None = None, any_values: bool = False) -> Source:
    """Open a data set of images.

    Parameters
    ----------
    data : str, path, or map-style data set
        One of

        * a folder of images, with or without a sub-folder for each class, or a folder of .tar files;
        * an image file;
        * a .csv or .jsonl with the column ``path`` and, optionally, ``label`` (the true class), ``target`` (the class
          to morph toward) and ``key``;
        * webdataset .tar files, by name or pattern;
        * an array in a .npy or .safetensors file;
        * IDX files, as ``"idx:FOLDER"`` or ``"idx:FOLDER#test"``;
        * a data set of Hugging Face, as ``"hf:NAME"`` or ``"hf:NAME#split"``;
        * a map-style data set of (image, label[, key]), or ``"pkg.mod:callable"`` that returns one.
    labels : str or path, optional
        A .npy of N class numbers or names, for an array of N images.
    any_values : bool
        Whether arrays may contain integers other than uint8 and uint16, and floats outside [0, 1].
        :func:`open_source_from_config` allows them if the configuration has a ``range``.

    Returns
    -------
    Source
        See :class:`~steerlens_fast.data.sources.Source`.

    Raises
    ------
    JobError
        If ``data`` does not exist or is none of these; with code ``USAGE``.

    Examples
    --------
    >>> source = open_source([(None, 3), (None, 1)])
    >>> [(item.key, item.label) for item in source.listing()]  # labels are None, since they are read with the images
    [('0', None), ('1', None)]
    >>> open_source("no/such.csv")
    Traceback (most recent call last):
    steerlens_fast.errors.JobError: data must exist, got no/such.csv: no such file or folder
    """
    is_path = isinstance(data, (str, os.PathLike))
    spec = os.path.expanduser(data) if is_path else ""
    if labels is not None and not spec.lower().endswith((".npy", ".safetensors")):
        shown = repr(spec) if is_path else type(data).__name__
        raise usage_error(
            f"labels must be None unless data is a .npy or .safetensors file, got {str(labels)!r} with data {shown}"
        )
    if is_path:
        return _open_path(spec, None if labels is None else os.path.expanduser(labels), any_values)
    from .python import PythonSource

    return PythonSource(data)


def _open_path(spec: str, labels: str | None, any_values: bool) -> Source:
    if os.path.isdir(spec):
        return _open_folder(spec)
    if spec.startswith("idx:"):
        from .idx import idx_source

        return idx_source(spec)
    if spec.startswith("hf:"):
        from .hub import HubSource

        return HubSource(spec.removeprefix("hf:"))
    if CALLABLE_NAME.fullmatch(spec) and not os.path.exists(spec):
        from .python import PythonSource, call_factory

        return PythonSource(call_factory(spec), spec)
    lower = spec.lower()
    if lower.endswith((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")):
        from .tars import TarSource

        return TarSource(spec)
    if not os.path.exists(spec):
        reason = "no such file or folder" if os.path.splitext(spec)[1] or "/" in spec else f"it must be {KINDS}"
        raise usage_error(f"data must exist, got {printable(spec)}: {reason}")
    if lower.endswith((".csv", ".jsonl")):
        from .table import TableSource

        return TableSource(spec)
    if lower.endswith(".npy"):
        from .arrays import npy_source

        return npy_source(spec, labels, any_values)
    if lower.endswith(".safetensors"):
        from .arrays import safetensors_source

        return safetensors_source(spec, labels, any_values)
    if is_image_name(os.path.basename(spec)):
        from .folder import FileSource

        return FileSource(spec)
    raise usage_error(f"data must be {KINDS}, got {printable(spec)}")


def _open_folder(path: str) -> Source:
    """Open a folder of .tar files or of images."""
    from .folder import FolderSource, is_tar_folder

    if is_tar_folder(path):
        from .tars import TarSource

        return TarSource(path)
    return FolderSource(path)

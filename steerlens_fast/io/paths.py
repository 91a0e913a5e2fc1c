"""Expands ``~`` in the paths that users write."""

from __future__ import annotations

import os
from pathlib import Path


def expand_home(path: str | os.PathLike) -> str:
    """Return a path with a leading ``~`` replaced by the home directory.

    Shells do not replace it in ``--out=~/x``.

    Examples
    --------
    >>> expand_home("~/morphs") == os.path.expanduser("~") + "/morphs", expand_home("a~b")
    (True, 'a~b')
    """
    return os.path.expanduser(os.fspath(path))


def output_folder(path: str | os.PathLike) -> Path:
    """Return the path of an output folder, with ``~`` expanded.

    Raises
    ------
    ValueError
        If the path begins with the home directory of an unknown user.

    Examples
    --------
    >>> output_folder("~no-such-user/morphs")
    Traceback (most recent call last):
    ValueError: out must be in the home directory of a known user, got ~no-such-user/morphs; for a folder of that name write ./~no-such-user
    """  # noqa: E501
    expanded = Path(expand_home(path))
    if str(expanded).startswith("~") and not os.path.lexists(expanded.parts[0]):
        hint = f"for a folder of that name write ./{expanded.parts[0]}"
        raise ValueError(f"out must be in the home directory of a known user, got {expanded}; {hint}")
    return expanded

"""Switches the ops on whole planes on or off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from steerlens_fast import native


@contextmanager
def plane_ops(device: str, allowed: bool) -> Iterator[None]:
    """In the block, use the ops on whole planes on this type of device if ``allowed``.

    Otherwise, torch's FFTs and the ops on bands are used.
    """
    sides = native.LARGEST_PLANE_SIDE
    supported = sides[device]
    sides[device] = supported if allowed else 0
    try:
        yield
    finally:
        sides[device] = supported

"""Switches between the ops on whole planes and torch.fft."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from steerlens_fast import native


@contextmanager
def plane_ops(device: str, allowed: bool) -> Iterator[None]:
    """In the block, use ops on whole planes on this type of device if ``allowed``, otherwise ops on bands."""
    sides = native.LARGEST_PLANE_SIDE
    supported = sides[device]
    sides[device] = supported if allowed else 0
    try:
        yield
    finally:
        sides[device] = supported

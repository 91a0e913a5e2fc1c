"""Switches between the ops on whole planes and torch.fft."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from steerlens_fast import native


@contextmanager
def plane_ops(device: str, allowed: bool) -> Iterator[None]:
    """Within the block, use ops on whole planes only if ``allowed``.

    This applies to one type of device. Otherwise torch.fft and the ops on bands are used.
    """
    sides = native.LARGEST_PLANE_SIDE
    before = sides[device]
    sides[device] = before if allowed else 0
    try:
        yield
    finally:
        sides[device] = before

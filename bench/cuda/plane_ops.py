"""Whether our side takes the ops on whole planes, or torch.fft and the ops on bands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from steerlens_fast import native


@contextmanager
def plane_ops(device: str, allowed: bool) -> Iterator[None]:
    """Let planes on this type of device use the ops on whole planes, or only torch.fft and the ops on bands."""
    sides = native.LARGEST_PLANE_SIDE
    before = sides[device]
    sides[device] = before if allowed else 0
    try:
        yield
    finally:
        sides[device] = before

"""``check_frames``: a check of what a motion, which may be a user's own, has rendered."""

from __future__ import annotations

from torch import Tensor

from ..families import Motion


def check_frames(frames: Tensor, motion: Motion, count: int) -> Tensor:
    """Return what ``motion.render`` returned, if it is so many frames of the motion's image: [count, B, ...]."""
    expected = (count, *motion.image.shape)
    if not isinstance(frames, Tensor) or frames.shape != expected:
        got = list(frames.shape) if isinstance(frames, Tensor) else type(frames).__name__
        raise ValueError(f"render must return frames [F, B, ...], here {list(expected)}, got {got} of {motion!r:.200}")
    return frames

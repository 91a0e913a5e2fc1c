"""Difference maps: images of the signed difference of each frame from the source."""

from __future__ import annotations

import numpy as np

BLUE, WHITE, RED = (33, 102, 172), (247, 247, 247), (178, 24, 43)  # from ColorBrewer's colour map RdBu


def difference_maps(pictures: np.ndarray, source: int) -> tuple[np.ndarray, float]:
    """Return images of the differences of all frames from the source, with one scale.

    Parameters
    ----------
    pictures : array [F, H, W] or [F, H, W, 3], unsigned integers or floats in [0, 1]
        Frames. The largest value of an integer dtype means 1.
    source : int
        Index of the source frame.

    Returns
    -------
    maps : array [F, H, W, 3], uint8
        For grey frames, blue where a frame is darker than the source, white where they are equal, and red where it is
        brighter. For RGB frames, the scaled difference of each channel is added to 128, so grey means no difference.
    scale : float
        The largest absolute difference, for frames in [0, 1]. It has the strongest colour. 0 if all frames are equal.

    Examples
    --------
    >>> frames = np.array([[[100, 100]], [[100, 151]]], np.uint8)
    >>> maps, scale = difference_maps(frames, source=0)
    >>> scale, maps[1].tolist()
    (0.2, [[[247, 247, 247], [178, 24, 43]]])
    """
    frames = pictures.astype(np.float32)
    if pictures.dtype.kind in "ui":
        frames /= np.iinfo(pictures.dtype).max
    difference = np.nan_to_num(frames - frames[source], nan=0.0, posinf=0.0, neginf=0.0)
    scale = float(np.abs(difference).max(initial=0.0))
    relative = difference / (scale or 1.0)
    # The scale is returned with the 7 digits of float32: as 0.2, not 0.20000000298.
    if pictures.ndim == 4:
        return np.round(128 + 127 * relative).astype(np.uint8), float(f"{scale:.7g}")
    middle, share = np.array(WHITE, np.float32), np.abs(relative)[..., None]
    end = np.where(relative[..., None] < 0, np.array(BLUE, np.float32), np.array(RED, np.float32))
    return np.round(middle + share * (end - middle)).astype(np.uint8), float(f"{scale:.7g}")

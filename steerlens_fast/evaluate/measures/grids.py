"""Displacement fields on a coarse grid of control points, and images sampled at the displaced positions."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=32)
def interpolation(size: int, points: int) -> Tensor:
    """Return the matrix [size, points] of linear interpolation.

    The outer control points lie on the border pixels.

    Examples
    --------
    >>> interpolation(5, 3)[1]
    tensor([0.5000, 0.5000, 0.0000], dtype=torch.float64)
    """
    position = torch.linspace(0, points - 1, size, dtype=torch.float64, device="cpu")
    return (1 - (position[:, None] - torch.arange(points, device="cpu")).abs()).clamp(min=0)


def upsample(grid: Tensor, shape: tuple[int, int]) -> Tensor:
    """Interpolate control points [..., g, g] to fields [..., H, W]."""
    down, across = (interpolation(size, n).to(grid) for size, n in zip(shape, grid.shape[-2:]))
    return down @ grid @ across.mT


class BilinearSamples:
    """Images sampled bilinearly at ``x + displacement(x)``, with border padding.

    Parameters
    ----------
    image : Tensor [N, C, H, W]
    displacement : Tensor [N, 2, H, W]
        Down and right, in pixels.

    Attributes
    ----------
    values : Tensor [N, C, H, W]
    """

    def __init__(self, image: Tensor, displacement: Tensor):
        corners = _cell_corners(image, displacement)
        upper_left, self._across, lower_left, self._across_below, self._offset, self._inside = corners
        down, right = self._offset
        upper = torch.addcmul(upper_left, right, self._across)
        self._slope_down = torch.addcmul(lower_left, right, self._across_below) - upper
        self.values = torch.addcmul(upper, down, self._slope_down)

    def slopes(self, at=slice(None)) -> tuple[Tensor, Tensor]:
        """Return the derivatives of the values with respect to the displacement down and right, [n, C, H, W] each.

        Each is 0 where the position is outside the image in that direction. ``at`` selects samples of the batch.
        """
        across, inside_y, inside_x = self._across[at], *(inside[at] for inside in self._inside)
        slope_right = torch.addcmul(across, self._offset[0][at], self._across_below[at] - across)
        return self._slope_down[at] * inside_y, slope_right * inside_x


def _cell_corners(image: Tensor, displacement: Tensor) -> tuple:
    """Return the corners of the cell around each position.

    The results are the upper left value, the upper right minus the upper left, the same for the lower corners, the
    offset in the cell, and whether the position is inside the image. The last two have a value for each direction.
    """
    H, W = image.shape[-2:]
    (top, down, inside_y), (left, right, inside_x) = (
        _pixel_and_offset(torch.arange(size, device=image.device).to(image).view(shape), d, size)
        for d, shape, size in zip(displacement.unbind(1), ((-1, 1), (1, -1)), (H, W))
    )
    flat, index = image.flatten(2), (top * W + left).flatten(1)[:, None].expand(-1, image.shape[1], -1)
    step_y, step_x = (W if H > 1 else 0), (1 if W > 1 else 0)
    read = lambda offset: flat.gather(2, index + offset).view_as(image)
    a, b, c, d = read(0), read(step_x), read(step_y), read(step_y + step_x)
    for_channels = lambda first, second: (first[:, None], second[:, None])
    return a, b - a, c, d - c, for_channels(down, right), for_channels(inside_y, inside_x)


def _pixel_and_offset(pixels: Tensor, displacement: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the pixel before each position, and the offset from it.

    The third result says whether the position is inside the image.
    """
    position = pixels + displacement
    inside = (position >= 0) & (position <= size - 1)
    position = position.clamp(0, size - 1)
    before = position.long().clamp(max=max(size - 2, 0))
    return before, position - before, inside

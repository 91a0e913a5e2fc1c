"""Smooth reconstruction: how much of an edit a smooth warp explains."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from ...checks import check_int
from ...memory import chunks, threads
from .arguments import check_pair, energy
from .grids import upsample
from .least_squares import fit

ARRAYS = 16  # image-sized arrays that one step of a fit uses
COARSE = 3  # control points per side in every second random start
# Typical displacement of coarse random starts, as a share of the image's height; fine starts have half of it.
REACH = 1 / 32


@dataclass(frozen=True)
class SmoothReconstruction:
    """Result of :func:`smooth_reconstruction` for N edits.

    Attributes
    ----------
    warp, gain : Tensor [N], float64
        E (see :func:`smooth_reconstruction`) of the best warp alone, and of the best warp with gain. Both are in
        [0, 1], or NaN if source and edit are the same image. ``gain`` is at least ``warp``.
    folded : Tensor [N], float64
        Share of the pixels at which the best warp folds, that is, the determinant of its Jacobian is not positive.
    displacement : Tensor [N, 2, g, g], float64
        Displacement of the best warp's control points, down and right, in pixels.
    """

    warp: Tensor
    gain: Tensor
    folded: Tensor
    displacement: Tensor

    def __len__(self) -> int:
        return len(self.warp)


@torch.no_grad()
def smooth_reconstruction(
    source: Tensor, edit: Tensor, *, grid: int = 8, restarts: int = 3, seed: int = 0, workers: int | None = None
) -> SmoothReconstruction:
    """Return the share of each edit that a smooth warp explains.

    The warped source is ``fit(x) = gain(x) * source(x + d(x))``. The displacement d and the gain are interpolated
    bilinearly between the control points of a grid. E = 1 - ||edit - fit||^2 / ||edit - source||^2 is the share of the
    edit's energy that the fit explains.

    Parameters
    ----------
    source, edit : Tensor [N, C, H, W]
        Images of one shape, dtype and device, real and finite. The channels share one warp and one gain.
    grid : int
        Control points per side, at least 2. The outer points lie on the border pixels.
    restarts : int
        Number of starts of the warp's fit; the best result is used. The first start is no motion. The others are smooth
        random motions, alternately coarse and fine. All images have the same starts.
    seed : int
        Seed of the random starts.
    workers : int, optional
        Threads on the CPU that share the batch; by default torch's number of threads. The result does not depend on it.

    Returns
    -------
    SmoothReconstruction

    Raises
    ------
    TypeError, ValueError
        With the name of the argument, and the expected and the actual value.

    Notes
    -----
    The measure is that of the paper "Confidence Is Not Evidence", which does not describe how the warp is fitted. Here,
    the fit is by least squares in float64, with damped Gauss-Newton steps. The source is sampled bilinearly with border
    padding. Displacements are unbounded, so the best warp may fold (see ``folded``). The fit with gain starts at the
    best warp, with gain 1.

    The fit has 2 g^2 parameters for a grid of g x g, or 3 g^2 with gain, so it explains a part of any edit of a small
    image. For white noise added to a smooth image of 64 x 64 pixels, E is about 0.03. Compare your edits with such a
    baseline.

    Examples
    --------
    >>> import torch
    >>> from steerlens_fast import smooth_reconstruction
    >>> y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    >>> blob = lambda cx: torch.exp(-((x - cx) ** 2 + (y - 16) ** 2) / 40)[None, None]
    >>> result = smooth_reconstruction(blob(15.0), blob(17.0))  # two pixels to the right
    >>> bool(result.warp > 0.99), bool(result.gain >= result.warp)
    (True, True)
    """
    source, edit = check_pair(source, edit)
    grid, restarts = check_int("grid", grid, 2, None), check_int("restarts", restarts, 1, None)
    seed = check_int("seed", seed, 0, None)
    workers = torch.get_num_threads() if workers is None else check_int("workers", workers, 1, None)
    starts = _starts(grid, restarts, seed, source)
    size = 8 * ARRAYS * restarts * source.shape[1:].numel()
    pieces = [(source[at], edit[at]) for at in chunks(len(source), size, source.device)]
    solve = lambda piece: _solve(*(t.double() for t in piece), starts)
    results = list(map(solve, pieces)) if source.device.type != "cpu" else _in_threads(solve, pieces, workers)
    return SmoothReconstruction(*map(torch.cat, zip(*results))) if results else _empty(source, grid)


def _in_threads(solve: Callable, pieces: list, workers: int) -> list:
    """Solve pieces in parallel, one thread each. Operations of this size are too small to be split between threads."""
    with threads(1):
        if workers == 1 or len(pieces) < 2:
            return list(map(solve, pieces))
        with ThreadPoolExecutor(workers, thread_name_prefix="fit") as pool:
            return list(pool.map(torch.no_grad()(solve), pieces))


def _solve(source: Tensor, edit: Tensor, starts: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the shares, folds and displacements of one piece. The shares are E of the warp and E with gain."""
    restarts, count, edit_energy = len(starts), len(source), energy(edit - source)
    repeat = lambda t: t.expand(restarts, *t.shape).flatten(0, 1)
    grids, error = fit(repeat(source), repeat(edit), starts.repeat_interleave(count, 0))
    # Zero displacement is always a candidate. Its error is the energy of the edit.
    error, which = torch.cat([error.view(restarts, count), edit_energy[None]]).min(0)
    still = torch.zeros_like(grids[:1]).expand(count, -1, -1, -1)
    every = torch.cat([grids.unflatten(0, (restarts, count)), still[None]])
    best = every[which, torch.arange(count, device=which.device)]
    _, error_with_gain = fit(source, edit, torch.cat([best, torch.ones_like(best[:, :1])], 1))
    share = lambda remaining: torch.where(edit_energy > 0, 1 - remaining / edit_energy, torch.nan)
    return share(error), share(torch.minimum(error_with_gain, error)), _folded(best, tuple(source.shape[-2:])), best


def _folded(displacement: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return the share [N] of pixels where x -> x + d(x) folds."""
    field = upsample(displacement, shape)
    down, right = field.diff(dim=2)[..., :, :-1], field.diff(dim=3)[..., :-1, :]
    determinant = (1 + down[:, 0]) * (1 + right[:, 1]) - down[:, 1] * right[:, 0]
    return (determinant <= 0).double().flatten(1).mean(1)


def _starts(grid: int, restarts: int, seed: int, image: Tensor) -> Tensor:
    """Return starts [R, 2, g, g]. The first is 0; the others are drawn on the CPU, and do not depend on the device."""
    random = torch.Generator().manual_seed(seed)
    reach, starts = REACH * image.shape[-2], [torch.zeros(2, grid, grid, dtype=torch.float64, device="cpu")]
    for n in range(1, restarts):
        coarse = n % 2 == 1
        points = COARSE if coarse else grid
        drawn = torch.randn(2, points, points, generator=random, dtype=torch.float64, device="cpu")
        starts.append(reach * (upsample(drawn, (grid, grid)) if coarse else drawn / 2))
    return torch.stack(starts).to(image.device)


def _empty(source: Tensor, grid: int) -> SmoothReconstruction:
    none = source.new_zeros(0, dtype=torch.float64)
    return SmoothReconstruction(none, none, none, none.new_zeros(0, 2, grid, grid))

"""Least squares on control grids: many small problems at once, each with its own damping (Levenberg's)."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from .grids import Reading, interpolation, spread

ITERATIONS = 60
PATIENCE = 6  # steps in a row that bring next to nothing
LITTLE = 2e-5  # of the energy that is to be explained
# Relative to the mean curvature: one number for all control points, so that those over flat parts of the image, where
# nothing says where to go, stay where they are. At the start, and its limits.
DAMPING, LEAST, MOST = 1e-2, 1e-7, 1e7
TINY = 1e-12


def fit(source: Tensor, edit: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Minimise ``||gain * source(x + d(x)) - edit||^2`` over control grids, from a start.

    Parameters
    ----------
    source, edit : Tensor [N, C, H, W], float64
    start : Tensor [N, P, g, g]
        Displacement down and right in pixels and, where P is 3, the gain.

    Returns
    -------
    grids : Tensor [N, P, g, g]
    error : Tensor [N]
        The squared distance that is left; never above that of the start.
    """
    grids, error = start.clone(), torch.empty_like(start[:, 0, 0, 0])
    energy = (source - edit).square().flatten(1).sum(1).clamp(min=torch.finfo(edit.dtype).tiny)
    active, state = torch.arange(len(start), device=start.device), _State(_Trial(source, edit, grids.clone()))
    error[:] = state.error
    damping, idle = torch.full_like(error, DAMPING), torch.zeros_like(error)
    for _ in range(ITERATIONS):
        trial = _Trial(source, edit, state.grids + state.step(damping[active]))
        better = trial.error < state.error
        gained = torch.where(better, state.error - trial.error, 0.0)
        scaled = damping[active] * torch.where(better, 0.25, 4.0)
        damping[active] = scaled.clamp(LEAST, MOST)
        idle[active] = torch.where(gained < LITTLE * energy[active], idle[active] + 1, 0.0)
        grids[active[better]], error[active[better]] = trial.grids[better], trial.error[better]
        going = idle[active] < PATIENCE
        if not bool(going.any()):
            break
        state.replace(better & going, trial)  # derivatives, which cost most, only where another step is taken from
        if not bool(going.all()):  # problems that have settled cost nothing more
            active, state, source, edit = active[going], state.only(going), source[going], edit[going]
    return grids, error


class _Trial:
    """Grids, and the error that is left with them."""

    def __init__(self, source: Tensor, edit: Tensor, grids: Tensor):
        self.grids = grids
        fields = spread(grids, tuple(source.shape[-2:]))
        self.reading = Reading(source, fields[:, :2])
        self.gain = fields[:, 2:3] if grids.shape[1] == 3 else None
        values = self.reading.values
        self.left = values - edit if self.gain is None else self.gain * values - edit
        self.error = self.left.square().flatten(1).sum(1)

    def derivatives(self, at=slice(None)) -> tuple[Tensor, Tensor]:
        """Products [N, pairs of P, H, W] of the residual's derivatives, and their products [N, P, H, W] with it."""
        slopes, left = self.reading.slopes(at), self.left[at]
        if self.gain is not None:
            slopes = [*(self.gain[at] * slope for slope in slopes), self.reading.values[at]]
        pairs = [_over_channels(a, b) for i, a in enumerate(slopes) for b in slopes[i:]]
        return torch.stack(pairs, 1), torch.stack([_over_channels(slope, left) for slope in slopes], 1)


def _over_channels(a: Tensor, b: Tensor) -> Tensor:
    """[N, H, W]: sum of the products over the channels of [N, C, H, W]. Several times faster than einsum's."""
    total = a[:, 0] * b[:, 0]
    for channel in range(1, a.shape[1]):
        total.addcmul_(a[:, channel], b[:, channel])
    return total


class _State:
    """Where problems are: their grids, what is left there, and the derivatives that the next step needs."""

    def __init__(self, trial: _Trial):
        self.grids, self.error = trial.grids, trial.error
        self.products, self.pull = trial.derivatives()

    def step(self, damping: Tensor) -> Tensor:
        """What the damped normal equations say, [N, P, g, g]."""
        rows, neighbours, pull = _normal(self.products, self.pull, self.grids.shape)
        diagonal = rows.diagonal(dim1=-2, dim2=-1)  # [N, g, P g]
        of_kind = diagonal.unflatten(-1, (self.grids.shape[1], -1))
        scale = of_kind.mean((1, 3), keepdim=True)  # a displacement's is not a gain's
        of_kind += damping[:, None, None, None] * scale + TINY
        step = -solve_chain(rows, neighbours, pull)
        step = torch.where(step.isfinite().flatten(1).all(1)[:, None, None], step, 0.0)
        return step.unflatten(2, (self.grids.shape[1], -1)).transpose(1, 2)

    def replace(self, where: Tensor, trial: _Trial) -> None:
        """Take a trial's problems where they are better."""
        at = where.nonzero()[:, 0]
        if not len(at):
            return
        if len(at) == len(where):
            self.__init__(trial)
            return
        self.grids[at], self.error[at] = trial.grids[at], trial.error[at]
        self.products[at], self.pull[at] = trial.derivatives(at)

    def only(self, which: Tensor) -> _State:
        """Some problems."""
        made = object.__new__(_State)
        for name in ("grids", "error", "products", "pull"):
            setattr(made, name, getattr(self, name)[which])
        return made


def _normal(products: Tensor, pull: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor, Tensor]:
    """J'J and J'r from what they are at each pixel, by rows of control points.

    A control point meets its eight neighbours only, and the weights of two that meet are a product of one down and one
    across: two small matrix products do for each map of products.

    Returns
    -------
    rows : Tensor [N, g, P g, P g]
        Each row of control points with itself.
    neighbours : Tensor [N, g - 1, P g, P g]
        With the next row.
    pull : Tensor [N, g, P g]
    """
    P, (g, k) = shape[1], shape[2:]
    down, across = (interpolation(size, n).to(pull) for size, n in zip(pull.shape[-2:], (g, k)))
    (pairs_down, _), (pairs_across, meet) = _pairs(len(down), g), _pairs(len(across), k)
    met = pairs_down.to(pull).mT @ products @ pairs_across.to(pull)  # [N, pairs of P, pairs down, pairs across]
    kinds = torch.zeros(P, P, dtype=torch.long, device="cpu")
    first, second = torch.triu_indices(P, P, device="cpu")
    kinds[first, second] = kinds[second, first] = torch.arange(len(first), device="cpu")
    blocks = met[:, kinds[:, None, :, None].to(met.device), :, meet[None, :, None, :].to(met.device)]
    blocks = blocks.permute(4, 5, 0, 1, 2, 3).flatten(4, 5).flatten(2, 3)  # [N, pairs down, P g, P g]
    return blocks[:, :g], blocks[:, g : 2 * g - 1], (down.mT @ pull @ across).transpose(1, 2).flatten(2)


def solve_chain(rows: Tensor, neighbours: Tensor, right: Tensor) -> Tensor:
    """Solve a symmetric block tridiagonal system, by Cholesky's factors block by block.

    Parameters
    ----------
    rows : Tensor [N, g, m, m]
        Diagonal blocks.
    neighbours : Tensor [N, g - 1, m, m]
        Blocks below them; symmetric.
    right : Tensor [N, g, m]

    Returns
    -------
    Tensor [N, g, m]
        NaN where the matrix is not positive definite.
    """
    lower, beside, forward = [], [], []
    for i in range(rows.shape[1]):
        block, b = rows[:, i], right[:, i, :, None]
        if i:
            block, b = block - beside[-1] @ beside[-1].mT, b - beside[-1] @ forward[-1]
        factor, failed = torch.linalg.cholesky_ex(block)
        lower.append(torch.where((failed == 0)[:, None, None], factor, torch.nan))
        forward.append(torch.linalg.solve_triangular(lower[-1], b, upper=False))
        if i < neighbours.shape[1]:
            beside.append(torch.linalg.solve_triangular(lower[-1], neighbours[:, i], upper=False).mT)
    solution = []
    for i in reversed(range(rows.shape[1])):
        b = forward[i] - beside[i].mT @ solution[-1] if solution else forward[i]
        solution.append(torch.linalg.solve_triangular(lower[i].mT, b, upper=True))
    return torch.stack(solution[::-1], 1)[..., 0]


@lru_cache(maxsize=32)
def _pairs(size: int, points: int) -> tuple[Tensor, Tensor]:
    """Products of the weights of control points that meet, [size, pairs], and which pair two points are, [g, g].

    First each point with itself, then with the next one; last what stands for points that do not meet, which is 0.
    """
    weights = interpolation(size, points)
    near = [(i, i) for i in range(points)] + [(i, i + 1) for i in range(points - 1)]
    index = torch.full((points, points), len(near), device="cpu")
    for n, (i, j) in enumerate(near):
        index[i, j] = index[j, i] = n
    products = [weights[:, i] * weights[:, j] for i, j in near]
    return torch.stack([*products, torch.zeros(size, dtype=torch.float64, device="cpu")], 1), index

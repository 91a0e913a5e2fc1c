"""Fits control grids by least squares, for a batch of images.

The method is that of Levenberg and Marquardt.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from .grids import BilinearSamples, interpolation, upsample

ITERATIONS = 60
PATIENCE = 6  # a fit ends after this number of consecutive steps that reduce the error by less than MIN_PROGRESS
MIN_PROGRESS = 2e-5  # share of ``||source - edit||^2``
# Damping relative to the mean curvature. All control points have the same damping, so that control points over flat
# parts of the image stay in place.
DAMPING, MIN_DAMPING, MAX_DAMPING = 1e-2, 1e-7, 1e7
EPSILON = 1e-12


def fit(source: Tensor, edit: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Return the control grids of the best warps.

    They minimise ``||gain * source(x + d(x)) - edit||^2``, by steps from a start.

    Parameters
    ----------
    source, edit : Tensor [N, C, H, W], float64
    start : Tensor [N, P, g, g]
        Displacements down and right in pixels and, if P is 3, the gain, at g x g control points.

    Returns
    -------
    grids : Tensor [N, P, g, g]
    error : Tensor [N]
        The squared distance of the fit, at most that of the start.
    """
    grids, error = start.clone(), torch.empty_like(start[:, 0, 0, 0])
    energy = (source - edit).square().flatten(1).sum(1).clamp(min=torch.finfo(edit.dtype).tiny)
    active, state = torch.arange(len(start), device=start.device), _State.of(_Trial(source, edit, grids.clone()))
    error[:] = state.error
    damping, stalled = torch.full_like(error, DAMPING), torch.zeros_like(error)
    for _ in range(ITERATIONS):
        trial = _Trial(source, edit, state.grids + state.step(damping[active]))
        better = trial.error < state.error
        reduction = torch.where(better, state.error - trial.error, 0.0)
        scaled = damping[active] * torch.where(better, 0.25, 4.0)
        damping[active] = scaled.clamp(MIN_DAMPING, MAX_DAMPING)
        stalled[active] = torch.where(reduction < MIN_PROGRESS * energy[active], stalled[active] + 1, 0.0)
        grids[active[better]], error[active[better]] = trial.grids[better], trial.error[better]
        running = stalled[active] < PATIENCE
        if not bool(running.any()):
            break
        # Only for improved samples, since derivatives take most of the time
        state = state.updated(better & running, trial)
        if not bool(running.all()):  # remove samples whose fit has ended
            active, state = active[running], state.only(running)
            source, edit = source[running], edit[running]
    return grids, error


class _Trial:
    """Grids with their residual and error."""

    def __init__(self, source: Tensor, edit: Tensor, grids: Tensor):
        self.grids = grids
        fields = upsample(grids, tuple(source.shape[-2:]))
        self.samples = BilinearSamples(source, fields[:, :2])
        self.gain = fields[:, 2:3] if grids.shape[1] == 3 else None
        values = self.samples.values
        self.residual = values - edit if self.gain is None else self.gain * values - edit
        self.error = self.residual.square().flatten(1).sum(1)

    def derivative_products(self, at=slice(None)) -> tuple[Tensor, Tensor]:
        """Return the products that the normal equations need, for the samples ``at`` of the batch.

        These are products of two derivatives [n, pairs, H, W], and of a derivative and the residual [n, P, H, W].
        """
        slopes, residual = self.samples.slopes(at), self.residual[at]
        if self.gain is not None:
            slopes = [*(self.gain[at] * slope for slope in slopes), self.samples.values[at]]
        pairs = [_over_channels(a, b) for i, a in enumerate(slopes) for b in slopes[i:]]
        return torch.stack(pairs, 1), torch.stack([_over_channels(slope, residual) for slope in slopes], 1)


def _over_channels(a: Tensor, b: Tensor) -> Tensor:
    """Return the product of tensors [N, C, H, W], summed over channels. This is several times as fast as einsum."""
    total = a[:, 0] * b[:, 0]
    for channel in range(1, a.shape[1]):
        total.addcmul_(a[:, channel], b[:, channel])
    return total


@dataclass
class _State:
    """The accepted grids with their errors, and the :meth:`_Trial.derivative_products` for the next step."""

    grids: Tensor
    error: Tensor
    products: Tensor
    gradient: Tensor

    @classmethod
    def of(cls, trial: _Trial) -> _State:
        return cls(trial.grids, trial.error, *trial.derivative_products())

    def step(self, damping: Tensor) -> Tensor:
        """Return the solution [N, P, g, g] of the damped normal equations."""
        rows, neighbours, gradient = _normal(self.products, self.gradient, self.grids.shape)
        diagonal = rows.diagonal(dim1=-2, dim2=-1)  # [N, g, P g]
        of_parameter = diagonal.unflatten(-1, (self.grids.shape[1], -1))  # P: displacement down and right, and gain
        scale = of_parameter.mean((1, 3), keepdim=True)  # displacement and gain have different scales
        of_parameter += damping[:, None, None, None] * scale + EPSILON  # a view: changes the diagonal in ``rows``
        step = -solve_block_tridiagonal(rows, neighbours, gradient)
        step = torch.where(step.isfinite().flatten(1).all(1)[:, None, None], step, 0.0)
        return step.unflatten(2, (self.grids.shape[1], -1)).transpose(1, 2)

    def updated(self, where: Tensor, trial: _Trial) -> _State:
        """Accept the trial for the samples in ``where`` [N], and return the state. ``self`` may change."""
        at = where.nonzero()[:, 0]
        if len(at) == len(where):
            return _State.of(trial)
        if len(at):
            self.grids[at], self.error[at] = trial.grids[at], trial.error[at]
            self.products[at], self.gradient[at] = trial.derivative_products(at)
        return self

    def only(self, which: Tensor) -> _State:
        """Return the state of the samples in ``which`` [N]."""
        return _State(self.grids[which], self.error[which], self.products[which], self.gradient[which])


def _normal(products: Tensor, gradient: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor, Tensor]:
    """Return the normal equations, J'J and J'r.

    They are in blocks for rows of control points.

    ``products`` and ``gradient`` are values at each pixel, see :meth:`_Trial.derivative_products`. A control point
    overlaps only its eight neighbours, and its weight at a pixel is the product of a vertical and a horizontal weight.
    Therefore two small matrix products compute the sums over pixels.

    Returns
    -------
    rows : Tensor [N, g, P g, P g]
        Diagonal blocks, for each row of control points.
    neighbours : Tensor [N, g - 1, P g, P g]
        Off-diagonal blocks, for each row and the next row.
    gradient : Tensor [N, g, P g]
    """
    P, g = shape[1:3]
    down, across = (interpolation(size, g).to(gradient) for size in gradient.shape[-2:])
    (pairs_down, _), (pairs_across, column_of) = _weight_products(len(down), g), _weight_products(len(across), g)
    # [N, pairs of parameters, pairs down, pairs across]
    sums = pairs_down.to(gradient).mT @ products @ pairs_across.to(gradient)
    pair_index = torch.zeros(P, P, dtype=torch.long, device="cpu")
    first, second = torch.triu_indices(P, P, device="cpu")
    pair_index[first, second] = pair_index[second, first] = torch.arange(len(first), device="cpu")
    blocks = sums[:, pair_index[:, None, :, None].to(sums.device), :, column_of[None, :, None, :].to(sums.device)]
    blocks = blocks.permute(4, 5, 0, 1, 2, 3).flatten(4, 5).flatten(2, 3)  # [N, pairs down, P g, P g]
    return blocks[:, :g], blocks[:, g : 2 * g - 1], (down.mT @ gradient @ across).transpose(1, 2).flatten(2)


def solve_block_tridiagonal(rows: Tensor, neighbours: Tensor, right: Tensor) -> Tensor:
    """Solve a symmetric block tridiagonal system by block Cholesky factorization.

    Parameters
    ----------
    rows : Tensor [N, g, m, m]
        Diagonal blocks.
    neighbours : Tensor [N, g - 1, m, m]
        Blocks above the diagonal; those below are their transposes.
    right : Tensor [N, g, m]

    Returns
    -------
    Tensor [N, g, m]
        NaN where the matrix is not positive definite.
    """
    lower, below, forward = [], [], []
    for i in range(rows.shape[1]):
        block, b = rows[:, i], right[:, i, :, None]
        if i:
            block, b = block - below[-1] @ below[-1].mT, b - below[-1] @ forward[-1]
        factor, failed = torch.linalg.cholesky_ex(block)
        lower.append(torch.where((failed == 0)[:, None, None], factor, torch.nan))
        forward.append(torch.linalg.solve_triangular(lower[-1], b, upper=False))
        if i < neighbours.shape[1]:
            below.append(torch.linalg.solve_triangular(lower[-1], neighbours[:, i], upper=False).mT)
    solution = []
    for i in reversed(range(rows.shape[1])):
        b = forward[i] - below[i].mT @ solution[-1] if solution else forward[i]
        solution.append(torch.linalg.solve_triangular(lower[i].mT, b, upper=True))
    return torch.stack(solution[::-1], 1)[..., 0]


@lru_cache(maxsize=32)
def _weight_products(size: int, g: int) -> tuple[Tensor, Tensor]:
    """Return products of two control points' weights [size, 2 g], and the column of each pair of points [g, g].

    The first columns are for pairs of a point and itself, the others for pairs of a point and the next point. The last
    column is 0, for all pairs that do not overlap.
    """
    weights = interpolation(size, g)
    near = [(i, i) for i in range(g)] + [(i, i + 1) for i in range(g - 1)]
    index = torch.full((g, g), len(near), device="cpu")
    for n, (i, j) in enumerate(near):
        index[i, j] = index[j, i] = n
    products = [weights[:, i] * weights[:, j] for i, j in near]
    return torch.stack([*products, torch.zeros(size, dtype=torch.float64, device="cpu")], 1), index

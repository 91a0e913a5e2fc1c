"""How well a morph's change agrees with the true motion from class to class, where that is known."""

from __future__ import annotations

import torch
from torch import Tensor

from ...checks import check_same
from ...pyramid import SteerablePyramid
from .arguments import check_batch, check_pair, energy

FLOOR = 1e-3  # of a band's largest amplitude: below it a phase says nothing


def alignment(source: Tensor, edit: Tensor, derivative: Tensor) -> Tensor:
    """The cosine between an edit and the true derivative image.

    Parameters
    ----------
    source, edit : Tensor [N, C, H, W]
    derivative : Tensor [N, C, H, W]
        d(image)/d(factor), toward the target class.

    Returns
    -------
    Tensor [N], float64
        In [-1, 1]; NaN where the edit or the derivative is zero.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was expected and what came.

    Examples
    --------
    >>> source, derivative = torch.rand(2, 1, 8, 8), torch.randn(2, 1, 8, 8)
    >>> [round(c, 6) for c in alignment(source, source - 0.1 * derivative, derivative).tolist()]
    [-1.0, -1.0]
    """
    source, edit, derivative = _check(source, edit, derivative)
    change, true = (edit - source).double(), derivative.double()
    return (change * true).flatten(1).sum(1) / (energy(change) * energy(true)).sqrt()


@torch.no_grad()
def phase_displacement(
    source: Tensor, edit: Tensor, derivative: Tensor, *, pyramid: SteerablePyramid | None = None
) -> Tensor:
    """How far along the factor an edit has moved, as the phases of the pyramid tell.

    Parameters
    ----------
    source, edit : Tensor [N, C, H, W]
    derivative : Tensor [N, C, H, W]
        d(image)/d(factor), toward the target class.
    pyramid : SteerablePyramid, optional
        By default that of the image's size.

    Returns
    -------
    Tensor [N], float64
        In units of the factor; positive toward the target. NaN where the derivative moves no phase.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was expected and what came.

    Notes
    -----
    With c the coefficients of the source, c' those of the edit and D those of the derivative image, a motion by delta
    turns the phases by ``delta Im(D conj(c)) / |c|^2`` (to first order). delta is the least-squares fit of
    ``arg(c' conj(c))`` with weights ``|c|^2``. Phases are known modulo 2 pi: the coarsest scale comes first, and
    each finer one gives what is left after the motion found so far (Fleet & Jepson 1990).

    Examples
    --------
    >>> x = torch.arange(64.0)
    >>> wave = lambda shift: torch.cos(2 * torch.pi * (x - shift) / 16).expand(1, 1, 64, 64)
    >>> slope = (2 * torch.pi / 16) * torch.sin(2 * torch.pi * x / 16).expand(1, 1, 64, 64)  # d(wave)/d(shift) at 0
    >>> round(phase_displacement(wave(0.0), wave(1.5), slope).item(), 3)
    1.5
    """
    source, edit, derivative = _check(source, edit, derivative)
    pyramid = SteerablePyramid(tuple(source.shape[-2:])) if pyramid is None else pyramid
    bands = zip(*(pyramid.analyze(t.double(), residuals=False).bands for t in (source, edit, derivative)))
    found = upper = lower = torch.zeros(len(source), dtype=torch.float64, device=source.device)
    for c, edited, rate in reversed(list(bands)):  # from coarse to fine
        weight, turn, speed = _turns(c, edited, rate)
        left = turn - _per_sample(found, turn) * speed
        left = torch.atan2(left.sin(), left.cos())
        scale = source.shape[-2] * source.shape[-1] / (c.shape[-2] * c.shape[-1])
        whole = _per_sample(found, turn) * speed + left  # what the phases have turned, unwrapped
        upper = upper + scale * (weight * speed * whole).flatten(1).sum(1)
        lower = lower + scale * (weight * speed * speed).flatten(1).sum(1)
        found = torch.where(lower > 0, upper / lower, 0.0)
    return torch.where(lower > 0, upper / lower, torch.nan)


def _turns(c: Tensor, edited: Tensor, rate: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(weights |c|^2, phase changes, phase changes for a unit of the factor) of a scale's coefficients."""
    power = c.abs().square()
    known = power > FLOOR**2 * power.flatten(1).amax(1).view(-1, *[1] * (power.dim() - 1))
    speed = torch.where(known, (rate * c.conj()).imag / power, 0.0)
    return torch.where(known, power, 0.0), (edited * c.conj()).angle(), speed


def _per_sample(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.dim() - 1))


def _check(source, edit, derivative) -> tuple[Tensor, Tensor, Tensor]:
    source, edit = check_pair("source", source, "edit", edit)
    derivative = check_batch("derivative", derivative).to(source)
    check_same("derivative", derivative, "source", source)
    return source, edit, derivative

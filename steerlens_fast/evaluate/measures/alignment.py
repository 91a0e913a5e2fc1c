"""Agreement of an edit with a known true motion from class to class.

The *factor* is the number that this motion changes, such as the position of a bar.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...checks import check_same
from ...pyramid import SteerablePyramid
from ...pyramid.filters import energy_weight
from .arguments import check_batch, check_pair, energy

FLOOR = 1e-3  # phases of coefficients below this share of the scale's largest amplitude are ignored


def alignment(source: Tensor, edit: Tensor, derivative: Tensor) -> Tensor:
    """Return the cosine between the change ``edit - source`` and the true derivative image.

    Parameters
    ----------
    source, edit : Tensor [N, C, H, W]
    derivative : Tensor [N, C, H, W]
        d(image)/d(factor) of the true motion, toward the target class.

    Returns
    -------
    Tensor [N], float64
        In [-1, 1]; NaN where the change or the derivative is zero.

    Raises
    ------
    TypeError, ValueError
        With the name of the argument, and the expected and the actual value.

    Examples
    --------
    >>> source, derivative = torch.rand(2, 1, 8, 8), torch.randn(2, 1, 8, 8)
    >>> [round(c, 6) for c in alignment(source, source - 0.1 * derivative, derivative).tolist()]
    [-1.0, -1.0]
    """
    source, edit, derivative = _check(source, edit, derivative)
    difference, true = (edit - source).double(), derivative.double()
    return (difference * true).flatten(1).sum(1) / (energy(difference) * energy(true)).sqrt()


@torch.no_grad()
def phase_displacement(
    source: Tensor, edit: Tensor, derivative: Tensor, *, pyramid: SteerablePyramid | None = None
) -> Tensor:
    """Return how far an edit has moved an image along the true motion.

    The displacement is measured by the pyramid's phases.

    Parameters
    ----------
    source, edit : Tensor [N, C, H, W]
    derivative : Tensor [N, C, H, W]
        d(image)/d(factor) of the true motion, toward the target class.
    pyramid : SteerablePyramid, optional
        By default one of the image's size.

    Returns
    -------
    Tensor [N], float64
        Change of the factor, positive toward the target. NaN where the derivative does not change any phase.

    Raises
    ------
    TypeError, ValueError
        With the name of the argument, and the expected and the actual value.

    Notes
    -----
    Let c be the coefficients of the source, c' those of the edit, and D those of the derivative image. To first order,
    a motion by delta changes the phases by ``delta Im(D conj(c)) / |c|^2``. The result is the delta that fits the
    phase changes ``arg(c' conj(c))`` best, by least squares. The weight of a coefficient is its energy in the image,
    ``|c|^2 h w / (2 H W)`` for the default pyramid. Phases are known only modulo 2 pi. Therefore the fit
    begins at the coarsest scale. The motion found there unwraps the phase changes of the next finer scale, and so on
    (Fleet & Jepson 1990).

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
    scales = zip(*(pyramid.analyze(t.double(), residuals=False).bands for t in (source, edit, derivative)))
    displacement = numerator = denominator = torch.zeros(len(source), dtype=torch.float64, device=source.device)
    for scale, (c, edited, rate) in reversed(list(enumerate(scales))):  # from coarse to fine
        power, change, rate_of_phase = _phase_changes(c, edited, rate)
        remainder = change - _per_sample(displacement, change) * rate_of_phase
        remainder = torch.atan2(remainder.sin(), remainder.cos())
        weight = energy_weight(pyramid.geometry, scale) * power
        unwrapped = _per_sample(displacement, change) * rate_of_phase + remainder  # the unwrapped phase change
        numerator = numerator + (weight * rate_of_phase * unwrapped).flatten(1).sum(1)
        denominator = denominator + (weight * rate_of_phase * rate_of_phase).flatten(1).sum(1)
        displacement = torch.where(denominator > 0, numerator / denominator, 0.0)
    return torch.where(denominator > 0, numerator / denominator, torch.nan)


def _phase_changes(c: Tensor, edited: Tensor, rate: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return |c|^2, the changes of phase, and the changes of phase per unit of the factor, for one scale."""
    power = c.abs().square()
    known = power > FLOOR**2 * power.flatten(1).amax(1).view(-1, *[1] * (power.dim() - 1))
    rate_of_phase = torch.where(known, (rate * c.conj()).imag / power, 0.0)
    return torch.where(known, power, 0.0), (edited * c.conj()).angle(), rate_of_phase


def _per_sample(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.dim() - 1))


def _check(source, edit, derivative) -> tuple[Tensor, Tensor, Tensor]:
    source, edit = check_pair(source, edit)
    derivative = check_batch("derivative", derivative).to(source)
    check_same("derivative", derivative, "source", source)
    return source, edit, derivative

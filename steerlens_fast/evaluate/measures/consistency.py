"""Measures clipping, and whether edited coefficients are those of an image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...checks import check_bounds, check_same
from ...pyramid import Coefficients, SteerablePyramid
from ...pyramid.filters import energy_weight
from .arguments import check_batch, check_pair, energy


@dataclass(frozen=True)
class Clipping:
    """Result of :func:`clipping` for N edits.

    Attributes
    ----------
    pixels : Tensor [N], float64
        Share of the values that clipping changes.
    energy : Tensor [N], float64
        ||clip(edit) - edit||^2 / ||edit - source||^2; NaN where edit and source are the same image.
    """

    pixels: Tensor
    energy: Tensor


def clipping(source: Tensor, edit: Tensor, bounds: tuple[float, float] | None = (0, 1)) -> Clipping:
    """Return how much of an edit is removed by clipping.

    Parameters
    ----------
    source, edit : Tensor [N, C, H, W]
        The edit is the synthesized image before clipping.
    bounds : (float, float) or None
        None: nothing is clipped.

    Returns
    -------
    Clipping

    Raises
    ------
    TypeError, ValueError
        With the name of the argument, and the expected and the actual value.

    Examples
    --------
    >>> import torch
    >>> source, edit = torch.zeros(1, 1, 2, 2), torch.tensor([[[[1.0, -1.0], [0.0, 0.0]]]])
    >>> result = clipping(source, edit)
    >>> result.pixels.item(), result.energy.item()
    (0.25, 0.5)
    """
    source, edit = check_pair(source, edit)
    bounds = check_bounds(bounds)
    clipped = edit if bounds is None else edit.clamp(*bounds)
    share = energy(clipped - edit) / energy(edit - source)  # 0 / 0 is NaN
    return Clipping((clipped != edit).double().flatten(1).mean(1), share)


@dataclass(frozen=True)
class Consistency:
    """Result of :func:`coefficient_consistency` for N edits.

    All values are NaN where nothing was edited. ``leakage`` is in [0, 1]. Departures are usually below 1, but may be
    larger, for example if residuals were edited, too.

    Attributes
    ----------
    leakage : Tensor [N], float64
        Imaginary leakage: how much the image of the imaginary parts differs from the image of the real parts.
    departure : Tensor [N], float64
        ||analysis(edited image) - edited||^2 / ||edited - source||^2 over the coefficients of all bands.
    departure_clipped : Tensor [N], float64
        The departure for the clipped edited image.
    """

    leakage: Tensor
    departure: Tensor
    departure_clipped: Tensor


@torch.no_grad()
def coefficient_consistency(
    pyramid: SteerablePyramid,
    source: Tensor,
    edited: Coefficients,
    bounds: tuple[float, float] | None = (0, 1),
    *,
    clipped: Tensor | None = None,
) -> Consistency:
    """Return how far edited coefficients are from those of an image.

    The pyramid is overcomplete, so most sets of coefficients are not the coefficients of any image. An image that is
    synthesized from them then has only a part of the edit. Therefore the edited coefficients are compared with the
    coefficients of the synthesized image.

    Parameters
    ----------
    pyramid : SteerablePyramid
        The pyramid that analyses and synthesizes the images.
    source : Tensor [N, C, H, W]
    edited : Coefficients
        The edit's coefficients, with all bands and residuals, [N, C, ...].
    bounds : (float, float) or None
        Bounds of the clip for ``departure_clipped``.
    clipped : Tensor [N, C, H, W], optional
        The clipped image for ``departure_clipped``, if it is not the synthesized image clipped to ``bounds``. For luma:
        the luma of the clipped RGB image.

    Returns
    -------
    Consistency

    Raises
    ------
    TypeError, ValueError
        With the name of the argument, and the expected and the actual value.

    Notes
    -----
    The real parts and the imaginary parts of the coefficients each give an image: x_re, the result of
    ``synthesis="real"``, and x_im = 2 x_adj - x_re, where x_adj is the result of ``synthesis="adjoint"``. For the
    coefficients of an image, both are this image. For edited coefficients they differ, and ``synthesis="real"`` ignores
    x_im. Let r and i be the differences of x_re and x_im from the source. The leakage is ``||r - i||^2 / (2 ||r||^2 + 2
    ||i||^2)``: 0 if r and i are equal, 1/2 if they are orthogonal, 1 if they are opposite. (The paper
    "Confidence Is Not Evidence" gives no formula, so its definition may differ.)

    The norm of a departure is that of the corresponding tight frame, so that each scale has the weight that it has in
    the image. For the default pyramid, ``||c||^2`` is the sum over bands of ``|c|^2 h w / (2 H W)``.

    Examples
    --------
    >>> import torch
    >>> from steerlens_fast import SteerablePyramid
    >>> pyramid, image = SteerablePyramid((32, 32)), torch.rand(2, 1, 32, 32)
    >>> shifted = pyramid(image.roll(2, -1))  # these are the coefficients of an image, so nothing is lost
    >>> result = coefficient_consistency(pyramid, image, shifted)
    >>> bool(result.leakage.max() < 1e-9), bool(result.departure.max() < 1e-9)
    (True, True)
    >>> result = coefficient_consistency(pyramid, image, pyramid(image).map(lambda c: c * 1j))
    >>> bool(result.departure.min() > 0.001)
    True
    """
    source = check_batch("source", source)
    bounds = check_bounds(bounds)
    if clipped is not None:
        clipped = check_batch("clipped", clipped)
        check_same("clipped", clipped, "source", source)
    if not isinstance(edited, Coefficients):
        raise TypeError(f"edited must be Coefficients, got {type(edited).__name__}")
    edit, other = pyramid.synthesize(edited), _with_other_synthesis(pyramid).synthesize(edited)
    real, adjoint = (edit, other) if pyramid.synthesis == "real" else (other, edit)
    imaginary = 2 * adjoint - real
    changes = 2 * energy(real - source) + 2 * energy(imaginary - source)
    edit_energy = _energy_of_difference(pyramid, edited, pyramid(source))
    share = lambda part, of: torch.where(edit_energy > 0, part / of, torch.nan)
    depart = lambda image: share(_energy_of_difference(pyramid, pyramid(image), edited), edit_energy)
    if clipped is None:
        clipped = edit if bounds is None else edit.clamp(*bounds)
    return Consistency(share(energy(real - imaginary), changes), depart(edit), depart(clipped))


def _with_other_synthesis(pyramid: SteerablePyramid) -> SteerablePyramid:
    g = pyramid.geometry
    other = "adjoint" if pyramid.synthesis == "real" else "real"
    return SteerablePyramid(
        g.shape,
        g.num_scales,
        g.order,
        g.orientations,
        g.transition_width,
        g.tight_frame,
        other,
        downsample=g.downsample,
    )


def _energy_of_difference(pyramid: SteerablePyramid, first: Coefficients, second: Coefficients) -> Tensor:
    """Return the energy [N] in the image of the difference of two sets of bands."""
    energies = ((a - b).abs().double().square().flatten(1).sum(1) for a, b in zip(first.bands, second.bands))
    return sum(energy_weight(pyramid.geometry, scale) * energy for scale, energy in enumerate(energies))

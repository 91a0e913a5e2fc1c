"""Whether edited coefficients are those of any image: what the inverse drops, what the clip takes, what comes back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...checks import check_bounds
from ...pyramid import Coefficients, SteerablePyramid
from .arguments import check_batch, check_pair, energy


@dataclass(frozen=True)
class Clipping:
    """What :func:`clipping` finds of N edits.

    Attributes
    ----------
    pixels : Tensor [N], float64
        Share of the values that the clip changes.
    energy : Tensor [N], float64
        ||clip(edit) - edit||^2 / ||edit - source||^2; NaN where the edit changes nothing.
    """

    pixels: Tensor
    energy: Tensor


def clipping(source: Tensor, edit: Tensor, bounds: tuple[float, float] | None = (0, 1)) -> Clipping:
    """How much of an edit the clip to the image's bounds takes away.

    Parameters
    ----------
    source, edit : Tensor [N, C, H, W]
        The edit as the synthesis gives it, before the clip.
    bounds : (float, float) or None
        None: nothing is clipped.

    Returns
    -------
    Clipping

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was expected and what came.

    Examples
    --------
    >>> import torch
    >>> source, edit = torch.zeros(1, 1, 2, 2), torch.tensor([[[[1.0, -1.0], [0.0, 0.0]]]])
    >>> found = clipping(source, edit)
    >>> found.pixels.item(), found.energy.item()
    (0.25, 0.5)
    """
    source, edit = check_pair("source", source, "edit", edit)
    bounds = check_bounds(bounds)
    clipped = edit if bounds is None else edit.clamp(*bounds)
    share = energy(clipped - edit) / energy(edit - source)  # 0 / 0 is NaN
    return Clipping((clipped != edit).double().flatten(1).mean(1), share)


@dataclass(frozen=True)
class Consistency:
    """What :func:`coefficient_consistency` finds of N edits; all in [0, 1] or NaN where nothing was edited.

    Attributes
    ----------
    leakage : Tensor [N], float64
        Imaginary leakage: by how much the image that the imaginary parts tell of differs from that of the real parts.
    departure : Tensor [N], float64
        ||analysis(edited image) - edited||^2 / ||edited - source's||^2 over all bands.
    departure_clipped : Tensor [N], float64
        The same for the image after the clip.
    """

    leakage: Tensor
    departure: Tensor
    departure_clipped: Tensor


@torch.no_grad()
def coefficient_consistency(
    pyramid: SteerablePyramid, source: Tensor, edited: Coefficients, bounds: tuple[float, float] | None = (0, 1)
) -> Consistency:
    """How far edited coefficients are from those of the image that is made of them.

    The pyramid is overcomplete: most sets of coefficients are those of no image, and the synthesis projects. What is
    seen in the image is then not what was done to the coefficients.

    Parameters
    ----------
    pyramid : SteerablePyramid
        Decides filters and synthesis.
    source : Tensor [N, C, H, W]
    edited : Coefficients
        Of the edit, with all of its bands and residuals, [N, C, ...].
    bounds : (float, float) or None
        What the image is clipped to, for ``departure_clipped``.

    Returns
    -------
    Consistency

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was expected and what came.

    Notes
    -----
    Real and imaginary parts are two pyramids in quadrature, each of which rebuilds the image by itself: x_re, what the
    "real" synthesis gives, and x_im = 2 x_adjoint - x_re. Of an image's own coefficients both are that image; of edited
    ones the real synthesis drops what x_im says. With r and i their changes of the source, the leakage is
    ``||r - i||^2 / (2 ||r||^2 + 2 ||i||^2)``: 0 where they agree, 1/2 where they have nothing in common, 1 where
    they are opposite. The definition is ours: the authors recommend reporting imaginary leakage, without a formula.

    Energies are sums over bands of ``|c|^2 H W / (h w)``, so that each scale counts as much as it does in the image.

    Examples
    --------
    >>> import torch
    >>> from steerlens_fast import SteerablePyramid
    >>> pyramid, image = SteerablePyramid((32, 32)), torch.rand(2, 1, 32, 32)
    >>> shifted = pyramid(image.roll(2, -1))  # coefficients of an image: nothing is lost
    >>> found = coefficient_consistency(pyramid, image, shifted)
    >>> bool(found.leakage.max() < 1e-9), bool(found.departure.max() < 1e-9)
    (True, True)
    >>> found = coefficient_consistency(pyramid, image, pyramid(image).map(lambda c: c * 1j))
    >>> bool(found.departure.min() > 0.001)
    True
    """
    source = check_batch("source", source)
    bounds = check_bounds(bounds)
    edit, other = pyramid.synthesize(edited), _other_inverse(pyramid).synthesize(edited)
    real, adjoint = (edit, other) if pyramid.synthesis == "real" else (other, edit)
    imaginary = 2 * adjoint - real
    moved = 2 * energy(real - source) + 2 * energy(imaginary - source)
    whole = _energy(pyramid, edited, pyramid(source))
    share = lambda part, of: torch.where(whole > 0, part / of, torch.nan)
    depart = lambda image: share(_energy(pyramid, pyramid(image), edited), whole)
    clipped = edit if bounds is None else edit.clamp(*bounds)
    return Consistency(share(energy(real - imaginary), moved), depart(edit), depart(clipped))


def _other_inverse(pyramid: SteerablePyramid) -> SteerablePyramid:
    g = pyramid.geometry
    other = "adjoint" if pyramid.synthesis == "real" else "real"
    return SteerablePyramid(
        g.shape, g.height, g.order, g.orientations, g.width, g.tight_frame, other, downsample=g.downsample
    )


def _energy(pyramid: SteerablePyramid, first: Coefficients, second: Coefficients) -> Tensor:
    """[N]: that of the difference of two sets of bands, in the image's units."""
    pixels = pyramid.image_shape[0] * pyramid.image_shape[1]
    weight = lambda band: 1.0 if pyramid.geometry.tight_frame else pixels / (band.shape[-2] * band.shape[-1])
    return sum(weight(a) * (a - b).abs().double().square().flatten(1).sum(1) for a, b in zip(first.bands, second.bands))

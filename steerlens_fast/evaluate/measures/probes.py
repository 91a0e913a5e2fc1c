"""Single-band probes.

They measure the effect of one scale and orientation of the gradient, compared with noise in the same band.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...checks import check_choice, check_int, check_number
from ...classifier import Classifier
from ...classifier.objectives import check_objective, loss
from ...families import FAMILIES, make_family
from ...lens.l2_search import factor_at_l2
from ...pyramid import SteerablePyramid
from .arguments import check_batch, check_classes, gaussian_noise

PROBE_L2, DIRECTIONS = 0.025, 8
TOLERANCE = 1e-3  # relative to the distance


@dataclass(frozen=True)
class BandProbes:
    """Result of :func:`band_probes` for N images, J scales and K orientations.

    Attributes
    ----------
    advantage : Tensor [N, J, K]
        ``along - chance``; NaN where the step of the gradient or of a Gaussian direction did not reach the distance.
    along : Tensor [N, J, K]
        Change of the margin by a step against the gradient of the loss. The margin is the target's logit minus the
        source's logit.
    chance : Tensor [N, J, K]
        Mean change of the margin by steps with Gaussian noise in place of the gradient.
    attained : Tensor [N, J, K], bool
        Whether all these steps reached the distance.
    """

    advantage: Tensor
    along: Tensor
    chance: Tensor
    attained: Tensor


@torch.no_grad()
def band_probes(
    driver: Callable,
    images: Tensor,
    target: Tensor,
    source: Tensor,
    *,
    family: str = "csp-phase",
    rule: str = "polar",
    objective: str | Callable = "nll",
    pyramid: SteerablePyramid | None = None,
    max_l2: float = PROBE_L2,
    directions: int = DIRECTIONS,
    bounds: tuple[float, float] | None = (0, 1),
    seed: int = 0,
    numbers: Tensor | None = None,
) -> BandProbes:
    """Return how the margin changes if one band moves.

    Each edit moves the band by a small L2 distance, against the gradient or along noise.

    Parameters
    ----------
    driver : callable
        The classifier, as :class:`~steerlens_fast.SteerableLens` takes it.
    images : Tensor [N, C, H, W]
        In ``bounds``.
    target, source : Tensor [N], int64
        Target and source classes; the margin is the target's logit minus the source's logit.
    family, rule, objective
        As in :class:`~steerlens_fast.SteerableLens`. The regime is "frozen".
    pyramid : SteerablePyramid, optional
        The pyramid with the bands to probe; by default one of the image's size.
    max_l2 : float
        Distance of every edit after clipping; its error is at most 0.1 %.
    directions : int
        Number of Gaussian directions per image. For each of them, white noise replaces the gradient.
    bounds : (float, float) or None
    seed : int
    numbers : Tensor [N], int64, optional
        A number for each image, which seeds the image's noise. By default the index in the batch.

    Returns
    -------
    BandProbes

    Raises
    ------
    TypeError, ValueError
        With the name of the argument, and the expected and the actual value.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 3)).eval()
    >>> result = band_probes(model, torch.rand(2, 1, 16, 16), torch.tensor([1, 2]), torch.tensor([0, 0]), directions=2)
    >>> result.advantage.shape  # a pyramid of 16 x 16 pixels has two scales
    torch.Size([2, 2, 4])
    """
    images = check_batch("images", images)
    target, source = (check_classes(n, t, len(images)) for n, t in (("target", target), ("source", source)))
    check_choice("family", family, FAMILIES)
    max_l2, num_directions = check_number("max_l2", max_l2, 0.0), check_int("directions", directions, 1, None)
    seed = check_int("seed", seed, 0, None)
    check_objective(objective)
    pyramid = SteerablePyramid(tuple(images.shape[-2:])) if pyramid is None else pyramid
    classifier = driver if isinstance(driver, Classifier) else Classifier(driver)
    target, source = target.to(images.device), source.to(images.device)
    gradient, outputs = classifier.gradient(
        images,
        lambda out, at: loss(objective, out, target[at].to(out.device), source[at].to(out.device), classifier.task),
    )
    direction_images = _direction_images(images, gradient, num_directions, seed, numbers)
    before = _margin(outputs, target, source)
    count = len(direction_images)
    repeated = images.repeat(count, 1, 1, 1)
    repeated_classes = target.repeat(count), source.repeat(count)
    directions_of_repeated = direction_images.flatten(0, 1).to(images.dtype)

    def probe(scale: int, orientation: int) -> tuple[Tensor, Tensor]:
        """Return the change of the margin, and whether the distance was reached, [1 + D, N]."""
        family_of_band = make_family(family, pyramid, rule, [scale], [orientation])
        motion = family_of_band.prepare(repeated, directions_of_repeated)
        factor, _, reached = factor_at_l2(motion, max_l2, bounds, TOLERANCE * max_l2)
        after = _margin(classifier.outputs(motion.render(factor[None], bounds=bounds)[0]), *repeated_classes)
        return after.view(count, -1) - before, reached.view(count, -1)

    bands = [(s, k) for s in range(pyramid.height) for k in range(pyramid.orientations)]
    changes, attained = zip(*(probe(s, k) for s, k in bands))
    shape = lambda t: torch.stack(t, -1).unflatten(-1, (pyramid.height, pyramid.orientations))
    change, attained = shape(changes), shape(attained).all(0)  # [1 + D, N, J, K] and [N, J, K]
    along, chance = change[0], change[1:].mean(0)
    return BandProbes(torch.where(attained, along - chance, torch.nan), along, chance, attained)


def _direction_images(images: Tensor, gradient: Tensor, num_directions: int, seed: int, numbers) -> Tensor:
    """Return the gradient, then noise, [1 + D, N, C, H, W]."""
    numbers = range(len(images)) if numbers is None else check_classes("numbers", numbers, len(images)).tolist()
    samples = gaussian_noise((num_directions, *images.shape[1:]), seed, numbers).transpose(0, 1).to(gradient)
    return torch.cat([gradient[None], samples])


def _margin(outputs: Tensor, target: Tensor, source: Tensor) -> Tensor:
    """Return the target's logit minus the source's. It is computed in float64, since its change is small."""
    at = lambda index: outputs.double().gather(1, index[:, None].to(outputs.device))[:, 0]
    return at(target) - at(source)

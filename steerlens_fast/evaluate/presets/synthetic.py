"""Synthetic shapes, each drawn from a factor such as its position.

The derivative of the images by the factor is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...checks import check_choice, check_int
from ..measures.arguments import energy

MIN_FACTOR = 0.25  # minimum of |factor|, which makes a gap between the classes
SEARCH = 40  # bisection steps in the search for the factor at a distance
Nuisance = dict[str, Tensor]


@dataclass(frozen=True)
class SyntheticImages:
    """N images of one kind.

    The sign of an image's factor is its class. Position, contrast and other *nuisance* parameters vary within a class.

    Attributes
    ----------
    kind : str
        One of :data:`KINDS`.
    size : int
        Pixels per side.
    factor : Tensor [N], float64
        In [-1, -0.25] or [0.25, 1].
    nuisance : dict of str to Tensor [N], float64
        Position, contrast, brightness of the ground, line width, and "turn": the phase of a grating, or the side of a
        ring's gap. Each kind uses some of them.
    """

    kind: str
    size: int
    factor: Tensor
    nuisance: Nuisance

    @property
    def labels(self) -> Tensor:
        """Return 0 where the factor is below 0, else 1, [N] int64."""
        return (self.factor > 0).long()

    @property
    def toward(self) -> Tensor:
        """Return the sign of a motion toward the other class, [N] float64."""
        return -self.factor.sign()

    def images(self, factor: Tensor | None = None) -> Tensor:
        """Return the images [N, 1, size, size] at ``factor``.

        They are float64 in [0, 1]. By default, each image has its own factor.
        """
        return _render(self.kind, self.size, self.factor if factor is None else factor, self.nuisance)

    def derivative(self) -> Tensor:
        """Return the exact d(image)/d(factor), [N, 1, size, size] float64."""
        render = lambda factor: _render(self.kind, self.size, factor, self.nuisance)
        return torch.func.jvp(render, (self.factor,), (torch.ones_like(self.factor),))[1]

    def moved(self, l2: float | Tensor) -> tuple[Tensor, Tensor]:
        """Return images at the L2 distance ``l2`` from :meth:`images`, with factors changed toward the other class.

        A factor may leave [-1, 1]. It changes by at most 2, even if this is not enough to reach the distance.

        Returns
        -------
        images : Tensor [N, 1, size, size], float64
        change : Tensor [N], float64
            Absolute change of the factor.
        """
        source, l2 = self.images(), torch.as_tensor(l2, dtype=torch.float64, device="cpu").expand(len(self.factor))
        low, high = torch.zeros_like(self.factor), torch.full_like(self.factor, 2.0)
        for _ in range(SEARCH):
            middle = (low + high) / 2
            short = energy(self.images(self.factor + self.toward * middle) - source).sqrt() < l2
            low, high = torch.where(short, middle, low), torch.where(short, high, middle)
        return self.images(self.factor + self.toward * low), low

    def __len__(self) -> int:
        return len(self.factor)

    def __getitem__(self, index) -> SyntheticImages:
        """Return some of the images. ``index`` is a slice, or a tensor of ints or bools."""
        return replace(self, factor=self.factor[index], nuisance={n: t[index] for n, t in self.nuisance.items()})


def synthetic_images(kind: str, count: int, *, size: int = 32, seed: int = 0) -> SyntheticImages:
    """Return random images of one kind, half of them of each class.

    Parameters
    ----------
    kind : str
        What the factor changes: the "position" (across the bar), "orientation" or "width" of a bar, the "curvature" of
        a line, the "frequency" of a grating, the "gap" of a ring, or the "size" of a disc.
    count : int
        Number of images, N.
    size : int
        Pixels per side, at least 8.
    seed : int
        Seed of factors and nuisance parameters.

    Returns
    -------
    SyntheticImages

    Raises
    ------
    TypeError, ValueError
        With the name of the argument, and the expected and the actual value.

    Examples
    --------
    >>> rings = synthetic_images("gap", 4)
    >>> rings.images().shape, rings.labels.tolist()
    (torch.Size([4, 1, 32, 32]), [0, 1, 0, 1])
    >>> step = 1e-4
    >>> change = (rings.images(rings.factor + step) - rings.images(rings.factor - step)) / (2 * step)
    >>> bool((change - rings.derivative()).abs().max() < 1e-5)
    True
    """
    check_choice("kind", kind, tuple(KINDS))
    count, size = check_int("count", count, 0, None), check_int("size", size, 8, None)
    seed = check_int("seed", seed, 0, None)
    random = torch.Generator().manual_seed(seed * 101 + tuple(KINDS).index(kind))  # differs between kinds and seeds
    uniform = lambda low, high: (
        low + (high - low) * torch.rand(count, generator=random, dtype=torch.float64, device="cpu")
    )
    sign = torch.where(torch.arange(count, device="cpu") % 2 == 0, -1.0, 1.0).double()
    nuisance = {
        "x": uniform(-0.12, 0.12),
        "y": uniform(-0.12, 0.12),
        "contrast": uniform(0.6, 0.9),
        "ground": uniform(0.02, 0.1),
        "line": uniform(0.85, 1.2),  # multiplies the width of lines
        "turn": uniform(0, 1),  # fraction of a full turn
    }
    return SyntheticImages(kind, size, sign * uniform(MIN_FACTOR, 1.0), nuisance)


# --- Kinds: brightness [N, size, size] in [0, 1], at factor t, positions x and y, and nuisance parameters n ----------


def _line(distance: Tensor, width: Tensor) -> Tensor:
    return torch.exp(-((distance / width) ** 2) / 2)


def _soft(inside: Tensor, edge: float) -> Tensor:
    return torch.sigmoid(inside / edge)


def _bar(across: Tensor, along: Tensor, width: Tensor) -> Tensor:
    return _line(across, width) * _soft(0.6 - along.abs(), 0.06)


def _position(t: Tensor, x: Tensor, y: Tensor, n: Nuisance) -> Tensor:
    return _bar(x - 0.3 * t, y, 0.12 * n["line"])


def _orientation(t: Tensor, x: Tensor, y: Tensor, n: Nuisance) -> Tensor:
    angle = math.pi / 4 + 0.5 * t
    return _bar(x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin(), 0.12 * n["line"])


def _width(t: Tensor, x: Tensor, y: Tensor, n: Nuisance) -> Tensor:
    return _bar(x, y, 0.16 * torch.exp2(0.8 * t))


def _curvature(t: Tensor, x: Tensor, y: Tensor, n: Nuisance) -> Tensor:
    return _bar(y - 0.7 * t * (x**2 - 0.15), x, 0.11 * n["line"])


def _frequency(t: Tensor, x: Tensor, y: Tensor, n: Nuisance) -> Tensor:
    wave = torch.cos(2 * math.pi * (1.8 * torch.exp2(0.5 * t) * x + n["turn"]))
    return 0.5 + 0.5 * wave * torch.exp(-(x**2 + y**2) / (2 * 0.45**2))


def _ring(t: Tensor, x: Tensor, y: Tensor, n: Nuisance) -> Tensor:
    """Render a ring with a gap toward one of eight sides."""
    side = torch.floor(8 * n["turn"]) * (math.pi / 4)
    away = torch.atan2(y * side.cos() - x * side.sin(), x * side.cos() + y * side.sin()).abs()
    radius = (x**2 + y**2 + 1e-12).sqrt()
    return _line(radius - 0.5, 0.1 * n["line"]) * _soft(away - (0.6 + 0.35 * t), 0.12)


def _disc(t: Tensor, x: Tensor, y: Tensor, n: Nuisance) -> Tensor:
    return _soft(0.42 * torch.exp2(0.5 * t) - (x**2 + y**2 + 1e-12).sqrt(), 0.04)


KINDS: dict[str, Callable[[Tensor, Tensor, Tensor, Nuisance], Tensor]] = {
    "position": _position,
    "orientation": _orientation,
    "width": _width,
    "curvature": _curvature,
    "frequency": _frequency,
    "gap": _ring,
    "size": _disc,
}


def _render(kind: str, size: int, factor: Tensor, nuisance: Nuisance) -> Tensor:
    centres = (torch.arange(size, dtype=torch.float64, device="cpu") + 0.5) * (2 / size) - 1  # centres of pixels
    n = {name: t[:, None, None] for name, t in nuisance.items()}
    x, y = centres[None, None, :] - n["x"], centres[None, :, None] - n["y"]
    brightness = KINDS[kind](factor[:, None, None], x.expand(-1, size, -1), y.expand(-1, -1, size), n)
    return (n["ground"] + n["contrast"] * brightness)[:, None]

"""SmoothGrad, which averages gradients over noisy copies of an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import checks
from ..classifier.dtypes import without_autocast

MOVEMENT_SEED = 0x5DEECE66D  # any number; combined with ``seed``, so that movements are independent of the noise


@dataclass(frozen=True, kw_only=True)
class Smoothing:
    """Options of SmoothGrad, which averages gradients over noisy copies of the image.

    The copies of an image x are T_s x + noise * n_s, for s = 1 ... ``samples`` (Smilkov et al., 2017, arXiv
    1706.03825). n_s is Gaussian noise of mean 0 and variance 1. T_s is a random movement of the image if ``shift``,
    ``scale`` or ``flip`` is given, with linear interpolation and repeated edges; otherwise the identity. As in the
    paper, copies are not clipped to the bounds of the images. Gradients are taken with respect to x.

    Parameters
    ----------
    noise : float
        Standard deviation of the noise, in the units of the images. With 0, copies differ only by their
        movements, or by random numbers that the model draws.
    samples : int
        Number of copies. Each copy costs as much as a plain gradient.
    seed : int
        Seed of noise and movements. They are the same for all images and batches, but new for each gradient of a morph.
        The noise does not depend on ``shift``, ``scale`` and ``flip``.
    shift : float
        Largest shift of a copy along each axis, in pixels.
    scale : float
        Largest change of a copy's size, below 1. Copies are resized by a factor from 1 - ``scale`` to 1 + ``scale``.
    flip : bool
        Whether copies are mirrored from left to right, each with probability 1/2.

    Raises
    ------
    TypeError, ValueError
        If an option is invalid.

    Examples
    --------
    >>> Smoothing(noise=0.1)
    Smoothing(noise=0.1, samples=8, seed=0, shift=0.0, scale=0.0, flip=False)
    """

    noise: float
    samples: int = 8
    seed: int = 0
    shift: float = 0.0
    scale: float = 0.0
    flip: bool = False

    def __post_init__(self):
        for name in ("noise", "shift", "scale"):
            value = checks.check_number(f"smoothing's {name}", getattr(self, name), 0.0, closed=True)
            object.__setattr__(self, name, value)
        if self.scale >= 1:
            raise ValueError(f"smoothing's scale must be below 1, got {self.scale}")
        checks.check_bool("smoothing's flip", self.flip)
        object.__setattr__(self, "samples", checks.check_int("smoothing's samples", self.samples, 1, None))
        object.__setattr__(self, "seed", checks.check_int("smoothing's seed", self.seed, 0, 2**63 - 1))

    @classmethod
    def from_options(cls, options: Mapping) -> Smoothing:
        """Make smoothing from a mapping of its parameters."""
        if not isinstance(options, Mapping):
            expected = "None or a mapping like {'noise': 0.1, 'samples': 8}"
            raise TypeError(f"smoothing must be {expected}, got {checks.shown(options)}")
        checks.check_options("smoothing", options, cls, excluded="")
        if "noise" not in options:
            raise ValueError(f"smoothing must have the option noise, got {dict(options)!r}")
        return cls(**options)

    def copies(self, images: Tensor) -> Iterator[Copy]:
        """Yield, without end, the noise and movement of the next copy of images [B, C, H, W].

        They do not depend on the number, device or dtype of the images.
        """
        noise = torch.Generator("cpu").manual_seed(self.seed)
        movement = torch.Generator("cpu").manual_seed(self.seed ^ MOVEMENT_SEED)
        moves = bool(self.shift or self.scale or self.flip)
        like = lambda t: checks.to_device_async("smoothing", t.to(images.dtype), images.device)
        while True:
            normal = torch.randn(images.shape[1:], generator=noise, dtype=torch.float64, device="cpu")
            matrices = map(like, self._movement(*images.shape[2:], movement)) if moves else (None, None)
            yield Copy(like(normal * self.noise), *matrices)

    def _movement(self, height: int, width: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return a random movement: matrices [H, H] for the rows and [W, W] for the columns."""
        down, right, size, mirror = torch.rand(4, generator=generator, dtype=torch.float64, device="cpu").tolist()
        factor = 1 + self.scale * (2 * size - 1)
        rows, columns = (
            _interpolation(n, factor, self.shift * (2 * share - 1)) for n, share in ((height, down), (width, right))
        )
        return rows, columns.flip(0) if self.flip and mirror < 0.5 else columns


@dataclass(frozen=True)
class Copy:
    """The noise of one copy of a batch of images and, optionally, its movement.

    Attributes
    ----------
    noise : Tensor [C, H, W]
    rows, columns : Tensor [H, H] and [W, W], or None
        Matrices that move the rows and the columns.
    """

    noise: Tensor
    rows: Tensor | None
    columns: Tensor | None

    def of(self, images: Tensor) -> Tensor:
        """Return the copies of images [B, C, H, W]."""
        return (images if self.rows is None else _moved(images, self.rows, self.columns)) + self.noise

    def pull_back(self, gradient: Tensor) -> Tensor:
        """Return the gradient with respect to the images from that with respect to the copies."""
        return gradient if self.rows is None else _moved(gradient, self.rows.mT, self.columns.mT)


def _moved(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    # One image at a time, so that it does not depend on the others of its batch, not even by rounding.
    with without_autocast(images.device.type):  # autocast would multiply in half precision
        return torch.stack([rows @ image @ columns.mT for image in images])


def _interpolation(size: int, factor: float, shift: float) -> Tensor:
    """Return the matrix that resizes a line about its centre by ``factor``, and shifts it.

    Examples
    --------
    >>> _interpolation(3, 1.0, 0.5).tolist()
    [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]
    """
    centre, numbers = (size - 1) / 2, torch.arange(size, dtype=torch.float64, device="cpu")
    place = ((numbers - shift - centre) / factor + centre).clamp(0, size - 1)
    return (1 - (place[:, None] - numbers).abs()).clamp(min=0)

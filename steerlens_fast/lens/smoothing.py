"""Averaged gradients: SmoothGrad's mean over noisy copies of an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import checks


@dataclass(frozen=True, kw_only=True)
class Smoothing:
    """Options of SmoothGrad, which averages the gradient of a loss L over noisy copies of the image.

    The gradient at an image x becomes ``1/S * sum_s grad L(x + noise * n_s)``, with S ``samples`` of Gaussian noise n_s
    of mean 0 and variance 1 (Smilkov, Thorat, Kim, Viegas and Wattenberg, 2017, arXiv 1706.03825). As there, noisy
    copies are not clipped to the bounds of the images.

    Parameters
    ----------
    noise : float
        Standard deviation of the noise, in the units of the images. With 0, only the randomness of a stochastic
        model is averaged out.
    samples : int
        Number of noisy copies, each of which costs as much as a plain gradient.
    seed : int
        Seed of the noise, which is the same for all images and all batches, and is drawn anew for each refreshed
        gradient.

    Raises
    ------
    TypeError, ValueError
        If an option is invalid.

    Examples
    --------
    >>> Smoothing(noise=0.1)
    Smoothing(noise=0.1, samples=8, seed=0)
    """

    noise: float
    samples: int = 8
    seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "noise", checks.check_number("smoothing's noise", self.noise, 0.0, closed=True))
        object.__setattr__(self, "samples", checks.check_int("smoothing's samples", self.samples, 1, None))
        object.__setattr__(self, "seed", checks.check_int("smoothing's seed", self.seed, 0, 2**63 - 1))

    @classmethod
    def from_options(cls, options: Mapping) -> Smoothing:
        """Make smoothing from a mapping of its parameters."""
        if not isinstance(options, Mapping):
            expected = "None or a mapping like {'noise': 0.1, 'samples': 8}"
            raise TypeError(f"smoothing must be {expected}, got {options!r}")
        checks.check_options("smoothing", options, cls, excluded="")
        if "noise" not in options:
            raise ValueError(f"smoothing must have the option noise, got {dict(options)!r}")
        return cls(**options)

    def noise_like(self, image: Tensor) -> Iterator[Tensor]:
        """Yield noise [C, H, W] for images [B, C, H, W], endlessly; it does not depend on B, device or dtype."""
        generator = torch.Generator("cpu").manual_seed(self.seed)
        while True:
            normal = torch.randn(image.shape[1:], generator=generator, dtype=torch.float64, device="cpu")
            yield checks.to_device_async("smoothing", (normal * self.noise).to(image.dtype), image.device)

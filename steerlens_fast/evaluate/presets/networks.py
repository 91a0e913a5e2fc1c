"""The networks of the presets, and the training of those for the presets "digits" and "shapes"."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from ...memory import threads
from .digits_data import LabelledImages, train_model, train_robust_classifier
from .training import report_epochs

EPOCHS = 15


def robust_cnn(data: LabelledImages, seed: int = 0) -> nn.Module:
    """Train the demo's network adversarially, by small L2 steps. It is smooth, and its first filters are large."""
    return train_robust_classifier(data, EPOCHS, seed=seed, progress=partial(report_epochs, name="robust_cnn"))


def plain_cnn(data: LabelledImages, seed: int = 0) -> nn.Module:
    """Train three 3 x 3 convolutions with pooling and one linear layer."""
    make = lambda: pooling_network(data.train_images.shape[-1], data.classes, width=16)
    return _train("plain_cnn", make, data, seed + 1)


def mlp(data: LabelledImages, seed: int = 0) -> nn.Module:
    """Train a network with two hidden layers."""
    make = lambda: linear_network(data.train_images[0].numel(), data.classes, width=256)
    return _train("mlp", make, data, seed + 2)


def _train(name: str, make: Callable[[], nn.Module], data: LabelledImages, seed: int) -> nn.Module:
    """Train without adversarial steps; every random number comes from ``seed``."""
    with torch.random.fork_rng(devices=[]), threads(1):
        torch.manual_seed(seed)
        model = make()
        train_model(model, data, EPOCHS, rate=1e-3, one_cycle=False, progress=partial(report_epochs, name=name))
    return model.requires_grad_(False).eval()


# --- Networks with random weights ------------------------------------------------------------------------------------


def pooling_network(side: int, classes: int, width: int) -> nn.Module:
    """Return a network of three 3 x 3 convolutions with pooling, and a linear layer.

    The convolutions have ``width``, 2 and 4 times ``width`` channels.

    Examples
    --------
    >>> pooling_network(28, 10, width=4)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    block = lambda before, after: [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    blocks = [*block(1, width), *block(width, 2 * width), *block(2 * width, 4 * width)]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(4 * width * (side // 8) ** 2, classes))


def strided_network(side: int, classes: int) -> nn.Module:
    """Return a smooth network with two strided convolutions.

    The convolutions are 5 x 5 and 3 x 3 with stride 2. Two linear layers follow.
    """
    coarse = -(-side // 4)
    convolutions = [nn.Conv2d(1, 32, 5, 2, padding=2), nn.GELU(), nn.Conv2d(32, 64, 3, 2, padding=1), nn.GELU()]
    linear = [nn.Linear(64 * coarse**2, 128), nn.GELU(), nn.Linear(128, classes)]
    return nn.Sequential(*convolutions, nn.Flatten(), *linear)


def normalised_network(classes: int) -> nn.Module:
    """Return a network of three 3 x 3 convolutions with batch normalisation.

    The first two have stride 2. A linear layer follows.
    """
    block = lambda before, after, stride: [
        nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    ]
    blocks = [*block(1, 24, 2), *block(24, 48, 2), *block(48, 96, 1)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, classes))


def linear_network(pixels: int, classes: int, width: int) -> nn.Module:
    """Return a network with two hidden layers."""
    hidden = [nn.Linear(pixels, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, classes))

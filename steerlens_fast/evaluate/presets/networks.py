"""The networks of the presets.

Three small networks with their training, and untrained networks that the presets mnist and fashion train.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...memory import threads
from . import digits_data
from .training import report_epochs

EPOCHS = 15


def robust_cnn(data: digits_data.LabelledImages, seed: int = 0) -> nn.Module:
    """Train the demo's network with small L2 adversarial steps.

    It is smooth and has large first filters.
    """
    return digits_data.train(data, EPOCHS, seed=seed, progress=partial(report_epochs, name="robust_cnn"))


def plain_cnn(data: digits_data.LabelledImages, seed: int = 0) -> nn.Module:
    """Train three 3 x 3 convolutions with pooling and one linear layer."""
    block = lambda before, after: [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    side = data.train_images.shape[-1] // 8
    return _fit(
        lambda classes: nn.Sequential(
            *block(1, 16), *block(16, 32), *block(32, 64), nn.Flatten(), nn.Linear(64 * side * side, classes)
        ),
        data,
        seed + 1,
        "plain_cnn",
    )


def mlp(data: digits_data.LabelledImages, seed: int = 0) -> nn.Module:
    """Train a network with two hidden layers, with standard training."""
    wide = lambda before: [nn.Linear(before, 256), nn.ReLU()]
    pixels = data.train_images[0].numel()
    return _fit(
        lambda classes: nn.Sequential(nn.Flatten(), *wide(pixels), *wide(256), nn.Linear(256, classes)),
        data,
        seed + 2,
        "mlp",
    )


def _fit(make, data: digits_data.LabelledImages, seed: int, name: str) -> nn.Module:
    """Train without adversarial steps; every random number comes from ``seed``."""
    images, labels = data.train_images, data.train_labels
    with torch.random.fork_rng(devices=[]), threads(1):
        torch.manual_seed(seed)
        model = make(digits_data.count_of_classes(labels))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for _ in report_epochs(range(EPOCHS), name):
            for rows in torch.randperm(len(images), device="cpu").split(64):
                loss = F.cross_entropy(model(images[rows]), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return model.requires_grad_(False).eval()


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share of images for which a model predicts the label."""
    with torch.no_grad():
        return (model(images).argmax(1) == labels).double().mean().item()


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

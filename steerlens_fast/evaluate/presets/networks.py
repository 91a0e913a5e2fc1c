"""The three small networks of the presets, which differ in architecture and training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...memory import threads
from . import digits_data

EPOCHS = 15


def robust_cnn(data: digits_data.LabelledImages, seed: int = 0) -> nn.Module:
    """Train the demo's network, which is smooth and has large first filters, with small L2 adversarial steps."""
    return digits_data.train(data, EPOCHS, seed=seed)


def plain_cnn(data: digits_data.LabelledImages, seed: int = 0) -> nn.Module:
    """Train three 3 x 3 convolutions with pooling and one linear layer, with standard training."""
    block = lambda before, after: [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    side = data.train_images.shape[-1] // 8
    return _fit(
        lambda classes: nn.Sequential(
            *block(1, 16), *block(16, 32), *block(32, 64), nn.Flatten(), nn.Linear(64 * side * side, classes)
        ),
        data,
        seed + 1,
    )


def mlp(data: digits_data.LabelledImages, seed: int = 0) -> nn.Module:
    """Train a network with two hidden layers, with standard training."""
    wide = lambda before: [nn.Linear(before, 256), nn.ReLU()]
    pixels = data.train_images[0].numel()
    return _fit(
        lambda classes: nn.Sequential(nn.Flatten(), *wide(pixels), *wide(256), nn.Linear(256, classes)), data, seed + 2
    )


def _fit(make, data: digits_data.LabelledImages, seed: int) -> nn.Module:
    """Train without adversarial steps; every random number comes from ``seed``."""
    images, labels = data.train_images, data.train_labels
    with torch.random.fork_rng(devices=[]), threads(1):
        torch.manual_seed(seed)
        model = make(digits_data.count_of_classes(labels))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for _ in range(EPOCHS):
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

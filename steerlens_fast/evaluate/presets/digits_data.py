"""Handwritten digits, a small classifier for them, and the training of classifiers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import StackDataset

from ...extras import require_extra
from ...memory import threads

SIZE = 32  # pixels per side
MARGIN = 2  # pixels around the 8 x 8 original, needed because the pyramid's filters wrap around
Progress = Callable[..., Iterable]

# L2 distances in "Confidence Is Not Evidence" ("the follow-up"), for 28 x 28 pixels
FOLLOW_UP_DISTANCES = (2.0, 1.0)
DISTANCES = tuple(d / 28 * SIZE for d in FOLLOW_UP_DISTANCES)  # the same RMS changes, for 32 x 32 pixels


@dataclass(frozen=True)
class LabelledImages:
    """Images [N, 1, H, W], uint8 or floats in [0, 1], and their labels [N]."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    @property
    def classes(self) -> int:
        """The number of classes, which are numbered from 0."""
        return int(self.train_labels.max()) + 1

    def test_set(self) -> StackDataset:
        """Return the test images, which no classifier was trained on, as a data set of digits."""
        images, labels = self.test_images, self.test_labels.tolist()
        dataset = StackDataset(images if images.dtype == torch.uint8 else (images * 255).round().byte(), labels)
        dataset.labels, dataset.classes = labels, [str(digit) for digit in range(10)]
        return dataset


def load(seed: int = 0) -> LabelledImages:
    """Return scikit-learn's 1797 digits with a margin, upsampled to 32 x 32. A quarter of them is for testing."""
    datasets, selection = require_extra("demo", "sklearn.datasets"), require_extra("demo", "sklearn.model_selection")
    pixels, labels = datasets.load_digits(return_X_y=True)
    train, test = selection.train_test_split(range(len(labels)), test_size=0.25, random_state=seed, stratify=labels)
    small = F.pad(torch.tensor(pixels, dtype=torch.float32, device="cpu").reshape(-1, 1, 8, 8) / 16, [MARGIN] * 4)
    images = F.interpolate(small, size=(SIZE, SIZE), mode="bicubic", align_corners=False).clamp(0, 1)
    labels = torch.as_tensor(labels, dtype=torch.int64, device="cpu")
    return LabelledImages(images[train], labels[train], images[test], labels[test])


def classifier(classes: int = 10) -> nn.Module:
    """Return the network for digits, with random weights.

    It has two convolutions and two linear layers. Its activations are smooth, so that the gradient is smooth, too.
    """
    return nn.Sequential(
        nn.Conv2d(1, 32, 8, stride=4, padding=2),
        nn.GELU(),
        nn.Conv2d(32, 64, 5, stride=2, padding=2),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 128),
        nn.GELU(),
        nn.Linear(128, classes),
    )


def adversarial(model: nn.Module, images: Tensor, labels: Tensor, radius: float, steps: int = 2) -> Tensor:
    """Return images with a higher loss, by projected gradient ascent.

    Their L2 distance from the given ones is at most ``radius``.
    """
    length = lambda t: t.flatten(1).norm(dim=1)[:, None, None, None]
    shift = torch.zeros_like(images)
    for _ in range(steps):
        shift.requires_grad_()
        loss = F.cross_entropy(model(images + shift), labels, reduction="sum")
        (ascent,) = torch.autograd.grad(loss, shift)
        shift = shift.detach() + 1.5 * radius / steps * ascent / length(ascent).clamp_min(1e-12)
        shift = shift * (radius / length(shift).clamp_min(radius))
    return images + shift


def train_model(
    model: nn.Module,
    data: LabelledImages,
    epochs: int,
    *,
    rate: float,
    batch: int = 64,
    one_cycle: bool = True,
    change: Callable[[Tensor, Tensor], Tensor] = lambda images, labels: images,
    progress: Progress = iter,
) -> None:
    """Train a model on the training images.

    Parameters
    ----------
    model : nn.Module
    data : LabelledImages
    epochs, batch : int
    rate : float
        Highest learning rate.
    one_cycle : bool
        Whether the rate rises to ``rate`` and falls again, or is constant.
    change : callable
        Takes a batch of images and its labels, and returns the images to train on.
    progress : callable
        Wraps the loop over epochs, as tqdm does.
    """
    images, labels = data.train_images, data.train_labels
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    steps = epochs * -(-len(images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps) if one_cycle else None
    for _ in progress(range(epochs)):
        for rows in torch.randperm(len(images), device="cpu").split(batch):
            loss = F.cross_entropy(model(change(images[rows], labels[rows])), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if schedule is not None:
                schedule.step()


def train_robust_classifier(
    digits: LabelledImages, epochs: int = 15, radius: float = 1.5, seed: int = 0, progress: Progress = iter
) -> nn.Module:
    """Train :func:`classifier` on adversarial images; every random number comes from ``seed``."""
    with torch.random.fork_rng(devices=[]), threads(1):
        torch.manual_seed(seed)
        model = classifier(digits.classes)
        change = lambda images, labels: adversarial(model, images, labels, radius)
        train_model(model, digits, epochs, rate=4e-3, change=change, progress=progress)
    return model.requires_grad_(False).eval()

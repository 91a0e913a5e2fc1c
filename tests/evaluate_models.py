"""Data and networks for tests of evaluations. They are imported by name, also in other processes.

The environment variable ``EVALUATE_SLEEP`` sets the seconds that each forward pass sleeps.
"""

from __future__ import annotations

import os
import time

import torch
from torch.utils.data import StackDataset


class Net(torch.nn.Module):
    """A network with one hidden layer for grey images of 16 x 16."""

    def __init__(self, seed: int, classes: int = 3):
        super().__init__()
        torch.manual_seed(seed)
        self.layers = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(256, 16), torch.nn.GELU(), torch.nn.Linear(16, classes)
        )

    def forward(self, images):
        time.sleep(float(os.environ.get("EVALUATE_SLEEP", 0)))
        return self.layers(images)


def data() -> StackDataset:
    images = torch.randint(0, 256, (8, 16, 16, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return StackDataset(images, [n % 3 for n in range(8)])


def driver() -> Net:
    return Net(0)


def judge() -> Net:
    return Net(1)


def four_classes() -> Net:
    return Net(2, classes=4)

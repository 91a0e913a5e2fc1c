"""A small linear classifier whose weights may be on any device, and images for it."""

import torch
from inputs import image, normal

SIZE = (24, 20)


def make_inputs(count=2):
    """Return images, and gradients with respect to them."""
    x, g = (f(count, 3, *SIZE, dtype=torch.float32) for f in (image, normal))
    return x, g


class Linear(torch.nn.Module):
    """A classifier of five classes for images of 3 x 24 x 20.

    ``to`` is a function that moves the weights.
    """

    def __init__(self, to=lambda t: t):
        super().__init__()
        self.weights = to(normal(3 * SIZE[0] * SIZE[1], 5, dtype=torch.float32, seed=3) / 10)
        self.eval()

    def forward(self, x):
        return x.flatten(1) @ self.weights

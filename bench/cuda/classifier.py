"""ResNet-50 with random weights.

It is timm's if timm is installed, otherwise it has the same layers in plain torch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

BLOCKS = (3, 4, 6, 3)


def resnet50() -> tuple[nn.Module, str]:
    """Return the classifier in eval mode, and the name of its source."""
    torch.manual_seed(0)
    try:
        import timm
    except (ImportError, RuntimeError):  # RuntimeError: a torchvision that was built for another torch
        return ResNet().eval(), "plain torch"
    return timm.create_model("resnet50").eval(), f"timm {timm.__version__}"


class Bottleneck(nn.Module):
    """Convolutions 1x1, 3x3, 1x1 and a shortcut."""

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        layers = []
        for n, (inward, outward, size, step) in enumerate(
            ((channels, width, 1, 1), (width, width, 3, stride), (width, 4 * width, 1, 1))
        ):
            layers += [nn.Conv2d(inward, outward, size, step, size // 2, bias=False), nn.BatchNorm2d(outward)]
            layers += [nn.ReLU(inplace=True)] if n < 2 else []
        self.body = nn.Sequential(*layers)
        keeps_shape = channels == 4 * width and stride == 1
        shortcut = nn.Conv2d(channels, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
        self.shortcut = nn.Identity() if keeps_shape else nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class ResNet(nn.Module):
    """ResNet-50 (He et al., 2015).

    The stride is in the 3x3 convolution, as in torchvision and timm.
    """

    def __init__(self, classes: int = 1000):
        super().__init__()
        stem = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        blocks, channels = [], 64
        for stage, count in enumerate(BLOCKS):
            for n in range(count):
                width = 64 << stage
                blocks.append(Bottleneck(channels, width, 2 if stage and not n else 1))
                channels = 4 * width
        self.features = nn.Sequential(*stem, *blocks)
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))

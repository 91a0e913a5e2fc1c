"""Small classifiers with fixed weights."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 5


def linear(channels=3, size=16, classes=CLASSES, dtype=torch.float32) -> nn.Module:
    """Return a classifier with one linear layer, in eval mode.

    The gradients of its logits do not depend on the image.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Flatten(), nn.Linear(channels * size * size, classes)).to(dtype).eval()


def smooth(channels=3, classes=CLASSES, dtype=torch.float32) -> nn.Module:
    """Return a classifier with two convolutions, in eval mode, for images of any size.

    Its gradients depend on the image.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = nn.Sequential(
            nn.Conv2d(channels, 8, 5, padding=2),
            nn.GELU(),
            nn.Conv2d(8, 16, 3, stride=2),
            nn.GELU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(64, classes),
        )
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(3)
    return model.to(dtype).eval()


class Stateful(nn.Module):
    """A model with state that a morph must not change.

    It has batch statistics, a counter, dropout and a frozen parameter.
    """

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.conv, self.norm, self.drop = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.3)
            self.head = nn.Linear(4, CLASSES)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.head.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.head(self.drop(self.norm(self.conv(x)).tanh()).mean((2, 3)))


class Segmenter(nn.Module):
    """Returns class scores for every pixel, [N, classes, H, W]."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.conv = nn.Conv2d(3, CLASSES, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        return 5 * self.conv(x)


class Counted(nn.Module):
    """Counts the calls of a model, and their batch sizes.

    Calls with autograd are ``gradients``, others are ``scores``.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.gradients, self.scores, self.sizes = model, 0, 0, []
        self.eval()

    def forward(self, x: Tensor, *args) -> Tensor:
        self.gradients += torch.is_grad_enabled()
        self.scores += not torch.is_grad_enabled()
        self.sizes.append(len(x))
        return self.model(x, *args)


class TwoCentres(nn.Module):
    """A classifier with two classes, whose centres are the images ``source`` and ``target``.

    The score of a class decreases with the squared distance of an image from its centre.
    """

    def __init__(self, source: Tensor, target: Tensor, sharpness: float = 1.0):
        super().__init__()
        self.register_buffer("centres", torch.stack([source, target]))
        self.sharpness = sharpness
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return -self.sharpness / 2 * (x[:, None] - self.centres).flatten(2).square().sum(2)


class BadGradients(nn.Module):
    """Makes the gradients of marked samples NaN, infinite or zero.

    A sample is marked if its first pixel has one of the values in MARKS.
    """

    MARKS = {"nan": 0.25, "inf": 0.5, "zero": 0.75}

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        factor = torch.ones(len(x), device=x.device, dtype=x.dtype)
        mark = x[:, 0, 0, 0].detach()
        for name, value in (("nan", torch.nan), ("inf", torch.inf), ("zero", 0.0)):
            factor = torch.where(mark == self.MARKS[name], value, factor)
        return _ScaledGradient.apply(self.model(x), factor)


class _ScaledGradient(torch.autograd.Function):
    """The identity; its gradient is multiplied by ``factor``."""

    @staticmethod
    def forward(ctx, scores: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return scores.clone()

    @staticmethod
    def backward(ctx, grad: Tensor):
        return grad * ctx.saved_tensors[0][:, None], None


def steps(regime: str, count: int) -> dict:
    """Return ``{"steps": count}`` for regimes that have this option, else {}."""
    return {} if regime == "frozen" else {"steps": count}


def gradient(model, x: Tensor, target: Tensor) -> Tensor:
    """Return d(nll summed over samples)/dx, computed by autograd."""
    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        return torch.autograd.grad(F.cross_entropy(model(leaf), target, reduction="sum"), leaf)[0]

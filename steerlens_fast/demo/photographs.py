"""The demo on photographs.

The gradients of EfficientNet-Lite0, an ImageNet classifier (the driver), move each photograph toward a similar class.
EfficientNet-Lite1 and Lite2 (the judges) predict the classes of the last frames. Their gradients are not used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..checks import check_int, check_number
from ..classifier.class_names import short_names
from ..data.class_matching import ClassMatch
from ..data.resize import resize_and_crop
from ..data.targets import target_number
from ..evaluate.presets.photographs import check as check_packages
from ..extras import extra_folder, require_extra
from ..io.output_dir import expand_home
from ..lens import SteerableLens
from ..lens.settings import PHOTOGRAPHS as SETTINGS
from ..models import LoadedModel, load_model
from ..morphs import Morphs
from .shared import FAMILIES, prepare_folder, timed

NETWORKS = ("lite0", "lite1", "lite2")  # the driver, and the judges
MODEL = "steerlens_fast.models.efficientnet_lite:"
SIZE = (224, 224)
BATCH = 2  # images in one call of a network; larger batches are slower on a CPU


@dataclass(frozen=True)
class Photograph:
    """A photograph from an installed package, and the class to morph it toward."""

    name: str
    package: str
    file: str  # in the package's folder
    target: str
    credit: str  # author and licence

    def read(self) -> Tensor:
        """Return the photograph, [3, 224, 224] in [0, 1]. It is cropped to the size of the networks."""
        path = extra_folder("photographs", self.package) / self.file
        with require_extra("photographs", "PIL.Image").open(path) as image:
            return torch.from_numpy(resize_and_crop(image.convert("RGB"), SIZE)).float() / 255

    @property
    def title(self) -> str:
        return f"{self.name}-to-{self.target.replace(' ', '-')}"


PHOTOGRAPHS = (
    Photograph("cat", "skimage", "data/chelsea.png", "lynx", "Stéfan van der Walt, CC0"),
    Photograph("espresso", "skimage", "data/coffee.png", "cup", "Rachel Michetti (Pikolo Espresso Bar), CC0"),
    Photograph("palace", "sklearn", "datasets/images/china.jpg", "castle", "danielbuechele (Flickr), CC BY 2.0"),
    Photograph("flower", "sklearn", "datasets/images/flower.jpg", "bee", "vultilion (Flickr), CC BY 2.0"),
    Photograph("rocket", "skimage", "data/rocket.jpg", "space shuttle", "SpaceX, public domain"),
    Photograph("tripod", "skimage", "data/camera.png", "reflex camera", "Lav Varshney, CC0"),
)


@dataclass(frozen=True)
class Verdict:
    """A network's predictions for a photograph and its last frame."""

    predicted_before: str  # class predicted for the photograph
    predicted: str  # class predicted for the last frame
    probability: float  # probability of ``predicted`` for the last frame
    target_probability: float  # the target's probability for the last frame
    target_before: float  # the target's probability for the photograph
    target_predicted: bool  # for the last frame


@dataclass(frozen=True)
class PhotographExample:
    """One photograph, morphed by every family."""

    photograph: Photograph
    morphs: dict[str, Morphs]  # by family; each has one sample
    verdicts: dict[str, dict[str, Verdict]]  # family -> network -> verdict

    @property
    def source(self) -> str:
        """The class that the driver predicts for the photograph."""
        morphs = next(iter(self.morphs.values()))
        return short_names(morphs.class_names)[int(morphs.source[0])]


@dataclass(frozen=True)
class PhotographsResult:
    """The result of :func:`run_photographs`, and the files that it wrote."""

    examples: list[PhotographExample]
    files: list[Path]
    seconds: dict[str, float] = field(compare=False)


def run_photographs(
    out: str | Path,
    photographs: Sequence[Photograph] = PHOTOGRAPHS,
    *,
    max_l2: float = SETTINGS["max_l2"],
    frames: int = 8,
    progress: bool = False,
) -> PhotographsResult:
    """Morph photographs with an ImageNet classifier; write pictures, and a table of the predictions of three networks.

    Parameters
    ----------
    out : path
        A new folder, or one of an earlier demo, whose files are replaced.
    photographs : sequence of Photograph
    max_l2 : float
        L2 distance of the last frame from the photograph, in every family.
    frames : int
        Number of frames, including the photograph. There is one gradient from each frame to the next.
    progress : bool
        Show progress bars on stderr.

    Returns
    -------
    PhotographsResult

    Raises
    ------
    TypeError, ValueError
        For an invalid argument.
    JobError
        If ``out`` has files but is not a demo's folder.
    OSError
        If ``out`` cannot be written; raised before anything is computed.
    ImportError, JobError
        If the extra ``steerlens_fast[photographs]`` is not installed; the message contains the pip command.
    """
    check_number("max_l2", max_l2, above=0)
    check_int("frames", frames, 2, None)
    from . import photograph_pictures as pictures  # raises immediately if matplotlib or Pillow is missing

    bar = partial(require_extra("photographs", "tqdm.auto").tqdm, disable=not progress, dynamic_ncols=True)
    check_packages()
    out = expand_home(out)
    prepare_folder(out)
    seconds: dict[str, float] = {}
    with timed(seconds, "networks"):
        networks = {name: load_model(MODEL + name, size=SIZE) for name in NETWORKS}
        images = torch.stack([photograph.read() for photograph in photographs])
    with timed(seconds, "morphs"):
        examples = _examples(networks, images, photographs, max_l2, frames, bar)
    with timed(seconds, "pictures"):
        written = pictures.write_all(out, examples, partial(bar, desc="pictures", unit="file"))
    return PhotographsResult(examples, written, seconds)


def _examples(
    networks: dict[str, LoadedModel],
    images: Tensor,
    photographs: Sequence[Photograph],
    max_l2: float,
    frames: int,
    bar: Callable[..., Iterable],
) -> list[PhotographExample]:
    driver = networks[NETWORKS[0]]
    classes = ClassMatch(model_names=driver.class_names)
    targets = [target_number(photograph.target, classes) for photograph in photographs]
    before = {name: _probabilities(network, images) for name, network in networks.items()}
    morphs, after = {}, {}
    for family, lens_family in bar(FAMILIES.items(), desc="morphs", unit="family"):
        lens = SteerableLens.for_photographs(driver.model, preprocessing=driver.preprocessing, family=lens_family)
        lens.warn_about_results = False
        options = {"max_l2": max_l2, "frames": frames, "steps": frames - 1, "internal_batch_size": BATCH}
        morphs[family] = lens.morph(images, targets, **options)
        last = morphs[family].frames[:, -1]
        after[family] = {name: _probabilities(network, last) for name, network in networks.items()}
    class_names = short_names(driver.class_names)
    verdict = lambda family, name, n: _verdict(before[name][n], after[family][name][n], targets[n], class_names)
    return [
        PhotographExample(
            photograph,
            {family: batch[n] for family, batch in morphs.items()},
            {family: {name: verdict(family, name, n) for name in NETWORKS} for family in morphs},
        )
        for n, photograph in enumerate(photographs)
    ]


@torch.no_grad()
def _probabilities(network: LoadedModel, images: Tensor) -> Tensor:
    outputs = [network.model(network.preprocessing(part.contiguous())) for part in images.split(BATCH)]
    return torch.cat(outputs).softmax(1)


def _verdict(before: Tensor, after: Tensor, target: int, class_names: list[str]) -> Verdict:
    first, last = int(before.argmax()), int(after.argmax())
    probabilities = float(after[last]), float(after[target]), float(before[target])
    return Verdict(class_names[first], class_names[last], *probabilities, last == target)

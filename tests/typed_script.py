"""A user's script, which mypy checks (``.ci/lint``): public functions have types, and wrong arguments are errors.

An error that mypy does not report makes a comment ``type: ignore`` unused, which is an error as well.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from typing_extensions import assert_type

import steerlens_fast as sf


def lens_and_morphs(lens: sf.SteerableLens, images: Tensor) -> None:
    morphs = lens.morph(images, 3, max_l2=3.0)
    assert_type(morphs, sf.Morphs)
    assert_type(lens.iter_frames(images, "runner-up", factors=[0.0, 1.0]), Iterator[Tensor])
    assert_type(lens.perturb(images, 3), Tensor)
    assert_type(lens(images, 3, max_l2=1.0), Tensor)
    assert_type(sf.SteerableLens.for_photographs(nn.Identity()), sf.SteerableLens)
    assert_type(lens.settings, dict[str, object])
    lens.morph(images, 3, max_l2="3")  # type: ignore[arg-type]
    lens.iter_frames(images, 3, frames=2.5)  # type: ignore[arg-type]
    lens.morph(images, distance=3.0)  # type: ignore[call-arg]
    for tensor in (morphs.frames, morphs.target_probability, morphs.l2, morphs.ok, morphs.already_predicted):
        assert_type(tensor, Tensor)
    assert_type(morphs.attained, Tensor | None)
    assert_type(morphs.reasons, list[str | None])
    assert_type(morphs[0], sf.Morphs)
    assert_type(sf.Morphs.cat([morphs, morphs]).cpu(), sf.Morphs)


def pyramid_and_ops(pyramid: sf.SteerablePyramid, image: Tensor) -> None:
    coefficients = pyramid(image)
    assert_type(coefficients, sf.Coefficients)
    assert_type(pyramid.analyze(image), sf.Coefficients)
    assert_type(pyramid.synthesize(coefficients), Tensor)
    assert_type(sf.ops.polar_split(coefficients.bands[0]), tuple[Tensor, Tensor])
    assert_type(coefficients.lowpass, Tensor | Any)
    assert_type(coefficients.map(lambda band: band / 2), sf.Coefficients)
    pyramid(image, scales=1.5)  # type: ignore[arg-type]
    coefficients.bands[0].shpae()  # type: ignore[union-attr]


def other_functions(images: Tensor, morphs: sf.Morphs) -> None:
    loaded = sf.load_model("timm:resnet18", size=32)
    assert_type(loaded.read_images(["cat.jpg"]), Tensor)
    assert_type(sf.rating.write_form("out", "form").page, Path)
    sf.rating.tally("form", 3)  # type: ignore[arg-type]
    sf.morph_dataset("photos", loaded.model, "out", workers="2")  # type: ignore[arg-type]
    sf.plot_morphs("morphs")  # type: ignore[arg-type]
    sf.plot_pyramid(images)  # type: ignore[arg-type]
    sf.morhp_dataset()  # type: ignore[attr-defined]

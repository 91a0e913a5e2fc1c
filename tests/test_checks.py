"""Error messages show the type and the shape or length of large values, not their numbers."""

from dataclasses import dataclass

import pytest
import torch

from steerlens_fast import PixelFamily, SteerableLens, SteerablePyramid, load_model
from steerlens_fast.checks import shown
from steerlens_fast.errors import JobError

IMAGES = torch.rand(2, 3, 16, 16)
MODEL = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 4)).eval()


class Broken(PixelFamily):
    """A family that renders too few frames."""

    def prepare(self, image, gradient):
        return BrokenMotion(image, gradient)


@dataclass
class BrokenMotion:
    image: torch.Tensor
    gradient: torch.Tensor

    def render(self, factors, amplitude_factors=None, bounds=None):
        return self.image


def images_and_labels():
    """A callable that is given as a model by mistake."""
    return IMAGES, [IMAGES] * 40


lens = lambda **options: SteerableLens(MODEL, **options)
SHAPE = r"Tensor \[2, 3, 16, 16\], torch.float32"
CASES = {
    "model": (lambda: load_model(f"{__name__}:images_and_labels"), rf"\({SHAPE}, \[{SHAPE}, "),
    "model-object": (lambda: load_model(IMAGES), SHAPE),
    "family": (lambda: lens(family=IMAGES), SHAPE),
    "render": (lambda: lens(family=Broken()).morph(IMAGES, 3), r"got \[2, 3, 16, 16\] from .*BrokenMotion$"),
    "objective": (lambda: lens(objective=IMAGES), SHAPE),
    "bounds": (lambda: lens(bounds=(IMAGES, 1)), SHAPE),
    "phase_cap": (lambda: lens(phase_cap=IMAGES), SHAPE),
    "factors": (lambda: lens().morph(IMAGES, 3, factors=[IMAGES]), SHAPE),
    "max_l2": (lambda: lens().morph(IMAGES, 3, max_l2=[IMAGES]), SHAPE),
    "target": (lambda: lens().morph(IMAGES, [IMAGES, IMAGES]), SHAPE),
    "steps": (lambda: lens(regime="live").morph(IMAGES, 3, steps=IMAGES), SHAPE),
    # The tensor is converted to a list first
    "image_shape": (lambda: SteerablePyramid(IMAGES), "got list of length 2$"),
}


@pytest.mark.parametrize("case", CASES)
def test_messages_show_type_and_shape_of_large_values(case):
    call, pattern = CASES[case]
    with pytest.raises((TypeError, ValueError, JobError), match=pattern) as error:
        call()
    assert len(str(error.value)) < 1000


def test_small_values_are_shown_as_they_are():
    for value in (3, "cat", [0, float("nan")], (1, 2), {"noise": 0.1}, torch.tensor([1.0, 2.0]), None, torch.float32):
        assert shown(value) == repr(value)
    assert len(shown(list(range(1000)))) < 100 and shown("x" * 1000).count("x") < 250
    assert shown(torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])) == "nested Tensor, torch.float32"
    assert shown(torch.nn.Sequential(*[torch.nn.Linear(3, 3)] * 9)) == "torch.nn.modules.container.Sequential"

"""Tensors are made on the device of the arguments, for any default device of torch."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from classifiers import smooth, steps
from pairwise import pairwise

import steerlens_fast
from steerlens_fast import Morphs, SteerableLens, SteerablePyramid, factor_at_l2, quantus_explain
from steerlens_fast.families import FAMILIES, make_family

FACTORIES = {"tensor", "as_tensor", "asarray", "scalar_tensor", "zeros", "ones", "full", "empty", "eye", "arange"}
FACTORIES |= {"linspace", "logspace", "rand", "randn", "randint", "randperm", "fftfreq", "rfftfreq", "tril_indices"}
FACTORIES |= {"triu_indices", "empty_strided", "bartlett_window", "blackman_window", "hann_window"}
FACTORIES |= {"hamming_window", "kaiser_window"}


@pytest.fixture
def meta_as_default_device():
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


def _without_device(path: Path) -> list[int]:
    """Return the lines that call torch.FACTORY without a device."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return [
        call.lineno
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in FACTORIES
        and ast.unparse(call.func).startswith("torch.")
        and not any(keyword.arg in ("device", None) for keyword in call.keywords)  # None: **options
    ]


def test_every_factory_call_has_a_device():
    root = Path(steerlens_fast.__file__).parent
    result = {str(p.relative_to(root)): lines for p in root.rglob("*.py") if (lines := _without_device(p))}
    assert result == {}


def test_factory_call_without_device_is_found(tmp_path):
    (tmp_path / "a.py").write_text("import torch\ntorch.zeros(3)\ntorch.zeros(3, device='cpu')\nx.zeros(3)\n")
    assert _without_device(tmp_path / "a.py") == [2]


X = torch.rand(2, 3, 32, 32, device="cpu", generator=torch.Generator().manual_seed(0))
MODEL = smooth()


@pairwise(
    options=[{"max_l2": [0.3, 0.5], "frames": 3}, {"distances": [0.2, 0.5]}, {"factors": [0.0, 1.0]}],
    regime=["frozen", "persistent", "live"],
    family=["pixel", "fourier", "csp-joint"],
)
def test_morphs_do_not_depend_on_the_default_device(family, regime, options):
    lens, options = SteerableLens(MODEL, family=family, regime=regime, color="luma"), {**options, **steps(regime, 2)}
    expected = lens.morph(X, [1, 4], **options)
    torch.set_default_device("meta")
    try:
        morphs = lens.morph(X, [1, 4], **options)
        frames = torch.stack(list(lens.iter_frames(X, [1, 4], **options)), 1)
        first, _, backward = morphs[0], morphs[[1]], morphs[::-1]
    finally:
        torch.set_default_device(None)
    for name, t in expected.tensors().items():
        assert morphs.tensors()[name].device.type == "cpu" and torch.equal(morphs.tensors()[name], t), name
    assert torch.equal(frames, expected.frames) and torch.equal(backward.frames, expected.frames.flip(0))
    assert expected.fell.equal(morphs.fell) and isinstance(first, Morphs)


@pytest.mark.parametrize("name", FAMILIES)
def test_frames_and_factors_of_families_are_on_the_device_of_the_image(meta_as_default_device, name):
    pyramid = SteerablePyramid((32, 32))
    motion = make_family(name, pyramid, "polar", scales=[1]).prepare(X, X.flip(0))
    frames = motion.render([0.0, 1.0], bounds=(0, 1))
    factor, l2, attained = factor_at_l2(motion, [0.1, 0.2])
    assert {t.device.type for t in (frames, factor, l2, attained)} == {"cpu"} and bool(attained.all())


def test_pyramid_is_on_the_device_of_the_image(meta_as_default_device):
    pyramid = SteerablePyramid((32, 32))
    assert (pyramid.synthesize(pyramid(X)) - X).abs().max() < 1e-5
    assert pyramid(X.to("meta")).bands[0].device.type == "meta"


def test_quantus_works_with_another_default_device(meta_as_default_device):
    images = X.numpy()
    assert np.abs(quantus_explain(MODEL, images, np.array([1, 4]), max_l2=[0.2, 0.4])).max() > 0

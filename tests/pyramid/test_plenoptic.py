"""Agreement with plenoptic's SteerablePyramidFreq at even sizes (at odd sizes, its frequencies are shifted)."""

import pytest
import torch
from inputs import image, normal
from pairwise import pairwise
from tolerances import TOLERANCES

from steerlens_fast import Coefficients, SteerablePyramid

try:
    from plenoptic.process import SteerablePyramidFreq
except ImportError as error:
    WHY_NOT = f"plenoptic (extra test) cannot be imported: {error}"
    pytestmark = pytest.mark.skip(WHY_NOT)

PLENOPTIC = TOLERANCES["plenoptic"].float32
geometries = pairwise(
    shape=[(64, 64), (96, 64), (224, 224)], order=[1, 2, 3], tight_frame=[False, True], downsample=[True, False]
)


def both(shape, order, tight_frame, downsample, height="auto"):
    options = {"height": height, "order": order, "tight_frame": tight_frame, "downsample": downsample}
    return SteerablePyramid(shape, **options), SteerablePyramidFreq(shape, is_complex=True, **options)


def assert_agree(ours, theirs):
    """Check that two tensors differ by at most the tolerance times the largest number in ``theirs``."""
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= PLENOPTIC * theirs.abs().max()


@geometries
def test_coefficients_agree_with_plenoptic(shape, order, tight_frame, downsample):
    mine, other = both(shape, order, tight_frame, downsample)
    x = image(1, 2, *shape, dtype=torch.float32)
    ours, theirs = mine(x).to_plenoptic(), other(x)
    assert list(ours) == list(theirs)
    largest = max(t.abs().max() for t in theirs.values())
    for key in theirs:
        assert ours[key].shape == theirs[key].shape, key
        assert ours[key].dtype == theirs[key].dtype, key
        assert (ours[key] - theirs[key]).abs().max() <= PLENOPTIC * largest, key


@geometries
def test_syntheses_of_edited_phases_agree_with_plenoptic(shape, order, tight_frame, downsample):
    """Both pyramids synthesise the coefficients of both, after all phases were changed by different angles."""
    mine, other = both(shape, order, tight_frame, downsample)
    x = image(1, 1, *shape, dtype=torch.float32)
    turn = lambda t: t * torch.exp(1j * normal(*t.shape, dtype=torch.float32, seed=t.shape[-1]))
    ours = mine(x).map(turn)
    assert_agree(mine.synthesize(ours), other.recon_pyr(ours.to_plenoptic()))
    theirs = Coefficients.from_plenoptic(other(x)).map(turn)
    assert_agree(mine.synthesize(theirs), other.recon_pyr(theirs.to_plenoptic()))


@pytest.mark.parametrize("scales, bands", [([0], [1]), ([1, 2], [0, 3]), ([2], [0, 1, 2, 3])], ids=str)
def test_syntheses_of_some_bands_agree_with_plenoptic(scales, bands):
    mine, other = both((64, 64), 3, False, True, height=3)
    c = mine(image(1, 1, 64, 64, dtype=torch.float32))
    theirs = other.recon_pyr(c.to_plenoptic(), levels=scales, bands=bands)
    assert_agree(mine.synthesize(c, scales, bands, residuals=False), theirs)


def test_gradients_agree_with_plenoptic():
    """Autograd through both gives the same gradient of a weighted sum of an image with changed phases."""
    mine, other = both((64, 64), 3, False, True, height=2)
    x, weights = image(1, 1, 64, 64, dtype=torch.float32), normal(1, 1, 64, 64, dtype=torch.float32)
    grads = []
    for analyze, synthesize in (
        (lambda t: mine(t).to_plenoptic(), lambda c: mine.synthesize(Coefficients.from_plenoptic(c))),
        (other.forward, other.recon_pyr),
    ):
        leaf = x.clone().requires_grad_()
        c = analyze(leaf)
        for scale in (0, 1):
            c[scale] = c[scale] * torch.exp(1j * normal(*c[scale].shape, dtype=torch.float32))
        grads.append(torch.autograd.grad((synthesize(c) * weights).sum(), leaf)[0])
    assert_agree(*grads)

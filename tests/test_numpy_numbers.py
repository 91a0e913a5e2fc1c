"""Numbers of numpy, and tensors without dimensions, are accepted as numbers.

Bools and floats are not accepted as integers.
"""

import numpy as np
import pytest
import torch
from inputs import image, normal

from steerlens_fast import (
    Coefficients,
    CSPFamily,
    FourierFamily,
    PixelFamily,
    SteerableLens,
    SteerablePyramid,
    checks,
    factor_at_l2,
    ops,
    set_filter_cache_limit,
)

INTS = [np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint64, np.array, torch.tensor, int]
NO_INTS = [True, np.True_, torch.tensor(True), 1.0, np.float64(1), "1", None, torch.tensor(1.0), np.array([1, 2])]


@pytest.mark.parametrize("kind", INTS)
def test_pyramid_accepts_integers_of_any_kind(kind):
    pyramid = SteerablePyramid((kind(32), kind(24)), kind(2), kind(2), kind(5), np.float32(1))
    assert pyramid.geometry == SteerablePyramid((32, 24), 2, 2, 5, 1.0).geometry
    assert all(type(n) is int for n in (*pyramid.image_shape, pyramid.height, pyramid.order, pyramid.orientations))
    assert repr(pyramid) == repr(SteerablePyramid((32, 24), 2, 2, 5, 1.0))
    coefficients = pyramid(image(2, 32, 24), scales=[kind(1)])
    assert coefficients.bands[0] is None and coefficients.bands[1].shape == (2, 5, 16, 12)
    assert pyramid.synthesize(coefficients, scales=[kind(1)], orientations=(kind(0), kind(3))).shape == (2, 32, 24)


def test_arrays_are_sequences_of_integers():
    pyramid, x = SteerablePyramid(np.array([32, 24])), image(2, 32, 24)
    expected = pyramid.synthesize(pyramid(x, scales=[0, 1]), orientations=[1, 2])
    assert torch.equal(pyramid.synthesize(pyramid(x, scales=np.arange(2)), orientations=np.array([1, 2])), expected)
    with pytest.raises(TypeError, match="each item of scales must be an int"):
        pyramid(x, scales=np.array([0.0, 1.0]))


@pytest.mark.parametrize("bad", NO_INTS, ids=repr)
def test_values_that_are_no_integers_raise(bad):
    with pytest.raises(TypeError, match="order must be an int"):
        SteerablePyramid((32, 24), order=bad)


@pytest.mark.parametrize("family", ["csp", "fourier", "pixel"])
def test_families_accept_numbers_of_numpy(family):
    pyramid, x, g = SteerablePyramid((32, 24)), image(2, 32, 24), normal(2, 32, 24)
    half, small = np.float32(0.5), np.float32(2.0**-20)

    def family_of(eps, floor, scales, orientations):
        bands = dict(scales=scales, orientations=orientations)
        if family == "csp":
            return CSPFamily(pyramid, eps=eps, floor=floor, **bands)
        if family == "fourier":
            return FourierFamily(eps=eps, floor=floor, pyramid=pyramid, **bands)
        return PixelFamily(eps, pyramid, **bands)

    expected = family_of(0.5, 2.0**-20, [0, 1], [2]).prepare(x, g).render([0.5, 1.0], bounds=(0, 1))
    motion = family_of(half, small, np.array([0, 1]), (np.int64(2),)).prepare(x, g)
    assert torch.equal(motion.render(np.array([0.5, 1.0], dtype=np.float32), bounds=np.array([0, 1])), expected)
    assert torch.equal(factor_at_l2(motion, np.float32(0.5))[0], factor_at_l2(motion, 0.5)[0])


def test_ops_accept_numbers_of_numpy():
    two = np.int64(2)
    assert ops.pair(torch.ones(4, 3), two).shape == (2, 3)
    assert ops.split_bands(torch.ones(2, 8, 5) + 0j, [torch.ones(3, 4, 4)], [two], [np.int32(4)], np.int64(8))[0].shape
    assert ops.step(torch.ones(1, 1, 2, 2) + 0j, torch.ones(1, 1, 2, 2), np.float32(1), floor=np.float32(0))[0].shape


@pytest.mark.parametrize("whole, real", [(np.int64, np.float32), (np.array, np.array), (torch.tensor, torch.tensor)])
@pytest.mark.parametrize("regime", ["frozen", "live", "persistent"])
def test_lenses_accept_numbers_of_any_kind(regime, whole, real, tmp_path):
    x, model = (
        image(2, 1, 16, 16, dtype=torch.float32),
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 5)),
    )

    def results(whole, real):
        steps = {} if regime == "frozen" else {"steps": whole(4)}
        pyramid = {"height": whole(1), "order": whole(2), "width": real(1.0)}
        options = dict(phase_cap=real(2.0), bounds=(real(0.0), real(1.0)), scales=[whole(0)], orientations=[whole(1)])
        lens = SteerableLens(model.eval(), family="csp-joint", regime=regime, pyramid=pyramid, **options)
        options = dict(frames=whole(3), internal_batch_size=whole(1), **steps)
        morphs = lens.morph(x, whole(3), factors=real(0.5), amplitude_factors=real(0.25), **options)
        frames = torch.stack(list(lens.iter_frames(x, whole(3), max_l2=real(0.25), **options)), 1)
        return morphs, [morphs.frames, frames, lens.perturb(x, whole(3), factor=real(0.5), **steps)]

    morphs, images = results(whole, real)
    for actual, expected in zip(images, results(int, float)[1]):
        assert torch.equal(actual, expected)
    pytest.importorskip("matplotlib")
    assert len(morphs[whole(-1)]) == 1
    morphs.save(tmp_path / "a.png", frames=[whole(0), whole(-1)], samples=whole(1))


@pytest.mark.parametrize("whole, real", [(np.int64, np.float32), (np.array, np.array), (torch.tensor, torch.tensor)])
def test_measures_accept_numbers_of_any_kind(whole, real):
    from steerlens_fast.evaluate.measures.probes import band_probes
    from steerlens_fast.evaluate.measures.smooth import smooth_reconstruction
    from steerlens_fast.evaluate.measures.statistics import bootstrap
    from steerlens_fast.evaluate.presets.synthetic import synthetic_images

    x, classes = image(2, 1, 16, 16, dtype=torch.float32), torch.tensor([1, 2])
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 5)).eval()

    def results(whole, real):
        yield torch.tensor(bootstrap(x[0, 0, 0], draws=whole(20), confidence=real(0.75), seed=whole(1)).low)
        yield smooth_reconstruction(
            x, x.flip(-1), grid=whole(2), restarts=whole(1), seed=whole(1), workers=whole(1)
        ).warp
        yield band_probes(model, x, classes, classes - 1, directions=whole(2), max_l2=real(0.25), seed=whole(1)).along
        yield synthetic_images("size", whole(2), size=whole(16), seed=whole(1)).images()

    for actual, expected in zip(results(whole, real), results(int, float)):
        assert torch.equal(actual.nan_to_num(), expected.nan_to_num())


def test_configurations_accept_numbers_of_any_kind():
    from steerlens_fast.job.config import JobConfig

    plain = JobConfig(data="a", model="b", frames=3, max_l2=0.5, size=16, mean=(0.5,), seed=1, batch_size=2)
    for whole, real in ((np.int64, np.float32), (np.array, np.array), (torch.tensor, torch.tensor)):
        numbers = dict(frames=whole(3), max_l2=real(0.5), size=whole(16), seed=whole(1), batch_size=whole(2))
        assert JobConfig(data="a", model="b", mean=(real(0.5),), **numbers) == plain


@pytest.mark.parametrize(
    "bad", [torch.tensor(True), torch.tensor(1j), torch.ones(1), np.array([1.0]), np.array("1")], ids=repr
)
def test_values_that_are_no_numbers_raise(bad):
    with pytest.raises(TypeError, match="eps must be a float"):
        PixelFamily(bad)


def test_plenoptic_coefficients_may_have_numpy_integers_as_keys():
    band = torch.ones(4, 8, 8) + 0j
    assert Coefficients.from_plenoptic({np.int64(0): band, "residual_lowpass": band[0].real}).bands == (band,)


def test_checks_return_integers_of_python():
    assert type(checks.check_int("n", np.int16(3), 0, 5)) is int
    assert [type(n) for n in checks.check_indices("n", np.array([1, 2], dtype=np.uint8), 5)] == [int, int]
    before = set_filter_cache_limit(np.int64(1 << 28))
    assert type(set_filter_cache_limit(before)) is int

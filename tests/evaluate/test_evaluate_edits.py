"""Probes, consistency, clipping and true motion, compared with known values."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from classifiers import CLASSES, TwoCentres, linear, smooth
from tolerances import assert_close

from steerlens_fast import (
    SteerablePyramid,
    alignment,
    band_probes,
    clipping,
    coefficient_consistency,
    phase_displacement,
    synthetic_images,
)
from steerlens_fast.classifier import Classifier
from steerlens_fast.evaluate.classifiers import as_classifier, load_driver
from steerlens_fast.evaluate.config import EvaluationConfig
from steerlens_fast.evaluate.edits import make_edits
from steerlens_fast.evaluate.measures.arguments import gaussian_noise
from steerlens_fast.evaluate.measures.probes import PROBE_L2
from steerlens_fast.evaluate.presets.synthetic import KINDS, MIN_FACTOR
from steerlens_fast.evaluate.tasks import TaskRunner
from steerlens_fast.families import FAMILIES
from steerlens_fast.families.luma import luma
from steerlens_fast.pyramid.filters import energy_weight

# --- Synthetic images and alignment with their true motion


@pytest.mark.parametrize("kind", KINDS)
def test_derivative_of_images_equals_finite_differences(kind):
    synthetic = synthetic_images(kind, 6, seed=2)
    step = 1e-5
    change = (synthetic.images(synthetic.factor + step) - synthetic.images(synthetic.factor - step)) / (2 * step)
    assert (change - synthetic.derivative()).abs().max() < 1e-6
    assert synthetic.images().min() >= 0 and synthetic.images().max() <= 1
    assert synthetic.labels.tolist() == [0, 1] * 3 and (synthetic.factor.abs() >= MIN_FACTOR).all()


@pytest.mark.parametrize("kind", KINDS)
def test_edit_along_the_derivative_is_aligned(kind):
    """The cosine is 1 for an edit along the derivative, and -1 for an edit against the derivative.

    ``phase_displacement`` returns ``by``, with its sign.
    """
    synthetic = synthetic_images(kind, 8, seed=1)
    source = synthetic.images()
    derivative = synthetic.toward.view(-1, 1, 1, 1) * synthetic.derivative()  # toward the other class
    for by in (1e-3, -1e-3):
        edit = source + by * derivative
        cosine, moved = alignment(source, edit, derivative), phase_displacement(source, edit, derivative)
        assert (cosine * (1 if by > 0 else -1) - 1).abs().max() < 1e-9
        assert (moved / by - 1).abs().max() < 0.01


def test_edit_perpendicular_to_the_derivative_is_not_aligned():
    synthetic = synthetic_images("position", 4)
    source, derivative = synthetic.images(), synthetic.derivative()
    other, dot = torch.randn_like(source), lambda a, b: (a * b).sum((1, 2, 3), keepdim=True)
    other = other - derivative * dot(other, derivative) / dot(derivative, derivative)
    assert alignment(source, source, derivative).isnan().all()
    assert alignment(source, source + other, derivative).abs().max() < 1e-9


@pytest.mark.parametrize("shift", [0.5, 3.0, 6.0])
def test_small_and_large_displacements_are_recovered(shift):
    """The larger shifts exceed half a wavelength of the fine scales; the coarse scales measure them."""
    x, y = torch.arange(64.0, dtype=torch.float64), torch.arange(64.0, dtype=torch.float64)[:, None]
    blob = lambda cx: torch.exp(-((x - cx) ** 2 + (y - 32) ** 2) / (2 * 3.0**2))[None, None]
    slope = (blob(28 + 1e-5) - blob(28 - 1e-5)) / 2e-5
    result = phase_displacement(blob(28.0), blob(28.0 + shift), slope)
    assert abs(result.item() / shift - 1) < 0.05


def test_displacement_ignores_coefficients_of_tiny_amplitude():
    """One channel does not move. The other channel moves, and counts unless its amplitude is much smaller."""
    synthetic = synthetic_images("position", 4)
    still, rate = synthetic.images(), synthetic.derivative()
    for amplitude, expected in ((0.01, 1e-3), (1e-4, torch.nan)):
        source = torch.cat([still, amplitude * still], 1)
        derivative = torch.cat([0 * rate, amplitude * rate], 1)
        moved = phase_displacement(source, source + 1e-3 * derivative, derivative)
        assert moved.tolist() == pytest.approx([expected] * 4, rel=0.01, nan_ok=True)


@pytest.mark.parametrize("kind", ["position", "size"])
def test_true_motion_has_the_requested_distance(kind):
    synthetic = synthetic_images(kind, 6)
    moved, by = synthetic.moved(1.5)
    assert ((moved - synthetic.images()).flatten(1).norm(dim=1) - 1.5).abs().max() < 1e-6
    assert (by > 0).all() and torch.equal(moved, synthetic.images(synthetic.factor + synthetic.toward * by))
    assert (
        alignment(synthetic.images(), moved, synthetic.toward.view(-1, 1, 1, 1) * synthetic.derivative()) > 0.8
    ).all()


def test_synthetic_images_depend_on_the_seed():
    one, same, other = (synthetic_images("gap", 4, seed=seed).images() for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("colour", 4), "kind must be one of"),
        (("gap", -1), "count must be at least 0"),
        (("gap", 1.5), "count must be"),
    ],
)
def test_bad_options_of_synthetic_images_raise(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        synthetic_images(*arguments)


def test_bad_arguments_of_alignment_raise():
    with pytest.raises(ValueError, match="derivative must have the source's shape"):
        alignment(torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 9))


# --- Clipping and consistency


def test_clipping_counts_values_and_energy():
    source = torch.zeros(2, 1, 2, 2)
    edit = torch.tensor([[[[2.0, 0.5], [0.0, 0.0]]], [[[0.5, 0.5], [0.0, 0.0]]]])
    result = clipping(source, edit)
    assert result.pixels.tolist() == [0.25, 0.0]
    assert result.energy[0] == pytest.approx((2 - 1) ** 2 / (2**2 + 0.5**2)) and result.energy[1] == 0
    assert clipping(source, source).energy.isnan().all() and clipping(source, edit, None).energy.tolist() == [0, 0]


@pytest.mark.parametrize("synthesis", ["real", "adjoint"])
@pytest.mark.parametrize("options", [{}, {"tight_frame": True}, {"orientations": 6, "height": 2}, {"order": 0}])
def test_coefficients_of_an_image_are_consistent(synthesis, options):
    pyramid = SteerablePyramid((24, 31), synthesis=synthesis, **options)
    source, other = torch.rand(2, 3, 2, 24, 31, dtype=torch.float64)
    result = coefficient_consistency(pyramid, source, pyramid(other))
    assert max(result.leakage.max(), result.departure.max(), result.departure_clipped.max()) < 1e-12


def test_leakage_is_one_if_the_conjugate_of_a_change_is_added():
    """Adding the conjugates of another image's coefficients does not change the image. If only real parts are
    added, the leakage is 1/2."""
    pyramid = SteerablePyramid((32, 32))
    source, change = torch.rand(2, 3, 1, 32, 32, dtype=torch.float64)
    c, d = pyramid(source), pyramid(change) * 0.1
    joined = lambda part: replace(c, bands=tuple(torch.complex(*part(a, b)) for a, b in zip(c.bands, d.bands)))
    opposite = joined(lambda a, b: ((a + b).real, (a - b).imag))
    result = coefficient_consistency(pyramid, source, opposite, None)
    assert_close(result.leakage, torch.ones_like(result.leakage), "fit")
    real_alone = joined(lambda a, b: ((a + b).real, a.imag))
    halved = coefficient_consistency(pyramid, source, real_alone, None).leakage
    assert_close(halved, torch.full_like(halved, 0.5), "fit")


@pytest.mark.parametrize("options", [{}, {"tight_frame": True}, {"downsample": False}])
def test_scales_have_their_weight_in_the_image_in_departures(options):
    """A change of energy 1 of the image is kept, and imaginary parts of energy 3 at another scale are lost."""
    pyramid, source = SteerablePyramid((64, 64), **options), torch.rand(1, 1, 64, 64, dtype=torch.float64)
    wave = torch.cos(2 * torch.pi * 4 / 64 * torch.arange(64, dtype=torch.float64)).expand(1, 1, 64, 64)
    c = pyramid(source + wave / wave.norm())
    imaginary = 1j * torch.rand(c.bands[0].shape, dtype=torch.float64)
    imaginary *= (3 / energy_weight(pyramid.geometry, 0)) ** 0.5 / imaginary.abs().norm()
    result = coefficient_consistency(pyramid, source, replace(c, bands=(c.bands[0] + imaginary, *c.bands[1:])), None)
    assert result.departure.item() == pytest.approx(3 / 4, rel=1e-9)


def test_displacement_does_not_depend_on_the_normalisation_of_the_coefficients():
    source, edit, derivative = torch.rand(3, 4, 1, 32, 32, dtype=torch.float64)
    tight = SteerablePyramid((32, 32), tight_frame=True)
    expected = phase_displacement(source, edit, derivative)
    assert_close(phase_displacement(source, edit, derivative, pyramid=tight), expected, "fit")


def test_consistency_of_an_unchanged_image_is_nan():
    pyramid, source = SteerablePyramid((16, 16)), torch.rand(2, 1, 16, 16)
    assert coefficient_consistency(pyramid, source, pyramid(source)).departure.isnan().all()


def test_consistency_of_an_image_in_place_of_coefficients_raises():
    pyramid, source = SteerablePyramid((16, 16)), torch.rand(2, 1, 16, 16)
    with pytest.raises(TypeError, match="edited must be Coefficients, got Tensor"):
        coefficient_consistency(pyramid, source, source)


# --- Edits


def edit(images, target, family: str, **options):
    """Edit images to the L2 distance 1."""
    config = EvaluationConfig("data", "driver", frames=4, **options)
    model = smooth(channels=3)
    driver = as_classifier(load_driver(EvaluationConfig("data", "driver", size=(24, 24)), "cpu", model), 3)
    return make_edits(config, family, driver, SteerablePyramid((24, 24)), images, target, 1.0)


@pytest.mark.parametrize("regime", ["persistent", "frozen", "live"])
@pytest.mark.parametrize("family, rule", [*((family, "polar") for family in FAMILIES), ("csp-joint", "complex")])
def test_unclipped_image_and_coefficients_belong_to_the_frame(family, rule, regime):
    """Clipping the unclipped image gives the last frame. Synthesis of the coefficients gives the unclipped image."""
    result = edit(torch.rand(3, 3, 24, 24), [0, 1, 2], family, rule=rule, regime=regime)
    assert result.morphs.attained.all()
    assert_close(result.unclipped.clamp(0, 1), result.frame, "render", absolute=True)
    if family.startswith("csp"):
        image = SteerablePyramid((24, 24)).synthesize(result.coefficients)
        assert_close(image, result.unclipped, "render", absolute=True)
    else:
        assert result.coefficients is None


def test_luma_edits_have_one_channel_of_coefficients():
    result = edit(torch.rand(2, 3, 24, 24), [0, 1], "csp-joint", color="luma")
    assert_close(result.unclipped.clamp(0, 1), result.frame, "render", absolute=True)
    assert result.source.shape == (2, 1, 24, 24) and result.coefficients.bands[0].shape[:2] == (2, 1)


@pytest.mark.parametrize("color", ["rgb", "luma"])
def test_departure_after_the_clip_is_that_of_the_clipped_frame(color):
    """With luma, pixels are clipped in RGB, where saturated colours exceed the bounds sooner than their luma."""
    images = torch.rand(2, 3, 24, 24, dtype=torch.float64).round()
    edits = edit(images, [0, 1], "csp-joint", color=color)
    pyramid, source, edited = SteerablePyramid((24, 24)), edits.source, edits.coefficients
    columns = TaskRunner._consistency(SimpleNamespace(pyramid=pyramid), images, edits)
    planes = luma(edits.frame) if color == "luma" else edits.frame
    energy = lambda a, b: sum(
        energy_weight(pyramid.geometry, n) * (x - y).abs().square().sum((1, 2, 3, 4))
        for n, (x, y) in enumerate(zip(a.bands, b.bands))
    )
    expected = energy(pyramid(planes), edited) / energy(pyramid(source), edited)
    assert_close(columns["departure_clipped"], expected, "fit")
    assert (columns["departure_clipped"] - columns["departure"]).abs().min() > 1e-3


def test_averaged_gradients_give_another_edit():
    images, smoothing = torch.rand(2, 3, 24, 24), {"noise": 0.5, "samples": 2}
    plain, averaged = (edit(images, [0, 1], "csp-joint", smoothing=s) for s in (None, smoothing))
    assert averaged.morphs.attained.all() and not torch.allclose(averaged.frame, plain.frame, atol=1e-3)


# --- Probes


def test_probes_of_a_linear_driver_follow_from_its_gradient():
    """A step along the gradient's part in a band changes the margin by the product of step and gradient. So do steps
    against noise, which change the margin less than a quarter as much, on average."""
    model = linear(1, 16, dtype=torch.float64)
    images, target, source = torch.full((6, 1, 16, 16), 0.5).double(), torch.tensor([1] * 6), torch.tensor([0] * 6)
    result = band_probes(model, images, target, source, family="pixel", objective="margin", directions=64)
    weight = (model[1].weight[1] - model[1].weight[0]).detach().view(1, 1, 16, 16)
    pyramid = SteerablePyramid((16, 16))
    noise = gaussian_noise((64, 1, 16, 16), 0, range(6)).flatten(0, 1).double()  # 64 for each image
    steps = pyramid(torch.cat([weight, -noise]))
    for s in range(pyramid.height):
        for k in range(pyramid.orientations):
            in_band = pyramid.synthesize(steps, [s], [k], residuals=False)
            expected = PROBE_L2 * (in_band * weight).flatten(1).sum(1) / in_band.flatten(1).norm(dim=1)
            along, chance = expected[0].expand(6), expected[1:].view(6, 64)
            assert_close(result.along[:, s, k], along, "probe")
            assert_close(result.chance[:, s, k], chance.mean(1), "probe", like=chance.abs().mean())
    assert result.attained.all() and torch.equal(result.advantage, result.along - result.chance)
    assert (result.chance.mean(0).abs() < 0.25 * result.along.mean(0)).all()


def test_probes_do_not_depend_on_the_batch():
    model, images = smooth(channels=1), torch.rand(4, 1, 16, 16)
    target, source = torch.tensor([1, 2, 3, 4]), torch.tensor([0, 0, 0, 0])
    whole = band_probes(model, images, target, source, directions=3, numbers=torch.tensor([5, 6, 7, 8]))
    part = band_probes(model, images[2:3], target[2:3], source[2:3], directions=3, numbers=torch.tensor([7]))
    assert_close(part.advantage, whole.advantage[2:3], "probe", like=whole.along.abs().max())
    again = band_probes(model, images, target, source, directions=3, numbers=torch.tensor([5, 6, 7, 8]))
    assert torch.equal(again.advantage, whole.advantage)


def test_advantage_of_a_band_that_cannot_move_is_nan():
    """A constant image has no phases to move, so no step reaches the distance."""
    result = band_probes(smooth(channels=1), torch.full((1, 1, 16, 16), 0.5), torch.tensor([1]), torch.tensor([0]))
    assert not result.attained.any() and result.advantage.isnan().all()


def test_probes_accept_the_options_of_the_lens():
    driver = Classifier(TwoCentres(torch.rand(1, 16, 16), torch.rand(1, 16, 16)))
    pyramid = SteerablePyramid((16, 16), height=1, orientations=6)
    images, target = torch.rand(2, 1, 16, 16), torch.tensor([1, 1])
    result = band_probes(driver, images, target, 0 * target, family="csp-joint", pyramid=pyramid, directions=2)
    assert result.advantage.shape == (2, 1, 6)


# (changed arguments, part of the message)
BAD_PROBES = [
    ({"family": "wavelet"}, "family must be one of"),
    ({"max_l2": 0.0}, "max_l2 must be finite and above 0"),
    ({"directions": 0}, "directions must be at least 1"),
    ({"target": torch.tensor([0])}, r"target must have shape \[2\]"),
    ({"source": torch.tensor([0.0, 1.0])}, "source must be an integer tensor"),
    ({"objective": "loss"}, "objective must be one of"),
]


def test_bad_probes_raise():
    for change, message in BAD_PROBES:
        arguments = {"target": torch.tensor([1, CLASSES - 1]), "source": torch.tensor([0, 0]), **change}
        with pytest.raises((TypeError, ValueError), match=message):
            band_probes(linear(1, 16), torch.rand(2, 1, 16, 16), **arguments)

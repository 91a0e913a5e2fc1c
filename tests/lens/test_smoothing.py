"""Gradients averaged over noisy and moved copies of the images."""

from itertools import islice

import pytest
import torch
import torch.nn.functional as F
from classifiers import CLASSES, Counted, gradient, smooth, steps
from inputs import image
from tolerances import all_equal, assert_close

from steerlens_fast import SteerableLens
from steerlens_fast.lens.smoothing import MOVEMENT_SEED, Smoothing

REGIMES = ("frozen", "persistent", "live")
SMOOTHING = {"noise": 0.1, "samples": 5, "seed": 3}
MOVED = SMOOTHING | {"shift": 2, "scale": 0.2, "flip": True}
regimes = pytest.mark.parametrize("regime", REGIMES)


def images(count=3, dtype=torch.float64):
    return image(count, 3, 16, 16, dtype=dtype)


@regimes
def test_frames_follow_the_mean_gradient_of_noisy_images(regime):
    """With the pixel family, each step subtracts a multiple of the mean gradient. Each gradient has new noise."""
    x, target, model = images(), torch.tensor([1, 4, 2]), smooth(dtype=torch.float64)
    lens = SteerableLens(model, family="pixel", regime=regime, bounds=None, smoothing=SMOOTHING)
    morphs = lens.morph(x, target, factors=3.0, frames=4, score="none", **steps(regime, 3))

    generator, expected, mean_gradient = torch.Generator().manual_seed(SMOOTHING["seed"]), [x], None
    for _ in range(3):
        if mean_gradient is None or regime != "frozen":
            mean_gradient = torch.zeros_like(x)
            for _ in range(SMOOTHING["samples"]):
                noise = torch.randn(3, 16, 16, generator=generator, dtype=torch.float64)
                mean_gradient += gradient(model, expected[-1] + SMOOTHING["noise"] * noise, target)
            mean_gradient /= SMOOTHING["samples"]
        expected.append(expected[-1] - mean_gradient)
    assert_close(morphs.frames, torch.stack(expected, 1), "composition")


@regimes
def test_target_and_scores_are_those_of_images_without_noise(regime):
    x, model = images(), smooth(dtype=torch.float64)
    morphs = SteerableLens(model, regime=regime, smoothing=SMOOTHING | {"noise": 2.0}).morph(x, factors=1.0, frames=3)
    assert_close(morphs.outputs, model(morphs.frames.flatten(0, 1)).detach().unflatten(0, (3, 3)), "classifier")
    assert torch.equal(morphs.target, model(x).topk(2).indices[:, 1])


def test_copies_are_moved_and_the_gradient_is_that_of_the_image():
    """F.grid_sample gives the same copies. The frame follows autograd's gradient of the mean loss of copies."""
    x, target, model, smoothing = images(), torch.tensor([1, 4, 2]), smooth(dtype=torch.float64), Smoothing(**MOVED)
    copies = list(islice(smoothing.copies(x), MOVED["samples"]))
    generator, mirrored = torch.Generator().manual_seed(smoothing.seed ^ MOVEMENT_SEED), []
    for copy, plain in zip(copies, Smoothing(**SMOOTHING).copies(x)):
        down, right, size, side = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
        mirrored.append(side < 0.5)
        zoom = 1 + MOVED["scale"] * (2 * size - 1)
        line = torch.linspace(-1, 1, 16, dtype=torch.float64)  # 7.5 pixels each way
        rows, columns = ((line - MOVED["shift"] * (2 * share - 1) / 7.5) / zoom for share in (down, right))
        columns = columns.flip(0) if mirrored[-1] else columns
        grid = torch.stack(torch.broadcast_tensors(columns, rows[:, None]), -1).expand(3, -1, -1, -1)
        expected = F.grid_sample(x, grid, padding_mode="border", align_corners=True) + plain.noise
        assert_close(copy.of(x), expected, "composition")
    assert len(set(mirrored)) == 2
    leaf = x.clone().requires_grad_()
    losses = [F.cross_entropy(model(copy.of(leaf)), target, reduction="sum") for copy in copies]
    (expected,) = torch.autograd.grad(sum(losses) / len(losses), leaf)
    lens = SteerableLens(model, family="pixel", bounds=None, smoothing=MOVED)
    morphs = lens.morph(x, target, factors=3.0, frames=2, internal_batch_size=7)
    assert_close(morphs.frames[:, 1], x - 3 * expected, "composition")


def test_copies_are_exact_under_autocast():
    x = images(dtype=torch.float32)
    moved = lambda: [copy.pull_back(copy.of(x)) for copy in islice(Smoothing(**MOVED).copies(x), 3)]
    expected = moved()
    with torch.autocast("cpu", torch.bfloat16):
        assert all_equal(moved(), expected)


@pytest.mark.parametrize(
    "regime, smoothing", [*((regime, SMOOTHING) for regime in REGIMES), ("persistent", MOVED)], ids=[*REGIMES, "moved"]
)
def test_morph_depends_on_the_seed_but_not_on_the_batch(regime, smoothing):
    x, model = images(dtype=torch.float32), smooth()
    lens = SteerableLens(model, family="csp-joint", rule="polar", regime=regime, smoothing=smoothing)
    together = lens.morph(x, max_l2=1.0, frames=3, internal_batch_size=1)
    for i in (0, 2):
        alone = lens.morph(x[i : i + 1], max_l2=1.0, frames=3)
        assert torch.equal(alone.frames[0], together.frames[i])
    state = torch.get_rng_state()
    assert torch.equal(lens.morph(x, max_l2=1.0, frames=3, internal_batch_size=1).frames, together.frames)
    assert torch.equal(torch.get_rng_state(), state)
    lens = SteerableLens(model, family="csp-joint", rule="polar", regime=regime, smoothing=smoothing | {"seed": 4})
    assert not torch.equal(lens.morph(x, max_l2=1.0, frames=3, internal_batch_size=1).frames, together.frames)


# 5 copies of 3 images; a batch of 7 holds two whole copies
@pytest.mark.parametrize(
    "batch, sizes", [(None, [3] * 5), (1, [1] * 15), (2, [2, 1] * 5), (7, [6, 6, 3])], ids=["all", "1", "2", "7"]
)
def test_model_calls_are_as_large_as_allowed_and_frames_do_not_depend_on_their_size(batch, sizes):
    x, model = images(), smooth(dtype=torch.float64)
    expected = SteerableLens(model, smoothing=SMOOTHING).morph(x, [1, 2, 3], factors=4.0, frames=2)
    counted = Counted(model)
    options = {"factors": 4.0, "frames": 2, "score": "none", "internal_batch_size": batch}
    morphs = SteerableLens(counted, smoothing=SMOOTHING).morph(x, [1, 2, 3], **options)
    assert counted.sizes[-counted.gradients :] == sizes
    assert sum(counted.sizes) == 3 + 15  # each image once, and its five copies
    assert_close(morphs.frames, expected.frames, "composition")


def test_forward_arguments_go_with_every_copy():
    x, scale, net = images(), torch.tensor([[0.5], [2.0], [-1.0]], dtype=torch.float64), smooth(dtype=torch.float64)
    options = {"factors": 4.0, "frames": 2}
    morphs = SteerableLens(lambda t, by: net(t) * by, smoothing=SMOOTHING).morph(
        x, 1, additional_forward_args=scale, internal_batch_size=8, **options
    )
    for i in range(3):
        lens = SteerableLens(lambda t, i=i: net(t) * scale[i], smoothing=SMOOTHING)
        assert_close(morphs.frames[i : i + 1], lens.morph(x[i : i + 1], 1, **options).frames, "composition")


def test_half_precision_segmentation_gives_half_precision_frames():
    x = images(dtype=torch.float16)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, CLASSES, 3, padding=1)).half().eval()
    lens = SteerableLens(model, smoothing=SMOOTHING)
    lens.warn_about_results = False  # the target is already predicted
    morphs = lens.morph(x, (1, 4, 5), factors=1.0, frames=2)
    assert morphs.ok.all() and morphs.frames.dtype == torch.float16


def test_settings_contain_the_defaults():
    lens = SteerableLens(smooth(), smoothing={"noise": 0.2})
    movement = {"shift": 0.0, "scale": 0.0, "flip": False}
    assert lens.settings["smoothing"] == {"noise": 0.2, "samples": 8, "seed": 0, **movement}
    assert SteerableLens(smooth()).settings["smoothing"] is None

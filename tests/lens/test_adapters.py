"""The lens with captum, Quantus, timm, torchvision and torch's compilers."""

import copy

import numpy as np
import optional_libraries
import pytest
import torch
from classifiers import CLASSES, gradient, linear, smooth
from inputs import image
from messages import raises_with
from tolerances import assert_close
from torch import nn

from steerlens_fast import PixelFamily, SteerableLens, quantus_explain

REGIMES = ("frozen", "persistent", "live")


def images(count=2, size=16, channels=3, dtype=torch.float32):
    return image(count, channels, size, size, dtype=dtype)


def with_batch_statistics(model):
    """Update the batch statistics of a new model once, by random images, and return the model in eval mode.

    With its initial statistics, a MobileNet gives all classes almost the same score.
    """
    with torch.no_grad():
        model.train()(torch.randn(8, 3, 64, 64))
    return model.eval().requires_grad_(False)


# --- captum


@pytest.fixture
def min_param_perturbation():
    optional_libraries.captum()
    from captum.robust import MinParamPerturbation

    return MinParamPerturbation


@pytest.mark.parametrize("mode", ["linear", "binary"])
@pytest.mark.parametrize("attack", ["lens", "perturb"])
def test_captum_finds_the_smallest_factor_and_distance(min_param_perturbation, mode, attack):
    """captum's MinParamPerturbation accepts the lens, or its method ``perturb``, as ``attack``."""
    x, model = images(1), smooth()
    lens = SteerableLens(model, family="pixel")
    target = int(model(x).argsort(1)[0, -2])
    for name, largest, step in (("factor", 1.0, 0.01), ("max_l2", 2.0, 0.02)):
        search = min_param_perturbation(
            forward_func=model,
            attack=lens if attack == "lens" else lens.perturb,
            arg_name=name,
            arg_min=0.0,
            arg_max=largest,
            arg_step=step,
            mode=mode,
            apply_before_preproc=False,
        )
        changed, smallest = search.evaluate(x, target=int(model(x).argmax()), attack_kwargs={"target": target})
        assert smallest is not None and 0 < smallest < largest
        assert model(changed).argmax() == target
        assert torch.equal(changed, lens.perturb(x, target, **{name: smallest}))
        weaker = lens.perturb(x, target, **{name: max(smallest - 2 * step, step / 10)})
        assert model(weaker).argmax() != target


def test_captum_saliency_is_the_magnitude_of_a_pixel_step():
    optional_libraries.captum()
    from captum.attr import Saliency

    x, model = images(3), smooth()
    for target in (1, [0, 1, 2], torch.tensor([2, 0, 1])):
        m = SteerableLens(model, family="pixel", objective="logit", bounds=None).morph(x, target, factors=[1.0])
        assert_close((m.frames[:, 0] - x).abs(), Saliency(model).attribute(x, target), "render", like=1.0)


# --- Quantus


def quantus_inputs(count=4, size=16):
    """Return a model, and a batch of images and classes as Quantus passes them."""
    x = images(count, size, channels=1).numpy()
    return smooth(channels=1), x, np.arange(count) % CLASSES


@pytest.mark.parametrize("name", ["csp-phase", "csp-joint", "fourier", "pixel"])
def test_quantus_explanations_are_the_change_of_the_image(name):
    model, x, y = quantus_inputs()
    lens = SteerableLens(model, family=name, bounds=None)
    change = lens.perturb(torch.from_numpy(x), torch.from_numpy(y), factor=2.0).numpy() - x
    signed = quantus_explain(model, x, y, family=name, factor=2.0, signed=True)
    assert signed.dtype == np.float32 and np.array_equal(signed, change)
    assert np.array_equal(quantus_explain(model, x, y, family=name, factor=2.0), np.abs(change).sum(1, keepdims=True))


@pytest.mark.parametrize("channels", [1, 3])
def test_quantus_explanation_has_l2_distance_2_by_default(channels):
    """Images may be tensors or arrays, in float32 or float64, with values outside of [0, 1]."""
    model, x = smooth(channels=channels), 4 * images(2, channels=channels) - 2
    for batch in (x, x.numpy(), x.numpy().astype(np.float64)):
        model_in_dtype = model if batch.dtype != np.float64 else copy.deepcopy(model).double()
        signed = quantus_explain(model_in_dtype, batch, np.array([1, 2]), signed=True)
        assert signed.shape == x.shape and signed.dtype == np.asarray(batch).dtype
        assert np.abs(np.sqrt(np.square(signed).sum((1, 2, 3))) - 2).max() < 2e-3
        unsigned = quantus_explain(model_in_dtype, batch, np.array([1, 2]))
        assert np.array_equal(unsigned, np.abs(signed).sum(1, keepdims=True))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("metric", ["PixelFlipping", "Selectivity", "LocalLipschitzEstimate", "AvgSensitivity"])
def test_quantus_metrics_accept_the_explanation(metric):
    quantus = optional_libraries.quantus()
    model, x, y = quantus_inputs()
    options = {
        "PixelFlipping": {"features_in_step": 32, "perturb_baseline": "black"},
        "Selectivity": {"patch_size": 8, "perturb_baseline": "black"},
        "LocalLipschitzEstimate": {"nr_samples": 2},
        "AvgSensitivity": {"nr_samples": 2},
    }
    scores = getattr(quantus, metric)(disable_warnings=True, display_progressbar=False, **options[metric])(
        model=model,
        x_batch=x,
        y_batch=y,
        explain_func=quantus_explain,
        explain_func_kwargs={"max_l2": 1.0, "family": "csp-joint"},
        device="cpu",
    )
    assert len(scores) == len(x)
    assert np.isfinite(np.concatenate([np.ravel(s) for s in scores])).all()


@pytest.mark.filterwarnings("ignore")
def test_quantus_scores_the_explanation_better_than_noise():
    """A linear model's score falls faster if pixels with a high explanation (change times value) are hidden first."""
    quantus = optional_libraries.quantus()
    model, x, y = linear(channels=1), images(6, channels=1).numpy(), np.arange(6) % CLASSES
    flipping = quantus.PixelFlipping(
        features_in_step=32,
        perturb_baseline="black",
        disable_warnings=True,
        display_progressbar=False,
    )
    noise = lambda model, inputs, targets, **_: np.random.default_rng(0).random(inputs.shape)
    options = {"max_l2": 1.0, "family": "pixel", "objective": "logit", "signed": True}
    explain = lambda model, inputs, targets, **_: quantus_explain(model, inputs, targets, **options) * inputs
    scores = lambda f: np.mean(flipping(model=model, x_batch=x, y_batch=y, explain_func=f, device="cpu"))
    assert scores(explain) < scores(noise)


def test_quantus_explain_takes_class_names():
    model, x, names = smooth(), images(), [f"name {n}" for n in range(CLASSES)]
    named = quantus_explain(model, x, ["name 3", "name 1"], class_names=names)
    assert np.array_equal(named, quantus_explain(model, x, np.array([3, 1])))


def test_bad_arguments_of_quantus_explain_raise():
    model, x, y = quantus_inputs()
    with raises_with(ValueError, "images", "bounds"):
        quantus_explain(model, x + 5, y, bounds=(0, 1))
    with raises_with(TypeError, "signed", "bool"):
        quantus_explain(model, x, y, signed=1)
    with raises_with(ValueError, "family", "csp-phase", "phase"):
        quantus_explain(model, x, y, family="phase")
    with raises_with(ValueError, "target", "4", "2"):
        quantus_explain(model, x, y[:2])


# --- timm and torchvision


@pytest.mark.parametrize("regime", REGIMES)
def test_morphs_of_a_timm_model_move_toward_the_target(regime):
    """The model is in channels-last layout and in eval mode, and its normalisation is the preprocessing."""
    timm = optional_libraries.timm()
    model = with_batch_statistics(timm.create_model("resnet18", num_classes=10))
    mean, std = (torch.tensor(model.pretrained_cfg[k])[:, None, None] for k in ("mean", "std"))
    x = images(2, 64).to(memory_format=torch.channels_last)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    lens = SteerableLens(model.to(memory_format=torch.channels_last), preprocessing=lambda t: (t - mean) / std)
    lens.regime = regime
    m = lens.morph(x, max_l2=3.0, frames=4)
    assert m.ok.all() and m.attained.all()
    assert (m.target_probability[:, -1] > m.target_probability[:, 0]).all()
    assert_close(m.outputs.flatten(0, 1), model((m.frames.flatten(0, 1) - mean) / std), "classifier")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items()) and not model.training


def test_timm_transformer_is_morphed():
    timm = optional_libraries.timm()
    model = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=10).eval()
    m = SteerableLens(model, family="csp-joint").morph(images(2, 64), "least", factors=10.0, frames=3)
    assert m.ok.all() and m.l2[:, -1].min() > 0 and all(p.grad is None for p in model.parameters())


def test_torchvision_models_are_morphed():
    """The models are a classifier, and a segmentation model that returns a mapping, from which a lambda selects
    scores."""
    models = optional_libraries.torchvision().models
    x = images(2, 64)
    classifier = with_batch_statistics(models.mobilenet_v3_small(num_classes=7))
    m = SteerableLens(classifier, color="luma").morph(x, max_l2=2.0, frames=3)
    assert m.ok.all() and m.attained.all() and m.outputs.shape == (2, 3, 7)
    segmenter = models.segmentation.lraspp_mobilenet_v3_large(weights_backbone=None, num_classes=3).eval()
    scores = lambda t: segmenter(t)["out"]
    targets = [(0, 5, 6), (2, 8, 9)]  # (class, row, column)
    m = SteerableLens(scores, objective="margin").morph(x, targets, factors=5.0, frames=3)
    assert m.outputs.shape == (2, 3, 3, 64, 64) and m.target.tolist() == list(map(list, targets))


# --- torch's compilers, wrappers and dtypes


def exported(model, x):
    batch = torch.export.Dim("batch", min=1, max=64)
    return torch.export.export(model, (x,), dynamic_shapes=({0: batch},))


WRAPPERS = {
    "export": exported,
    "exported module": lambda model, x: exported(model, x).module(),
    "compile": lambda model, x: torch.compile(model, backend="eager"),
    "trace": lambda model, x: torch.jit.trace(model, x),
    "functional": lambda model, x: lambda t: torch.func.functional_call(model, dict(model.named_parameters()), (t,)),
    "DataParallel": lambda model, x: nn.DataParallel(model),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("regime", REGIMES)
def test_wrapped_model_gives_the_morphs_of_the_model(wrapper, regime):
    x, model = images(3), smooth()
    lens, plain = (SteerableLens(f, regime=regime) for f in (WRAPPERS[wrapper](model, x), model))
    m, expected = (each.morph(x, [1, 2, 3], factors=6.0, frames=3) for each in (lens, plain))
    assert_close(m.frames, expected.frames, "composition")
    assert_close(m.outputs, expected.outputs, "classifier", like=1.0)


def test_bfloat16_model_gives_bfloat16_frames():
    model = smooth().to(torch.bfloat16)
    x = images(2).to(torch.bfloat16)
    m = SteerableLens(model).morph(x, [1, 4], max_l2=1.0, frames=4)
    assert m.frames.dtype == m.outputs.dtype == torch.bfloat16 and m.l2.dtype == torch.float32
    assert m.ok.all() and m.attained.all() and m.probabilities.dtype == torch.float32
    assert (m.frames[:, 0] - x).abs().max() == 0
    slope = gradient(lambda t: model(t).float(), x, torch.tensor([1, 4])).float()
    first = PixelFamily().prepare(x.float(), slope).render([0.1], bounds=(0, 1))[0]
    pixel = SteerableLens(model, family="pixel").morph(x, [1, 4], factors=[0.1])
    assert (pixel.frames[:, 0].float() - first).abs().max() <= 2**-8


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_around_the_call_keeps_float32_frames(dtype):
    x, model = images(2), smooth()
    expected = SteerableLens(model).morph(x, 1, factors=6.0, frames=3)
    with torch.autocast("cpu", dtype=dtype):
        m = SteerableLens(model).morph(x, 1, factors=6.0, frames=3)
    assert m.frames.dtype == torch.float32 and m.ok.all()
    assert (m.frames - expected.frames).abs().max() < 0.02

"""SteerableLens: inputs, results, errors, and that models and images of the caller are unchanged."""

import gc
import itertools
import json
import os
import resource
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from classifiers import CLASSES, Counted, Segmenter, Stateful, gradient, linear, smooth, steps
from inputs import DTYPES, image
from messages import raises_with
from pairwise import pairwise
from peak_memory import peak_bytes
from tolerances import assert_close
from torch import nn

from steerlens_fast import CSPFamily, FourierFamily, LumaFamily, Morphs, PixelFamily, SteerableLens, SteerablePyramid
from steerlens_fast.lens.gradient_provider import GradientProvider
from steerlens_fast.lens.regimes import MorphState
from steerlens_fast.lens.run import MorphRun

REGIMES = ("frozen", "persistent", "live")
NAMES = ("pixel", "fourier", "csp-phase", "csp-amplitude", "csp-joint")
ONE_CSP = ("pixel", "fourier", "csp-joint")  # one CSP family stands for all three
TARGET = [1, 4]
NAN, INF = float("nan"), float("inf")
regimes = pytest.mark.parametrize("regime", REGIMES)
one_csp = pytest.mark.parametrize("name", ONE_CSP)


def images(count=2, size=16, channels=3, dtype=torch.float32, device="cpu"):
    return image(count, channels, size, size, dtype=dtype, device=device)


# --- Results


def test_class_names_come_from_the_option_or_the_model():
    model, x = smooth(), images()
    assert SteerableLens(model).morph(x, 1, factors=1.0).class_names is None
    model.class_names = [f"name {n}" for n in range(CLASSES)]
    assert SteerableLens(model).morph(x, 1, factors=1.0).class_names == model.class_names
    names = [f"other {n}" for n in range(CLASSES)]
    assert "other 1" in repr(SteerableLens(model, class_names=names).morph(x, 1, factors=1.0))
    with pytest.raises(ValueError, match=f"class_names must have .* model's {CLASSES} classes, got 1 names"):
        SteerableLens(model, class_names=["cat"]).morph(x, 1, factors=1.0)


def test_targets_are_class_names_of_the_lens_or_the_model():
    model, x = smooth(), images()
    names = [f"name {n}" for n in range(CLASSES)]
    lens = SteerableLens(model, class_names=names)
    assert lens.morph(x, ["name 3", 1], factors=1.0).target.tolist() == [3, 1]
    assert torch.equal(lens.perturb(x, "name 2", factor=1.0), lens.perturb(x, 2, factor=1.0))
    model.class_names = [f"own {n}" for n in range(CLASSES)]
    assert SteerableLens(model).morph(x, "own 4", factors=1.0).target.tolist() == [4, 4]
    model.class_names = model.class_names[1:]  # one name too few
    with pytest.raises(
        ValueError, match=f"class_names must have .* model's {CLASSES} classes, got {CLASSES - 1} names"
    ):
        SteerableLens(model).morph(x, "own 1", factors=1.0)


def test_settings_for_photographs_are_overridden_by_options():
    lens = SteerableLens.for_photographs(smooth(), regime="live")
    options = {"family": "csp-phase", "rule": "polar", "color": "luma", "regime": "live"}
    assert {name: lens.settings[name] for name in options} == options
    x = images()
    assert lens.morph(x, 1, frames=2, steps=1).budget.tolist() == [[12.0], [12.0]]
    assert lens.morph(x, 1, frames=2, steps=1, max_l2=0.5).budget.tolist() == [[0.5], [0.5]]
    assert lens.morph(x, 1, factors=[0.0, 1.0]).budget is None


def test_factors_may_be_a_number_a_tensor_or_a_list_for_each_image():
    lens, x = SteerableLens(smooth()), images()
    expected = lens.morph(x, 1, factors=10.0, frames=7).factors
    for factor in (10, torch.tensor(10.0), [[n / 6 * 10 for n in range(7)]] * len(x)):
        assert torch.equal(lens.morph(x, 1, factors=factor, frames=7).factors, expected)


@pytest.mark.parametrize("options, l2", [({}, 255 * 12.0), ({"max_l2": 7.0}, 7.0)], ids=str)
def test_default_distance_for_photographs_is_relative_to_the_range_of_bounds(options, l2):
    lens = SteerableLens.for_photographs(smooth(), bounds=(0, 255), **options)
    assert lens.morph(images() * 255, 1, frames=2, steps=1).budget.tolist() == [[l2], [l2]]


def test_lens_for_photographs_without_bounds_needs_a_distance():
    with pytest.raises(ValueError, match="factors, max_l2 or distances must be given if bounds is None"):
        SteerableLens.for_photographs(smooth(), bounds=None).morph(images(), 1)


def test_family_objects_for_photographs_have_their_own_rule():
    family = CSPFamily(SteerablePyramid((16, 16)), "phase", "complex")
    assert SteerableLens.for_photographs(smooth(), family=family).family is family


@pairwise(dtype=DTYPES, score=["all", "last", "none"], regime=REGIMES)
def test_fields_of_morphs_have_their_shapes_dtypes_and_device(regime, score, dtype, device):
    x, model = images(3, dtype=dtype, device=device), smooth(dtype=dtype).to(device)
    m = SteerableLens(model, regime=regime).morph(x, 1, max_l2=0.5, frames=4, score=score)
    assert isinstance(m, Morphs) and len(m) == 3
    shapes = {"frames": (3, 4, 3, 16, 16), "factors": (3, 4), "target": (3,), "source": (3,), "l2": (3, 4)}
    shapes |= {"outputs": (3, 4, CLASSES), "budget": (3, 1), "attained": (3,), "status": (3,), "gradient_norm": (3,)}
    shapes |= {} if regime == "frozen" else {"stopped": (3,)}
    assert {name: tuple(t.shape) for name, t in m.tensors().items()} == shapes
    for name, t in m.tensors().items():
        kind = dict.fromkeys(("target", "source", "status", "stopped"), torch.int64) | {"attained": torch.bool}
        assert t.dtype == kind.get(name, dtype) and t.device.type == device.type and not t.requires_grad
    assert torch.equal(m.source, model(x).argmax(1))
    json.dumps(m.settings)


@regimes
@pytest.mark.parametrize("score", ["all", "last", "none"])
def test_outputs_are_those_of_the_model_at_scored_frames(regime, score, device):
    x, model = images(3, device=device), smooth().to(device)
    m = SteerableLens(model, regime=regime).morph(x, 1, factors=8.0, frames=4, score=score)
    expected = model(m.frames.flatten(0, 1)).detach().unflatten(0, (3, 4))
    known = ~m.outputs.isnan().any(2)
    assert known.any(0).equal(known.all(0)) and known[:, -1].all() == (score != "none")
    assert_close(m.outputs[known], expected[known], "classifier")
    assert torch.equal(m.predictions[known], m.outputs[known].argmax(1))
    assert (m.predictions[~known] == -1).all() and m.target_probability.isnan().equal(~known)


@regimes
def test_l2_is_that_of_the_clipped_frames(regime):
    x = images()
    m = SteerableLens(smooth(), regime=regime, bounds=(0, 1)).morph(x, TARGET, factors=40.0, frames=4)
    assert m.frames.min() == 0 and m.frames.max() == 1
    assert_close(m.l2, (m.frames - x[:, None]).flatten(2).norm(dim=2), "render")


def test_target_probability_rises_and_the_target_is_reached(device):
    x, model = images(4, device=device), smooth().to(device)
    m = SteerableLens(model, family="csp-joint", rule="polar", regime="live").morph(x, max_l2=3.0, frames=8)
    assert (m.target_probability.diff(dim=1) > 0).float().mean() > 0.9
    assert (m.predictions[:, 0] == m.source).all() and m.reached[:, -1].all()


def test_colour_has_no_effect_on_images_of_one_channel():
    x, model = images(channels=1), smooth(channels=1)
    plain, *others = (
        SteerableLens(model, color=c).morph(x, TARGET, factors=5.0, frames=3) for c in ("rgb", "luma", "grey")
    )
    for other in others:
        assert torch.equal(other.frames, plain.frames)


def test_grey_frames_are_grey():
    x = images()
    m = SteerableLens(smooth(), color="grey").morph(x, TARGET, factors=5.0, frames=3)
    y = 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2]
    assert_close(m.frames[:, 0], y[:, None].expand_as(x), "reconstruction", absolute=True)
    assert torch.equal(m.frames, m.frames[:, :, :1].expand_as(m.frames))
    assert m.l2[:, 0].max() < 1e-4 < m.l2[:, -1].min()


@one_csp
@regimes
def test_luma_keeps_the_chroma_if_nothing_is_clipped(name, regime):
    x = 0.3 + 0.4 * images()
    m = SteerableLens(smooth(), family=name, regime=regime, color="luma").morph(x, TARGET, max_l2=0.5, frames=3)
    matrix = torch.tensor([[-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    chroma = lambda t: torch.einsum("kc,...chw->...khw", matrix, t)
    assert m.frames.min() > 0 and m.frames.max() < 1 and m.attained.all()
    assert_close(chroma(m.frames), chroma(x)[:, None].expand(-1, 3, -1, -1, -1), "reconstruction", absolute=True)


def test_bounds_of_none_do_not_clip():
    x = 3 * torch.randn(2, 3, 16, 16)
    m = SteerableLens(smooth(), bounds=None).morph(x, TARGET, factors=5.0, frames=3)
    assert_close(m.frames[:, 0], x, "reconstruction")
    assert m.frames.min() < -3 and m.frames.max() > 3
    with raises_with(ValueError, "factors, max_l2 or distances", "bounds is None"):
        SteerableLens(smooth(), bounds=None).morph(x)


def test_preprocessing_is_part_of_the_gradient():
    x, model = images(), smooth()
    normalise = lambda t: (t - 0.5) / 0.25
    family = PixelFamily()
    m = SteerableLens(model, family=family, preprocessing=normalise).morph(x, TARGET, factors=[1e-3])
    slope = gradient(lambda t: model(normalise(t)), x, torch.tensor(TARGET))
    assert_close(m.frames[:, 0], family.prepare(x, slope).render([1e-3], bounds=(0, 1))[0], "render")
    assert_close(m.gradient_norm, slope.flatten(1).norm(dim=1), "classifier")


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_images_give_half_precision_frames(half):
    """The model gets images in half precision; the pyramid computes in float32."""
    x, recorded = images().to(half), set()

    def model(t):
        recorded.add(t.dtype)
        return smooth()(t.float())

    m = SteerableLens(model).morph(x, TARGET, max_l2=0.5, frames=3)
    assert m.frames.dtype == half and recorded == {half}
    assert m.l2.dtype == m.factors.dtype == torch.float32
    assert (m.frames[:, 0] - x).abs().max() <= torch.finfo(half).eps and m.attained.all()


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (2, 3, 17, 31), (3, 4, 9, 8), (1, 2, 40, 24)], ids=str)
def test_images_of_any_size_and_number_of_channels_are_morphed(shape):
    x = image(*shape, dtype=torch.float32)
    m = SteerableLens(smooth(channels=shape[1])).morph(x, 2, factors=2.0, frames=3)
    assert m.frames.shape == (shape[0], 3, *shape[1:]) and m.ok.all()
    assert_close(m.frames[:, 0], x, "reconstruction", absolute=True)


def test_images_in_other_memory_formats_give_the_same_frames():
    x, lens = images(), SteerableLens(smooth())
    expected = lens.morph(x, TARGET, factors=4.0, frames=3).frames
    strided = torch.stack([x, x], -1)[..., 0]
    for odd in (x.to(memory_format=torch.channels_last), strided, x.flip(-1).flip(-1), x.mT.contiguous().mT):
        assert_close(lens.morph(odd, TARGET, factors=4.0, frames=3).frames, expected, "composition")


def test_perturb_is_the_last_frame():
    x, lens = images(), SteerableLens(smooth(), regime="live")
    for options in ({"factor": 5.0}, {"max_l2": 0.5}, {}):
        settings = {"factors": options["factor"]} if "factor" in options else options
        last = lens.morph(x, TARGET, frames=2, **settings).frames[:, -1]
        assert torch.equal(lens.perturb(x, TARGET, **options), last)
        assert torch.equal(lens(x, TARGET, **options), last)
    assert lens.perturb(x, TARGET, factor=1.0).is_contiguous()


def test_perturb_to_distance_0_returns_the_images():
    x, lens = images(), SteerableLens(smooth(), regime="live")
    for zero in (0, 0.0, torch.tensor(0.0), torch.tensor(0), [0, 0.0], torch.zeros(2)):
        assert_close(lens.perturb(x, TARGET, max_l2=zero), x, "reconstruction", absolute=True)
    some = lens.perturb(x, TARGET, max_l2=[0.0, 1.0])
    assert_close(some[:1], x[:1], "reconstruction", absolute=True)
    assert (some[1] - x[1]).norm() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", NAMES)
@regimes
def test_frames_at_distance_0_are_the_source(name, regime):
    x, model = images(), Counted(smooth())
    lens = SteerableLens(model, family=name, regime=regime)
    still = lens.morph(x, 1, max_l2=0, frames=3)
    assert model.gradients <= 2  # one for each frame after the source
    assert still.ok.all() and still.attained.all() and not still.factors.any()
    assert_close(still.frames, x[:, None].expand_as(still.frames), "reconstruction", absolute=True)
    several = lens.morph(x, 1, distances=[0.0, 0.3])
    assert several.attained.all() and several.factors[:, :2].eq(0).all() and (several.factors[:, 2] > 0).all()
    assert_close(several.frames[:, 1], x, "reconstruction", absolute=True)


# --- Models and their outputs


class Output:
    def __init__(self, logits):
        self.logits = logits


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: Output(s),
        lambda s: {"logits": s, "features": None},
        lambda s: (s, None),
        lambda s: [s],
        lambda s: SimpleNamespace(logits=(s,)),
    ],
    ids=["attribute", "mapping", "tuple", "list", "nested"],
)
def test_logits_are_found_in_objects_mappings_and_sequences(wrap):
    x, model = images(), smooth()
    m = SteerableLens(lambda t: wrap(model(t))).morph(x, TARGET, factors=4.0, frames=3)
    expected = SteerableLens(model).morph(x, TARGET, factors=4.0, frames=3)
    assert torch.equal(m.frames, expected.frames) and torch.equal(m.outputs, expected.outputs)


@pytest.mark.parametrize("batch", [None, 1, 2])
def test_additional_forward_args_are_split_like_the_samples(batch):
    """A tensor with one row per sample is split like the samples; anything else is passed to every call."""
    x, each = images(3), torch.tensor([[0.5], [2.0], [-1.0]])
    recorded, net = [], smooth()

    def model(t, scale, flag, table):
        assert flag == "flag" and table.shape == (2, 2) and len(scale) == len(t)
        recorded.append(scale.flatten().tolist())
        return net(t) * scale

    args = (each, "flag", torch.ones(2, 2))
    lens = SteerableLens(model)
    m = lens.morph(x, 1, factors=4.0, frames=2, additional_forward_args=args, internal_batch_size=batch)
    assert list(itertools.chain(*recorded)) == [0.5, 2.0, -1.0] * 2  # for the gradient, and for the last frame's score
    for i in range(3):
        alone = SteerableLens(lambda t, i=i: net(t) * each[i]).morph(x[i : i + 1], 1, factors=4.0, frames=2)
        assert_close(m.frames[i : i + 1], alone.frames, "composition")
        assert_close(m.outputs[i : i + 1], alone.outputs, "composition")


def test_one_additional_argument_needs_no_tuple():
    x, net = images(), smooth()
    morphs = SteerableLens(lambda t, s: net(t) * s).morph(x, 1, factors=2.0, frames=2, additional_forward_args=3.0)
    meant = SteerableLens(lambda t: net(t) * 3.0).morph(x, 1, factors=2.0, frames=2)
    assert torch.equal(morphs.frames, meant.frames)


# --- Targets and objectives


def losses(outputs, target):
    rows = torch.arange(len(target))
    top = outputs.detach().argmax(1)
    nll = -outputs.log_softmax(1)[rows, target]
    logit = -outputs[rows, target]
    return {"nll": nll, "log-probability": nll, "logit": logit, "margin": outputs[rows, top] + logit}


@pytest.mark.parametrize("objective", ["nll", "log-probability", "logit", "margin"])
def test_objective_is_the_loss_that_its_name_says(objective, device):
    x, model = images(device=device), smooth().to(device)
    m = SteerableLens(model, family="pixel", objective=objective).morph(x, TARGET, factors=[0.01])
    leaf = x.clone().requires_grad_()
    total = losses(model(leaf), torch.tensor(TARGET, device=device))[objective].sum()
    assert_close(m.frames[:, 0], (x - 0.01 * torch.autograd.grad(total, leaf)[0]).clamp(0, 1), "render")


def test_callable_objective_is_a_loss_to_decrease():
    x, model = images(), smooth()
    entropy = lambda outputs, target: -(outputs.softmax(1) * outputs.log_softmax(1)).sum(1)
    m = SteerableLens(model, family="pixel", objective=entropy).morph(x, TARGET, factors=[0.01])
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(entropy(model(leaf), None).sum(), leaf)
    assert_close(m.frames[:, 0], (x - 0.01 * slope).clamp(0, 1), "render")
    assert m.settings["objective"] == "<lambda>"


@pytest.mark.parametrize(
    "target, meant",
    [
        (3, [3, 3]),
        ([3, 0], [3, 0]),
        (torch.tensor(3), [3, 3]),
        (torch.tensor([3, 0]), [3, 0]),
        ((2,), [2, 2]),
        ([(2,), (1,)], [2, 1]),
        (None, "second"),
        ("runner-up", "second"),
        ("argmax", "first"),
        ("least", "last"),
    ],
    ids=str,
)
@pytest.mark.parametrize("batch", [None, 1])
def test_every_form_of_target_means_its_classes(target, meant, batch):
    x, model = images(), smooth()
    order = model(x).argsort(1, descending=True)
    ranks = {"first": order[:, 0], "second": order[:, 1], "last": order[:, -1]}
    meant = ranks[meant].tolist() if isinstance(meant, str) else meant
    m = SteerableLens(model).morph(x, target, factors=3.0, frames=3, internal_batch_size=batch)
    expected = SteerableLens(model).morph(x, torch.tensor(meant), factors=3.0, frames=3)
    assert m.target.tolist() == meant and m.source.tolist() == order[:, 0].tolist()
    assert_close(m.frames, expected.frames, "composition")


def test_runner_up_is_that_of_the_source_at_every_step():
    """The ranks of the classes change in later frames."""
    x = images()
    m = SteerableLens(smooth(), family="pixel", regime="live").morph(x, max_l2=3.0, frames=8)
    assert m.reached[:, -1].all() and (m.target == m.outputs[:, 0].topk(2).indices[:, 1]).all()


@regimes
@pytest.mark.parametrize("objective", ["nll", "margin", "logit"])
def test_segmenter_moves_only_around_the_target_position(regime, objective):
    x, model = images(), Segmenter().eval()
    least = model(x)[[0, 1], :, [3, 8], [4, 9]].argmin(1).tolist()
    target = [(least[0], 3, 4), (least[1], 8, 9)]
    lens = SteerableLens(model, family="pixel", regime=regime, objective=objective)
    m = lens.morph(x, target, factors=0.1, frames=3)
    assert m.outputs.shape == (2, 3, CLASSES, 16, 16) and m.target.tolist() == [list(t) for t in target]
    assert m.source.tolist() == model(x)[[0, 1], :, [3, 8], [4, 9]].argmax(1).tolist()
    assert m.target_probability.shape == m.reached.shape == (2, 3) and (m.target_probability.diff(dim=1) > 0).all()
    moved = (m.frames[:, -1] - x).abs().amax(1) > 1e-6
    for where, (_, row, column) in zip(moved, target):  # the convolution has 5 x 5 weights
        at = where.nonzero()
        assert at.amin(0).tolist() == [row - 2, column - 2] and at.amax(0).tolist() == [row + 2, column + 2]
    alone = lens.morph(x[:1], target[0], factors=0.1, frames=3)
    assert_close(alone.frames, m.frames[:1], "composition")


# --- No side effects on the caller


def everything(model):
    """Return the tensors, flags and global modes that a call must not change."""
    state = {f"state {k}": v.clone() for k, v in model.state_dict().items()}
    state |= {f"grad {k}": None if p.grad is None else p.grad.clone() for k, p in model.named_parameters()}
    flags = {f"training {k}": m.training for k, m in model.named_modules()}
    flags |= {f"requires_grad {k}": p.requires_grad for k, p in model.named_parameters()}
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    flags |= {f"{hook} {k}": len(getattr(m, hook)) for k, m in model.named_modules() for hook in hooks}
    flags |= {f"buffer {k}": id(b) for k, b in model.named_buffers()}
    modes = (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_default_dtype(),
        torch.get_num_threads(),
    )
    return state | {"rng": torch.get_rng_state()}, flags | {"modes": modes}


def assert_unchanged(model, before):
    (tensors, flags), (tensors_now, flags_now) = before, everything(model)
    assert flags_now == flags and tensors_now.keys() == tensors.keys()
    for name, t in tensors.items():
        assert (t is tensors_now[name] is None) or torch.equal(t, tensors_now[name]), name


def disturbed(training):
    """Return a model with gradients, hooks, frozen parameters, and submodules in training and eval mode."""
    model = Stateful().train(training)
    model.drop.train(not training)
    model(images(4)).sum().backward()
    model.norm.register_forward_hook(lambda *_: None)
    return model


WAYS = {
    "morph": lambda lens, x: lens.morph(x, TARGET, factors=3.0, frames=3),
    "perturb": lambda lens, x: lens.perturb(x, TARGET, factor=3.0),
    "iter_frames": lambda lens, x: list(lens.iter_frames(x, TARGET, factors=3.0, frames=3)),
    "only the first frame": lambda lens, x: next(lens.iter_frames(x, TARGET, factors=3.0, frames=3)),
}
ways = pytest.mark.parametrize("way", WAYS)


@pairwise(training=[False, True], way=WAYS, regime=REGIMES)
@pytest.mark.filterwarnings("ignore:model is in training mode")
def test_model_and_images_of_the_caller_are_unchanged(regime, way, training):
    model, x = disturbed(training), images()
    x.requires_grad_()
    copy, before = x.detach().clone(), everything(model)
    WAYS[way](SteerableLens(model, regime=regime), x)
    assert_unchanged(model, before)
    assert torch.equal(x, copy) and x.grad is None and x.requires_grad


@regimes
@ways
def test_buffers_written_in_eval_mode_are_unchanged(regime, way):
    model = Stateful().eval()
    before = everything(model)
    WAYS[way](SteerableLens(model, regime=regime), images())
    assert_unchanged(model, before)


@pairwise(call=[0, 1, 2], way=WAYS, regime=REGIMES)
@pytest.mark.filterwarnings("ignore:model is in training mode")
def test_model_is_unchanged_if_it_raises(regime, way, call):
    model, x, calls = disturbed(False), images(), []

    def failing(t):
        calls.append(1)
        scores = model(t)
        if len(calls) > call:
            raise RuntimeError("broken")
        return scores

    wrapper = nn.Sequential(model)
    wrapper.forward = failing
    before = everything(wrapper)
    lens = SteerableLens(wrapper, regime=regime)
    try:
        WAYS[way](lens, x)
    except RuntimeError as error:
        assert str(error) == "broken"
    assert_unchanged(wrapper, before)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad], ids=lambda m: m.__name__)
@regimes
def test_every_grad_mode_gives_the_same_morphs(mode, regime):
    lens, outside = SteerableLens(smooth(), regime=regime), images()  # outside of the mode
    expected = lens.morph(outside, TARGET, factors=3.0, frames=3)
    with mode():
        inside = images()
        enabled = torch.is_grad_enabled()
        for x in (inside, outside):
            m = lens.morph(x, TARGET, factors=3.0, frames=3)
            assert torch.equal(m.frames, expected.frames) and torch.equal(m.outputs, expected.outputs)
            assert torch.equal(torch.stack(list(lens.iter_frames(x, TARGET, factors=3.0, frames=3)), 1), m.frames)
            assert torch.equal(lens.perturb(x, TARGET, factor=3.0), lens.perturb(outside, TARGET, factor=3.0))
        assert torch.is_grad_enabled() == enabled
    assert not m.frames.requires_grad


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16], ids=str)
def test_default_dtype_has_no_effect(default):
    x, lens = images(), SteerableLens(smooth())
    expected = lens.morph(x, TARGET, max_l2=0.5, frames=3)
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        m = lens.morph(x, TARGET, max_l2=0.5, frames=3)
        assert torch.get_default_dtype() == default
    finally:
        torch.set_default_dtype(before)
    assert m.frames.dtype == torch.float32 and torch.equal(m.frames, expected.frames)


@ways
def test_model_in_training_mode_warns_once_per_call(way):
    """The warning points to the caller's line."""
    with pytest.warns(UserWarning, match="training mode") as record:
        WAYS[way](SteerableLens(Stateful().train()), images())
    assert [w.filename for w in record if "training" in str(w.message)] == [__file__]


@ways
def test_model_in_eval_mode_does_not_warn(way):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        WAYS[way](SteerableLens(smooth()), images())


def test_stochastic_model_starts_at_the_callers_random_state():
    """A stochastic model draws from the state of the caller's generator, which is the same after the call."""
    model, x = Stateful().eval(), images()
    model.drop.train()
    lens = SteerableLens(model)
    with pytest.warns(UserWarning, match="training"):
        one, two = (lens.morph(x, TARGET, factors=3.0) for _ in range(2))
        assert torch.equal(one.frames, two.frames)
        torch.manual_seed(5)
        assert not torch.equal(lens.morph(x, TARGET, factors=3.0).frames, one.frames)


# --- Determinism, and independence of samples


@pairwise(color=["rgb", "luma"], regime=REGIMES, name=ONE_CSP)
def test_two_runs_are_equal(name, regime, color, device):
    x, lens = images(3, device=device), SteerableLens(smooth().to(device), family=name, regime=regime, color=color)
    one, two = (lens.morph(x, 1, max_l2=0.5, frames=3) for _ in range(2))
    for field, t in one.tensors().items():
        assert torch.equal(t, two.tensors()[field]), field


@one_csp
@regimes
@pytest.mark.parametrize("factors, cap", [(6.0, None), (2.0, 0.5)], ids=["factors", "capped"])
def test_sample_does_not_depend_on_the_others(name, regime, factors, cap, device):
    x, model = images(5, device=device), smooth().to(device)
    cap = None if name in ("pixel", "csp-amplitude") else cap
    lens = SteerableLens(model, family=name, regime=regime, phase_cap=cap)
    options = dict(factors=factors, frames=4, **steps(regime, 3))
    together = lens.morph(x, 1, **options)
    for i in (0, 3):
        alone = lens.morph(x[i : i + 1], 1, **options)
        assert_close(alone.frames, together.frames[i : i + 1], "composition")
        assert_close(alone.outputs, together.outputs[i : i + 1], "composition")


def test_frames_at_a_budget_do_not_depend_on_the_batch():
    """Frames are compared with a tolerance, since the search stops at any distance within 5e-4 of the requested one."""
    x, lens = images(5), SteerableLens(smooth())
    together = lens.morph(x, 1, max_l2=0.5, frames=3)
    for i in range(5):
        alone = lens.morph(x[i : i + 1], 1, max_l2=0.5, frames=3)
        assert (alone.frames - together.frames[i : i + 1]).flatten().norm() <= 2e-3


@regimes
def test_small_chunks_change_nothing(regime, small_chunks):
    x = images(3)
    lenses = [SteerableLens(smooth(), family=name, regime=regime, color=c) for name in NAMES for c in ("rgb", "luma")]
    whole = [lens.morph(x, 1, factors=6.0, frames=4).frames for lens in lenses]
    small_chunks()
    for lens, frames in zip(lenses, whole):
        again = lens.morph(x, 1, factors=6.0, frames=4).frames
        if lens.family == "fourier":
            assert_close(again, frames, "chunked_real_fft")
        else:
            assert torch.equal(again, frames)


# --- Empty batches


@pairwise(
    family=["pixel", "csp-joint"],
    color=["rgb", "luma", "grey"],
    target=[None, 1, [], torch.zeros(0, dtype=torch.int64)],
    options=[{"factors": [0.0, 1.0]}, {"distances": [1.0]}, {}],
    regime=REGIMES,
)
def test_empty_batch_gives_empty_morphs(regime, options, target, color, family):
    model = Counted(smooth())
    lens = SteerableLens(model, regime=regime, color=color, family=family)
    m = lens.morph(images()[:0], target, frames=2, **options)
    assert m.frames.shape == (0, 2, 3, 16, 16) and len(m) == 0 and m.ok.shape == (0,)
    assert m.outputs.shape[:2] == m.l2.shape == m.factors.shape == (0, 2) and m.target.shape == m.source.shape == (0,)
    assert [tuple(f.shape) for f in lens.iter_frames(images()[:0], target, frames=2, **options)] == [(0, 3, 16, 16)] * 2
    assert lens.perturb(images()[:0], target).shape == (0, 3, 16, 16)
    assert not model.sizes
    repr(m)


# --- Bad input


# (type of the exception, options, words in the message)
BAD_OPTIONS = [
    (ValueError, {"family": "steerable"}, ["family", *NAMES, "steerable"]),
    (TypeError, {"family": 3}, ["family", "prepare", "3"]),
    (TypeError, {"family": None}, ["family", "prepare", "None"]),
    (ValueError, {"rule": "cartesian"}, ["rule", "complex", "polar", "cartesian"]),
    (ValueError, {"regime": "fixed"}, ["regime", *REGIMES, "fixed"]),
    (ValueError, {"objective": "entropy"}, ["objective", "nll", "logit", "margin", "log-probability", "entropy"]),
    (TypeError, {"objective": 1}, ["objective", "callable", "1"]),
    (ValueError, {"color": "hsv"}, ["color", "rgb", "luma", "grey", "hsv"]),
    (ValueError, {"bounds": (1, 0)}, ["bounds", "low < high", r"\(1, 0\)"]),
    (ValueError, {"bounds": (0, INF)}, ["bounds", "finite", "inf"]),
    (TypeError, {"bounds": 1}, ["bounds", "low, high", "1"]),
    (ValueError, {"phase_cap": 0.0}, ["phase_cap", "above 0", "0"]),
    (ValueError, {"phase_cap": NAN}, ["phase_cap", "finite", "nan"]),
    (TypeError, {"phase_cap": "1"}, ["phase_cap", "float", "'1'"]),
    (ValueError, {"phase_cap": 1.0, "family": "pixel"}, ["phase_cap", "None", "pixel"]),
    (ValueError, {"phase_cap": 1.0, "family": "csp-amplitude"}, ["phase_cap", "None", "csp-amplitude"]),
    (TypeError, {"smoothing": 0.1}, ["smoothing", "None or a mapping", "0.1"]),
    (TypeError, {"smoothing": {"noise": 0.1, "sample": 4}}, ["smoothing", "'sample'", "did you mean 'samples'"]),
    (ValueError, {"smoothing": {"samples": 4}}, ["smoothing", "noise", "{'samples': 4}"]),
    (ValueError, {"smoothing": {"noise": -0.1}}, ["smoothing's noise", "at least 0", "-0.1"]),
    (ValueError, {"smoothing": {"noise": NAN}}, ["smoothing's noise", "finite", "nan"]),
    (TypeError, {"smoothing": {"noise": "0.1"}}, ["smoothing's noise", "float", "'0.1'"]),
    (ValueError, {"smoothing": {"noise": 0.1, "samples": 0}}, ["smoothing's samples", "at least 1", "0"]),
    (TypeError, {"smoothing": {"noise": 0.1, "samples": 2.5}}, ["smoothing's samples", "int", "2.5"]),
    (ValueError, {"smoothing": {"noise": 0.1, "seed": -1}}, ["smoothing's seed", "-1"]),
    (ValueError, {"smoothing": {"noise": 0.1, "shift": -2}}, ["smoothing's shift", "at least 0", "-2"]),
    (ValueError, {"smoothing": {"noise": 0.1, "scale": 1.0}}, ["smoothing's scale", "below 1", "1.0"]),
    (TypeError, {"smoothing": {"noise": 0.1, "flip": 1}}, ["smoothing's flip", "bool", "1"]),
    (TypeError, {"pyramid": 4}, ["pyramid", "SteerablePyramid", "int"]),
    (ValueError, {"pyramid": {"order": -1}}, ["order", "-1"]),
    (TypeError, {"pyramid": {"depth": 2}}, ["depth"]),
    (TypeError, {"scales": 1}, ["scales", "sequence", "1"]),
    (ValueError, {"scales": [0, 0]}, ["scales", "distinct"]),
    (TypeError, {"orientations": [0.5]}, ["each item of orientations", "an int", "0.5"]),
    (ValueError, {"scales": [-1]}, ["each item of scales", "at least 0", "-1"]),
    (ValueError, {"scales": []}, ["scales", "at least one", "None"]),
    (TypeError, {"family": PixelFamily}, ["family", "an object", "the class PixelFamily"]),
    (TypeError, {"pyramid": {"height": "max"}}, ["height", "auto", "int", "'max'"]),
    (ValueError, {"family": PixelFamily(), "scales": [0]}, ["scales", "None", "family"]),
    (ValueError, {"family": PixelFamily(), "pyramid": {}}, ["pyramid", "None", "family"]),
    (ValueError, {"family": CSPFamily(SteerablePyramid((16, 16))), "rule": "polar"}, ["rule", "polar"]),
    (ValueError, {"pyramid": {"image_shape": (16, 16)}}, ["pyramid", "image_shape"]),
]


@pytest.mark.parametrize("kind, options, words", BAD_OPTIONS)
def test_bad_options_raise(kind, options, words):
    with raises_with(kind, *words):
        SteerableLens(smooth(), **options)


@pytest.mark.parametrize("model", [None, 3, "resnet50", nn.Linear, torch.zeros(3)], ids=lambda m: type(m).__name__)
def test_bad_models_and_preprocessing_raise(model):
    with raises_with(TypeError, "model", "callable"):
        SteerableLens(model)
    with raises_with(TypeError, "preprocessing"):
        SteerableLens(smooth(), preprocessing=3)


X = images()


def altered(value):
    """Return X with one value changed."""
    x = X.clone()
    x[1, 2, 3, 4] = value
    return x


# (type of the exception, arguments, words in the message)
BAD_ARGUMENTS = [
    (ValueError, {"images": altered(1.0002)}, ["images", r"bounds \(0.0, 1.0\)", "preprocessing", "1.0002"]),
    (ValueError, {"images": altered(-0.5)}, ["images", "bounds", "-0.5 to "]),
    (ValueError, {"images": altered(255)}, ["images", "bounds", "to 255"]),
    (ValueError, {"images": altered(NAN)}, ["images", "finite", "NaN"]),
    (ValueError, {"images": altered(INF)}, ["images", "finite", "infinite"]),
    (TypeError, {"images": (X * 255).to(torch.uint8)}, ["images", "floating-point", "uint8", "255"]),
    (TypeError, {"images": X.to_sparse()}, ["images", "dense", "sparse"]),
    (ValueError, {"images": X.to("meta")}, ["images", "CPU or GPU", "meta"]),
    (TypeError, {"images": X.to(torch.int64)}, ["images", "floating-point", "int64"]),
    (TypeError, {"images": X.to(torch.complex64)}, ["images", "real", "complex64"]),
    (TypeError, {"images": X.numpy()}, ["images", "torch.Tensor", "ndarray"]),
    (ValueError, {"images": X[0]}, ["images", r"\[B, C, H, W\]", r"\[3, 16, 16\]", r"images\[None\]"]),
    (ValueError, {"images": X[None]}, ["images", r"\[B, C, H, W\]", r"\[1, 2, 3, 16, 16\]"]),
    (ValueError, {"images": X[..., :7]}, ["images", "at least", r"\(8, 8\)", r"\(16, 7\)"]),
    (ValueError, {"target": CLASSES}, ["target", "0 to 4", "5"]),
    (ValueError, {"target": -1}, ["target", "0 to 4", "-1"]),
    (ValueError, {"target": [1, 2, 3]}, ["target", "2", "3"]),
    (ValueError, {"target": (1, 2)}, ["target", r"\[2, 5\]"]),
    (TypeError, {"target": 1.5}, ["target", "1.5"]),
    (ValueError, {"target": "worst"}, ["target", "runner-up", "argmax", "least", "worst"]),
    (ValueError, {"factors": NAN}, ["factors", "finite", "nan"]),
    (ValueError, {"factors": [0.0, INF]}, ["factors", "finite", "inf"]),
    (ValueError, {"factors": 1e300}, ["factors", "finite", "float32", "e\\+300"]),
    (ValueError, {"factors": []}, ["factors", r"\[F\]", r"\[0\]"]),
    (ValueError, {"factors": torch.zeros(3, 4)}, ["factors", "B = 2", r"\[3, 4\]"]),
    (ValueError, {"factors": torch.zeros(2, 0)}, ["factors", r"\[2, 0\]"]),
    (ValueError, {"factors": torch.zeros(1, 2, 4)}, ["factors", r"\[1, 2, 4\]"]),
    (TypeError, {"factors": "1"}, ["factors", "float", "'1'"]),
    (TypeError, {"factors": True}, ["factors", "float", "True"]),
    (TypeError, {"factors": [1j]}, ["factors", "float"]),
    (ValueError, {"factors": [0.0, 1.0], "amplitude_factors": [1.0]}, ["amplitude_factors", "2 frames", "1"]),
    (ValueError, {"factors": [0.0], "amplitude_factors": [NAN]}, ["amplitude_factors", "finite", "nan"]),
    (ValueError, {"amplitude_factors": 1.0}, ["amplitude_factors", "factors", "None"]),
    (ValueError, {"factors": 1.0, "max_l2": 1.0}, ["factors", "max_l2", "mutually exclusive"]),
    (ValueError, {"max_l2": -1.0}, ["max_l2", "0 or positive", "-1"]),
    (ValueError, {"max_l2": 1e-60}, ["max_l2", "0 or positive in torch.float32", "1e-60"]),
    (ValueError, {"max_l2": NAN}, ["max_l2", "finite", "nan"]),
    (ValueError, {"max_l2": [1.0, INF]}, ["max_l2", "finite", "inf"]),
    (ValueError, {"max_l2": []}, ["max_l2", r"\[0\]"]),
    (ValueError, {"max_l2": torch.ones(3)}, ["max_l2", "B = 2", r"\[3\]"]),
    (ValueError, {"max_l2": torch.ones(3, 2)}, ["max_l2", "B = 2", r"\[3, 2\]"]),
    (TypeError, {"max_l2": False}, ["max_l2", "False"]),
    (TypeError, {"max_l2": "far"}, ["max_l2", "float", "far"]),
    (ValueError, {"max_l2": [1.0, 2.0, 4.0]}, ["max_l2", "B = 2", "distances=", r"\[3\]"]),
    (ValueError, {"distances": torch.ones(3, 2)}, ["distances", "B = 2", "max_l2=", r"\[3, 2\]"]),
    (ValueError, {"distances": 2.0}, ["distances", "max_l2=", r"\[\]"]),
    (ValueError, {"distances": []}, ["distances", r"\[0\]"]),
    (ValueError, {"distances": [1.0, -0.5]}, ["distances", "0 or positive", "-0.5"]),
    (TypeError, {"distances": "1 2"}, ["distances", "sequence", "1 2"]),
    (ValueError, {"distances": [1.0], "max_l2": 1.0}, ["max_l2", "distances", "mutually exclusive"]),
    (ValueError, {"distances": [1.0], "factors": 1.0}, ["factors", "distances", "mutually exclusive"]),
    (ValueError, {"distances": [1.0, 2.0], "frames": 12}, ["frames", "None or 3", "distances", "12"]),
    (ValueError, {"factors": [0.0, 1.0], "frames": 12}, ["frames", "None or 2", "factors", "12"]),
    (ValueError, {"factors": 1.0, "amplitude_factors": [0.0, 1.0], "frames": 3}, ["None or 2", "amplitude_factors"]),
    (ValueError, {"steps": 3}, ["steps", "None", "frozen", "3"]),
    (ValueError, {"frames": 1}, ["frames", "at least 2", "1"]),
    (TypeError, {"frames": 2.0}, ["frames", "int", "2.0"]),
    (ValueError, {"internal_batch_size": 0}, ["internal_batch_size", "at least 1", "0"]),
    (TypeError, {"internal_batch_size": 1.5}, ["internal_batch_size", "int", "1.5"]),
    (ValueError, {"score": "first"}, ["score", "all", "last", "none", "first"]),
]


@pytest.mark.filterwarnings("ignore:model is in training mode")
@pytest.mark.parametrize("kind, arguments, words", BAD_ARGUMENTS)
def test_bad_arguments_raise_and_change_nothing(kind, arguments, words):
    """The error names the argument, and is raised before the model runs unless it depends on the number of classes."""
    model, calls = disturbed(False), []
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    before = everything(model)
    with raises_with(kind, *words):
        family = "csp-joint" if "amplitude_factors" in arguments else "csp-phase"
        SteerableLens(model, family=family).morph(**{"images": X, "target": 1, **arguments})
    assert_unchanged(model, before)
    needs_number_of_classes = "0 to 4" in words or r"\[2, 5\]" in words
    assert not calls or needs_number_of_classes


@pytest.mark.parametrize("family", ["pixel", "fourier", "csp-phase", "csp-amplitude"])
def test_amplitude_factors_raise_unless_the_family_is_joint(family):
    with raises_with(ValueError, "amplitude_factors", "None", family):
        SteerableLens(disturbed(False), family=family).morph(X, 1, factors=1.0, amplitude_factors=2.0)


@pairwise(
    wrong=[lambda x, f: x, lambda x, f: None, lambda x, f: x.expand(len(f) + 1, *x.shape)],
    options=[{"factors": 1.0}, {"max_l2": 1.0}],
    regime=["frozen", "live"],
)
def test_family_object_that_renders_wrong_shapes_raises(wrong, options, regime):
    class Family:
        def prepare(self, image, gradient):
            render = lambda factors, amplitude_factors=None, bounds=None: wrong(image, factors)
            return SimpleNamespace(image=image, gradient=gradient, render=render)

    with raises_with(ValueError, "render must return", r"\[F, B, ...\]", r"2, 3, 16, 16\]", "got"):
        SteerableLens(smooth(), family=Family(), regime=regime).morph(images(), 1, frames=3, **options)


def test_preprocessing_that_returns_none_raises():
    with raises_with(TypeError, "preprocessing", "None"):
        SteerableLens(smooth(), preprocessing=lambda x: None).morph(images(), 1, factors=1.0)


def test_perturb_with_factor_and_distance_raises():
    with raises_with(ValueError, "factor and max_l2 are mutually exclusive", "1.0", "2.0"):
        SteerableLens(smooth()).perturb(images(), 1, factor=1.0, max_l2=2.0)


def test_model_that_returns_probabilities_warns():
    """This is only a warning, since values that look like probabilities may be logits."""
    for model in (nn.Sequential(smooth(), nn.Softmax(1)), nn.Sequential(smooth(), nn.Softmax(1)).double()):
        x = images().to(next(model.parameters()).dtype)
        with pytest.warns(UserWarning, match="must return logits, .* look like probabilities") as record:
            SteerableLens(model.eval()).morph(x, 1, factors=1.0, frames=3)
        assert [w.filename for w in record] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SteerableLens(nn.Sequential(smooth(), nn.LogSoftmax(1)).eval()).morph(images(), 1, factors=1.0, frames=3)


def test_rounding_errors_outside_the_bounds_are_accepted():
    x = X.clone()
    x[0, 0, 0, 0], x[1, 2, 3, 4] = 1.00005, -0.00005
    for regime in REGIMES:
        m = SteerableLens(smooth(), regime=regime).morph(x, 1, factors=1.0, frames=3)
        assert m.frames.min() >= 0 and m.frames.max() <= 1 and (m.l2[:, 0] < 2e-4).all()


@pytest.mark.parametrize(
    "model, words",
    [
        (lambda x: x.sum((1, 2, 3)), ["model", r"\[N, classes", r"\[2\]"]),
        (lambda x: x.sum(), ["model", r"\[N, classes", r"\[\]"]),
        (lambda x: x.flatten(1)[:1], ["model", "N = 2", r"\[1, 768\]"]),
        (lambda x: x.flatten(1)[:, :0], ["model", r"\[2, 0\]"]),
        (lambda x: torch.zeros(2, 5), ["model", "depend on the images"]),
        (lambda x: x.detach().flatten(1), ["model", "depend on the images", "no gradient passes .*detach"]),
        (lambda x: x.detach().flatten(1) + torch.zeros(768, requires_grad=True), ["model", "no gradient passes"]),
    ],
)
def test_models_without_a_class_axis_or_a_graph_raise(model, words):
    with raises_with(ValueError, *words):
        SteerableLens(model).morph(images(), 0, factors=1.0)


@pytest.mark.parametrize("scores", [None, 3, torch.zeros(2, 5, dtype=torch.int64), {"scores": 1}], ids=str)
def test_models_without_scores_raise(scores):
    with raises_with(TypeError, "model must return"):
        SteerableLens(lambda x: scores).morph(images(), 0, factors=1.0)


def test_morphs_by_a_model_with_one_score_follow_the_objective():
    """For a regression with one score, no warning says that the target is already predicted."""
    x, model = images(), nn.Sequential(nn.Flatten(), nn.Linear(768, 1)).eval()
    for objective, sign in (("logit", 1), (lambda outputs, target: outputs[:, 0], -1)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            m = SteerableLens(model, objective=objective).morph(x, 0, max_l2=1.0, frames=3)
        assert (sign * m.outputs[..., 0].diff(dim=1) > 0).all()
    with raises_with(ValueError, "at least 2 classes", "regression with one score, pass target=0"):
        SteerableLens(model, objective="logit").morph(x, max_l2=1.0)


def test_pyramid_of_another_size_raises():
    lens = SteerableLens(smooth(), pyramid=SteerablePyramid((16, 20)))
    with raises_with(ValueError, "images", r"\(16, 20\)", r"\(16, 16\)"):
        lens.morph(images(), 1, factors=1.0)
    with raises_with(ValueError, "images", r"\(16, 20\)", r"\(16, 16\)"):
        lens.iter_frames(images(), 1, factors=1.0)


@pytest.mark.parametrize("bands", [{"scales": [2]}, {"orientations": [4]}], ids=str)
@pytest.mark.parametrize("family", NAMES)
def test_bands_that_the_pyramid_lacks_raise(family, bands):
    with raises_with(ValueError, next(iter(bands)), "0 to"):
        SteerableLens(smooth(), family=family, **bands).morph(images(), 1, factors=1.0)


@pytest.mark.parametrize("color", ["luma", "grey"])
@pytest.mark.parametrize("channels", [2, 4])
def test_channels_that_have_no_luma_raise(color, channels):
    with raises_with(ValueError, "images", "1 or 3 channels", color, str(channels)):
        SteerableLens(smooth(channels=channels), color=color).morph(images(channels=channels), 1, factors=1.0)


@pytest.mark.cuda
def test_images_and_model_on_two_devices_raise():
    if not torch.cuda.is_available():
        pytest.skip("cuda: no GPU")
    with raises_with(ValueError, "images", "cuda", "cpu"):
        SteerableLens(smooth().cuda()).morph(images(), 1, factors=1.0)


# --- Memory


@pytest.mark.slow
@pytest.mark.parametrize(
    "regime, color, frames",
    [
        *((regime, "luma", 24) for regime in REGIMES),
        ("frozen", "rgb", 24),
        ("live", "rgb", 2),
    ],
)
def test_peak_memory_beyond_the_frames_is_bounded(regime, color, frames, tmp_path):
    """The limit is 64 MiB for images [8, 3, 224, 224], for any number of frames."""
    x = images(8, size=224)
    lens = SteerableLens(lambda t: t.mean((2, 3)), regime=regime, color=color)
    lens.morph(x[:1], 1, factors=3.0, frames=2)  # masks are built once
    work = lambda: lens.morph(x, 1, factors=3.0, frames=frames, score="last")
    morphs, peak = peak_bytes(work, tmp_path / "trace.json")
    assert peak - morphs.frames.untyped_storage().nbytes() <= 64 * 2**20


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="resident memory is read from /proc")
def test_memory_does_not_grow_over_three_thousand_morphs():
    """All regimes alternate. After the first thousand morphs, memory grows by at most 1 MiB (500 bytes per morph)."""
    x, model = images(1, size=8, channels=1), linear(1, 8, 3)
    lenses = [SteerableLens(model, regime=regime, family=f) for regime in REGIMES for f in ("csp-joint", "fourier")]

    def resident():
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    for i in range(3_000):
        if i == 1000:
            before = resident()
        lens = lenses[i % len(lenses)]
        lens.morph(x, 1, factors=1.0, frames=2, score="none", **steps(lens.regime, 1))
    assert resident() - before <= 2**20


@regimes
def test_morph_is_freed_without_the_garbage_collector(regime):
    """With reference cycles, whole batches would stay in a GPU's memory until the garbage collector runs."""
    lens, x = SteerableLens(smooth(), regime=regime), images()
    gc.collect()
    gc.disable()
    try:
        morphs = lens.morph(x, 1, factors=1.0, frames=3)
        freed = [weakref.ref(t) for t in (morphs.frames, morphs.outputs, morphs.l2)]
        del morphs
        freed += [weakref.ref(frame) for frame in lens.iter_frames(x, 1, factors=1.0, frames=3)]
        alive = [type(o) for o in gc.get_objects() if type(o) in (GradientProvider, MorphRun, MorphState)]
    finally:
        gc.enable()
    assert not alive and all(reference() is None for reference in freed)


# --- Arguments, buffers and caches


@regimes
def test_writing_to_arguments_changes_no_morphs(regime):
    x, target, factors = images(), torch.tensor(TARGET), torch.tensor([0.0, 1.0, 2.0])
    m = SteerableLens(smooth(), regime=regime).morph(x, target, factors=factors)
    expected = {name: t.clone() for name, t in m.tensors().items()}
    for argument in (x, target, factors):
        argument.zero_()
    assert all(torch.equal(t, expected[name]) for name, t in m.tensors().items())


@pytest.mark.parametrize("family", ["pixel", "csp-phase"])
@regimes
def test_writing_to_a_yielded_frame_changes_no_later_frame(regime, family):
    lens, x = SteerableLens(smooth(), regime=regime, family=family), images()
    expected = [frame.clone() for frame in lens.iter_frames(x, 1, factors=9.0, frames=4)]
    for frame, untouched in zip(lens.iter_frames(x, 1, factors=9.0, frames=4), expected):
        assert torch.equal(frame, untouched)
        frame.zero_()


class Caching(torch.nn.Module):
    """A model whose forward fills a buffer that was None, and registers another."""

    def __init__(self):
        super().__init__()
        self.body = smooth()
        self.register_buffer("cache", None)

    def forward(self, x):
        self.cache = x.mean() * 1.0
        if "late" not in self._buffers:
            self.register_buffer("late", torch.ones(1))
        return self.body(x)


def test_buffers_registered_by_the_forward_are_removed():
    model = Caching().eval()
    SteerableLens(model, regime="live").morph(images(), 1, factors=1.0, frames=3)
    assert dict(model._buffers) == {"cache": None}


def test_threads_that_share_a_lens_get_the_families_of_their_own_images():
    """The lens caches its last family. Here the cache changes, as if by another thread, while options are compared."""
    lens = SteerableLens(smooth())

    class Interrupted(tuple):
        def __getitem__(self, index):
            if index == 0:
                lens._last_family = None
                lens._family_for(images(size=32))
            return super().__getitem__(index)

    lens._family_for(images(size=16))
    lens._last_family = Interrupted(lens._last_family)
    assert lens._family_for(images(size=16)).pyramid.image_shape == (16, 16)


@pytest.mark.parametrize("regime", ["frozen", "persistent"])
def test_cached_schedules_change_no_frames(regime):
    lens, x = SteerableLens(smooth(), regime=regime), images()
    lens.warn_about_results = False
    first = lens.morph(x, 1, factors=1.0, frames=3)
    first.factors.zero_()  # the results are the caller's own
    calls = [
        dict(factors=1.0, frames=3),
        dict(factors=2.0, frames=3),
        dict(factors=1.0, frames=4),
        dict(factors=[0.0, 0.5, 1.0]),
        dict(max_l2=1.0, frames=3),
        dict(frames=3),
    ]
    for call, batch in itertools.product(calls, (x, x[:1], x.double())):
        fresh = SteerableLens(smooth(), regime=regime)
        again, anew = lens.morph(batch, 1, **call), fresh.morph(batch, 1, **call)
        assert torch.equal(again.frames, anew.frames) and torch.equal(again.factors, anew.factors)
    lens.default_l2 = 3.0
    assert lens.morph(x, 1, frames=3).budget.tolist() == [[3.0], [3.0]]


@pytest.mark.parametrize("equal", [dict(factors=True), dict(frames=3.0)], ids=str)  # True == 1.0
def test_invalid_options_that_equal_those_of_the_cached_schedule_raise(equal):
    lens, valid = SteerableLens(smooth()), dict(factors=1.0, frames=3)
    lens.morph(images(), 1, **valid)
    with pytest.raises(TypeError, match=f"{next(iter(equal))} must be"):
        lens.morph(images(), 1, **valid | equal)


def test_calls_in_threads_leave_buffers_and_generators_unchanged():
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3),
        torch.nn.BatchNorm2d(4),
        torch.nn.Dropout(0.5),
        torch.nn.Flatten(),
        torch.nn.LazyLinear(5),
    )
    model(images())
    buffers, rng = {n: (id(b), b.clone()) for n, b in model.named_buffers()}, torch.get_rng_state()
    lens = SteerableLens(model, regime="live")
    work = lambda _: lens.morph(images(), 1, factors=1.0, frames=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(16)))
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(id(b) == buffers[n][0] and torch.equal(b, buffers[n][1]) for n, b in model.named_buffers())


# --- Warnings, and further results and errors


@pytest.mark.parametrize("regime", ["frozen", "persistent", "live"])
@pytest.mark.parametrize("luma", [False, True])
def test_amplitude_factors_raise_before_the_model_runs_if_no_amplitudes_move(regime, luma):
    for family in (CSPFamily(SteerablePyramid((16, 16)), "phase"), FourierFamily(), PixelFamily()):
        lens = SteerableLens(lambda x: pytest.fail(), family=LumaFamily(family) if luma else family, regime=regime)
        with raises_with(ValueError, "amplitude_factors", "None", type(family).__name__, "no amplitudes"):
            lens.morph(images(), 1, factors=[0.0, 1.0], amplitude_factors=[0.0, 0.5])


def test_missed_distances_warn_with_the_reasons():
    x = images()
    lens = SteerableLens(lambda x: x.flatten(1)[:, :5] * torch.tensor([[0.0], [1.0]]), family="pixel")
    with pytest.warns(UserWarning, match=r"1 of 2 morphs do not reach .*reasons\): .*gradient.* zero"):
        lens.perturb(x, 1, max_l2=0.1)


def test_overflowing_frames_are_the_source_with_its_outputs():
    x = images()
    with pytest.warns(UserWarning, match=r"2 of 2 morphs are not ok, and repeat a frame .*: .*smaller factors"):
        m = SteerableLens(linear(), family="pixel", bounds=None).morph(x, 1, factors=[0.0, 3.3e38])
    assert not m.ok.any() and "smaller factors" in m.reasons[0]
    assert torch.equal(m.frames[:, 1], x) and m.l2[:, 1].eq(0).all()
    torch.testing.assert_close(m.outputs[:, 1], m.outputs[:, 0])


def test_settings_contain_the_repr_of_a_family_object():
    family = CSPFamily(SteerablePyramid((16, 16)), "joint", "polar", eps=3.0)
    settings = SteerableLens(smooth(), family=family).settings
    assert settings["rule"] is None and all(word in settings["family"] for word in ("joint", "polar", "3.0"))
    assert SteerableLens(smooth(), family="pixel").settings["rule"] is None


def test_distances_must_increase_in_the_regimes_live_and_persistent():
    for regime in ("live", "persistent"):
        with raises_with(ValueError, "distances", "increase"):
            SteerableLens(smooth(), regime=regime).morph(images(), 1, distances=[0.4, 0.2])
    assert SteerableLens(smooth()).morph(images(), 1, distances=[0.4, 0.2]).attained.all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_frames_can_be_morphed_again(dtype):
    """Half precision rounds 2.64 to a value beyond this bound."""
    bounds = (-2.1179, 2.64)
    x = (images() * 4 - 2).to(dtype)
    lens = SteerableLens(lambda t: linear()(t.float()), bounds=bounds)
    again = lens.morph(lens.morph(x, 1, max_l2=8.0, frames=2).frames[:, -1], 1, max_l2=1.0, frames=2)
    assert again.frames.dtype == dtype

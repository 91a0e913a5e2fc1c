"""Binary and multi-label classifiers, and models whose dtype differs from that of the images."""

import copy
import dataclasses
import warnings
from collections import namedtuple
from unittest.mock import MagicMock, Mock

import pytest
import torch
from messages import raises_with
from torch import nn
from torch.nn import functional as F

from steerlens_fast import SteerableLens
from steerlens_fast.classifier import Classifier
from steerlens_fast.classifier.objectives import OBJECTIVES, loss
from steerlens_fast.classifier.outputs import class_scores
from steerlens_fast.classifier.targets import resolve_target
from steerlens_fast.morphs.strips import _pair_texts

N, LABELS = 5, 4


def images(dtype=torch.float32):
    return torch.rand(N, 1, 16, 16, dtype=dtype)


def network(outputs, dtype=torch.float32):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        layers = nn.Conv2d(1, 4, 5), nn.GELU(), nn.Flatten(), nn.Linear(576, outputs)
        return nn.Sequential(*layers).to(dtype).eval()


# --- One logit


SHAPES = {"N x 1": lambda z: z, "N": lambda z: z[:, 0], "squeezed": torch.Tensor.squeeze}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("target", [None, "argmax", "least", 0, 1, [0, 1, 0, 1, 1]])
def test_probability_of_a_binary_model_is_its_sigmoid(shape, target):
    model = network(1)
    x = images()
    before = model(x)[:, 0] > 0
    lens = SteerableLens(lambda x: SHAPES[shape](model(x)), task="binary", family="pixel")
    m = lens.morph(x, target, max_l2=2.0, frames=3, internal_batch_size=2)
    ranks = {None: ~before, "least": ~before, "argmax": before}
    wanted_targets = ranks[target].long() if target in (None, "argmax", "least") else torch.tensor(target).expand(N)
    z = model(m.frames.flatten(0, 1)).reshape(N, 3)
    assert torch.equal(m.target, wanted_targets)
    assert torch.equal(m.source, before.long())
    assert torch.equal(m.predictions, (z > 0).long())
    expected = torch.where(wanted_targets[:, None] == 1, z.sigmoid(), (-z).sigmoid())
    torch.testing.assert_close(m.target_probability, expected, rtol=1e-5, atol=1e-6)
    assert (m.target_probability.diff(dim=1) > 0).all()


def test_objectives_of_one_logit_are_their_formulas():
    z = torch.tensor([-3.0, 0.5, 40.0, -40.0], requires_grad=True)
    target = torch.tensor([1, 0, 1, 0])
    scores = class_scores(z, 4, "binary")
    target, source = resolve_target(target, scores, "binary")
    toward = torch.where(target == 1, z, -z)
    expected = {"nll": F.softplus(-toward), "log-probability": F.softplus(-toward), "logit": -toward}
    expected["margin"] = torch.where(target == source, 0, -toward)
    assert set(expected) == set(OBJECTIVES)
    for objective, value in expected.items():
        actual = loss(objective, scores, target, source, "binary")
        torch.testing.assert_close(actual, value, rtol=1e-6, atol=0.0)
        gradients = (torch.autograd.grad(v.sum(), z, retain_graph=True)[0] for v in (actual, value))
        torch.testing.assert_close(*gradients, rtol=1e-6, atol=0.0)


def test_dense_binary_outputs_keep_their_positions():
    scores = class_scores(torch.tensor([[[[3.0, -1.0]]]]), 1, "binary")
    assert scores.tolist() == [[[[-1.5, 0.5]], [[1.5, -0.5]]]]
    target, source = resolve_target((1, 0, 1), scores, "binary")
    assert (target.tolist(), source.tolist()) == ([[1, 0, 1]], [0])


@pytest.mark.parametrize("target", [2, -1, [0, 1, 2, 0, 0]], ids=str)
def test_binary_model_has_classes_0_and_1(target):
    with raises_with(ValueError, "target", "0 to 1"):
        SteerableLens(network(1), task="binary").morph(images(), target)


# --- Labels


# (target, resolved: [state, label] of each image; state 1 is present, 0 absent)
CASES = [
    (2, [[1, 2]] * N),
    (~2, [[0, 2]] * N),
    ((0, 3), [[0, 3]] * N),
    ([0, 1, ~2, 3, ~0], [[1, 0], [1, 1], [0, 2], [1, 3], [0, 0]]),
    (torch.tensor([0, -1, 2, 3, 0]), [[1, 0], [0, 0], [1, 2], [1, 3], [1, 0]]),
    (torch.tensor([[0, 1]] * N), [[0, 1]] * N),
]


@pytest.mark.parametrize("target, resolved", CASES, ids=lambda v: str(v)[:24])
def test_each_label_has_its_own_sigmoid(target, resolved):
    model, x = network(LABELS), images()
    m = SteerableLens(model, task="multilabel", family="pixel").morph(x, target, max_l2=2.0, frames=3)
    assert m.target.tolist() == resolved
    state, label = m.target.unbind(1)
    z = model(m.frames.flatten(0, 1)).reshape(N, 3, LABELS)
    label_scores = z.gather(2, label[:, None, None].expand(N, 3, 1))[..., 0]
    expected = torch.where(state[:, None] == 1, label_scores.sigmoid(), (-label_scores).sigmoid())
    torch.testing.assert_close(m.target_probability, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(m.probabilities[:, :, 1], z.sigmoid(), rtol=1e-5, atol=1e-6)
    assert torch.equal(m.predictions, (z > 0).long())
    assert torch.equal(m.source, (label_scores[:, 0] > 0).long())
    assert torch.equal(m.reached, (label_scores > 0) == (state[:, None] == 1))
    assert (m.target_probability.diff(dim=1) > 0).all()


def test_step_toward_absence_of_a_label_is_minus_the_gradient_of_softplus():
    model, x = network(LABELS, torch.float64), images(torch.float64)
    m = SteerableLens(model, task="multilabel", family="pixel").morph(x, ~1, factors=[0.0, 1.0])
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.softplus(model(leaf)[:, 1]).sum(), leaf)
    torch.testing.assert_close(m.frames[:, 1], (x - gradient).clamp(0, 1))


def test_ranked_target_is_a_label_to_make_present():
    """Runner-up: the absent label with the highest score or, if all are present, the label with the lowest."""
    logits = torch.tensor([[3.0, -1.0, -0.5, -9.0], [3.0, 2.0, 1.0, 4.0], [-3.0, -2.0, -4.0, -1.0]])
    scores = class_scores(logits, 3, "multilabel")
    expected = {"runner-up": ([2, 2, 3], [0, 1, 0]), "argmax": ([0, 3, 3], [1, 1, 0]), "least": ([3, 2, 2], [0, 1, 0])}
    for rank, (labels, states) in expected.items():
        target, source = resolve_target(rank, scores, "multilabel")
        assert (target.tolist(), source.tolist()) == ([[1, label] for label in labels], states)


def test_pictures_show_the_names_of_labels():
    m = SteerableLens(network(LABELS), task="multilabel").morph(images()[:2], [3, ~3], factors=[0.0, 1.0])
    m.source[:] = torch.tensor([0, 1])
    assert _pair_texts(m, ["cat", "dog", "newt", "owl"]) == ["not owl → owl", "owl → not owl"]


# --- Bad input


@pytest.mark.parametrize(
    "task, output, words",
    [
        ("multiclass", torch.zeros(N), [r"\[5\]", "task='binary'", "--task binary"]),
        ("binary", torch.zeros(N, 2), ["task 'binary'", r"\[5, 2\]", "multiclass"]),
        ("binary", torch.zeros(()), ["task 'binary'", r"\[\]"]),
        ("binary", torch.zeros(2), ["task 'binary'", r"\[2\]"]),
        ("multilabel", torch.zeros(N), ["labels", r"\[5\]", "task='binary'"]),
        ("multilabel", torch.zeros(N, 0), ["labels", r"\[5, 0\]"]),
    ],
    ids=str,
)
def test_outputs_that_do_not_fit_the_task_raise(task, output, words):
    with raises_with(ValueError, "model", *words):
        class_scores(output, N, task)


@pytest.mark.parametrize("options", [{}, {"objective": "margin"}, {"objective": "logit"}], ids=str)
def test_error_about_one_score_in_the_default_task_names_task_binary(options):
    with raises_with(ValueError, r"target|objective", "task='binary'"):
        SteerableLens(network(1), **options).morph(images())
    if options.get("objective") != "logit":  # 'logit' accepts a single score
        with raises_with(ValueError, "objective", "task='binary'", "logit"):
            SteerableLens(network(1), **options).morph(images(), 0)
    for target in (1, [0, 1, 0, 1, 1], (0, 1)):
        with raises_with(ValueError, "target", "task='binary'"):
            SteerableLens(network(1), **options).morph(images(), target)


@pytest.mark.parametrize(
    "labels", [1.0, [0.0] * N, torch.zeros(N), torch.zeros(N).numpy(), torch.zeros(N).bfloat16()], ids=str
)
def test_float_labels_raise(labels):
    with raises_with(TypeError, "target", "convert labels to integers", "task='binary'"):
        SteerableLens(network(1)).morph(images(), labels)


@pytest.mark.parametrize("task", ["regression", None, 3])
def test_unknown_tasks_raise(task):
    with raises_with(ValueError, "task", "multiclass", "binary", "multilabel"):
        SteerableLens(network(1), task=task)


def test_model_that_returns_sigmoids_gives_a_warning():
    for task, count in (("binary", 1), ("multilabel", LABELS)):
        model = nn.Sequential(network(count), nn.Sigmoid()).eval()
        with pytest.warns(UserWarning, match="must return logits, .* another sigmoid is applied"):
            SteerableLens(model, task=task).morph(torch.rand(16, 1, 16, 16), 0, factors=[0.0, 1.0])


@pytest.mark.parametrize("task", ["binary", "multilabel", "multiclass"])
@pytest.mark.parametrize("count", [1, 2])
def test_sigmoids_give_a_warning_after_several_small_calls(task, count):
    """The same images count only once, and the outputs of independent sigmoids need not have a sum of 1."""
    model = network(1 if task == "binary" else 2)
    lens = SteerableLens(lambda x: (model(x) + 12 * x.mean((1, 2, 3))[:, None] - 3).sigmoid(), task=task)
    batches = torch.rand(10, count, 1, 16, 16) * torch.linspace(0.05, 1, 10).view(10, 1, 1, 1, 1)
    morph = lambda x: lens.morph(x, 0, factors=[0.0, 1.0])

    def messages(calls) -> list[str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            [morph(x) for x in calls]
        return [str(w.message) for w in caught if "must return logits" in str(w.message)]

    assert not messages([batches[0]] * 9)
    message = messages(batches)[-1]
    applied = "a softmax" if task == "multiclass" else "another sigmoid"
    assert f"to which {applied} is applied" in message and "Remove the model's sigmoid" in message


@pytest.mark.parametrize("task", ["binary", "multilabel", "multiclass"])
def test_logits_give_no_warning_of_probabilities(task):
    """One logit below 0 shows that there is no sigmoid. The scores of an untrained model may all be similar."""
    model, offset = network(1 if task == "binary" else 3), {"multiclass": 0.5}.get(task, 0.0)
    lens = SteerableLens(lambda x: 0.1 * model(x) + offset, task=task)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="model must return logits")
        for _ in range(3):
            lens.morph(torch.rand(16, 1, 16, 16), 0, factors=[0.0, 1.0])


@dataclasses.dataclass
class Result:
    loss: object
    scores: object


class Endless:
    """A proxy object: each attribute is another proxy, or the proxy itself."""

    def __init__(self, same):
        self.same = same

    def __getattr__(self, name):
        return self if self.same else Endless(False)


# (output, words in the message)
OUTPUTS_WITHOUT_SCORES = [
    (Mock(), ["Mock"]),
    (MagicMock(), ["MagicMock"]),
    (Endless(True), ["Endless"]),
    (Endless(False), ["Endless"]),
    (Result(None, 3), ["Result", "loss", "scores"]),
    ({"out": 3}, ["dict", "out"]),
    (({"out": 3},), ["tuple", "dict", "out"]),
    ((None, torch.zeros(N, 3)), ["tuple", "NoneType"]),
    (namedtuple("Named", "loss logits")(3, None), ["Named", "int"]),
    ([], ["empty list"]),
]


@pytest.mark.parametrize("output, words", OUTPUTS_WITHOUT_SCORES)
def test_outputs_without_scores_raise(output, words):
    with raises_with(TypeError, "model", *words):
        class_scores(output, N)


def test_container_that_contains_itself_raises():
    loop = []
    loop.append(loop)
    with raises_with(TypeError, "model", "list"):
        class_scores(loop, N)


# --- Dtypes


DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("model_dtype", DTYPES, ids=str)
@pytest.mark.parametrize("preprocessing", [None, lambda x: (x - 0.5) / 0.25])
@pytest.mark.parametrize("image_dtype", DTYPES)
def test_images_are_cast_to_the_models_dtype(image_dtype, model_dtype, preprocessing):
    model, x = network(3, model_dtype), images(image_dtype)
    loss_of = lambda o, at=None: -o[:, 1].float()
    gradient, outputs = Classifier(model, preprocessing).gradient(x, loss_of)
    leaf = x.clone().requires_grad_()
    expected = model((leaf if preprocessing is None else preprocessing(leaf)).to(model_dtype))
    assert torch.equal(outputs, expected) and outputs.dtype == model_dtype
    (expected_gradient,) = torch.autograd.grad(loss_of(expected).sum(), leaf)
    assert torch.equal(gradient, expected_gradient) and gradient.dtype == image_dtype


@pytest.mark.parametrize("model_dtype", [torch.float16, torch.bfloat16], ids=str)
def test_saturated_gradient_survives_half_precision(model_dtype):
    """The gradient at the outputs is about 1e-13, which is too small for float16, whose smallest number is 6e-8."""
    model = network(3)
    with torch.no_grad():
        model[3].bias[1] += 29
    losses = lambda o, at=None: loss("nll", o, torch.ones(len(o), dtype=torch.int64), torch.zeros(len(o)).long())
    x = images()
    actual = Classifier(network_like(model, model_dtype)).gradient(x, losses)[0].double().flatten(1)
    expected = Classifier(network_like(model, torch.float64)).gradient(x, losses)[0].double().flatten(1)
    assert (expected.norm(dim=1) < 1e-10).all() and (expected.norm(dim=1) > 1e-16).all()
    sizes = actual.norm(dim=1), expected.norm(dim=1)
    assert ((actual * expected).sum(1) > 0.99 * sizes[0] * sizes[1]).all()  # the same direction
    assert ((sizes[0] / sizes[1]).log().abs() < 0.5).all()  # scores of 29 are rounded to 1/64 or 1/8


def network_like(model, dtype):
    return copy.deepcopy(model).to(dtype)


def test_morphs_of_a_float64_model_have_the_images_dtype():
    m = SteerableLens(network(3, torch.float64), family="pixel").morph(images(), 1, max_l2=1.0, frames=3)
    assert (m.frames.dtype, m.outputs.dtype) == (torch.float32, torch.float64)
    assert m.attained.all()


@pytest.mark.parametrize("wrapped", [lambda model: lambda x: model(x), lambda model: model], ids=["function", "mixed"])
def test_unknown_dtype_of_a_model_raises(wrapped):
    """The dtype is unknown if the model is a function, or has parameters of several dtypes."""
    model = network(3, torch.float64)
    model[3].float()
    model[2] = nn.Sequential(nn.Flatten(), Cast(torch.float32))
    for call in (lambda c: c.outputs(images()), lambda c: c.gradient(images(), lambda o, at: o[:, 0])):
        with raises_with(TypeError, "images", "torch.float32", "dtype", "in preprocessing=") as caught:
            call(Classifier(wrapped(model)))
        assert isinstance(caught.value.__cause__, RuntimeError)
    cast = Classifier(wrapped(model), preprocessing=torch.Tensor.double)
    assert cast.gradient(images(), lambda o, at: o[:, 0])[0].dtype == torch.float32


def test_other_errors_of_models_are_unchanged():
    def model(x):
        raise RuntimeError("a model's own trouble")

    with pytest.raises(RuntimeError, match="^a model's own trouble$"):
        Classifier(model).outputs(images())


class Cast(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.dtype = dtype

    def forward(self, x):
        return x.to(self.dtype)

"""Targets, compared with captum's selection. Losses, compared with their formulas. Errors."""

import importlib
from unittest.mock import Mock

import numpy as np
import optional_libraries
import pytest
import torch
from messages import raises_with
from torch.nn import functional as F

from steerlens_fast.classifier.objectives import OBJECTIVES, check_objective, gradient_start, loss
from steerlens_fast.classifier.outputs import class_scores
from steerlens_fast.classifier.targets import check_target, resolve_target, slice_target

N, CLASSES = 4, 10
INDICES = [3, 0, 9, 4]
FLAT, DEEP = (N, CLASSES), (N, CLASSES, 5, 6)
POSITIONS = [(3, 1, 2), (0, 0, 0), (9, 4, 5), (4, 2, 0)]


def scores(*shape, dtype=torch.float32):
    return torch.randn(*shape, dtype=dtype)


def selected(outputs, target):
    """Return the outputs that a resolved target selects, by a simple loop."""
    rows = target.tolist()
    return torch.stack([o[tuple(r) if isinstance(r, list) else r] for o, r in zip(outputs, rows)])


# --- Forms of targets


# (shape of the outputs, target)
GRAMMAR = [
    (FLAT, 3),
    (FLAT, torch.tensor(3)),
    (FLAT, torch.tensor([3])),
    (FLAT, torch.tensor([[3]])),
    (FLAT, INDICES),
    (FLAT, torch.tensor(INDICES)),
    (FLAT, torch.tensor(INDICES, dtype=torch.int32)),
    (FLAT, (3,)),
    (FLAT, [(i,) for i in INDICES]),
    (DEEP, (3, 1, 2)),
    (DEEP, POSITIONS),
    (DEEP[:3], (3, 4)),
    (DEEP[:3], [p[:2] for p in POSITIONS]),
]


@pytest.mark.parametrize("shape, target", GRAMMAR)
def test_targets_select_the_outputs_that_captum_selects(shape, target):
    optional_libraries.captum()
    select = importlib.import_module("captum._utils.common")._select_targets
    outputs = scores(*shape)
    resolved, source = resolve_target(target, outputs)
    assert resolved.dtype == source.dtype == torch.int64
    assert resolved.shape == ((N,) if len(shape) == 2 else (N, len(shape) - 1))
    assert source.shape == (N,)
    assert torch.equal(selected(outputs, resolved), select(outputs, target))
    assert torch.equal(loss("logit", outputs, resolved, source), -select(outputs, target).flatten())


# (target, the same as an int or a list of ints)
INTEGER_TARGETS = [
    (np.int64(3), 3),
    (np.uint8(3), 3),
    (np.array(3), 3),
    (np.array([3]), 3),
    (np.array(INDICES), INDICES),
    (np.array(INDICES, dtype=">i2"), INDICES),
    (np.array(INDICES[::-1])[::-1], INDICES),
    (np.array(INDICES, dtype=np.uint64), INDICES),
    ([np.int32(i) for i in INDICES], INDICES),
    ([torch.tensor(i) for i in INDICES], INDICES),
    ((np.int64(3),), 3),
    (torch.tensor(INDICES, dtype=torch.uint8), INDICES),
]


@pytest.mark.parametrize("target, same", INTEGER_TARGETS)
def test_integers_of_other_libraries_are_targets(target, same):
    assert torch.equal(check_target(target, N), check_target(same, N))


def test_target_of_one_sample_may_have_every_form():
    outputs = scores(1, CLASSES)
    for target in (3, (3,), [3], [(3,)], torch.tensor(3), torch.tensor([3]), np.array([3])):
        assert resolve_target(target, outputs)[0].tolist() == [3]


@pytest.mark.parametrize(
    "shape, target", [(FLAT, INDICES), (DEEP, POSITIONS), (FLAT, None), (FLAT, 3), (DEEP, (3, 1, 2))]
)
def test_slices_of_a_batch_have_its_targets(shape, target):
    """A resolved target can be resolved again."""
    outputs = scores(*shape)
    whole, source = resolve_target(target, outputs)
    checked = check_target(target, N)
    for size in (1, 2, 3, N):
        parts = [slice(i, min(i + size, N)) for i in range(0, N, size)]
        resolved = [resolve_target(slice_target(checked, at), outputs[at]) for at in parts]
        assert torch.equal(torch.cat([t for t, _ in resolved]), whole)
        assert torch.equal(torch.cat([s for _, s in resolved]), source)
        again = [resolve_target(slice_target(whole, at), outputs[at])[0] for at in parts]
        assert torch.equal(torch.cat(again), whole)


@pytest.mark.parametrize("target", [3, (3,), [], torch.zeros(0, dtype=torch.int64), np.zeros(0, int)], ids=str)
def test_targets_of_no_samples_are_valid(target):
    assert check_target(target, 0).shape == (0, 1)


@pytest.mark.parametrize("target", [3, INDICES, torch.tensor(INDICES), None], ids=str)
def test_losses_at_targets_made_in_inference_mode_have_gradients(target):
    """Autograd saves indices, and raises an error for tensors made in inference mode."""
    outputs = scores(*FLAT).requires_grad_()
    with torch.inference_mode():
        target = target.clone() if isinstance(target, torch.Tensor) else target
        target, source = resolve_target(check_target(target, N), outputs)
    for objective in (*OBJECTIVES, lambda o, t: o.gather(1, t[:, None])[:, 0]):
        torch.autograd.grad(loss(objective, outputs, target, source).sum(), outputs)


def test_target_is_not_changed():
    target = torch.tensor(INDICES)
    resolved, _ = resolve_target(target, scores(*FLAT))
    assert target.tolist() == INDICES
    assert resolved.tolist() == INDICES


# --- Ranks


def test_ranks_follow_the_order_of_the_scores():
    outputs = scores(*FLAT)
    order = outputs.argsort(1, descending=True)
    for target, place in ((None, 1), ("runner-up", 1), ("argmax", 0), ("least", -1)):
        resolved, source = resolve_target(target, outputs)
        assert torch.equal(resolved, order[:, place])
        assert torch.equal(source, order[:, 0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("classes", [2, 3, 100])
def test_runner_up_is_never_the_source(dtype, classes):
    """If scores are equal (also NaN or infinite), topk and argmax may return different classes."""
    for value in (0.0, float("nan"), float("inf"), -float("inf")):
        resolved, source = resolve_target(None, torch.full((3, classes), value, dtype=dtype))
        assert (resolved != source).all()
    outputs = torch.randint(0, 2, (200, classes)).to(dtype)
    resolved, source = resolve_target(None, outputs)
    assert (resolved != source).all()
    assert torch.equal(outputs.gather(1, resolved[:, None])[:, 0], outputs.topk(2, 1).values[:, 1])


def test_source_class_is_that_at_the_targets_position():
    outputs = scores(*DEEP)
    for target in (POSITIONS, (3, 1, 2)):
        resolved, source = resolve_target(target, outputs)
        assert source.tolist() == [o[:, y, x].argmax().item() for o, (_, y, x) in zip(outputs, resolved.tolist())]


# --- Losses


def test_losses_are_their_formulas():
    outputs, target = scores(*FLAT), torch.tensor(INDICES)
    target, source = resolve_target(target, outputs)
    each = torch.arange(N)
    nll = F.cross_entropy(outputs, target, reduction="none")
    margin = outputs[each, source] - outputs[each, target]
    expected = {"nll": nll, "log-probability": nll, "logit": -outputs[each, target], "margin": margin}
    assert set(expected) == set(OBJECTIVES)
    for objective, value in expected.items():
        assert torch.allclose(loss(objective, outputs, target, source), value)


def test_losses_of_deep_outputs_are_those_at_the_position():
    outputs = scores(*DEEP)
    target, source = resolve_target(POSITIONS, outputs)
    at = torch.stack([o[:, y, x] for o, (_, y, x) in zip(outputs, POSITIONS)])
    for objective in OBJECTIVES:
        expected = loss(objective, at, target[:, 0], source)
        assert torch.allclose(loss(objective, outputs, target, source), expected)


@pytest.mark.parametrize("objective", list(OBJECTIVES))
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_losses_are_at_least_float32(objective, dtype):
    """In half precision, the log-probability of a class with high probability would round to 0."""
    outputs = (10 * scores(*FLAT)).to(dtype)
    target, source = resolve_target(INDICES, outputs)
    value = loss(objective, outputs, target, source)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert value.dtype == wide
    assert torch.equal(value, loss(objective, outputs.to(wide), target, source))


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_numerical_derivatives_of_losses_agree(objective):
    outputs = scores(*FLAT, dtype=torch.float64).requires_grad_()
    target, source = resolve_target(INDICES, outputs)
    assert torch.autograd.gradcheck(lambda o: loss(objective, o, target, source), outputs)


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_bad_sample_leaves_the_others_unchanged(objective):
    for bad in (float("nan"), float("inf")):
        outputs = scores(*FLAT)
        clean = outputs.clone().requires_grad_()
        outputs[1] = bad
        outputs.requires_grad_()
        for o in (clean, outputs):
            loss(objective, o, *resolve_target(INDICES, o)).sum().backward()
        others = [0, 2, 3]
        assert torch.equal(outputs.grad[others], clean.grad[others])


INF = float("inf")


# (scores, loss for target 0, its gradient), computed with 50 digits
NLL_CASES = [
    ([0.0, 0.0, 0.0], 1.0986122886681098, [-2 / 3, 1 / 3, 1 / 3]),
    (
        [28.0, 0.0, 0.0],
        1.3828800213870844e-12,
        [-1.3828800213861282e-12, 6.914400106930641e-13, 6.914400106930641e-13],
    ),
    ([-28.0, 0.0, 0.0], 28.693147180560292, [-0.9999999999996543, 0.49999999999982714, 0.49999999999982714]),
    (
        [40.0, 20.0, -20.0],
        2.061153620314381e-09,
        [-2.06115361819020e-09, 2.06115361819020e-09, 8.75651074464e-27],
    ),
    ([1000.0, 999.0, 0.0], 0.31326168751822286, [-0.2689414213699951, 0.2689414213699951, 0.0]),
    ([60000.0, -60000.0, -60000.0], 0.0, [0.0, 0.0, 0.0]),
    ([-60000.0, 60000.0, 60000.0], 120000.69314718056, [-1.0, 0.5, 0.5]),
    ([0.0, -INF, 0.0], 0.6931471805599453, [-0.5, 0.0, 0.5]),
    ([5.0, -INF, -INF], 0.0, [0.0, 0.0, 0.0]),
    ([-INF, 0.0, 0.0], INF, [-1.0, 0.5, 0.5]),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("row, value, gradient", NLL_CASES)
def test_nll_is_accurate_at_small_and_large_probabilities(dtype, row, value, gradient):
    leaf = torch.tensor([row, [0.0, 1.0, 2.0]], dtype=dtype, requires_grad=True)
    losses = loss("nll", leaf, torch.tensor([0, 0]), torch.tensor([1, 1]))
    (actual,) = torch.autograd.grad(losses.sum(), leaf)
    options = {"rtol": 2e-6 if dtype == torch.float32 else 1e-11, "atol": 0.0}
    torch.testing.assert_close(losses[0], torch.tensor(value, dtype=dtype), **options)
    torch.testing.assert_close(actual[0], torch.tensor(gradient, dtype=dtype), **options)


@pytest.mark.parametrize("gap, probability", [(27.63, 1 - 1e-12), (60.0, 1.0), (85.0, 1.0)])
def test_saturated_nll_keeps_the_direction_of_its_gradient(gap, probability):
    """In float32, the target's probability is rounded to 1, so its -log would be 0."""
    logits, weights = scores(3, 7), scores(7, 12)
    logits[:, 2] = logits[:, [0, 1, 3, 4, 5, 6]].logsumexp(1) + gap
    assert (logits.double().softmax(1)[:, 2] >= probability - 1e-13).all()
    directions = []
    for dtype in (torch.float32, torch.float64):
        leaf = logits.to(dtype).requires_grad_()
        losses = loss("nll", leaf, torch.full((3,), 2), torch.zeros(3, dtype=torch.int64))
        (gradient,) = torch.autograd.grad(losses.sum(), leaf)
        image = gradient.double() @ weights.double()
        directions.append(image / image.norm(dim=1, keepdim=True))
    assert (directions[0] - directions[1]).norm(dim=1).max() < 1e-5


def test_saturated_gradient_does_not_depend_on_the_batch():
    logits = scores(33, 10)
    logits[:, 4] += 30
    target, source = torch.full((33,), 4), torch.zeros(33, dtype=torch.int64)
    gradient = lambda at: torch.func.grad(lambda o: loss("nll", o, target[at], source[at]).sum())(logits[at])
    whole = gradient(slice(None))
    assert (whole != 0).all()
    for at in (slice(0, 1), slice(7, 8), slice(3, 20), slice(32, 33)):
        assert torch.equal(gradient(at), whole[at])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_gradient_from_gradient_start_is_that_of_autograd(objective, dtype):
    """Some scores are large or -inf. For nll, the relative error of a small probability p may be eps |log p|."""
    nll_tolerance = dict(rtol=2e-5, atol=1e-37) if dtype == torch.float32 else dict(rtol=2e-13, atol=1e-300)
    tolerance = nll_tolerance if objective in ("nll", "log-probability") else dict(rtol=0, atol=0)
    for scale, excluded in ((1e-3, 0.0), (1.0, 0.3), (1e4, 0.3), (1e30, 0.0)):
        outputs = scale * scores(7, 5, dtype=dtype)
        outputs = outputs.masked_fill(torch.rand(7, 5) < excluded, -torch.inf).requires_grad_()
        target, source = resolve_target([0, 1, 2, 3, 4, 0, 1], outputs)
        (expected,) = torch.autograd.grad(loss(objective, outputs, target, source).sum(), outputs)
        start, gradient = gradient_start(objective, outputs, target, source)
        (actual,) = torch.autograd.grad(start, outputs, gradient)
        torch.testing.assert_close(actual, expected, equal_nan=True, **tolerance)
        assert torch.equal(actual.nan_to_num().signbit(), expected.nan_to_num().signbit())


def test_margin_toward_the_source_has_no_gradient():
    outputs = scores(*FLAT).requires_grad_()
    target, source = resolve_target("argmax", outputs)
    (gradient,) = torch.autograd.grad(loss("margin", outputs, target, source).sum(), outputs)
    assert (gradient == 0).all()


def test_callable_gets_outputs_and_resolved_target():
    for shape, indices in ((FLAT, INDICES), (DEEP, POSITIONS)):
        outputs = scores(*shape)
        target, source = resolve_target(indices, outputs)
        objective = Mock(return_value=outputs.flatten(1).sum(1))
        assert loss(objective, outputs, target, source) is objective.return_value
        assert [*map(id, objective.call_args.args)] == [id(outputs), id(target)]


@pytest.mark.parametrize("default", ["meta", "cpu"])
def test_default_device_of_the_caller_has_no_influence(default):
    with torch.device(default):
        for target in (3, INDICES, np.array(INDICES), None):
            outputs = torch.randn(FLAT, device="cpu")
            assert loss("nll", outputs, *resolve_target(target, outputs)).device.type == "cpu"


def test_targets_are_on_the_device_of_the_outputs(device):
    outputs = scores(*FLAT).to(device)
    for target in (3, INDICES, torch.tensor(INDICES).to(device), None):
        resolved, source = resolve_target(target, outputs)
        assert resolved.device == source.device == outputs.device
        assert loss("margin", outputs, resolved, source).device == outputs.device


# --- Bad input


# (type of the exception, target, words in the message)
BAD_TARGETS = [
    (TypeError, True, ["True"]),
    (TypeError, np.True_, ["True"]),
    (TypeError, 1.0, ["1.0"]),
    (TypeError, np.float32(1), ["1.0"]),
    (TypeError, {1: 2}, ["int", "tuple"]),
    (TypeError, int, ["int", "class"]),
    (TypeError, [0, 1.0, 2, 3], ["1.0"]),
    (TypeError, [0, True, 2, 3], ["True"]),
    (TypeError, [0, None, 2, 3], ["None"]),
    (ValueError, [0, "argmax", 2, 3], ["argmax", "all samples"]),
    (TypeError, [[0], [1], [2], [3]], [r"\[0\]"]),
    (TypeError, [0, (1,), 2, (3,)], ["both"]),
    (TypeError, (1, 2.0), ["2.0"]),
    (TypeError, [torch.tensor(1.0)] * N, ["1.0"]),
    (TypeError, [np.array(1.0)] * N, ["1."]),
    (TypeError, torch.tensor(1.0), ["integer", "float32"]),
    (TypeError, torch.tensor([True] * N), ["integer", "bool"]),
    (TypeError, torch.ones(N), ["integer", "float32"]),
    (TypeError, np.ones(N), ["integer", "float64"]),
    (ValueError, np.array(["a"] * N), ["got 'a'", "class_names="]),
    (ValueError, (), [r"\(\)"]),
    (ValueError, [], ["4", "0"]),
    (ValueError, [1, 2], ["4", "2"]),
    (ValueError, [3], ["4", "1"]),
    (ValueError, [(1, 2)], ["4", "1"]),
    (ValueError, [(1,), (1, 2), (1,), (1,)], ["equally many", r"\(1, 2\)"]),
    (ValueError, torch.zeros(3, dtype=torch.int64), [r"\[4\]", r"\[3\]"]),
    (ValueError, torch.zeros(4, 0, dtype=torch.int64), [r"\[4\]", r"\[4, 0\]"]),
    (ValueError, torch.zeros(4, 1, 1, dtype=torch.int64), [r"\[4\]", r"\[4, 1, 1\]"]),
    (ValueError, torch.zeros(0, dtype=torch.int64), [r"\[4\]", r"\[0\]"]),
    (ValueError, np.zeros(5, int), [r"\[4\]", r"\[5\]"]),
    (ValueError, "second", ["runner-up", "argmax", "least", "second"]),
    (ValueError, 2**70, [str(2**70)]),
    (ValueError, -(2**63), [str(2**63)]),
]


@pytest.mark.parametrize("kind, target, words", BAD_TARGETS)
def test_bad_targets_raise_before_the_model_runs(kind, target, words):
    with raises_with(kind, "target", *words):
        check_target(target, N)


# (shape, target, words in the message)
TARGETS_UNLIKE_THE_OUTPUTS = [
    (FLAT, 10, ["0 to 9", "10"]),
    (FLAT, -1, ["0 to 9", "-1"]),
    (FLAT, [0, 1, 2, 10], ["0 to 9", "10"]),
    (FLAT, torch.tensor([0, 1, -7, 2]), ["0 to 9", "-7"]),
    (FLAT, (1, 2), ["1 ind", r"\[4, 10\]", "2", "list"]),
    (DEEP, 3, ["3 ind", "got 1", "tuple"]),
    (DEEP, INDICES, ["3 ind", "got 1"]),
    (DEEP, (3, 1), ["3 ind", "got 2"]),
    (DEEP, (3, 5, 0), ["0 to 4", "dimension 2", "5"]),
    (DEEP, (3, 0, 6), ["0 to 5", "dimension 3", "6"]),
    (DEEP, (10, 0, 0), ["0 to 9", "dimension 1", "10"]),
    (DEEP, None, [r"\[4, 10, 5, 6\]", "runner-up", r"\[N, classes\]"]),
    (DEEP, "argmax", ["argmax", r"\[N, classes\]"]),
    (DEEP, "least", ["least", r"\[N, classes\]"]),
    ((N, 1), None, [r"\[4, 1\]", "runner-up", "2 classes"]),
]


@pytest.mark.parametrize("shape, target, words", TARGETS_UNLIKE_THE_OUTPUTS)
def test_targets_that_do_not_fit_the_outputs_raise(shape, target, words):
    with raises_with(ValueError, "target", *words):
        resolve_target(target, scores(*shape))


@pytest.mark.parametrize("objective", ["nll", "margin", "log-probability"])
def test_objectives_that_compare_classes_raise_for_one_class(objective):
    outputs = scores(N, 1)
    target, source = resolve_target(0, outputs)
    assert torch.equal(loss("logit", outputs, target, source), -outputs[:, 0])
    with raises_with(ValueError, "two classes", "objective", objective, r"\[4, 1\]"):
        loss(objective, outputs, target, source)


def test_unknown_objectives_raise():
    for objective in (*OBJECTIVES, F.cross_entropy):
        assert check_objective(objective) is objective
    with raises_with(ValueError, "objective", *OBJECTIVES, "entropy"):
        check_objective("entropy")
    for bad in (None, 3, ["nll"]):
        with raises_with(TypeError, "objective", *OBJECTIVES, "callable"):
            check_objective(bad)


def test_logit_loss_of_a_binary_model_is_plus_or_minus_its_output():
    outputs = class_scores(torch.tensor([3.0, -1.0]), 2, "binary")
    losses = loss("logit", outputs, torch.tensor([1, 0]), torch.tensor([1, 0]), task="binary")
    assert losses.tolist() == [-3.0, -1.0]


# (type of the exception, objective, words in the message)
OBJECTIVES_WITHOUT_A_LOSS_PER_SAMPLE = [
    (ValueError, F.cross_entropy, [r"\[4\]", r"\[\]"]),
    (ValueError, lambda o, t: o, [r"\[4\]", r"\[4, 10\]"]),
    (ValueError, lambda o, t: o[:, :1], [r"\[4\]", r"\[4, 1\]"]),
    (TypeError, lambda o, t: t, ["floating-point", "int64"]),
    (TypeError, lambda o, t: o[:, 0] > 0, ["floating-point", "bool"]),
    (TypeError, lambda o, t: None, ["floating-point", "NoneType"]),
    (TypeError, lambda o, t: 0.0, ["floating-point", "float"]),
]


@pytest.mark.parametrize("kind, objective, words", OBJECTIVES_WITHOUT_A_LOSS_PER_SAMPLE)
def test_objectives_without_a_loss_per_sample_raise(kind, objective, words):
    outputs = scores(*FLAT)
    with raises_with(kind, "objective", *words):
        loss(objective, outputs, *resolve_target(INDICES, outputs))

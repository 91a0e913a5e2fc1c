"""nll_gradient, compared with its formula and autograd."""

import math

import pytest
import torch
from inputs import ODD_LAYOUTS, normal
from op_cases import RAW, check_rejected
from torch.autograd import forward_ad
from torch.nn.functional import cross_entropy

from steerlens_fast import memory, ops
from steerlens_fast.ops import reference

INF = math.inf
ROWS = [[1.0, -INF, 3.0], [-INF, -INF, -INF], [INF, 0.0, 1.0], [0.0, INF, 1.0], [math.nan, 0.0, 1.0], [0.0, 90.0, 1.0]]


def scores_and_targets(count, classes, dtype=torch.float32):
    scores = 5 * normal(count, classes, dtype=dtype)
    return scores, torch.arange(count) * 5 % classes


def check(actual, expected):
    # The relative error of the formula is eps |log p| for small probabilities p
    rtol, atol = (2e-5, 1e-37) if actual.dtype == torch.float32 else (2e-13, 1e-300)
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count, classes", [(1, 2), (3, 7), (1, 1000), (301, 97), (0, 5)])
def test_values_are_those_of_the_formula_and_of_autograd(dtype, count, classes):
    scores, target = scores_and_targets(count, classes, dtype)
    actual = ops.nll_gradient(scores, target)
    check(actual, reference.nll_gradient(scores, target))
    leaf = scores.clone().requires_grad_()
    (expected,) = torch.autograd.grad(cross_entropy(leaf, target, reduction="sum"), leaf)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)
    alone = [ops.nll_gradient(scores[i : i + 1], target[i : i + 1]) for i in range(count)]
    assert not count or torch.equal(actual, torch.cat(alone))
    with memory.threads(3):
        assert torch.equal(actual, ops.nll_gradient(scores, target))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("target", [0, 1, 2])
def test_gradients_of_scores_that_are_not_finite_are_those_of_the_formula(dtype, target):
    scores, target = torch.tensor(ROWS, dtype=dtype), torch.full((len(ROWS),), target)
    check(ops.nll_gradient(scores, target), reference.nll_gradient(scores, target))


def test_opcheck_finds_no_errors():
    """The raw op has no derivative. The wrapper in ``ops`` has one."""
    scores, target = scores_and_targets(3, 7)
    torch.library.opcheck(RAW.nll_gradient.default, (scores, target))
    with pytest.raises(RuntimeError, match="the op nll_gradient has no derivative"):
        RAW.nll_gradient(scores.requires_grad_(), target).sum().backward()


def test_derivatives_are_those_of_softmax():
    scores, target = scores_and_targets(3, 7, torch.float64)
    scores[0, 2] = -INF
    direction = normal(3, 7, dtype=torch.float64, seed=2)
    p = scores.softmax(1)
    expected = p * (direction - (p * direction).sum(1, keepdim=True))
    leaf = scores.clone().requires_grad_()
    (recorded,) = torch.autograd.grad(ops.nll_gradient(leaf, target), leaf, direction)
    _, pull_back = torch.func.vjp(lambda s: ops.nll_gradient(s, target), scores)
    _, tangent = torch.func.jvp(lambda s: ops.nll_gradient(s, target), (scores,), (direction,))
    with forward_ad.dual_level():
        dual = ops.nll_gradient(forward_ad.make_dual(scores, direction), target)
        dual_tangent = forward_ad.unpack_dual(dual).tangent
    for derivative in (recorded, *pull_back(direction), tangent, dual_tangent):
        torch.testing.assert_close(derivative, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("layout", ODD_LAYOUTS)
def test_memory_layout_does_not_matter(layout):
    scores, target = scores_and_targets(5, 7)
    odd = ODD_LAYOUTS[layout](scores)
    plain = odd.clone(memory_format=torch.contiguous_format).resolve_neg()
    assert torch.equal(ops.nll_gradient(odd, target), ops.nll_gradient(plain, target))


def test_bad_arguments_raise():
    scores, target = scores_and_targets(3, 7)
    for args, message in [
        ((scores.half(), target), "scores must have dtype float32 or float64"),
        ((scores[0], target), r"scores must have shape \[N, classes\], got \[7\]"),
        ((scores, target.int()), "target must have dtype int64, got int32"),
        ((scores, target[:2]), r"target must have shape \[3\], got \[2\]"),
        ((scores, target + 6), "target must be from 0 to 6, got"),
        ((scores, target - 1), "target must be from 0 to 6, got -1"),
    ]:
        needs_values = "from 0 to 6" in message  # meta tensors have no values
        check_rejected(RAW.nll_gradient, list(args), f"nll_gradient: .*({message})", meta=not needs_values)

"""torch.func through ops and families gives the right result or an error."""

import pytest
import torch
from inputs import image, normal
from op_cases import FORMS_OF, OPS, RAW, as_list, case, leaves_of, shapes_of
from tolerances import assert_close

from steerlens_fast import CSPFamily, PixelFamily, SteerablePyramid, ops
from steerlens_fast.ops import reference

ACCEPTED_ERRORS = (RuntimeError, NotImplementedError)
WRAPPED = [op for op in OPS if not op.endswith("_backward")]
RULES = ("complex", "polar")
# Arguments that are names in the wrappers and numbers in raw ops: {op: {position: name of each number}}
NAMED_ARGUMENTS = {"step": {3: RULES}, "extrapolate": {5: RULES, 6: FORMS_OF["extrapolate"]}}
pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")


def op_and_leaves(module, op):
    """Return the op as a function of its differentiable tensors, and these tensors."""
    args = case(op, "", shapes_of(op)["odd"]).build(torch.float64)
    if module is ops:
        for position, names in NAMED_ARGUMENTS.get(op, {}).items():
            args[position] = names[args[position]]
    args, leaves = leaves_of(args, op)
    values = [t.detach() for t in leaves]

    def function(*values):
        remaining = list(values)
        swap = lambda a: remaining.pop(0) if isinstance(a, torch.Tensor) else a
        first = [swap(t) for t in args[0]] if isinstance(args[0], list) else swap(args[0])
        rest = args[1:] if "bands" in op else [swap(a) for a in args[1:]]  # the masks of bands are constants
        return as_list(getattr(module, op)(first, *rest))

    return function, values


def assert_right_or_raises(transformed, expected):
    """Check that ``transformed()`` equals ``expected()``, or raises an error with a message."""
    try:
        actual = transformed()
    except ACCEPTED_ERRORS as error:
        assert str(error)
        return
    for a, e in zip(as_list(actual), as_list(expected()), strict=True):
        assert_close(a, e, "render")


def assert_jvp_right_or_raises(module, op):
    """Check forward mode.

    It must not treat an input that has a tangent as a constant.
    """
    (ours, values), (theirs, _) = op_and_leaves(module, op), op_and_leaves(reference, op)
    tangents = [normal(*v.shape, dtype=v.dtype, seed=i) for i, v in enumerate(values)]
    derivative = lambda f: lambda: torch.func.jvp(f, tuple(values), tuple(tangents))[1]
    assert_right_or_raises(derivative(ours), derivative(theirs))


@pytest.mark.parametrize("op", WRAPPED)
def test_jvp_of_ops_is_right_or_raises(op):
    assert_jvp_right_or_raises(ops, op)


@pytest.mark.xfail(reason="torch.library.register_autograd has no forward mode: a tangent is dropped in silence")
def test_jvp_of_raw_ops_is_right_or_raises():
    """Torch's custom ops have this limit; users call the wrappers."""
    for op in OPS:
        assert_jvp_right_or_raises(RAW, op)


@pytest.mark.parametrize("op", OPS)
def test_vmap_of_ops_is_right_or_raises(op):
    (ours, values), (theirs, _) = op_and_leaves(RAW, op), op_and_leaves(reference, op)
    stacked = [torch.stack([v, 2 * v]) for v in values]
    one_by_one = lambda: [torch.stack(pair) for pair in zip(*(theirs(*[s[i] for s in stacked]) for i in range(2)))]
    assert_right_or_raises(lambda: torch.func.vmap(ours)(*stacked), one_by_one)


@pytest.mark.parametrize("op", OPS)
def test_func_grad_of_ops_is_right_or_raises(op):
    (ours, values), (theirs, _) = op_and_leaves(RAW, op), op_and_leaves(reference, op)
    loss = lambda f: lambda *v: sum(o.abs().square().sum() for o in f(*v))
    grads = lambda f: lambda: torch.func.grad(loss(f), argnums=tuple(range(len(values))))(*values)
    assert_right_or_raises(grads(ours), grads(theirs))


FAMILIES = {"pixel": lambda width: PixelFamily(0.2)} | {
    f"{synthesis}_{rule}": lambda width, s=synthesis, r=rule: CSPFamily(
        SteerablePyramid((16, 12), width=width, synthesis=s), "joint", r, 0.2
    )
    for synthesis in ("real", "adjoint")
    for rule in ("complex", "polar")
}


@pytest.fixture(params=FAMILIES.values(), ids=FAMILIES)
def render(request):
    """Return (image, gradient) -> frames. Each test has a new width of filters, for which no masks are cached."""
    width = 0.8 + sum(map(ord, request.node.name)) / 1e6  # differs between tests
    family = request.param(width)
    yield lambda x, g: family.prepare(x, g).render([0.5, 1.0])
    # Masks that were cached under a transform can be used afterwards
    leaf, g = image(2, 16, 12).requires_grad_(), normal(2, 16, 12)
    assert torch.autograd.grad(family.prepare(leaf, g).render([1.0]).sum(), leaf)[0].isfinite().all()


def test_jvp_of_render_is_right_or_raises(render):
    x, g, tangent = image(2, 16, 12), normal(2, 16, 12), normal(2, 16, 12, seed=5)
    numerical = (render(x + 1e-6 * tangent, g) - render(x - 1e-6 * tangent, g)) / 2e-6
    try:
        derivative = torch.func.jvp(lambda t: render(t, g), (x,), (tangent,))[1]
    except ACCEPTED_ERRORS as error:
        assert str(error)
    else:
        assert (derivative - numerical).abs().max() < 1e-5 * numerical.abs().max()


def test_func_grad_of_render_is_right_or_raises(render):
    x, g = image(2, 16, 12), normal(2, 16, 12)
    loss = lambda t: render(t, g).square().sum()
    leaf = x.clone().requires_grad_()
    assert_right_or_raises(lambda: torch.func.grad(loss)(x), lambda: torch.autograd.grad(loss(leaf), leaf)[0])


def test_vmap_of_render_is_right_or_raises(render):
    x, g = image(2, 16, 12), normal(2, 16, 12)
    assert_right_or_raises(lambda: torch.func.vmap(render, out_dims=1)(x, g), lambda: render(x, g))

"""Private functions of torch, and the fallbacks for a torch without them."""

import ast
from pathlib import Path

import pytest
import torch
from inputs import image
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad

import steerlens_fast
from steerlens_fast import Coefficients, SteerablePyramid, clear_filter_cache
from steerlens_fast import torch_internals as internals

PACKAGE = Path(steerlens_fast.__file__).parent


@pytest.fixture
def missing(monkeypatch):
    """A function that removes private functions, as if torch did not have them."""

    def remove(*names):
        for name in names:
            monkeypatch.setattr(internals, name, None)

    return remove


def test_dispatch_modes_are_detected(missing):
    assert not internals.has_dispatch_modes()
    with FakeTensorMode():
        assert internals.has_dispatch_modes()
    missing("_count_modes")
    assert internals.has_dispatch_modes()  # the safe answer


def test_export_is_detected(monkeypatch):
    recorded = []

    class Recorder(torch.nn.Module):
        def forward(self, t):
            recorded.append(internals.is_exporting())
            return t + 1

    torch.export.export(Recorder(), (torch.zeros(2),), strict=False)
    assert set(recorded) == {True} and not internals.is_exporting()
    monkeypatch.setattr(torch.compiler, "_is_exporting_flag", None)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    assert internals.is_exporting()


def test_transforms_are_detected(missing):
    recorded = []
    torch.func.vmap(lambda t: recorded.append(internals.has_transforms()) or t)(torch.zeros(2))
    assert recorded == [True] and not internals.has_transforms()
    missing("_transforms_active")
    torch.func.vmap(lambda t: recorded.append(internals.has_transforms()) or t)(torch.zeros(2))
    assert recorded == [True, True] and not internals.has_transforms()
    run = torch.compile(lambda t: t + internals.has_transforms(), backend="eager", fullgraph=True)
    assert run(torch.zeros(2)).tolist() == [0, 0]
    missing("_transform_depth")
    assert internals.has_transforms()  # the safe answer


def test_missing_private_function_warns():
    with pytest.warns(UserWarning, match=r"has no torch\._C\.no_such_name: steerlens_fast uses a fallback"):
        assert internals._private("torch._C", "no_such_name") is None
    with pytest.warns(UserWarning, match=r"has no torch\.no_such_module\.name"):
        assert internals._private("torch.no_such_module", "name") is None


def test_batched_gradients_are_detected(missing):
    x, recorded = torch.ones(2, requires_grad=True), []
    y = 2 * x
    y.register_hook(lambda g: recorded.append((internals.has_batched_gradients(), internals.is_batched_gradient(g))))
    torch.autograd.grad(3 * y, x, torch.eye(2), is_grads_batched=True)
    assert recorded == [(True, True)] and not internals.has_batched_gradients()
    missing("_vmap_key", "_is_batched")
    assert not internals.has_batched_gradients() and not internals.is_batched_gradient(x)


def batched_gradients(function):
    """Return a batch of two gradients, computed by a backward that applies ``function``."""

    class AppliesInBackward(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, grad):
            return function(grad)

    x = torch.ones(2, requires_grad=True)
    (grad,) = torch.autograd.grad(AppliesInBackward.apply(x), x, torch.eye(2), is_grads_batched=True)
    return grad.tolist()


def test_function_over_batched_gradients_gets_no_batch_dimension(missing):
    shapes = []

    def flipped_and_doubled(grad):
        return internals.over_batched_gradients(lambda g: shapes.append(g.shape) or 2 * g.flip(0), (grad,))

    assert batched_gradients(flipped_and_doubled) == [[0, 2], [2, 0]]
    missing("_remove_batch")
    assert batched_gradients(lambda g: internals.over_batched_gradients(lambda t: 2 * t, (g,))) == [[2, 0], [0, 2]]
    assert shapes == [(2,)]  # one call for both gradients, by vmap


def test_forward_mode_is_detected(monkeypatch):
    assert not internals.in_forward_mode()
    with forward_ad.dual_level():
        assert internals.in_forward_mode()
    monkeypatch.delattr(forward_ad, "_current_level")
    assert internals.in_forward_mode()  # the safe answer


@pytest.mark.parametrize("available", [True, False])
def test_tensors_made_outside_of_modes_are_ordinary(available, missing):
    if not available:
        missing("_disable_modes")
    ones_outside = lambda: internals.outside_modes(torch.ones, 2)
    with FakeTensorMode():
        assert type(ones_outside()) is torch.Tensor
    with torch.inference_mode():
        assert not ones_outside().is_inference()
    tensors = []
    torch.func.grad(lambda t: tensors.append(ones_outside()) or t.sum())(torch.zeros(2))
    assert tensors[0].tolist() == [1, 1]  # outlives the transform
    with pytest.raises(ZeroDivisionError):
        internals.outside_modes(lambda: 1 / 0)


@pytest.mark.parametrize("mark_is_read", [True, False])
def test_constants_are_kept_by_the_compiler(mark_is_read, monkeypatch):
    assert internals._compiler_reads("_dynamo_marked_constant") and not internals._compiler_reads("no such mark")
    monkeypatch.setattr(internals, "_compiler_reads", lambda mark: mark_is_read)
    calls = []

    @internals.constant_when_traced
    def constant(n):
        calls.append(n)
        return (internals.with_static_sizes(torch.ones(n)),)

    torch.compiler.reset()
    run = torch.compile(lambda t: t + constant(3)[0], backend="eager", fullgraph=True, dynamic=True)
    assert run(torch.zeros(3)).tolist() == run(torch.zeros(2, 3))[0].tolist() == [1, 1, 1]
    assert calls and all(type(n) is int for n in calls)


@pytest.mark.parametrize("marked", [True, False])
def test_eager_functions_break_the_graph_and_are_not_traced(marked):
    recorded = []

    @internals.eager("it reads the clock")
    def function(t, *, factor):
        recorded.append(torch.compiler.is_compiling())
        return t * factor

    assert function(torch.ones(2), factor=3).tolist() == [3, 3]
    if not marked:
        del function._torchdynamo_disable
    torch.compiler.reset()
    caller = lambda t: function(t + 1, factor=3) + 1
    assert torch.compile(caller, backend="eager")(torch.ones(2)).tolist() == [7, 7]
    assert recorded == [False, False]
    torch.compiler.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match="it reads the clock"):
        torch.compile(caller, backend="eager", fullgraph=True)(torch.ones(2))


@pytest.mark.parametrize("available", [True, False])
def test_eager_functions_are_called_directly_unless_they_may_be_compiled(available, missing, monkeypatch):
    import torch._dynamo  # noqa: F401  (before it is imported, nothing can be compiled)

    if not available:
        missing("_compiler_callback")
    disabled = []
    disable = lambda function, **_: disabled.append(function) or function
    monkeypatch.setattr(torch.compiler, "disable", disable)
    assert internals.eager("it reads the clock")(lambda t: 2 * t)(3) == 6
    assert len(disabled) == (0 if available else 1)


@pytest.mark.parametrize("available", [True, False])
def test_autocast_is_detected(available, missing):
    if not available:
        missing("_any_autocast")
    assert internals.may_autocast() == (not available)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert internals.may_autocast()


def test_sizes_of_constants_are_marked_as_static():
    assert internals._compiler_reads("_dynamo_static_indices")
    assert internals.with_static_sizes(torch.ones(2, 3))._dynamo_static_indices == {0, 1}


def test_containers_are_registered_where_torch_has_a_registry(monkeypatch):
    assert torch.utils._pytree.tree_leaves(Coefficients(torch.ones(1), (), None))[0].shape == (1,)
    monkeypatch.setattr(internals, "_pytree", None)
    assert not internals.register_container(Coefficients, (), None, None)


def test_fallbacks_give_the_same_results(missing):
    pyramid, x = SteerablePyramid((16, 12), width=1.375), image(2, 16, 12)
    expected = pyramid(x)
    clear_filter_cache()
    names = "count_modes transforms_active vmap_key is_batched enter_level remove_batch disable_modes pytree"
    missing(*(f"_{name}" for name in names.split()))
    for band, e in zip(pyramid(x).tensors(), expected.tensors()):
        assert (band - e).abs().max() < 1e-14
    leaf = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(pyramid.synthesize(pyramid(leaf)).square().sum(), leaf)
    assert (grad - 2 * x).abs().max() < 1e-12


def private_uses(source: str) -> list[str]:
    """Find the private names of torch that a module imports, or uses as attributes of objects of torch.

    An import is returned as the name of its module, an attribute as "object...name".
    """
    tree, roots, result = ast.parse(source), set(), []
    private = lambda name: name.startswith("_") and not name.startswith("__")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "torch":
                    roots.add(alias.asname or "torch")
                    result += [alias.name] if any(map(private, alias.name.split("."))) else []
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "torch":
            names = [*node.module.split("."), *(alias.name for alias in node.names)]
            result += [node.module] if any(map(private, names)) else []
            roots |= {alias.asname or alias.name for alias in node.names}
    for node in ast.walk(tree):
        name, value = _attribute(node)
        while isinstance(value, ast.Attribute):
            value = value.value
        if name and private(name) and isinstance(value, ast.Name) and value.id in roots:
            result.append(f"{value.id}...{name}")
    return result


def _attribute(node):
    """Return (name, object) of an attribute that is written with a dot, or in getattr or hasattr."""
    if isinstance(node, ast.Attribute):
        return node.attr, node.value
    is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr")
    if is_call and isinstance(node.args[1], ast.Constant):
        return node.args[1].value, node.args[0]
    return None, None


def test_private_names_are_found():
    text = "import torch\nfrom torch.autograd import forward_ad as f\ntorch._C.x\ngetattr(f, '_level')\nf.unpack_dual\n"
    assert sorted(private_uses(text)) == ["f..._level", "torch..._C"]
    assert private_uses("from torch.utils import _pytree") == ["torch.utils"]


def test_no_other_file_uses_private_functions():
    sources = {path: path.read_text() for path in PACKAGE.rglob("*.py") if path.name != "torch_internals.py"}
    assert len(sources) > 100
    uses = {path: private_uses(text) + ["_dynamo"] * ("_dynamo" in text) for path, text in sources.items()}
    assert {str(path): result for path, result in uses.items() if result} == {}

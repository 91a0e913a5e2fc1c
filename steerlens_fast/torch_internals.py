"""All private functions of torch that this package uses, with fallbacks.

Private names may disappear in any release of torch. If one is missing, its fallback is used and, with few exceptions,
importing this module warns. Fallbacks may be slower; if one has other drawbacks, its docstring says so.

Other files use no private names of torch, except attributes of ``torch.nn.Module`` in ``classifier/modules.py`` and
``classifier/isolation.py``.
"""

from __future__ import annotations

import importlib
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import torch
from torch.autograd import forward_ad

F = TypeVar("F", bound=Callable)


def _private(module: str, name: str):
    """Return a private object of torch. If there is none, warn and return None."""
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        warnings.warn(
            f"torch {torch.__version__} has no {module}.{name}: steerlens_fast uses a fallback, which may be slower. "
            "Use a release of torch that the README lists as tested, or a newer steerlens_fast",
            stacklevel=2,
        )
        return None


_count_modes = _private("torch._C", "_len_torch_dispatch_stack")
_transforms_active = _private("torch._C", "_are_functorch_transforms_active")
_transform_depth = _private("torch._C._functorch", "get_dynamic_layer_stack_depth")
_key_included = _private("torch._C", "_dispatch_tls_is_dispatch_key_included")
_parse_key = _private("torch._C", "_parse_dispatch_key")
_vmap_key = _parse_key("VmapMode") if _key_included and _parse_key else None
_is_batched = _private("torch._C._functorch", "is_legacy_batchedtensor")
_enter_level = _private("torch._C", "_vmapmode_increment_nesting")
_leave_level = _private("torch._C", "_vmapmode_decrement_nesting")
_remove_batch = _private("torch", "_remove_batch_dim")
_add_batch = _private("torch", "_add_batch_dim")
_below_autograd = _private("torch._C", "_AutoDispatchBelowAutograd")
_any_autocast = _private("torch._C", "_is_any_autocast_enabled")
_compiler_callback = _private("torch._C._dynamo.eval_frame", "get_eval_frame_callback")
_disable_modes = _private("torch.utils._python_dispatch", "_disable_current_modes")
_pytree = _private("torch.utils", "_pytree")


def has_dispatch_modes() -> bool:
    """Return whether a dispatch mode is active, such as fake tensors or a tracer. Fallback: True."""
    return _count_modes is None or _count_modes() > 0


def has_transforms() -> bool:
    """Return whether a transform of torch.func (grad, vmap ...) is active.

    ``torch.compile`` can trace this function. Either of two functions of torch gives the answer. Fallback, if torch has
    neither: True. The ops are then computed in plain torch, which is correct, but more than ten times slower.
    """
    if _transforms_active is not None:
        return _transforms_active()
    return _transform_depth is None or _transform_depth() > 0


def is_exporting() -> bool:
    """Return whether torch.export is tracing.

    Fallback: ``torch.compiler.is_exporting``, which with torch 2.10 is wrongly True in code that torch.compile traces.
    """
    flag = getattr(torch.compiler, "_is_exporting_flag", None)
    return torch.compiler.is_exporting() if flag is None else flag


def may_autocast() -> bool:
    """Return whether autocast is on for any kind of device. Fallback: True."""
    return _any_autocast is None or _any_autocast()


def below_autograd() -> AbstractContextManager:
    """Return a context in which ops skip autograd.

    The Python code of an op's autograd takes as long as a small op. Use the context only for code that records no
    derivatives. Fallback: a context that does nothing.
    """
    return nullcontext() if _below_autograd is None else _below_autograd()


def has_batched_gradients() -> bool:
    """Return whether autograd computes batched gradients. Fallback: False.

    These are requested by ``is_grads_batched`` or ``vectorize``. With the fallback, ops on batched gradients raise
    torch's own error.
    """
    return _vmap_key is not None and _key_included(_vmap_key)


def is_batched_gradient(t: torch.Tensor) -> bool:
    """Return whether a tensor is a batch of gradients; torch hides its batch dimension. Fallback: False."""
    return _is_batched is not None and _is_batched(t)


def over_batched_gradients(function: Callable, tensors: Sequence[torch.Tensor]):
    """Call ``function(*tensors)`` on batched gradients by ``torch.func.vmap``.

    ``torch.func.vmap`` supports more functions than the batching of autograd. The result is a batched tensor, or a list
    or tuple of batched tensors. Fallback: the function is called directly.
    """
    if not all((_enter_level, _leave_level, _remove_batch, _add_batch)):
        return function(*tensors)
    level = _enter_level() - 1  # the level of the batching that is active; entering a new level is the way to read it
    _leave_level()
    # The batch size, 1, has no effect, since the tensors are batched.
    unwrapped = [_remove_batch(t, level, 1, 0) if is_batched_gradient(t) else t for t in tensors]
    dims = tuple(0 if is_batched_gradient(t) else None for t in tensors)
    out = torch.func.vmap(function, in_dims=dims)(*unwrapped)
    wrap = lambda t: _add_batch(t, 0, level)
    return wrap(out) if isinstance(out, torch.Tensor) else type(out)(map(wrap, out))


def in_forward_mode() -> bool:
    """Return whether tensors may have forward-mode tangents. Fallback: True."""
    return getattr(forward_ad, "_current_level", 0) >= 0


def outside_modes(function: Callable, *args):
    """Call ``function(*args)`` outside of inference mode, dispatch modes and transforms.

    The tensors that the function creates are then ordinary tensors. Under a transform, and as a fallback, the function
    is called in a new thread, where no mode or transform is active.
    """
    if _disable_modes is None or has_transforms():
        return _in_thread(function, *args)
    modes: AbstractContextManager = _disable_modes()
    with torch.inference_mode(False), modes:
        return function(*args)


def _in_thread(function: Callable, *args):
    results: list = []
    errors: list[BaseException] = []

    def run():
        try:
            results.append(function(*args))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def constant_when_traced(function: Callable) -> Callable:
    """Mark a function, so that ``torch.compile`` takes its result as a constant.

    This has the effect of ``torch.compiler.assume_constant_result``, which would import torch._dynamo and thereby take
    a second. Fallback, if the compiler reads another attribute: the public decorator.
    """
    if not _compiler_reads("_dynamo_marked_constant"):
        return torch.compiler.assume_constant_result(function)
    function._dynamo_marked_constant = True
    return function


def _compiler_reads(attribute: str) -> bool:
    compiler = find_spec("torch._dynamo")
    decorators = Path(compiler.origin).with_name("decorators.py") if compiler and compiler.origin else None
    return bool(decorators and decorators.is_file() and attribute in decorators.read_text(encoding="utf-8"))


def eager(reason: str) -> Callable[[F], F]:
    """Return a decorator for functions that ``torch.compile`` must not trace; a call breaks the graph.

    This has the effect of ``torch.compiler.disable``, which would import torch._dynamo and thereby take a second.
    Fallback, if the compiler reads another attribute: the compiler traces the few lines of the wrapper.
    """

    def decorate(function: F) -> F:
        untraced: list[Callable] = []

        @wraps(function)
        def run(*args, **kwargs):
            if "torch._dynamo" not in sys.modules or not _may_compile():
                return function(*args, **kwargs)
            if not untraced:
                untraced.append(torch.compiler.disable(function, reason=reason))
            return untraced[0](*args, **kwargs)

        run._torchdynamo_disable, run._torchdynamo_disable_msg = True, reason
        return run

    return decorate


def _may_compile() -> bool:
    """Return whether torch.compile is tracing, or may compile functions that the caller calls. Fallback: True."""
    return torch.compiler.is_compiling() or _compiler_callback is None or _compiler_callback() is not None


def with_static_sizes(t: torch.Tensor) -> torch.Tensor:
    """Mark a constant, so that ``torch.compile(dynamic=True)`` reads its sizes as numbers.

    This has the effect of ``torch._dynamo.mark_static``, which accepts only traced tensors during compilation.
    Fallback, if the compiler reads another attribute: no mark, so compilation with ``dynamic=True`` may fail.
    """
    t._dynamo_static_indices = set(range(t.dim()))
    return t


def register_container(kind: type, names: tuple[str, ...], flatten: Callable, unflatten: Callable) -> bool:
    """Register a class as a pytree, so that torch's transforms see its fields ``names``.

    Return whether it was registered. Fallback: it is not.
    """
    register = getattr(_pytree, "register_pytree_node", None)
    if register is None:
        return False

    def with_keys(value):
        children, context = flatten(value)
        return [(_pytree.GetAttrKey(name), child) for name, child in zip(names, children)], context

    name = f"steerlens_fast.{kind.__name__}"
    register(kind, flatten, unflatten, flatten_with_keys_fn=with_keys, serialized_type_name=name)
    return True

"""Every private function of torch that this package uses, each with what is done in a torch that lacks it.

One binary serves every torch from 2.10 on, and private names may go in any of them. No other file of the package uses
one. Where a question to torch cannot be asked, the answer is the safe one, which costs speed.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import torch
from torch.autograd import forward_ad


def _private(module: str, name: str):
    """A private object of torch; None where there is none."""
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None


_count_modes = _private("torch._C", "_len_torch_dispatch_stack")
_transforms_active = _private("torch._C", "_are_functorch_transforms_active")
_key_included = _private("torch._C", "_dispatch_tls_is_dispatch_key_included")
_parse_key = _private("torch._C", "_parse_dispatch_key")
_vmap_key = _parse_key("VmapMode") if _key_included and _parse_key else None
_is_batched = _private("torch._C._functorch", "is_legacy_batchedtensor")
_enter_level = _private("torch._C", "_vmapmode_increment_nesting")
_leave_level = _private("torch._C", "_vmapmode_decrement_nesting")
_remove_batch = _private("torch", "_remove_batch_dim")
_add_batch = _private("torch", "_add_batch_dim")
_disable_modes = _private("torch.utils._python_dispatch", "_disable_current_modes")
_pytree = _private("torch.utils", "_pytree")


def has_dispatch_modes() -> bool:
    """Whether a mode (fake tensors, a tracer, a profiler of flops) sees every op. Unknown: True."""
    return _count_modes is None or _count_modes() > 0


def has_transforms() -> bool:
    """Whether a transform of torch.func (grad, vmap ...) is at work. Unknown: True. ``torch.compile`` can trace it."""
    return True if _transforms_active is None else _transforms_active()


def has_batched_gradients() -> bool:
    """Whether autograd pushes many gradients at once (``is_grads_batched``, ``vectorize``). Unknown: False.

    Without an answer, ops on such gradients raise torch's own error.
    """
    return _vmap_key is not None and _key_included(_vmap_key)


def is_batched_gradient(t: torch.Tensor) -> bool:
    """Whether this is one of them: many gradients that look like one."""
    return _is_batched is not None and _is_batched(t)


def over_batched_gradients(function: Callable, tensors: Sequence[torch.Tensor]):
    """``function(*tensors)`` of batched gradients, by ``torch.func.vmap``, which has more rules than they do.

    The result, a tensor or a list or tuple of tensors, is batched likewise. Without torch's functions to take such
    gradients apart they are passed on as they are.
    """
    if not all((_enter_level, _leave_level, _remove_batch, _add_batch)):
        return function(*tensors)
    level = _enter_level() - 1
    _leave_level()
    whole = [_remove_batch(t, level, 1, 0) if is_batched_gradient(t) else t for t in tensors]
    dims = tuple(0 if is_batched_gradient(t) else None for t in tensors)
    out = torch.func.vmap(function, in_dims=dims)(*whole)
    wrap = lambda t: _add_batch(t, 0, level)
    return wrap(out) if isinstance(out, torch.Tensor) else type(out)(map(wrap, out))


def in_forward_mode() -> bool:
    """Whether tensors may carry forward-mode tangents. Unknown: True."""
    return getattr(forward_ad, "_current_level", 0) >= 0


def outside_modes(function: Callable, *args):
    """``function(*args)`` outside of inference mode, dispatch modes and transforms: what it makes are real tensors.

    From a transform, and where torch has no way out of its modes, in a thread of its own, in which none is on.
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
    """What ``torch.compiler.assume_constant_result`` does, without the second that its import of torch._dynamo takes.

    In a torch whose compiler looks for another mark, the public function is called all the same.
    """
    if not _compiler_knows("_dynamo_marked_constant"):
        return torch.compiler.assume_constant_result(function)
    function._dynamo_marked_constant = True
    return function


def _compiler_knows(mark: str) -> bool:
    compiler = find_spec("torch._dynamo")
    decorators = Path(compiler.origin).with_name("decorators.py") if compiler and compiler.origin else None
    return bool(decorators and decorators.is_file() and mark in decorators.read_text())


def eager(reason: str) -> Callable:
    """A decorator: ``torch.compile`` breaks its graph at this function, and traces nothing of it.

    What ``torch.compiler.disable`` does, which is called only where torch._dynamo is there already: importing that
    takes a second. Where the compiler looks for another mark than this, it traces the few lines that call it.
    """

    def decorate(function: Callable) -> Callable:
        untraced: list[Callable] = []

        @wraps(function)
        def run(*args, **kwargs):
            if "torch._dynamo" not in sys.modules:
                return function(*args, **kwargs)
            if not untraced:
                untraced.append(torch.compiler.disable(function, reason=reason))
            return untraced[0](*args, **kwargs)

        run._torchdynamo_disable, run._torchdynamo_disable_msg = True, reason
        return run

    return decorate


def with_static_sizes(t: torch.Tensor) -> torch.Tensor:
    """A constant whose sizes ``torch.compile(dynamic=True)`` takes as numbers; symbols for them would have no source.

    What ``torch._dynamo.mark_static`` does, which while it compiles looks for a traced tensor. Where the compiler looks
    for another mark, this one does nothing, and dynamic compilation fails in torch where it needs one.
    """
    t._dynamo_static_indices = set(range(t.dim()))
    return t


def read_pt2(path: str):
    """A context that gives an exported program's archive: ``get_file_names()``, and ``read_bytes(name)`` of each."""
    reader = _private("torch.export.pt2_archive._package", "PT2ArchiveReader")
    return (reader or _ZipReader)(path)


class _ZipReader:
    """The same for a torch without such a reader: a zip file with everything in one folder."""

    def __init__(self, path: str):
        self.file = ZipFile(path)
        self.members = {n.partition("/")[2]: n for n in self.file.namelist() if not n.endswith("/")}

    def __enter__(self) -> _ZipReader:
        return self

    def __exit__(self, *error) -> None:
        self.file.close()

    def get_file_names(self) -> list[str]:
        return list(self.members)

    def read_bytes(self, name: str) -> bytes:
        return self.file.read(self.members[name])


def register_container(kind: type, names: tuple[str, ...], flatten: Callable, unflatten: Callable) -> bool:
    """Let torch.func, torch.compile and torch.export see into a class of tensors: its fields ``names``.

    False, and no such view, where torch has no registry of containers.
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

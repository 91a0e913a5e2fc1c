"""How an op is called, and what fakes and derivatives of several share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .. import _C  # noqa: F401  (importing _C registers the ops)
from ..torch_internals import (
    has_batched_gradients,
    has_transforms,
    in_forward_mode,
    is_batched_gradient,
    over_batched_gradients,
)
from . import reference  # noqa: F401  (importing _C registers the ops)
from .enums import real_dtype

_ops = torch.ops.steerlens_fast


def call(name: str, *args):
    """The op, or its reference where a transform is at work that custom ops have no rule for."""
    if has_transforms():  # torch.compile can trace this question, and no other
        return getattr(reference, name)(*args)
    if not torch.compiler.is_compiling() and has_tangent(args):
        return getattr(reference, name)(*args)
    return getattr(_ops, name)(*args)


def are_batched(values) -> bool:
    """Whether a tensor among ``values`` (any nesting) is a batch of gradients in disguise."""
    if not has_batched_gradients():
        return False
    return any(is_batched_gradient(t) for t in leaves(values) if isinstance(t, Tensor))


def call_plane_op(name: str, *args):
    """:func:`call` of an op that takes whole planes, which not every CPU has."""
    by_kernel = not has_transforms() and not has_tangent(args)
    if not _C.SIMD_WIDTH and by_kernel and _first_tensor(args).device.type == "cpu":
        raise RuntimeError(
            f"{name} needs a CPU with AVX2 or AVX-512, a build by GCC 12 or newer and an environment where "
            "STEERLENS_CPU_CAPABILITY is not 'default'; build_info()['cpu_capability'] is 'default' here"
        )
    return call(name, *args)


def _first_tensor(values) -> Tensor:
    return next(t for t in leaves(values) if isinstance(t, Tensor))


def leaves(values) -> list:
    """What nested lists and tuples hold, in order."""
    if not isinstance(values, (list, tuple)):
        return [values]
    return [leaf for value in values for leaf in leaves(value)]


def _rebuilt(like, leaf: Iterator):
    """Nested lists as ``like``, of the next leaves."""
    return [_rebuilt(value, leaf) for value in like] if isinstance(like, (list, tuple)) else next(leaf)


def has_tangent(values) -> bool:
    """Whether a tensor among ``values`` (any nesting) carries a forward-mode tangent."""
    if not in_forward_mode():  # spare the look at every tensor
        return False
    tensors = [t for t in leaves(values) if isinstance(t, Tensor)]
    return any(forward_ad.unpack_dual(t).tangent is not None for t in tensors)


# --- Fakes: shapes and dtypes for meta tensors, torch.compile and torch.export ---


def fake(name: str):
    """Register a shape function; it too refuses tensors of several devices, which torch sends here."""

    def register(function):
        def checked(*args):
            devices = {str(t.device) for t in leaves(args) if isinstance(t, Tensor)}
            if len(devices) > 1:
                raise RuntimeError(f"steerlens_fast::{name}: tensors must be on one device, got {sorted(devices)}")
            return function(*args)

        return torch.library.register_fake(f"steerlens_fast::{name}", checked)

    return register


def two_real(t: Tensor) -> tuple[Tensor, Tensor]:
    return tuple(t.new_empty(t.shape, dtype=real_dtype(t.dtype)) for _ in range(2))


def float32_only(name: str, t: Tensor) -> None:
    if real_dtype(t.dtype) != torch.float32:
        raise RuntimeError(f"{name} must have dtype float32 or complex64, got {t.dtype}")


# --- Autograd ---


def dense(grad: Tensor) -> Tensor:
    """Expanded gradients (stride 0) claim to be contiguous where a size is 1; the kernels want real memory."""
    return grad.contiguous() if 0 not in grad.stride() else grad.clone(memory_format=torch.contiguous_format)


def opposite(turns: Sequence[int]) -> list[int]:
    return [-t % 4 for t in turns]


def constant_masks(ctx, index: int) -> None:
    if any(ctx.needs_input_grad[index]):
        raise RuntimeError("masks are constants: a mask that requires grad has no derivative here; detach it")


@dataclass(frozen=True)
class _Constant:
    """An argument that is no tensor, in its place among the saved ones."""

    value: object


def save_tensors(ctx, inputs, output):
    """Saves every tensor, and keeps every other argument, to give them back in order as ``saved(ctx)``."""
    flat = leaves(inputs)
    ctx.save_for_backward(*[x for x in flat if isinstance(x, Tensor)])
    ctx.layout = _rebuilt(inputs, (None if isinstance(x, Tensor) else _Constant(x) for x in flat))


def saved(ctx) -> list:
    tensors = iter(ctx.saved_tensors)
    slots = leaves(ctx.layout)
    return _rebuilt(ctx.layout, (slot.value if isinstance(slot, _Constant) else next(tensors) for slot in slots))


def register_derivative(name: str, backward: Callable, setup_context: Callable) -> None:
    """``torch.library.register_autograd``, for batched gradients, too."""

    def of_any(ctx, *grads):
        return _backward_of_batch(backward, ctx, grads) if are_batched(grads) else backward(ctx, *grads)

    torch.library.register_autograd(f"steerlens_fast::{name}", of_any, setup_context=setup_context)


def _backward_of_batch(backward: Callable, ctx, grads):
    flat, found = leaves(grads), []
    at = [i for i, leaf in enumerate(flat) if isinstance(leaf, Tensor)]

    def of_tensors(*tensors):
        given = dict(zip(at, tensors))
        out = backward(ctx, *_rebuilt(grads, (given.get(i) for i in range(len(flat)))))
        found.append(out)
        return tuple(t for t in leaves(out) if isinstance(t, Tensor))

    results = iter(over_batched_gradients(of_tensors, [flat[i] for i in at]))
    out = found[0]
    return tuple(_rebuilt(out, (next(results) if isinstance(t, Tensor) else t for t in leaves(out))))


def register_backward_of_backward(name: str) -> None:
    """Double backward by differentiating ``reference.<name>``, in plain torch."""
    formula = getattr(reference, name)

    def backward(ctx, *grads):
        inputs = saved(ctx)
        tensors = [i for i, x in enumerate(inputs) if isinstance(x, Tensor)]

        def of_tensors(*values):
            full = list(inputs)
            for i, value in zip(tensors, values):
                full[i] = value
            return formula(*full)

        _, pull_back = torch.func.vjp(of_tensors, *[inputs[i] for i in tensors])
        out = [None] * len(inputs)
        for i, grad in zip(tensors, pull_back(grads if len(grads) > 1 else grads[0])):
            out[i] = grad
        return tuple(out)

    register_derivative(name, backward, save_tensors)

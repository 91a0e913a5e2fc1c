"""How an op is called, and what fakes and derivatives of several share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils import _pytree

from .. import _C, reference  # noqa: F401  (importing _C registers the ops)
from .words import real_dtype

_ops = torch.ops.steerlens_fast


def call(name: str, *args):
    """The op; inside forward-mode AD, which custom ops know nothing of (they would drop tangents), its reference."""
    if not torch.compiler.is_compiling() and has_tangent(args):
        return getattr(reference, name)(*args)
    return getattr(_ops, name)(*args)


def call_planes(name: str, *args):
    """:func:`call` of an op that takes whole planes, which not every CPU has."""
    if not _C.PLANE_LANES and not has_tangent(args) and _first_tensor(args).device.type == "cpu":
        raise RuntimeError(
            f"{name} needs a CPU with AVX2 or AVX-512, a build by GCC 12 or newer and an environment whose "
            "STEERLENS_LANES is not 0; build_info()['plane_lanes'] is 0 here"
        )
    return call(name, *args)


def _first_tensor(values) -> Tensor:
    return next(t for t in _pytree.tree_leaves(values) if isinstance(t, Tensor))


def has_tangent(values) -> bool:
    """Whether a tensor among ``values`` (any nesting) carries a forward-mode tangent."""
    if getattr(forward_ad, "_current_level", 0) < 0:  # not in forward mode: spare the look at every tensor
        return False
    tensors = [t for t in _pytree.tree_leaves(values) if isinstance(t, Tensor)]
    return any(forward_ad.unpack_dual(t).tangent is not None for t in tensors)


# --- Fakes: shapes and dtypes for meta tensors, torch.compile and torch.export ---


def fake(name: str):
    """Register a shape function; it too refuses tensors of several devices, which torch sends here."""

    def register(function):
        def checked(*args):
            devices = {str(t.device) for t in _pytree.tree_leaves(args) if isinstance(t, Tensor)}
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


def save_tensors(ctx, inputs, output):
    """Saves every tensor, and keeps every other argument, to give them back in order as ``saved(ctx)``."""
    leaves, ctx.tree = _pytree.tree_flatten(list(inputs))
    ctx.save_for_backward(*[x for x in leaves if isinstance(x, Tensor)])
    ctx.layout = [None if isinstance(x, Tensor) else (x,) for x in leaves]


def saved(ctx) -> list:
    tensors = iter(ctx.saved_tensors)
    return _pytree.tree_unflatten([next(tensors) if slot is None else slot[0] for slot in ctx.layout], ctx.tree)


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

    torch.library.register_autograd(f"steerlens_fast::{name}", backward, setup_context=save_tensors)

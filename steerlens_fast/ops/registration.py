"""Functions that call the ops, and functions that register shapes and derivatives of the ops with torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .. import native  # importing it registers the ops
from ..extension import no_cuda_reason
from ..torch_internals import (
    below_autograd,
    has_batched_gradients,
    has_transforms,
    in_forward_mode,
    is_batched_gradient,
    over_batched_gradients,
)
from . import reference
from .enums import real_dtype
from .fake_checks import BadArgument

_ops = torch.ops.steerlens_fast


def call(name: str, *args):
    """Call an op or its formula in :mod:`.reference`.

    The formula is used under ``torch.func`` and in forward mode, where torch cannot run custom ops.
    """
    return _call(_function(name, args), args)


def call_op(name: str, *args, instead: str = ""):
    """Call an op that has no formula in :mod:`.reference`, and no derivative.

    ``instead`` is the name of an op with a derivative, for the error message.
    """
    if not torch.compiler.is_compiling() and has_tangent(args):  # the op would drop it
        raise RuntimeError(f"{name} has no derivative{f': use {instead}' if instead else ''}")
    return _call(getattr(_ops, name), args)


def _call(function: Callable, args):
    """Call an op or its formula, without autograd if autograd would record nothing."""
    if torch.compiler.is_compiling():
        return function(*args)
    try:
        if torch.is_grad_enabled() or has_transforms() or in_forward_mode():
            return function(*args)
        with below_autograd():
            return function(*args)
    except NotImplementedError as error:  # raised by torch's dispatcher
        raise _explain_missing_kernels(args, error) from error


def _explain_missing_kernels(args, error: Exception) -> Exception:
    """Return ``error``, or a clearer error if CUDA kernels are missing."""
    on_gpu = any(leaf.is_cuda for leaf in leaves(args) if isinstance(leaf, Tensor))
    reason = no_cuda_reason() if on_gpu else ""
    return RuntimeError(f"tensors must be on the CPU, because {reason}, got tensors on a GPU") if reason else error


def _function(name: str, args) -> Callable:
    # torch.compile cannot trace has_tangent.
    by_formula = has_transforms() or (not torch.compiler.is_compiling() and has_tangent(args))
    return getattr(reference if by_formula else _ops, name)


def are_batched(values) -> bool:
    """Return whether a tensor in nested lists is a batch of gradients; see :mod:`.torch_internals`."""
    if not has_batched_gradients():
        return False
    return any(is_batched_gradient(t) for t in leaves(values) if isinstance(t, Tensor))


def call_plane_op(name: str, *args):
    """Call an op on whole planes; raise if this CPU has none."""
    check_plane_ops_exist(name, args)
    return call(name, *args)


def check_plane_ops_exist(name: str, args) -> None:
    """Raise if an op on whole planes would run on a CPU that has none."""
    if native.LARGEST_PLANE_SIDE["cpu"]:
        return
    first = next(t for t in leaves(args) if isinstance(t, Tensor))
    if first.device.type == "cpu" and not has_transforms() and not has_tangent(args):
        raise RuntimeError(
            f"{name} needs a CPU with AVX2, AVX-512 or NEON (aarch64), a build by GCC or clang and an environment "
            "where STEERLENS_CPU_CAPABILITY is not 'default'; build_info()['cpu_capability'] is 'default' here"
        )


def leaves(values) -> list:
    """Return the elements of nested lists and tuples, in order."""
    if not isinstance(values, (list, tuple)):
        return [values]
    return [leaf for value in values for leaf in leaves(value)]


def _nested(like, elements: Iterator):
    """Return nested lists with the structure of ``like``, filled from ``elements``."""
    return [_nested(value, elements) for value in like] if isinstance(like, (list, tuple)) else next(elements)


def has_tangent(values) -> bool:
    """Return whether a tensor in nested lists has a forward-mode tangent."""
    if not in_forward_mode():  # avoids the loop over all tensors
        return False
    tensors, batched = [t for t in leaves(values) if isinstance(t, Tensor)], has_batched_gradients()
    try:
        any_tangent = any(forward_ad.unpack_dual(t).tangent is not None for t in tensors)
    except RuntimeError:  # torch cannot unpack a batch of tangents
        if not batched:
            raise
        any_tangent = True
    if any_tangent and batched:
        raise NotImplementedError(
            "jacobian(..., vectorize=True, strategy='forward-mode') is not supported here, since torch has no rules "
            "for its batched tangents; use torch.func.jacfwd, or vectorize=False"
        )
    return any_tangent


# --- Shape functions ("fakes"), which torch.compile, torch.export and meta tensors need ---


def fake(name: str):
    """Return a decorator that registers the shape function of an op, torch's "fake kernel".

    The registered function also checks that all tensors are on one device. Messages of :mod:`.fake_checks` get the
    name of the op, like the messages of the kernels.
    """

    def register(function):
        def checked(*args):
            devices = {str(t.device) for t in leaves(args) if isinstance(t, Tensor)}
            if len(devices) > 1:
                raise RuntimeError(f"steerlens_fast::{name}: tensors must be on one device, got {sorted(devices)}")
            try:
                return function(*args)
            except BadArgument as error:
                raise RuntimeError(f"steerlens_fast::{name}: {error}") from None

        return torch.library.register_fake(f"steerlens_fast::{name}", checked)

    return register


def two_real_like(t: Tensor) -> tuple[Tensor, Tensor]:
    """Return two new real tensors of the shape and precision of ``t``."""
    return tuple(t.new_empty(t.shape, dtype=real_dtype(t.dtype)) for _ in range(2))


# --- Autograd ---


def contiguous_grad(grad: Tensor) -> Tensor:
    """Return the gradient as a contiguous tensor without strides of 0."""
    # is_contiguous() can be True although a stride is 0.
    return grad.contiguous() if 0 not in grad.stride() else grad.clone(memory_format=torch.contiguous_format)


def opposite_i_powers(i_powers: Sequence[int]) -> list[int]:
    """Return the exponents of the conjugate powers of i, which adjoints need."""
    return [-power % 4 for power in i_powers]


def check_constant(ctx, index: int, name: str) -> None:
    """Raise if autograd requests a derivative with respect to a tensor in ``name``, the list at input ``index``."""
    if any(ctx.needs_input_grad[index]):
        raise RuntimeError(f"{name} must not require grad: they are constants here; detach them")


def save_inputs(ctx, inputs, output):
    """Save all inputs of an op for its backward: a ``setup_context`` for :func:`register_derivative`."""
    flat = leaves(inputs)
    ctx.save_for_backward(*[x if isinstance(x, Tensor) else None for x in flat])
    ctx.others = _nested(inputs, (None if isinstance(x, Tensor) else x for x in flat))


def saved_inputs(ctx) -> list:
    """Return the inputs that :func:`save_inputs` saved."""
    pairs = zip(ctx.saved_tensors, leaves(ctx.others))
    return _nested(ctx.others, (other if tensor is None else tensor for tensor, other in pairs))


def register_derivative(name: str, backward: Callable, setup_context: Callable) -> None:
    """Register the backward of an op, and make it work with batched gradients."""

    def backward_with_batches(ctx, *grads):
        return _backward_of_batch(backward, ctx, grads) if are_batched(grads) else backward(ctx, *grads)

    torch.library.register_autograd(f"steerlens_fast::{name}", backward_with_batches, setup_context=setup_context)


def register_no_derivative(name: str, message: str) -> None:
    """Make the backward of an op raise a RuntimeError with this message."""

    def backward(ctx, *grads):
        raise RuntimeError(message)

    register_derivative(name, backward, lambda ctx, inputs, output: None)


def _backward_of_batch(backward: Callable, ctx, grads):
    """Return ``backward(ctx, *grads)`` for batched gradients.

    ``over_batched_gradients`` supports only flat lists of tensors, so nested lists and None are taken out and put back.
    """
    flat, outputs = leaves(grads), []
    tensor_at = [i for i, leaf in enumerate(flat) if isinstance(leaf, Tensor)]

    def on_tensors(*tensors):
        by_index = dict(zip(tensor_at, tensors))
        out = backward(ctx, *_nested(grads, (by_index.get(i) for i in range(len(flat)))))
        outputs.append(out)
        return tuple(t for t in leaves(out) if isinstance(t, Tensor))

    results = iter(over_batched_gradients(on_tensors, [flat[i] for i in tensor_at]))
    out = outputs[0]
    return tuple(_nested(out, (next(results) if isinstance(t, Tensor) else t for t in leaves(out))))


def register_second_derivative(name: str) -> None:
    """Register the derivative of the op ``name``, which is itself the backward of an op.

    torch.func derives it from the formula ``reference.<name>``.
    """
    formula = getattr(reference, name)

    def backward(ctx, *grads):
        inputs = saved_inputs(ctx)
        tensor_at = [i for i, x in enumerate(inputs) if isinstance(x, Tensor)]

        def on_tensors(*values):
            full = list(inputs)
            for i, value in zip(tensor_at, values):
                full[i] = value
            return formula(*full)

        _, pull_back = torch.func.vjp(on_tensors, *[inputs[i] for i in tensor_at])
        out = [None] * len(inputs)
        for i, grad in zip(tensor_at, pull_back(grads if len(grads) > 1 else grads[0])):
            out[i] = grad
        return tuple(out)

    register_derivative(name, backward, save_inputs)

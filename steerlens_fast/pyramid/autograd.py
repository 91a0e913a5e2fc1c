"""``Bank.split`` and ``Bank.merge`` with derivatives. Each is the backward pass of the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..ops.registration import are_batched
from ..torch_internals import over_batched_gradients
from . import batches
from .backend import forward_backend, needs_derivative

if TYPE_CHECKING:
    from .bank import Bank


def split(bank: Bank, image: Tensor, widen: tuple[bool, ...] = ()) -> tuple[Tensor, ...]:
    """Split images into bands, recorded for derivatives; see :func:`.batches.split` for ``widen``."""
    # Function.apply takes as long as a small op, so it is avoided where no derivative is recorded, as in most backward
    # passes.
    if not needs_derivative(image):
        return _Split.forward(image, bank, widen)
    if are_batched((image,)):
        return over_batched_gradients(lambda t: _Split.apply(t, bank, widen), (image,))
    return _Split.apply(image, bank, widen)


def merge(bank: Bank, bands: Sequence[Tensor]) -> Tensor:
    """Merge bands into images, recorded for derivatives."""
    if not needs_derivative(*bands):
        return _Merge.forward(bank, *bands)
    if are_batched(bands):
        return over_batched_gradients(lambda *tensors: _Merge.apply(bank, *tensors), bands)
    return _Merge.apply(bank, *bands)


class _Split(torch.autograd.Function):
    """``Bank.split``."""

    @staticmethod
    def forward(image, bank, widen):
        return batches.split(bank, image, forward_backend(bank.geometry, image), widen)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, ctx.bank, ctx.widen = inputs
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, *grads):
        defined = [i for i, g in enumerate(grads) if g is not None]
        if not defined:
            return None, None, None
        return merge(ctx.bank.subset(defined), [grads[i] for i in defined]), None, None

    @staticmethod
    def jvp(ctx, tangent, *_):
        return _Split.apply(tangent, ctx.bank, ctx.widen)

    @staticmethod
    def vmap(info, in_dims, image, bank, widen):
        return _Split.apply(image.movedim(in_dims[0], 0), bank, widen), (0,) * len(bank.parts)


class _Merge(torch.autograd.Function):
    """``Bank.merge``."""

    @staticmethod
    def forward(bank, *bands):
        return batches.merge(bank, bands, forward_backend(bank.geometry, *bands))

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.bank = inputs[0]
        ctx.complex = [band.is_complex() for band in inputs[1:]]
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, grad):
        needed = [i for i, needs in enumerate(ctx.needs_input_grad[1:]) if needs]
        grads: list[Tensor | None] = [None] * len(ctx.complex)
        if grad is not None and needed:
            widen = tuple(ctx.complex[i] for i in needed)
            for i, band in zip(needed, split(ctx.bank.subset(needed), grad, widen)):
                grads[i] = band.real if band.is_complex() and not ctx.complex[i] else band
        return None, *grads

    @staticmethod
    def jvp(ctx, _, *tangents):
        defined = [i for i, t in enumerate(tangents) if t is not None]
        return _Merge.apply(ctx.bank.subset(defined), *[tangents[i] for i in defined])

    @staticmethod
    def vmap(info, in_dims, bank, *bands):
        size = info.batch_size
        lifted = [
            band.expand(size, *band.shape) if dim is None else band.movedim(dim, 0)
            for band, dim in zip(bands, in_dims[1:])
        ]
        return _Merge.apply(bank, *lifted), 0

"""A fake GPU: tensors on the CPU that report a GPU as their device.

It finds operations for which the host must wait: reads of a value, copies to the host, blocking copies from the host,
and others. On a real GPU, ``torch.cuda.set_sync_debug_mode`` finds them.
"""

from __future__ import annotations

import traceback

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

from steerlens_fast.pyramid.bank import Bank

aten = torch.ops.aten
READS = {aten._local_scalar_dense.default, aten.nonzero.default, aten.equal.default, aten.masked_select.default}
GPU = torch.device("cuda", 0)


class OnGpu(Tensor):
    """A tensor that reports a GPU as its device.

    ``_on_cpu`` is the CPU tensor with its values.
    """

    @staticmethod
    def __new__(cls, real: Tensor):
        layout = {"strides": real.stride(), "storage_offset": real.storage_offset(), "dtype": real.dtype}
        return Tensor._make_wrapper_subclass(cls, real.shape, device="meta", **layout)

    def __init__(self, real: Tensor):
        self._on_cpu = real

    device, is_cuda = GPU, True  # only in Python; for C++ code it is a meta tensor, which needs no GPU
    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return run(function, args, kwargs or {})


class FakeGpu(TorchDispatchMode):
    """Makes :class:`OnGpu` tensors where code creates tensors on "cuda".

    ``waits`` lists the places where the host would have waited.
    """

    def __init__(self):
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if must_wait(function, args, kwargs or {}):
            frames = [f for f in traceback.extract_stack() if "/torch/" not in f.filename and f.filename != __file__]
            self.waits.append(f"{function} at {frames[-1].filename}:{frames[-1].lineno}: {frames[-1].line}")
        return run(function, args, kwargs or {})


def run(function, args, kwargs):
    """Run an op on the CPU.

    With ``device=``, the op's results are on this device. Without it, they are "on the GPU" if an argument is.
    """
    on_gpu = [t for t in tree_iter((args, kwargs)) if isinstance(t, OnGpu)]
    device = kwargs.get("device")
    to = None if device is None else torch.device(device).type
    known = {id(t._on_cpu): t for t in on_gpu}  # in-place ops return their argument
    real = lambda t: t._on_cpu if isinstance(t, OnGpu) else "cpu" if isinstance(t, torch.device) else t
    out = function(*tree_map(real, args), **tree_map(real, kwargs))
    if to == "cpu" or (to != "cuda" and not on_gpu):
        return out
    plain = lambda t: isinstance(t, Tensor) and not isinstance(t, OnGpu)
    return tree_map(lambda t: known[id(t)] if id(t) in known else OnGpu(t) if plain(t) else t, out)


def must_wait(function, args, kwargs) -> bool:
    """Return whether the host would have to wait for the GPU."""
    on_gpu = lambda t: isinstance(t, OnGpu)
    if function is aten._to_copy.default:
        to = kwargs.get("device")
        from_gpu = on_gpu(args[0])
        to_gpu = from_gpu if to is None else torch.device(to).type in ("cuda", "meta")  # C++ code sees "meta"
        return from_gpu != to_gpu and not (to_gpu and kwargs.get("non_blocking"))
    if function is aten.copy_.default:
        from_gpu, to_gpu = on_gpu(args[1]), on_gpu(args[0])
        return from_gpu != to_gpu and not (to_gpu and (kwargs.get("non_blocking") or True in args[2:]))
    if function in (aten.index.Tensor, aten.index_put_.default) and on_gpu(args[0]):
        return any(isinstance(i, Tensor) and (i.dtype == torch.bool or not on_gpu(i)) for i in args[1])
    return function in READS and any(map(on_gpu, args))


def patch_cuda(monkeypatch) -> None:
    """Replace functions that need a real GPU.

    They are the initialisation of CUDA, random states, the query for graph capture, and masks of banks.
    """
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.zeros(1, dtype=torch.uint8))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: None)
    masks, residual_mask = Bank.masks, Bank.residual_mask

    def masks_like(bank, like, merging):
        if not isinstance(like, OnGpu):
            return masks(bank, like, merging)
        return [OnGpu(mask) for mask in masks(bank, torch.empty(0, dtype=like.dtype), merging)]

    def residual_mask_like(bank, like):
        if not isinstance(like, OnGpu):
            return residual_mask(bank, like)
        return OnGpu(residual_mask(bank, torch.empty(0, dtype=like.dtype)))

    monkeypatch.setattr(Bank, "masks", masks_like)
    monkeypatch.setattr(Bank, "residual_mask", residual_mask_like)

"""What a run of somebody's model may change, kept to itself: random numbers and buffers. And what its flags say."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import RLock

import torch
from torch import Tensor
from torch.nn import DataParallel, Module, Sequential

WRAPPERS = {DataParallel, Sequential}  # born with the flag set, around a model in eval mode, and without use for it


# One thread at a time is somebody's guest: random numbers and a module's buffers are the process's.
ONE_GUEST = RLock()


class RandomStream:
    """A private stream of torch's random numbers: entered for a call, left between calls, and continued by the next.

    It starts where the caller's generators stand when it is made; outside of its ``with`` blocks they are the caller's
    own, as if it had never been.

    Parameters
    ----------
    devices : iterable of torch.device
        The CUDA devices among them are covered, besides the CPU.

    Examples
    --------
    >>> stream, untouched = RandomStream(), torch.get_rng_state()
    >>> with stream:
    ...     first = torch.rand(3)
    >>> with stream:
    ...     second = torch.rand(3)
    >>> torch.equal(first, second), torch.equal(torch.get_rng_state(), untouched)
    (False, True)
    """

    def __init__(self, devices: Iterable[torch.device] = ()):
        self._devices = list(dict.fromkeys(d for d in devices if d.type == "cuda"))
        self._own = self._callers = self._read()

    def __enter__(self) -> RandomStream:
        self._callers = self._read()
        self._write(self._own)
        return self

    def __exit__(self, *_) -> None:
        self._own = self._read()
        self._write(self._callers)

    def _read(self) -> list[Tensor]:
        return [torch.get_rng_state(), *map(torch.cuda.get_rng_state, self._devices)]

    def _write(self, states: list[Tensor]) -> None:
        torch.set_rng_state(states[0])
        for state, device in zip(states[1:], self._devices):
            torch.cuda.set_rng_state(state, device)


@contextmanager
def private_buffers(modules: Iterable[Module]) -> Iterator[None]:
    """Let modules work on copies of their buffers, then put the buffers back, with nothing written into them.

    Copying the values back instead would invalidate a graph of the caller's that has saved a buffer. Buffers that were
    None, or that a forward registers, are as they were afterwards, too.
    """
    held = [(m, dict(m._buffers.items())) for root in modules for m in root.modules()]
    copies = {id(b): b.detach().clone() for _, buffers in held for b in buffers.values() if b is not None}
    try:
        for module, buffers in held:
            for name, buffer in buffers.items():
                if buffer is not None:
                    module._buffers[name] = copies[id(buffer)]  # by id: a shared buffer stays shared
        yield
    finally:
        for module, buffers in held:
            for name in set(dict(module._buffers.items())) - set(buffers):
                del module._buffers[name]
                module._non_persistent_buffers_set.discard(name)
            for name, buffer in buffers.items():
                module._buffers[name] = buffer


def in_training(module: Module) -> bool:
    """Whether a module of it that does more than wrap is in training mode; frozen TorchScript has no flag."""
    return any(getattr(m, "training", False) for m in module.modules() if type(m) not in WRAPPERS)


def may_write(module: Module) -> bool:
    """Whether its buffers must be kept apart: in eval mode, too, for it may count or cache there.

    Not those of a compiled module in eval mode, which CUDA graphs know by address and would record anew.
    """
    compiled = any(hasattr(m, "_orig_mod") or getattr(m, "_compiled_call_impl", None) for m in module.modules())
    return in_training(module) or not compiled


def is_exported(model) -> bool:
    """Whether it is an ExportedProgram's module: its flags say "training" whatever was exported, and cannot be set."""
    return isinstance(model, torch.fx.GraphModule) and "eval" in vars(model)


def frames_within_the_package() -> int:
    """The ``stacklevel`` at which the caller's warning names the first line outside of this package (and of torch)."""
    ours, level = (__name__.partition(".")[0], "torch"), 1
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ours:
        frame, level = frame.f_back, level + 1
    return level

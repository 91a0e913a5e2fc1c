"""Protects random number generators and buffers from side effects of a model."""

from __future__ import annotations

import ctypes
import os
import random
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from hashlib import sha256
from itertools import repeat
from threading import RLock
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import Module

# One thread at a time runs a model: random number generators belong to the process, and the model's buffers are
# replaced while it runs.
_lock = RLock()


def _renew_lock() -> None:
    """Replace the lock in a forked child, where a lock that another thread of the parent held would stay locked."""
    global _lock
    _lock = RLock()


os.register_at_fork(after_in_child=_renew_lock)


class _Generator(NamedTuple):
    """Functions that return and set the state of a random number generator."""

    read: Callable[[], Any]
    write: Callable[[Any], object]


class _GlobalNumpy:
    """The generator behind numpy's global functions.

    Reading or writing its state takes 0.1 ms. Therefore the last state is reused while the generator's memory, whose
    address numpy gives, is unchanged. But numpy draws normally distributed numbers in pairs, and stores the second one
    (has_gauss) elsewhere. So a state with a stored number is not reused. A call of ``set_state`` that only adds a
    stored number is not noticed, and a ``with`` block may undo it.
    """

    def __init__(self):
        self._state: dict = {}
        self._state_memory: bytes | None = None  # the generator's memory in this state; None: read the state again
        self._bits: Any = None  # the generator
        self._buffer: Any = None  # the generator's memory; None unless it is an MT19937

    def read(self) -> dict:
        if self._state_memory is None or self._memory() != self._state_memory:
            self._keep(np.random.get_state(legacy=False))
        return self._state

    def write(self, state: dict) -> None:
        if self.read() is not state:
            np.random.set_state(state)
            self._keep(state)

    def _keep(self, state: dict) -> None:
        # Drawing a stored number (has_gauss) does not change the memory that is compared.
        self._state, self._state_memory = state, None if state.get("has_gauss") else _memory_at(state)

    def _memory(self) -> bytes | None:
        """Return the key and the position of the generator, or None if it is not an MT19937."""
        bits = np.random.get_bit_generator() if hasattr(np.random, "get_bit_generator") else None
        if bits is not self._bits:
            known = isinstance(bits, np.random.MT19937)
            key_and_position = ctypes.c_char * (625 * 4)  # 624 words, and the position
            self._buffer = key_and_position.from_address(bits.ctypes.state_address) if known else None
            self._bits = bits
        return None if self._buffer is None else self._buffer.raw


def _memory_at(state: dict) -> bytes | None:
    """Return the key and the position in the state of a generator, or None if it is not an MT19937."""
    known = state["bit_generator"] == "MT19937"
    return state["state"]["key"].tobytes() + struct.pack("=i", state["state"]["pos"]) if known else None


TORCH = _Generator(torch.default_generator.get_state, torch.default_generator.set_state)
PYTHON = _Generator(random.getstate, random.setstate)
NUMPY = _GlobalNumpy()


@cache
def _cuda_generator(index: int) -> _Generator:
    return _Generator(partial(torch.cuda.get_rng_state, index), partial(torch.cuda.set_rng_state, device=index))


class RandomStream:
    """Random numbers for ``with`` blocks: each block continues where the last one ended.

    The stream covers the generators of torch, Python (``random``) and numpy (``numpy.random``), and generators that are
    attributes of modules. Its first block starts at ``seed`` or, without a seed, at the generators' current states.
    Outside of its ``with`` blocks, the generators have the caller's states. A block within another block of the same
    stream is a part of the outer block.

    Parameters
    ----------
    devices : iterable of torch.device
        Devices whose generators are covered; the generator of the CPU always is.
    modules : sequence of torch.nn.Module
        Modules whose generators are covered, without submodules: attributes that are a ``torch.Generator``,
        ``random.Random``, ``numpy.random.Generator`` or ``numpy.random.RandomState``.
    seed : tuple of int and str, optional
        Seed of the generators of torch, Python and numpy, but not of those of modules. The seed is hashed, so that
        similar seeds give unrelated numbers.

    Examples
    --------
    >>> stream, untouched = RandomStream(), torch.get_rng_state()
    >>> with stream:
    ...     first = torch.rand(3)
    >>> with stream:
    ...     second = torch.rand(3)
    >>> torch.equal(first, second), torch.equal(torch.get_rng_state(), untouched)
    (False, True)
    >>> with RandomStream(seed=(0, 7)):
    ...     first = random.random()
    >>> with RandomStream(seed=(0, 7)):
    ...     random.random() == first
    True
    """

    def __init__(
        self,
        devices: Iterable[torch.device] = (),
        modules: Sequence[Module] = (),
        seed: tuple | None = None,
    ):
        self._cuda: list[int] = []  # numbers of GPUs
        for device in devices:
            if device.type == "cuda" and (index := _cuda_index(device)) not in self._cuda:
                self._cuda.append(index)
        self._seed = seed
        self._generators: list = [TORCH, PYTHON, NUMPY, *map(_cuda_generator, self._cuda)]
        if modules:
            self._generators += _generators_in(modules)
        self._last: list | None = None  # states at the end of the last block
        self._callers: list = []  # the caller's states
        # The locks of the nested blocks. After a fork within a block, inner blocks of the child have another lock.
        self._locks: list = []

    def __enter__(self) -> RandomStream:
        lock = _lock
        lock.acquire()
        try:
            self._locks.append(lock)
            if len(self._locks) > 1:
                return self
            self._callers = [generator.read() for generator in self._generators]
            if self._last is not None:
                _write_states(zip(self._generators, self._last))
            elif self._seed is not None:
                _seed_generators(self._cuda, self._seed)
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, *_) -> None:
        present: list | None = None
        try:
            if len(self._locks) == 1:
                present = self._last = [generator.read() for generator in self._generators]
        finally:
            self._leave(present)

    def _leave(self, present: list | None = None) -> None:
        """At the end of the outermost block, give the generators the caller's states; release the block's lock.

        ``present`` are the present states, if they are known.
        """
        try:
            if len(self._locks) == 1:
                callers, self._callers = self._callers, []
                states = zip(self._generators, callers, present or repeat(None))
                _write_states(iter([(generator, caller) for generator, caller, now in states if now is not caller]))
        finally:
            self._locks.pop().release()


def _write_states(states: Iterator[tuple[_Generator, Any]]) -> None:
    """Write states of generators, all of them even if an error occurs."""
    for generator, state in states:
        try:
            generator.write(state)
        except BaseException:
            _write_states(states)
            raise


def _cuda_index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


def _generators_in(modules: Iterable[Module]) -> Iterator[_Generator]:
    """Yield the generators that are attributes of modules."""
    values = [value for module in modules for value in tuple(vars(module).values())]
    generator_types = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)
    # By type: a module has many attributes of few types, and checking an instance for torch.Generator is slow.
    types = {t for t in set(map(type, values)) if issubclass(t, generator_types)}
    types = {t for t in types if not issubclass(t, random.SystemRandom)}  # which has no state
    for generator in {id(value): value for value in values if type(value) in types}.values():
        if isinstance(generator, torch.Generator):
            yield _Generator(generator.get_state, generator.set_state)
        elif isinstance(generator, random.Random):
            yield _Generator(generator.getstate, generator.setstate)
        elif isinstance(generator, np.random.RandomState):
            yield _Generator(partial(generator.get_state, legacy=False), generator.set_state)
        else:
            bits = generator.bit_generator
            yield _Generator(partial(getattr, bits, "state"), partial(setattr, bits, "state"))


def _seed_generators(cuda_indices: Iterable[int], seed: tuple) -> None:
    """Seed torch, Python and numpy."""
    # torch.manual_seed would also seed GPUs that are not in use.
    number = int.from_bytes(sha256(repr(seed).encode()).digest()[:8], "big") >> 1
    torch.default_generator.manual_seed(number)
    for index in cuda_indices:
        torch.cuda.default_generators[index].manual_seed(number)
    random.seed(number)
    np.random.seed(number % 2**32)


@contextmanager
def private_buffers(modules: Iterable[Module]) -> Iterator[None]:
    """Give modules copies of their buffers within the block, and the original buffers afterwards.

    The buffers of submodules are not copied.

    Buffers that a forward pass has registered are removed. The originals are never written: even if their old values
    were written back, a graph of the caller that has saved a buffer would become invalid.
    """
    held = [(m, dict(m._buffers.items())) for m in modules]
    copies = {id(b): b.detach().clone() for _, buffers in held for b in buffers.values() if b is not None}
    try:
        for module, buffers in held:
            for name, buffer in buffers.items():
                if buffer is not None:
                    module._buffers[name] = copies[id(buffer)]  # by id, so that a shared buffer stays shared
        yield
    finally:
        for module, buffers in held:
            for name in set(dict(module._buffers.items())) - set(buffers):
                del module._buffers[name]
                module._non_persistent_buffers_set.discard(name)
            for name, buffer in buffers.items():
                module._buffers[name] = buffer


def warning_stacklevel() -> int:
    """Return the ``stacklevel`` with which a warning shows the first calling line outside of this package and torch."""
    ours, level = (__name__.partition(".")[0], "torch"), 1
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ours:
        frame, level = frame.f_back, level + 1
    return level

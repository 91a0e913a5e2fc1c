"""Protects random number generators and buffers from side effects of a model.

They are shared by the whole process. So only one thread at a time runs a model, and a fork during a model call needs
care: the child must get the original buffers, and no lock that stays locked forever.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import struct
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from hashlib import sha256
from threading import RLock, Thread, get_ident, local, main_thread
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor
from torch.nn import DataParallel, Module, Sequential

# These modules ignore their training flag, which is True in a new one, even around a model in eval mode.
WRAPPERS = {DataParallel, Sequential}
Accessors = tuple[Callable[[], object], Callable[[object], object]]  # read and write the state of a generator


LOCKS: WeakSet[ForkSafeLock] = WeakSet()
FORK_SECONDS = 1.0  # how long a fork waits for a model call of another thread
RESEND_SECONDS = 0.01  # interval between checks of whether a fork has returned


class ForkSafeLock:
    """A re-entrant thread lock that is free in a forked child.

    An ordinary lock that another thread held during the fork would stay locked in the child, where that thread does not
    exist. The child also calls the functions passed to :meth:`undone_by`, which that thread would have called.
    """

    def __init__(self):
        self._lock, self._owner, self._depth, self._undo = RLock(), None, 0, []
        self.holds = 0  # how often the lock has been acquired, not counting threads that already held it
        LOCKS.add(self)

    def acquire(self, timeout: float = -1) -> bool:
        """Acquire the lock; return whether this succeeded within ``timeout`` seconds (-1: without a limit)."""
        if not self._lock.acquire(timeout=timeout):
            return False
        self.holds += not self._depth
        self._owner, self._depth = get_ident(), self._depth + 1
        return True

    def release(self) -> None:
        """Undo one call of :meth:`acquire`."""
        self._depth -= 1
        if not self._depth:
            self._owner = None
        self._lock.release()

    def __enter__(self) -> ForkSafeLock:
        self.acquire()
        return self

    def __exit__(self, *_) -> None:
        self.release()

    @contextmanager
    def undone_by(self, undo: Callable[[], None]) -> Iterator[None]:
        """Call ``undo`` at the end of the block, and in a child that is forked during the block.

        ``undo`` must not use the generators of torch or numpy, whose mutexes may be locked forever in the child.
        """
        self._undo.append(undo)
        try:
            yield
        finally:
            self._undo.remove(undo)
            undo()

    def after_fork(self) -> None:
        """Free the lock in a forked child, and call the undo functions."""
        if self._owner == get_ident():
            return  # this thread holds the lock, continues in the child, and will release it
        undo, self._undo = self._undo, []
        self._lock, self._owner, self._depth = RLock(), None, 0
        _call_all(undo)


def _call_all(functions: Iterable[Callable[[], None]]) -> None:
    """Call all functions, the last one first; raise an error only after the last call."""
    with ExitStack() as stack:
        for function in functions:
            stack.callback(function)


# One thread at a time runs a model: random number generators and buffers are shared by the process.
MODEL_LOCK = ForkSafeLock()
FORK = local()  # per thread, since several threads may fork


class _Waits:
    """How forks wait for model calls of other threads."""

    def __init__(self):
        self.given_up: int | None = None  # number of a model call that did not end while a fork waited
        self.warned = False

    def acquire(self) -> bool:
        """Acquire the model lock if the running model call ends in time.

        A fork waits only once for the same call.
        """
        if MODEL_LOCK.acquire(timeout=0):
            return True
        call = MODEL_LOCK.holds
        if call == self.given_up:
            return False
        with _signals_recorded(FORK.signals):
            acquired = MODEL_LOCK.acquire(timeout=FORK_SECONDS)
        if not acquired:
            self.given_up = call
            self._warn()
        return acquired

    def _warn(self) -> None:
        if not self.warned:
            self.warned = True
            text = (
                f"the process was forked while a model call of another thread had run for {FORK_SECONDS:g} s or more: "
                "if it was drawing random numbers, a generator may stay locked in the child"
            )
            warnings.warn(text, RuntimeWarning, stacklevel=warning_stacklevel())


WAITS = _Waits()


@contextmanager
def _signals_recorded(received: list[int]) -> Iterator[None]:
    """Append the numbers of signals to a list instead of running their Python handlers.

    Python ignores errors that a handler raises during a hook of a fork, so a KeyboardInterrupt would be lost. Only the
    main thread runs handlers, so this does nothing in other threads.
    """
    handlers = {}
    if get_ident() == main_thread().ident:
        handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
        handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in handlers:
        signal.signal(number, lambda number, _: received.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _before_fork() -> None:
    """Wait until no model is running.

    A running model may hold a generator's mutex, which would stay locked in the child. The wait has a limit, because
    the model call may itself wait for the thread that forks.

    Hooks before a fork run in reverse order of their registration, so modules that were imported earlier, for example
    logging, acquire their locks after this function.
    """
    FORK.holds_lock, FORK.signals = False, []
    FORK.holds_lock = WAITS.acquire()


def _after_fork_in_parent() -> None:
    """Release the lock, and send the recorded signals once the fork has returned."""
    if FORK.holds_lock:
        MODEL_LOCK.release()
    if FORK.signals:
        Thread(target=_send_after_fork, args=(FORK.signals, get_ident())).start()


def _send_after_fork(signals: list[int], thread: int) -> None:
    """Send signals to this process as soon as :func:`_after_fork_in_parent` has returned in ``thread``."""
    forking = True
    while forking:
        time.sleep(RESEND_SECONDS)
        stack = traceback.walk_stack(sys._current_frames()[thread])
        forking = any(frame.f_code is _after_fork_in_parent.__code__ for frame, _ in stack)
    for number in signals:
        os.kill(os.getpid(), number)


def _after_fork_in_child() -> None:
    if FORK.holds_lock:
        MODEL_LOCK.release()
    _call_all([lock.after_fork for lock in LOCKS])


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


class _GlobalGenerator:
    """The generator behind the global functions of torch (on the CPU), Python or numpy.

    Reading or writing a state takes up to 0.1 ms. Therefore the last state is reused while the generator's memory is
    unchanged.

    Parameters
    ----------
    read, write : callable
        Return and set the state.
    memory : callable
        Returns the bytes that change whenever a number is drawn; None if they are not known.
    """

    def __init__(self, read: Callable, write: Callable, memory: Callable[[], bytes | None]):
        self._read, self._write, self._memory = read, write, memory
        self._bytes: bytes | None = None
        self._state = None

    def read(self):
        """Return the state: the same object as before if no number was drawn since."""
        memory = self._memory()
        if memory is None or memory != self._bytes:
            self._bytes, self._state = memory, self._read()
        return self._state

    def write(self, state) -> None:
        if self.read() is not state:
            self._write(state)
            self._bytes, self._state = self._memory(), state


def _torch_memory() -> bytes:
    return torch.get_rng_state().numpy().tobytes()


def _python_memory() -> bytes | None:
    """Return the position and key of Python's generator, from the memory of the C object.

    They follow the header of all objects. Return None while ``random.gauss`` has stored a second number, because
    drawing this number does not change the memory.
    """
    generator = random.getstate.__self__
    if not _PYTHON_MEMORY_IS_KNOWN or generator.gauss_next is not None:
        return None
    return ctypes.string_at(id(generator) + object.__basicsize__, 625 * 4)


def _python_memory_is_known() -> bool:
    """Return whether Python's generators have the memory layout that :func:`_python_memory` reads."""
    if sys.implementation.name != "cpython" or random.Random.__basicsize__ < object.__basicsize__ + 625 * 4:
        return False
    trial = random.Random(5)
    *key, position = trial.getstate()[1]
    return ctypes.string_at(id(trial) + object.__basicsize__, 625 * 4) == struct.pack("=625I", position, *key)


def _numpy_memory() -> bytes | None:
    """Return the key and the position of numpy's generator; None for another kind of generator.

    Drawing a second normal number that is stored (``has_gauss``) does not change them.
    """
    generator = np.random.get_bit_generator() if hasattr(np.random, "get_bit_generator") else None
    if not isinstance(generator, np.random.MT19937):
        return None
    return ctypes.string_at(generator.ctypes.state_address, 625 * 4)


class _GlobalNumpy(_GlobalGenerator):
    """The generator behind numpy's global functions."""

    def read(self) -> dict:
        if self._state is None or self._state["has_gauss"]:  # the stored number may have been drawn since then
            self._bytes = None
        return super().read()


_PYTHON_MEMORY_IS_KNOWN = _python_memory_is_known()
TORCH = _GlobalGenerator(torch.get_rng_state, torch.set_rng_state, _torch_memory)
PYTHON = _GlobalGenerator(random.getstate, random.setstate, _python_memory)
NUMPY = _GlobalNumpy(partial(np.random.get_state, legacy=False), np.random.set_state, _numpy_memory)


class RandomStream:
    """A stream of random numbers that successive ``with`` blocks continue, separate from the caller's.

    The stream covers the generators of torch, Python (``random``) and numpy (``numpy.random``), and generators that are
    attributes of modules. Its first block starts at the states that they have then. Outside of its ``with`` blocks, the
    generators have the caller's states.

    Parameters
    ----------
    devices : iterable of torch.device
        Devices whose generators are covered; the generator of the CPU always is.
    modules : iterable of torch.nn.Module
        Modules whose generators are covered: attributes that are a ``torch.Generator``, ``random.Random``,
        ``numpy.random.Generator`` or ``numpy.random.RandomState``.
    seed : tuple of int and str, optional
        Seed of the generators of torch, Python and numpy, instead of the caller's states. The seed is hashed, so that
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

    def __init__(self, devices: Iterable[torch.device] = (), modules: Iterable[Module] = (), seed: tuple | None = None):
        self._devices, self._seed = list(devices), seed
        self._generators = [*_global_generators(self._devices), *_generators_in(modules)]
        self._own: list | None = None  # states at the end of the last block

    def __enter__(self) -> RandomStream:
        self._callers = self._read()
        if self._own is not None:
            self._write(self._own, self._callers)
        elif self._seed is not None:
            _seed_generators(self._devices, self._seed)
        return self

    def __exit__(self, *_) -> None:
        try:
            self._own = self._read()
        finally:
            self._write(self._callers, self._own)

    def _read(self) -> list:
        return [read() for read, _ in self._generators]

    def _write(self, states: list, current: list) -> None:
        """Set the states of the generators, except where the state is the current one."""
        pairs = zip(self._generators, states, current)
        writes = [partial(write, state) for (_, write), state, old in pairs if state is not old]
        if writes:
            _call_all(writes)


def _global_generators(devices: Iterable[torch.device]) -> Iterator[Accessors]:
    yield TORCH.read, TORCH.write
    for device in dict.fromkeys(d for d in devices if d.type == "cuda"):
        yield _cuda_generator(device)
    yield PYTHON.read, PYTHON.write
    yield NUMPY.read, NUMPY.write


def _cuda_generator(device: torch.device) -> Accessors:
    """Return the accessors of a GPU's generator."""
    # They do nothing in a forked child, which cannot use CUDA.
    process = os.getpid()

    def read() -> Tensor | None:
        return torch.cuda.get_rng_state(device) if os.getpid() == process else None

    def write(state: Tensor) -> None:
        if os.getpid() == process:
            torch.cuda.set_rng_state(state, device)

    return read, write


def _generators_in(modules: Iterable[Module]) -> Iterator[Accessors]:
    """Yield the accessors of each generator that is an attribute of a module."""
    owned = [value for root in modules for module in root.modules() for value in tuple(vars(module).values())]
    kinds = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)
    # By type: a module has many attributes of few types, and checking an instance for torch.Generator is slow.
    types = {kind for kind in set(map(type, owned)) if issubclass(kind, kinds)}
    for generator in {id(value): value for value in owned if type(value) in types}.values():
        if isinstance(generator, torch.Generator):
            yield generator.get_state, generator.set_state
        elif isinstance(generator, random.Random):
            yield generator.getstate, generator.setstate
        elif isinstance(generator, np.random.RandomState):
            yield lambda g=generator: g.get_state(legacy=False), generator.set_state
        else:
            bits = generator.bit_generator
            yield lambda bits=bits: bits.state, lambda state, bits=bits: setattr(bits, "state", state)


def _seed_generators(devices: Iterable[torch.device], seed: tuple) -> None:
    """Seed torch, Python and numpy."""
    # torch.manual_seed would also seed GPUs that are not in use.
    number = int.from_bytes(sha256(repr(seed).encode()).digest()[:8], "big") >> 1
    torch.default_generator.manual_seed(number)
    for device in devices:
        if device.type == "cuda":
            index = torch.cuda.current_device() if device.index is None else device.index
            torch.cuda.default_generators[index].manual_seed(number)
    random.seed(number)
    np.random.seed(number % 2**32)


@contextmanager
def private_buffers(modules: Iterable[Module]) -> Iterator[None]:
    """Give modules copies of their buffers within the block, and the original buffers afterwards.

    Buffers that a forward pass has registered are removed. If values were copied back instead, a graph of the caller
    that has saved a buffer would become invalid.
    """
    held = [(m, dict(m._buffers.items())) for root in modules for m in root.modules()]
    copies = {id(b): b.detach().clone() for _, buffers in held for b in buffers.values() if b is not None}
    with MODEL_LOCK.undone_by(lambda: _put_back(held)):
        for module, buffers in held:
            for name, buffer in buffers.items():
                if buffer is not None:
                    module._buffers[name] = copies[id(buffer)]  # by id, so that a shared buffer stays shared
        yield


def _put_back(held: list[tuple[Module, dict[str, Tensor | None]]]) -> None:
    for module, buffers in held:
        for name in set(dict(module._buffers.items())) - set(buffers):
            del module._buffers[name]
            module._non_persistent_buffers_set.discard(name)
        for name, buffer in buffers.items():
            module._buffers[name] = buffer


def in_training(module: Module) -> bool:
    """Return whether a submodule other than WRAPPERS is in training mode."""
    return any(getattr(m, "training", False) for m in module.modules() if type(m) not in WRAPPERS)


def may_write(module: Module) -> bool:
    """Return whether a module may write its buffers.

    Modules in eval mode may, too. A compiled module in eval mode is assumed not to: its CUDA graphs contain the
    addresses of its buffers, and would be recorded again for copies of the buffers.
    """
    compiled = any(hasattr(m, "_orig_mod") or getattr(m, "_compiled_call_impl", None) for m in module.modules())
    return in_training(module) or not compiled


def is_exported(model) -> bool:
    """Return whether a model is the module of an ExportedProgram.

    Its training flags have no meaning.
    """
    return isinstance(model, torch.fx.GraphModule) and "eval" in vars(model)


def warning_stacklevel() -> int:
    """Return the ``stacklevel`` of warnings about the first line outside of this package and torch."""
    ours, level = (__name__.partition(".")[0], "torch"), 1
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ours:
        frame, level = frame.f_back, level + 1
    return level

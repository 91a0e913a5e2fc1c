"""A model's random numbers, buffers and locks do not affect the caller.

This holds in this process and in a forked one.
"""

import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from steerlens_fast.classifier import Classifier
from steerlens_fast.classifier.isolation import MODEL_LOCK, NUMPY, PYTHON, TORCH, ForkSafeLock, RandomStream


class Drawing(nn.Module):
    """Linear, with noise from every generator that a model can reach."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 3)
        self.torch, self.python = torch.Generator().manual_seed(1), random.Random(1)
        self.numpy, self.legacy = np.random.default_rng(1), np.random.RandomState(1)

    def forward(self, x):
        drawn = self.python.random() + self.numpy.random() + self.legacy.rand()
        noise = torch.rand(()) + torch.rand((), generator=self.torch) + random.random() + np.random.rand() + drawn
        return self.head(x.flatten(1) * noise)


def states(model):
    """Return the state of every generator that :class:`Drawing` uses."""
    model_states = (model.torch.get_state(), model.python.getstate(), model.numpy.bit_generator.state)
    return (*model_states, model.legacy.get_state(), torch.get_rng_state(), random.getstate(), np.random.get_state())


def test_generators_of_the_caller_are_unchanged():
    model = Drawing().eval()
    images, classifier = torch.rand(4, 1, 8, 8), Classifier(model)
    before, stream = repr(states(model)), classifier.session(images)
    first = classifier.outputs(images)
    gradient, outputs = classifier.gradient(images, lambda o, at: o[:, 0])
    continued = [classifier.outputs(images, stream=stream) for _ in range(2)]
    assert repr(states(model)) == before
    assert torch.equal(first, outputs) and torch.equal(first, continued[0])
    assert not torch.equal(*continued)
    with pytest.raises(ZeroDivisionError):
        classifier.gradient(images, lambda o, at: 1 / 0)
    assert repr(states(model)) == before


def test_another_numpy_generator_behind_the_global_functions():
    before = np.random.get_bit_generator()
    try:
        np.random.set_bit_generator(np.random.PCG64(3))
        with RandomStream():
            inside = np.random.rand()
        assert np.random.rand() == inside
    finally:
        np.random.set_bit_generator(before)


@pytest.mark.parametrize("drawn", [0, 1, 2], ids=lambda n: f"{n} normal numbers before")
def test_normal_number_that_waits_in_numpys_generator(drawn):
    """numpy makes normal numbers in pairs, and keeps the second one; drawing it does not move the generator."""
    np.random.seed(5)
    np.random.randn(drawn)
    before = repr(np.random.get_state())
    stream, inside = RandomStream(), []
    for _ in range(3):
        with stream:
            inside.append(np.random.randn())
        assert repr(np.random.get_state()) == before
    assert inside == np.random.randn(3).tolist()


@pytest.mark.parametrize("drawn", [0, 1, 2], ids=lambda n: f"{n} normal numbers before")
def test_normal_number_that_waits_in_pythons_generator(drawn):
    random.seed(5)
    for _ in range(drawn):
        random.gauss(0, 1)
    before, stream, inside = random.getstate(), RandomStream(), []
    for _ in range(3):
        with stream:
            inside.append(random.gauss(0, 1))
        assert random.getstate() == before
    assert inside == [random.gauss(0, 1) for _ in range(3)]


def test_states_are_read_and_written_only_if_a_number_was_drawn(monkeypatch):
    random.seed(5)
    np.random.seed(5)
    stream, calls = RandomStream(), []
    with stream:
        pass
    for name in ("_read", "_write"):
        for generator in (TORCH, PYTHON, NUMPY):
            monkeypatch.setattr(generator, name, lambda *_, name=name, generator=generator: calls.append(name))
    with stream:
        pass
    assert calls == []


def test_stream_starts_at_the_states_of_its_first_block():
    stream = RandomStream()
    torch.rand(2)
    with stream:
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), inside)


def test_seeded_streams_repeat_and_leave_no_trace():
    draw = lambda: (torch.rand(2).tolist(), random.random(), np.random.rand())
    before = torch.get_rng_state(), random.getstate(), repr(np.random.get_state())
    results = []
    for seed in [(0, 3), (0, 3), (0, 4), (1, 3), (0, 3, "x")]:
        with RandomStream(seed=seed):
            results.append(draw())
    assert results[0] == results[1]
    assert len({str(f) for f in results}) == 4
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), repr(np.random.get_state())) == before[1:]


def test_seeded_classifier_draws_the_same_whatever_ran_before():
    model = Drawing().eval()
    images, classifier = torch.rand(4, 1, 8, 8), Classifier(model)
    classifier.seed = (0, 1)
    first = classifier.outputs(images)
    torch.rand(5), random.random(), np.random.rand()
    assert torch.equal(classifier.outputs(images), first)
    classifier.seed = (0, 2)
    assert not torch.equal(classifier.outputs(images), first)


def test_lock_is_reentrant_and_undoes_in_order():
    lock, done = ForkSafeLock(), []
    with lock, lock.undone_by(lambda: done.append(1)), lock, lock.undone_by(lambda: done.append(2)):
        assert done == []
    assert done == [2, 1]


FORK = """
import os, signal, sys, threading
import torch
from torch import nn
import steerlens_fast as sf
from steerlens_fast.classifier import Classifier, isolation

isolation.FORK_SECONDS = 0.1
torch.set_num_threads(1)
inside, leave = threading.Event(), threading.Event()

class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        torch.rand(3)
        if threading.current_thread() is not threading.main_thread():
            inside.set()
            assert leave.wait(60)
        return self.head(x.flatten(1))

model, images = Slow().eval(), torch.rand(2, 1, 8, 8)
before = torch.get_rng_state()
lens = sf.SteerableLens(model, family="pixel")
expected = lens.morph(images, 1, factors=1.0).frames
thread = threading.Thread(target=lambda: lens.morph(images, 1, factors=1.0))
thread.start()
assert inside.wait(60)
child = os.fork()
if not child:
    signal.alarm(60)
    same = model.calls.item() == 0
    same &= torch.equal(lens.morph(images, 1, factors=1.0).frames, expected)
    os._exit(0 if same and model.calls.item() == 0 else 7)
status = os.waitpid(child, 0)[1]
isolation.FORK_SECONDS = 3600.0  # a fork that waited for the same call again would hang the test
if not os.fork():
    os._exit(0)
os.wait()
assert not torch.equal(torch.get_rng_state(), before), "the parent's thread is still within"
leave.set()
thread.join()
assert torch.equal(torch.get_rng_state(), before) and model.calls.item() == 0
sys.exit(os.waitstatus_to_exitcode(status))
"""


def run(script):
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", script], env=environment, timeout=150, capture_output=True, text=True)


def test_fork_during_a_long_model_call_leaves_the_child_free():
    """The child does not wait for a thread that it does not have, and its buffers are not those of the call."""
    result = run(FORK)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("RuntimeWarning: the process was forked while a model call") == 1


INTERRUPT = """
import os, signal, threading
from steerlens_fast.classifier import isolation

lock, inside, leave = isolation.MODEL_LOCK, threading.Event(), threading.Event()
isolation.FORK_SECONDS, acquire, handled = 0.1, lock.acquire, []

def call():
    with lock:
        inside.set()
        assert leave.wait(60)

def interrupted(timeout=-1):
    if timeout > 0:
        signal.raise_signal(number)  # in this thread: another one may take one of os.kill later
    return acquire(timeout)

def handler(number, frame):
    handled.append(number)
    raise RuntimeError

signal.signal(signal.SIGTERM, handler)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
thread = threading.Thread(target=call)
thread.start()
assert inside.wait(60)
lock.acquire = interrupted
for number, error in ((signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, RuntimeError)):
    isolation.WAITS.given_up = None
    try:
        if not os.fork():
            os._exit(0)
        os.wait()
        threading.Event().wait(30)
        raise AssertionError("the handler's error was lost")
    except error:
        pass
leave.set()
thread.join()
assert handled == [signal.SIGTERM] and signal.getsignal(signal.SIGTERM) is handler
"""


def test_signals_during_the_wait_before_a_fork_are_handled_after_it():
    result = run(INTERRUPT)
    assert result.returncode == 0, result.stderr


DRAW = """
import os, random, signal, sys, threading
import numpy as np
import torch
from torch import nn
from steerlens_fast.classifier import Classifier

torch.set_num_threads(1)

class Noise(nn.Module):
    def forward(self, x):
        torch.randn(1_000_000), np.random.randn(1_000_000), random.random()
        return x.flatten(1)

def states():
    return torch.get_rng_state().tolist(), repr(np.random.get_state())

classifier, images, leave = Classifier(Noise().eval()), torch.rand(1, 1, 2, 2), threading.Event()
before = states()

def loop():
    while not leave.is_set():
        classifier.outputs(images)

thread = threading.Thread(target=loop)
thread.start()
for _ in range(10):
    child = os.fork()
    if not child:
        signal.alarm(60)
        same = states() == before
        classifier.outputs(images)
        os._exit(0 if same else 7)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        break
leave.set()
thread.join()
sys.exit(status)
"""


def test_fork_while_a_model_draws_leaves_the_child_with_free_generators():
    result = run(DRAW)
    assert result.returncode == 0, result.stderr


LOADER = """
import torch
from torch import nn
from torch.utils.data import DataLoader
from steerlens_fast.classifier import Classifier

class Loading(nn.Module):
    def forward(self, x):
        loader = DataLoader(list(range(4)), num_workers=1, multiprocessing_context="fork")
        return x.flatten(1) * sum(loader)

images = torch.rand(1, 1, 2, 2)
assert torch.equal(Classifier(Loading().eval()).outputs(images), images.flatten(1) * 6)
"""


def test_model_may_fork_worker_processes():
    result = run(LOADER)
    assert result.returncode == 0, result.stderr


def test_generator_of_a_gpu_is_left_alone_in_a_forked_child(monkeypatch):
    """In a forked child, torch raises an error for every use of CUDA."""
    parent, state = os.getpid(), torch.zeros(16, dtype=torch.uint8)

    def read(device):
        assert os.getpid() == parent
        return state

    monkeypatch.setattr(torch.cuda, "get_rng_state", read)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: read(device))
    before, code = torch.get_rng_state(), 7
    with RandomStream([torch.device("cuda")]) as stream:
        torch.rand(1)
        child = os.fork()
        if not child:
            try:
                stream.__exit__()
                code = 0 if torch.equal(torch.get_rng_state(), before) else 8
            finally:
                os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_lock_that_another_thread_holds_is_free_in_a_forked_child():
    """An undo function that fails there does not prevent the others."""
    lock, held, leave, parent, done = ForkSafeLock(), threading.Event(), threading.Event(), os.getpid(), []

    def hold():
        with lock, lock.undone_by(lambda: done.append(1)), lock.undone_by(lambda: 1 / (os.getpid() == parent)):
            held.set()
            leave.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(60)
    child = os.fork()
    if not child:
        os._exit(0 if lock.acquire(timeout=30) and done else 7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not lock.acquire(timeout=0)
    leave.set()
    thread.join()


def test_fork_by_the_thread_in_the_lens_itself_continues_in_both():
    """The call of a model that forks ends in the child as in the parent."""
    before = torch.get_rng_state()
    with MODEL_LOCK, RandomStream():
        torch.rand(1)
        child = os.fork()
        if not child:
            os._exit(0 if MODEL_LOCK._depth == 1 and not torch.equal(torch.get_rng_state(), before) else 7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert torch.equal(torch.get_rng_state(), before)

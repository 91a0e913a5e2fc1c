"""A model's random numbers do not affect the caller. Threads wait for each other, forked processes do not."""

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

from steerlens_fast.classifier import Classifier, isolation
from steerlens_fast.classifier.isolation import RandomStream


class Noisy(nn.Module):
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
    """Return the state of every generator that :class:`Noisy` uses."""
    model_states = (model.torch.get_state(), model.python.getstate(), model.numpy.bit_generator.state)
    return (*model_states, model.legacy.get_state(), torch.get_rng_state(), random.getstate(), np.random.get_state())


def test_generators_of_the_caller_are_unchanged():
    model = Noisy().eval()
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


def test_replaced_global_numpy_generator_is_restored():
    before = np.random.get_bit_generator()
    try:
        np.random.set_bit_generator(np.random.PCG64(3))
        with RandomStream():
            inside = np.random.rand()
        assert np.random.rand() == inside
    finally:
        np.random.set_bit_generator(before)


@pytest.mark.parametrize("drawn", [0, 1, 2], ids=lambda n: f"{n} normal numbers before")
def test_stored_normal_number_of_numpys_generator_is_restored(drawn):
    """numpy makes normal numbers in pairs, and stores the second one until the next draw."""
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
def test_stored_normal_number_of_pythons_generator_is_restored(drawn):
    random.seed(5)
    for _ in range(drawn):
        random.gauss(0, 1)
    before, stream, inside = random.getstate(), RandomStream(), []
    for _ in range(3):
        with stream:
            inside.append(random.gauss(0, 1))
        assert random.getstate() == before
    assert inside == [random.gauss(0, 1) for _ in range(3)]


def test_states_of_numpy_are_read_and_written_only_if_a_number_was_drawn(monkeypatch):
    """Reading and writing the states is slow."""
    np.random.seed(5)
    stream, calls = RandomStream(), []
    with stream:
        pass
    for name in ("get_state", "set_state"):
        monkeypatch.setattr(np.random, name, lambda *_, name=name, **__: calls.append(name))
    with stream:
        pass
    assert calls == []


def test_states_are_restored_without_access_to_numpys_bit_generator(monkeypatch):
    """Numpy before 1.24 has no function ``get_bit_generator``."""
    monkeypatch.delattr(np.random, "get_bit_generator")
    draw = lambda: (random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn())
    before, stream = repr((random.getstate(), np.random.get_state())), RandomStream()
    with stream:
        inside = [draw()]
    assert repr((random.getstate(), np.random.get_state())) == before
    with stream:
        inside.append(draw())
    assert inside == [draw(), draw()]


def test_stream_starts_at_the_states_of_its_first_block():
    stream = RandomStream()
    torch.rand(2)
    with stream:
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), inside)


def test_nested_blocks_of_a_stream_are_one_block():
    before, stream = random.getstate(), RandomStream()
    with stream:
        with stream:
            inside = [random.random()]
        inside.append(random.random())
    assert random.getstate() == before
    with stream:
        inside.append(random.random())
    assert inside == [random.random() for _ in range(3)]


def test_seeded_streams_repeat_and_restore_the_states():
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
    model = Noisy().eval()
    images, classifier = torch.rand(4, 1, 8, 8), Classifier(model)
    classifier.seed = (0, 1)
    first = classifier.outputs(images)
    torch.rand(5), random.random(), np.random.rand()
    assert torch.equal(classifier.outputs(images), first)
    classifier.seed = (0, 2)
    assert not torch.equal(classifier.outputs(images), first)


def test_one_thread_at_a_time_runs_a_model():
    """Otherwise, the end of a call would rewind the generators from which another thread draws."""
    stream, ran = RandomStream(), threading.Event()
    thread = threading.Thread(target=lambda: (Classifier(nn.Flatten()).outputs(torch.rand(1, 1, 2, 2)), ran.set()))
    with stream, RandomStream():  # the thread that runs a model may run another model
        thread.start()
        assert not ran.wait(0.2)
    assert ran.wait(60)
    thread.join()


class SystemNoise(nn.Flatten):
    def __init__(self):
        super().__init__()
        self.noise = random.SystemRandom()


def test_generators_without_a_state_are_left_alone():
    images = torch.rand(1, 1, 2, 2)
    assert torch.equal(Classifier(SystemNoise()).outputs(images), images.flatten(1))


def another_thread_can_run_a_model() -> bool:
    ran = threading.Event()
    thread = threading.Thread(target=lambda: (Classifier(nn.Flatten()).outputs(torch.rand(1, 1, 2, 2)), ran.set()))
    thread.start()
    thread.join(60)
    return ran.is_set()


def test_error_on_entering_a_block_restores_the_states_and_frees_the_lock(monkeypatch):
    before, stream = torch.get_rng_state(), RandomStream(seed=(1,))
    monkeypatch.setattr(random, "seed", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), stream:
        pass
    assert torch.equal(torch.get_rng_state(), before)
    assert another_thread_can_run_a_model()


def test_error_of_one_generator_restores_the_others(monkeypatch):
    monkeypatch.setattr(isolation, "TORCH", isolation.TORCH._replace(write=lambda state: 1 / 0))
    before = random.getstate()
    with pytest.raises(ZeroDivisionError), RandomStream():
        random.random()
    assert random.getstate() == before
    monkeypatch.undo()
    assert another_thread_can_run_a_model()


FORK = """
import os, signal, sys, threading
import torch
from torch import nn
from steerlens_fast.classifier import Classifier

torch.set_num_threads(1)
inside, leave = threading.Event(), threading.Event()

class Slow(nn.Flatten):
    def forward(self, x):
        if threading.current_thread() is not threading.main_thread():
            inside.set()
            assert leave.wait(60)
        return super().forward(x)

classifier, images = Classifier(Slow().eval()), torch.rand(2, 1, 8, 8)
thread = threading.Thread(target=lambda: classifier.outputs(images))
thread.start()
assert inside.wait(60)
child = os.fork()
if not child:
    signal.alarm(60)
    os._exit(0 if torch.equal(classifier.outputs(images), images.flatten(1)) else 7)
status = os.waitpid(child, 0)[1]
leave.set()
thread.join()
sys.exit(os.waitstatus_to_exitcode(status))
"""


def run(script):
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", script], env=environment, timeout=150, capture_output=True, text=True)


def test_forked_child_does_not_wait_for_threads_of_the_parent():
    result = run(FORK)
    assert result.returncode == 0, result.stderr


FORK_IN_A_BLOCK = """
import os, random, signal, sys
from steerlens_fast.classifier.isolation import RandomStream

before, stream = random.getstate(), RandomStream()
with stream:
    child = os.fork()
    signal.alarm(60)
    with stream:
        random.random()
assert random.getstate() == before
with stream:  # in both processes, the lock is free again
    pass
sys.exit(0 if not child else os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_fork_within_a_block_leaves_the_lock_free_in_both_processes():
    result = run(FORK_IN_A_BLOCK)
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

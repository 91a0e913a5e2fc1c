"""Results are bitwise equal for any number of threads.

They are also equal in repeated runs, and in several threads at once.
"""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from inputs import image, normal
from op_cases import OPS, RAW, as_list, case, shapes_of

from steerlens_fast import CSPFamily, SteerablePyramid, openmp

syntheses = pytest.mark.parametrize("synthesis", ["real", "adjoint"])


@pytest.fixture
def set_threads():
    """``torch.set_num_threads``; the number is restored after the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def work(synthesis: str, dtype, device="cpu") -> list:
    """Return the results of an analysis, a synthesis, and morphs with their gradients."""
    pyramid = SteerablePyramid((61, 48), synthesis=synthesis)
    x, gradient = (f(4, 3, 61, 48, dtype=dtype, device=device) for f in (image, normal))
    c = pyramid(x)
    out = [*c.tensors(), pyramid.synthesize(c)]
    for rule in ("complex", "polar"):
        leaf = x.clone().requires_grad_()
        frames = CSPFamily(pyramid, "joint", rule, eps=0.1).prepare(leaf, gradient).render([0.0, 0.5, 1.0])
        out += [frames.detach(), *torch.autograd.grad(frames.square().sum(), leaf)]
    return out


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("op", OPS)
def test_ops_are_equal_for_any_number_of_threads(op, dtype, set_threads):
    args = case(op, "", shapes_of(op)["threads"]).build(dtype)
    results = []
    for count in (1, 2, 3):
        set_threads(count)
        results.append(as_list(getattr(RAW, op)(*args)))
    assert same(results[0], results[1]) and same(results[0], results[2])


@syntheses
def test_results_are_equal_for_any_number_of_threads(synthesis, dtype, set_threads):
    results = []
    for count in (1, 2):
        set_threads(count)
        results.append(work(synthesis, dtype))
    assert same(*results)


@syntheses
def test_repeated_runs_are_bitwise_equal(synthesis, dtype, device):
    assert same(work(synthesis, dtype, device), work(synthesis, dtype, device))


@syntheses
def test_several_python_threads_give_equal_results(synthesis, device):
    expected = work(synthesis, torch.float32, device)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: work(synthesis, torch.float32, device), range(8)))
    assert all(same(result, expected) for result in results)


def test_masks_made_by_several_threads_are_right():
    """No other test uses this geometry, so the threads make its masks."""
    pyramid = SteerablePyramid((40, 40), width=1.03125)
    x = image(40, 40)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: pyramid.synthesize(pyramid(x)), range(8)))
    assert all((r - x).abs().max() < 1e-13 for r in results)


@pytest.mark.parametrize(
    "arguments, shortened", [(["-m", "steerlens_fast", "info"], True), (["-c", "import steerlens_fast"], False)]
)
def test_only_the_command_shortens_the_spinning_of_threads(arguments, shortened):
    environment = {name: value for name, value in os.environ.items() if name not in openmp.SPIN_SETTINGS}
    environment["OMP_DISPLAY_ENV"] = "verbose"  # libgomp prints its settings when it is loaded
    shown = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=True)
    result = re.search(r"GOMP_SPINCOUNT = '(\d+)'", shown.stderr)
    if result is None:
        pytest.skip("this torch does not use libgomp")
    assert (result[1] == openmp.SHORT_SPIN["GOMP_SPINCOUNT"]) == shortened

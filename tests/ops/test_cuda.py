"""Tests on a GPU.

CUDA graphs, streams, a second device, no waits, repeatability, clusters, and agreement with the CPU.
"""

import os
import subprocess
import sys

import pytest
import torch
from inputs import image, normal
from linear import SIZE, Linear, make_inputs
from op_cases import OP_CASES, OPS, RAW, as_list, case, shapes_of
from tolerances import all_equal, assert_close

from steerlens_fast import CSPFamily, SteerableLens, SteerablePyramid, factor_at_l2
from steerlens_fast.families import FAMILIES
from steerlens_fast.pyramid import Coefficients

pytestmark = pytest.mark.cuda


def tensors_of(value) -> list[torch.Tensor]:
    return value.tensors() if isinstance(value, Coefficients) else as_list(value)


def analysis(x, g):
    return SteerablePyramid(SIZE)(x)


def there_and_back(synthesis):
    def work(x, g):
        pyramid = SteerablePyramid(SIZE, synthesis=synthesis)
        return pyramid.synthesize(pyramid(x).map(lambda band: band * 0.5))

    return work


def morph(edit, synthesis="real"):
    def work(x, g):
        family = CSPFamily(SteerablePyramid(SIZE, synthesis=synthesis), edit, "polar")
        return family.prepare(x, g).render(torch.linspace(0.5, 2, 3, device=x.device), bounds=(0, 1))

    return work


WORK = {
    "analysis": analysis,
    "synthesis": there_and_back("real"),
    "adjoint synthesis": there_and_back("adjoint"),
    "frozen phase morph": morph("phase"),
    "frozen joint morph": morph("joint"),
    "frozen adjoint morph": morph("phase", "adjoint"),
}
each_workload = pytest.mark.parametrize("work", WORK.values(), ids=WORK)


def on(device, count=2):
    return [t.to(device) for t in make_inputs(count)]


# --- CUDA graphs


@each_workload
@torch.no_grad()
def test_captured_graph_replays_with_new_inputs(work, gpu):
    """A replay uses the values that the inputs have at that time."""
    x, g = on(gpu)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        work(x, g)  # makes filters and FFT plans before the capture
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = tensors_of(work(x, g))
    for seed in (7, 8):
        x.copy_(image(2, 3, *SIZE, dtype=torch.float32, device=gpu, seed=seed))
        g.copy_(normal(2, 3, *SIZE, dtype=torch.float32, device=gpu, seed=seed))
        graph.replay()
        for replayed, eager in zip(out, tensors_of(work(x, g)), strict=True):
            assert torch.equal(replayed, eager)


# --- Streams and devices


@each_workload
@torch.no_grad()
def test_streams_give_the_results_of_one_stream(work, gpu):
    """Work on several streams at the same time gives the same results as on the default stream."""
    batches = [[t.roll(n, -1) for t in on(gpu, 8)] for n in range(6)]
    alone = [tensors_of(work(*batch)) for batch in batches]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in batches]
    results = [None] * len(batches)
    for _ in range(3):
        for n, stream in enumerate(streams):
            with torch.cuda.stream(stream):
                results[n] = tensors_of(work(*batches[n]))
    torch.cuda.synchronize()
    for mine, expected in zip(results, alone):
        assert all_equal(mine, expected)


@each_workload
@torch.no_grad()
def test_device_other_than_the_current_one_works(work, gpu):
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    other = torch.device("cuda", 1)
    with torch.cuda.device(gpu):
        actual = tensors_of(work(*on(other)))
        assert torch.cuda.current_device() == 0
    for mine, expected in zip(actual, tensors_of(work(*on(gpu)))):
        assert mine.device == other
        assert_close(mine, expected, "render")


# --- Waits


@pytest.fixture
def forbid_waits(gpu):
    """A function. After it is called, operations that wait for the device raise an error."""
    torch.cuda.synchronize()

    def begin():
        torch.cuda.set_sync_debug_mode("error")

    yield begin
    torch.cuda.set_sync_debug_mode("default")


@each_workload
@torch.no_grad()
def test_work_does_not_wait(work, gpu, forbid_waits):
    x, g = on(gpu)
    work(x, g)
    forbid_waits()
    work(x, g)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("target", [3, None], ids=str)
def test_frozen_morph_by_the_lens_does_not_wait(family, target, gpu, forbid_waits):
    lens = SteerableLens(Linear(lambda t: t.to(gpu)), family=family)
    x, _ = on(gpu)
    run = lambda: lens.morph(x, target, factors=3.0, frames=4)
    run()
    forbid_waits()
    assert run().frames.device == x.device


# --- The same bits, twice


@each_workload
def test_repeated_work_is_bitwise_equal(work, gpu):
    x, g = on(gpu)
    assert all_equal(tensors_of(work(x, g)), tensors_of(work(x, g)))


@pytest.mark.parametrize("op", OPS)
def test_repeated_ops_are_bitwise_equal(op, gpu, dtype):
    args = case(op, "threads", shapes_of(op)["threads"]).build(dtype, gpu)
    first, second = (as_list(getattr(RAW, op)(*args)) for _ in range(2))
    assert all_equal(first, second)


def test_repeated_gradients_are_bitwise_equal(gpu):
    def gradients():
        leaves = [t.requires_grad_() for t in on(gpu)]
        return torch.autograd.grad(morph("joint")(*leaves).square().sum(), leaves)

    assert all_equal(gradients(), gradients())


# --- The CPU's results


@pytest.mark.parametrize("op", OPS)
def test_ops_agree_with_the_cpu(op, gpu, dtype):
    name = "op_sums" if op.endswith("_backward") else "op"
    for case_ in (c for c in OP_CASES if c.op == op):
        actual, expected = (as_list(getattr(RAW, op)(*case_.build(dtype, d))) for d in (gpu, "cpu"))
        for ours, theirs in zip(actual, expected, strict=True):
            assert ours.device.type == "cuda", str(case_)
            assert_close(ours, theirs, name)


@each_workload
def test_work_agrees_with_the_cpu(work, gpu):
    for actual, expected in zip(*(tensors_of(work(*on(d))) for d in (gpu, "cpu")), strict=True):
        assert_close(actual, expected, "render")


@pytest.mark.parametrize("regime", ["frozen", "live", "persistent"])
@pytest.mark.parametrize("family", FAMILIES)
def test_morphs_agree_with_the_cpu(family, regime, gpu):
    """The comparison is in float64, so that rounding errors do not change which branch of a formula applies."""
    x, options = image(2, 3, *SIZE), {"factors": 2.0, "frames": 4}
    classifier = lambda d: Linear(lambda t: t.to(d, torch.float64))
    actual, expected = (
        SteerableLens(classifier(d), family=family, regime=regime).morph(x.to(d), 3, **options) for d in (gpu, "cpu")
    )
    assert torch.equal(actual.target.cpu(), expected.target) and actual.ok.all()
    for name in ("frames", "l2", "outputs", "factors"):
        assert_close(getattr(actual, name), getattr(expected, name), "render")


def test_distances_found_by_a_search_agree_with_the_cpu(gpu):
    family = CSPFamily(SteerablePyramid(SIZE), rule="polar")
    (_, l2, attained), (_, cpu_l2, cpu_attained) = (factor_at_l2(family.prepare(*on(d)), 2.0) for d in (gpu, "cpu"))
    assert attained.all() and cpu_attained.all()
    assert (l2.cpu() - cpu_l2).abs().max() <= 1e-3  # each is within 5e-4 of 2


# --- Clusters of blocks

MORPHS = """
import hashlib, torch
from steerlens_fast import CSPFamily, SteerablePyramid
torch.manual_seed(0)
x, g = torch.rand(24, 1, 64, 224).cuda(), torch.randn(24, 1, 64, 224).cuda()
digest = hashlib.sha256()
for edit in ("phase", "amplitude", "joint"):
    frames = CSPFamily(SteerablePyramid((64, 224)), edit).prepare(x, g).render(torch.linspace(0.5, 2, 3).cuda())
    digest.update(frames.cpu().numpy().tobytes())
print(digest.hexdigest())
"""


def test_clusters_do_not_change_a_bit(gpu):
    """STEERLENS_CUDA_CLUSTERS is read once, so each value has a process of its own."""
    digests = set()
    for setting in ("0", "1"):
        command, variables = [sys.executable, "-c", MORPHS], os.environ | {"STEERLENS_CUDA_CLUSTERS": setting}
        digests.add(subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout)
    assert len(digests) == 1

"""The host does not wait for the (fake) GPU in pyramids, nor in morphs with given factors.

In a search for a distance, it waits at most once for each frame that is rendered.
"""

import pytest
import torch
from fake_gpu import FakeGpu, OnGpu, patch_cuda
from linear import SIZE, Linear, make_inputs
from pairwise import pairwise
from tolerances import assert_close

from steerlens_fast import CSPFamily, SteerableLens, SteerablePyramid, factor_at_l2
from steerlens_fast.families import FAMILIES
from steerlens_fast.morphs import MorphStatus


@pytest.fixture
def gpu_mode(monkeypatch):
    patch_cuda(monkeypatch)
    return FakeGpu()


def test_operations_that_do_not_wait_are_not_recorded():
    x, mode = torch.arange(6.0).view(2, 3), FakeGpu()
    with mode:
        t = OnGpu(x)
        assert t.device.type == "cuda" and torch.equal(((2 * t)[1:] + 1)._on_cpu, 2 * x[1:] + 1)
        t[:1, :1] = 7
        t.to(torch.float64).clamp_(0, 1)
    assert not mode.waits


WAITS = {
    "item": lambda t: t.sum().item(),
    "bool": lambda t: bool(t.any()),
    "mask": lambda t: t[t > 0],
    "indices": lambda t: t[[0, 1]],
    "nonzero": lambda t: t.nonzero(),
    "copy to the GPU": lambda t: t.copy_(torch.zeros(2, 3)),
    "copy from the GPU": lambda t: torch.zeros(2, 3).copy_(t),
    "one value": lambda t: t[0].__setitem__(0, 1.0),  # copied from the host, whereas slices are filled on the GPU
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_every_kind_of_wait_is_recorded(wait):
    with FakeGpu() as mode:
        t = OnGpu(torch.arange(6.0).view(2, 3))
        try:
            wait(t)
        except (RuntimeError, NotImplementedError):
            pass  # some operations fail on the stand-in for a GPU tensor
        assert mode.waits


@pytest.mark.parametrize("synthesis", ["real", "adjoint"])
def test_pyramid_does_not_wait(synthesis, gpu_mode):
    pyramid, (x, _) = SteerablePyramid(SIZE, synthesis=synthesis), make_inputs()
    with gpu_mode as mode:
        back = pyramid.synthesize(pyramid(OnGpu(x)))
    assert not mode.waits
    assert_close(back._on_cpu, x, "reconstruction", absolute=True)


@pytest.mark.parametrize("edit", ["phase", "joint"])
@pytest.mark.parametrize("synthesis", ["real", "adjoint"])
def test_morph_along_a_gradient_does_not_wait(synthesis, edit, gpu_mode):
    """The factors are on the host."""
    (x, g), family = make_inputs(), CSPFamily(SteerablePyramid(SIZE, synthesis=synthesis), edit, "polar")
    expected = family.prepare(x, g).render([0.5, 1.0, 2.0], bounds=(0, 1))
    with gpu_mode as mode:
        frames = family.prepare(OnGpu(x), OnGpu(g)).render([0.5, 1.0, 2.0], bounds=(0, 1))
    assert not mode.waits
    assert_close(frames._on_cpu, expected, "render")


@pairwise(target=[3, None, [1, 2]], family=FAMILIES, color=["rgb", "luma"])
def test_frozen_morph_by_the_lens_does_not_wait(family, target, color, gpu_mode):
    (x, _), options = make_inputs(), {"factors": 3.0, "frames": 4}
    rule = "complex" if family == "pixel" else "polar"
    expected = SteerableLens(Linear(), family=family, rule=rule, color=color).morph(x, target, **options)
    with gpu_mode as mode:
        lens = SteerableLens(Linear(OnGpu), family=family, rule=rule, color=color)
        morphs = lens.morph(OnGpu(x), target, **options)
    assert not mode.waits
    assert morphs.frames.device.type == "cuda"
    assert_close(morphs.frames._on_cpu, expected.frames, "render")
    assert torch.equal(morphs.target._on_cpu, expected.target)
    assert not morphs.status._on_cpu.any()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("regime", ["live", "persistent"])
def test_new_gradients_at_each_step_do_not_wait(regime, family, gpu_mode):
    (x, _), options = make_inputs(), {"factors": 0.5, "frames": 3}
    expected = SteerableLens(Linear(), family=family, regime=regime).morph(x, 3, **options)
    with gpu_mode as mode:
        morphs = SteerableLens(Linear(OnGpu), family=family, regime=regime).morph(OnGpu(x), 3, **options)
    assert not mode.waits
    assert_close(morphs.frames._on_cpu, expected.frames, "render")


def test_search_for_a_distance_waits_at_most_once_per_render(gpu_mode):
    (x, g), family = make_inputs(), CSPFamily(SteerablePyramid(SIZE), rule="polar")
    expected = factor_at_l2(family.prepare(x, g), 2.0)
    renders = []
    with gpu_mode as mode:
        motion = family.prepare(OnGpu(x), OnGpu(g))
        ((at, piece),) = motion.pieces()
        render = piece.render
        object.__setattr__(piece, "render", lambda *a, **k: renders.append(1) or render(*a, **k))
        object.__setattr__(motion, "pieces", lambda: [(at, piece)])
        factor, l2, attained = factor_at_l2(motion, 2.0)
    assert attained._on_cpu.all() and torch.equal(attained._on_cpu, expected[2])
    assert 2 <= len(renders) and len(mode.waits) <= len(renders)
    assert_close(factor._on_cpu, expected[0], "render")


def test_invalid_samples_get_a_status_without_a_wait(gpu_mode):
    """On a CPU they raise an error; on a GPU, the check would have to wait. The other samples are unchanged."""
    x, _ = make_inputs(4)
    bad = x.clone()
    bad[1, 0, 3, 3], bad[2, 1, 0, 0] = float("nan"), 1.5
    with gpu_mode as mode:
        lens = SteerableLens(Linear(OnGpu), rule="polar")
        expected, morphs = (lens.morph(OnGpu(t), 3, factors=2.0, frames=3) for t in (x, bad))
    assert not mode.waits
    ok, invalid = MorphStatus.OK, MorphStatus.IMAGE_NOT_IN_BOUNDS
    assert morphs.status._on_cpu.tolist() == [ok, invalid, invalid, ok] and "bounds" in invalid.reason
    for n in (0, 3):
        assert torch.equal(morphs.frames._on_cpu[n], expected.frames._on_cpu[n])
    assert torch.equal(morphs.frames._on_cpu[2, 2], bad[2].clamp(0, 1)) and not morphs.l2._on_cpu[1:3].any()


def test_factors_on_the_host_raise_while_a_graph_is_captured(gpu_mode, monkeypatch):
    """Replays of the graph would read this memory of the host later."""
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    (x, g), family = make_inputs(), CSPFamily(SteerablePyramid(SIZE))
    with gpu_mode:
        motion = family.prepare(OnGpu(x), OnGpu(g))
        with pytest.raises(ValueError, match="factors must be on cuda:0 while a CUDA graph is captured"):
            motion.render([0.0, 1.0])
        assert motion.render(OnGpu(torch.tensor([0.0, 1.0]))).shape == (2, *x.shape)

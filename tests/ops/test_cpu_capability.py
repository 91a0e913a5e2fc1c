"""STEERLENS_CPU_CAPABILITY: pyramids and morphs at lower CPU levels agree with those at the highest level."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from inputs import image, normal
from tolerances import assert_close

from steerlens_fast import CSPFamily, SteerablePyramid, native, ops

HERE = Path(__file__).parent
PATHS = [str(HERE), str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]  # for the processes started here
SHAPES = [(45, 61), (64, 96)]  # [H, W]
WIDTHS = {"default": 0, "avx2": 8, "avx512": 16}  # SIMD widths of the levels of x86-64
LOWER = list(WIDTHS)[: list(WIDTHS).index(native.build_info()["cpu_capability"])]
# One process imports torch. For each value of the variable, a fork of it imports the package.
FORKS = """
import os, sys, torch
def fork(value):
    os.environ["STEERLENS_CPU_CAPABILITY"] = value
    if os.fork() == 0:
        return True  # in the child
    if os.wait()[1] != 0:
        sys.exit("failed with " + repr(value))
    return False
"""
IMPORT = """
for value in sys.argv[1:]:
    if fork(value):
        for attempt in range(2):  # after an invalid value, import again with a valid one
            try:
                import steerlens_fast
                print(steerlens_fast.native.SIMD_WIDTH)
                break
            except ImportError as error:
                print(error)
            os.environ["STEERLENS_CPU_CAPABILITY"] = "default"
        sys.exit()
"""
WRITE = """
folder, *capabilities = sys.argv[1:]
for capability in capabilities:
    if fork(capability):
        import test_cpu_capability
        width = test_cpu_capability.native.SIMD_WIDTH
        program, planes = torch.export.load(folder + "/split.pt2").module(), torch.load(folder + "/planes.pt")
        bands = program(planes) if width else None
        torch.save([width, bands, *test_cpu_capability.results()], f"{folder}/{capability}.pt")
        sys.exit()
"""


def results() -> list[torch.Tensor]:
    """Return bands, images and frames of every shape and of both syntheses."""
    results = []
    for shape in SHAPES:
        x, g = image(3, *shape, dtype=torch.float32), 0.02 * normal(3, *shape, dtype=torch.float32)
        for synthesis in ("real", "adjoint"):
            pyramid = SteerablePyramid(shape, synthesis=synthesis)
            coefficients = pyramid(x)
            results += [*coefficients.bands, pyramid.synthesize(coefficients)]
            results.append(CSPFamily(pyramid, "joint", rule="polar").prepare(x, g).render([0.0, 1.0, 5.0]))
    return results


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(PATHS)} | environment,
        capture_output=True,
        text=True,
    )


class Split(torch.nn.Module):
    """An op on whole planes, with its filters."""

    def __init__(self):
        super().__init__()
        self.register_buffer("filters", image(3, 20, 11, dtype=torch.float32))

    def forward(self, planes):
        return ops.split_planes(planes, [self.filters], [1], ["complex"])[0]


@pytest.mark.skipif(not LOWER, reason="the capability in use is the lowest")
def test_lower_capability_gives_the_same_results(tmp_path):
    """A graph that was exported at the higher capability also gives the same results, apart from rounding."""
    planes = image(2, 40, 22, dtype=torch.float32)
    torch.export.save(torch.export.export(Split(), (planes,)), tmp_path / "split.pt2")
    torch.save(planes, tmp_path / "planes.pt")
    done = run("-c", FORKS + WRITE, str(tmp_path), *LOWER)
    assert done.returncode == 0, done.stderr
    here = results()
    for capability in LOWER:
        width, bands, *theirs = torch.load(tmp_path / f"{capability}.pt")
        assert width == WIDTHS[capability]
        pairs = list(zip(here, theirs, strict=True))
        for ours, other in pairs:
            assert_close(ours, other, "render")
        assert any(not torch.equal(ours, other) for ours, other in pairs), "the same kernels ran"
        if width:  # the op of the exported graph exists
            assert_close(bands, Split()(planes), "pyramid")


def test_env_value_chooses_the_capability_or_raises():
    """An empty value selects the capability of the CPU. So does a capability that the CPU lacks.

    After an invalid value, a second import raises even if the variable has been corrected, because the first import has
    registered the ops.
    """
    done = run("-c", FORKS + IMPORT, "avx", "", "avx512")
    assert done.returncode == 0, done.stderr
    message = "the environment variable STEERLENS_CPU_CAPABILITY must be avx512, avx2 or default, got 'avx'"
    first, second, *widths = done.stdout.splitlines()
    assert message in first and message in second
    assert len(widths) == 2 and all(int(width) >= native.SIMD_WIDTH for width in widths), done.stdout


def test_plane_ops_raise_on_a_cpu_without_them(monkeypatch):
    monkeypatch.setitem(native.LARGEST_PLANE_SIDE, "cpu", 0)
    planes, filters, factors = torch.rand(1, 8, 8), [torch.ones(1, 8, 8)], torch.ones(2, 1)
    calls = {
        "split_planes": lambda: ops.split_planes(planes, filters, [0], ["real"]),
        "merge_planes": lambda: ops.merge_planes([planes[:, None]], filters, [0], ["real"], 8, 8),
        "morph_planes": lambda: ops.morph_planes(planes, planes, factors, factors, filters * 2, filters),
        "step_planes": lambda: ops.step_planes(planes, planes, filters * 2, filters),
        "morph_planes_to_l2": lambda: ops.morph_planes_to_l2(
            planes, planes, 1, *[factors[:1]] * 2, *[factors[0]] * 2, filters * 2, filters
        ),
        "advance_planes": lambda: ops.advance_planes(
            planes, planes, [], 1, planes, planes, filters * 2, filters, factors=factors
        ),
        "move_planes": lambda: ops.move_planes(planes, planes[0], factors, factors, filters * 2, filters),
    }
    for name, call in calls.items():
        with pytest.raises(RuntimeError, match=rf"{name} needs a CPU with AVX2.*STEERLENS_CPU_CAPABILITY"):
            call()

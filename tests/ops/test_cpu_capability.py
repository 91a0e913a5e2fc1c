"""STEERLENS_CPU_CAPABILITY: the same pyramid and morphs on CPUs with AVX2 alone or neither AVX2 nor AVX-512."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cases import image, normal
from tolerances import assert_close

from steerlens_fast import CSPFamily, SteerablePyramid, native, ops

HERE = Path(__file__).parent
PATHS = [str(HERE), str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]  # this file, helpers, the package
SHAPES = [(45, 61), (64, 96)]  # [H, W]
WIDTHS = {"default": 0, "avx2": 8, "avx512": 16}
LOWER = [name for name, width in WIDTHS.items() if width < native.SIMD_WIDTH]
WRITE = """
import sys, torch, test_cpu_capability
torch.save([test_cpu_capability.native.SIMD_WIDTH, *test_cpu_capability.results()], sys.argv[1])
"""
REPLAY = """
import sys, torch, steerlens_fast
program = torch.export.load(sys.argv[1] + "/split.pt2").module()
torch.save(program(torch.load(sys.argv[1] + "/planes.pt")), sys.argv[1] + "/bands.pt")
"""


def results() -> list[torch.Tensor]:
    """Return bands, images and frames of every shape and of both syntheses."""
    found = []
    for shape in SHAPES:
        x, g = image(3, *shape, dtype=torch.float32), 0.02 * normal(3, *shape, dtype=torch.float32)
        for synthesis in ("real", "adjoint"):
            pyramid = SteerablePyramid(shape, synthesis=synthesis)
            coefficients = pyramid(x)
            found += [*coefficients.bands, pyramid.synthesize(coefficients)]
            found.append(CSPFamily(pyramid, "joint", rule="polar").prepare(x, g).render([0.0, 1.0, 5.0]))
    return found


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(PATHS)} | environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.skipif(not LOWER, reason="this CPU has no ops on whole planes")
@pytest.mark.parametrize("capability", LOWER)
def test_lower_capability_gives_the_same_results(capability, tmp_path):
    done = run("-c", WRITE, str(tmp_path / "found.pt"), STEERLENS_CPU_CAPABILITY=capability)
    assert done.returncode == 0, done.stderr
    used, *theirs = torch.load(tmp_path / "found.pt")
    assert used == WIDTHS[capability]
    pairs = list(zip(results(), theirs, strict=True))
    for ours, other in pairs:
        assert_close(ours, other, "render")
    assert any(not torch.equal(ours, other) for ours, other in pairs), "the same kernels ran"


class Split(torch.nn.Module):
    """An op on whole planes, with its filters."""

    def __init__(self):
        super().__init__()
        self.register_buffer("filters", image(3, 20, 11, dtype=torch.float32))

    def forward(self, planes):
        return ops.split_planes(planes, [self.filters], [1], ["complex"])[0]


@pytest.mark.skipif(native.SIMD_WIDTH != 16, reason="this CPU has no AVX-512")
def test_exported_graph_is_valid_with_another_capability(tmp_path):
    planes = image(2, 40, 22, dtype=torch.float32)
    torch.export.save(torch.export.export(Split(), (planes,)), tmp_path / "split.pt2")
    torch.save(planes, tmp_path / "planes.pt")
    done = run("-c", REPLAY, str(tmp_path), STEERLENS_CPU_CAPABILITY="avx2")
    assert done.returncode == 0, done.stderr
    assert_close(torch.load(tmp_path / "bands.pt"), Split()(planes), "pyramid")


def test_invalid_env_value_raises():
    """Also at a second import after the variable was mended: the first one has registered the ops."""
    again = (
        "import os, torch\ntry: import steerlens_fast\n"
        "except ImportError: os.environ['STEERLENS_CPU_CAPABILITY'] = 'default'\n"
    )
    for script in ("import steerlens_fast", again + "import steerlens_fast"):
        done = run("-c", script, STEERLENS_CPU_CAPABILITY="avx")
        assert done.returncode == 1
        message = "STEERLENS_CPU_CAPABILITY must be avx512, avx2 or default, got 'avx'"
        assert f"ImportError: the environment variable {message}" in done.stderr


@pytest.mark.parametrize("value", ["", "avx512"])
def test_empty_or_higher_env_value_uses_the_cpus_own(value):
    done = run("-c", "import steerlens_fast; print(steerlens_fast.native.SIMD_WIDTH)", STEERLENS_CPU_CAPABILITY=value)
    assert done.returncode == 0 and int(done.stdout) >= native.SIMD_WIDTH, done.stderr


def test_missing_ops_raise(monkeypatch):
    monkeypatch.setattr(native, "SIMD_WIDTH", 0)
    planes, filters, factors = torch.rand(1, 8, 8), [torch.ones(1, 8, 8)], torch.ones(2, 1)
    calls = {
        "split_planes": lambda: ops.split_planes(planes, filters, [0], ["real"]),
        "merge_planes": lambda: ops.merge_planes([planes[:, None]], filters, [0], ["real"], 8, 8),
        "morph_planes": lambda: ops.morph_planes(planes, planes, factors, factors, filters * 2, filters),
    }
    for name, call in calls.items():
        with pytest.raises(RuntimeError, match=rf"{name} needs a CPU with AVX2 or AVX-512.*STEERLENS_CPU_CAPABILITY"):
            call()

"""Other CPUs have fewer lanes, or none: the same pyramid and morphs there, as far as this CPU can play them."""

import os
import subprocess
import sys

import pytest
import torch
from cases import image, normal
from tolerances import assert_close

from steerlens_fast import _C, CSPFamily, SteerablePyramid, ops
from steerlens_fast.pyramid import backend

SHAPES = [(45, 61), (64, 96)]  # [H, W]
FEWER = [n for n in (0, 8) if n < _C.PLANE_LANES]
WRITE = """
import sys, torch, test_lanes
torch.save([test_lanes._C.PLANE_LANES, *test_lanes.results()], sys.argv[1])
"""


def results() -> list[torch.Tensor]:
    """Bands, images and frames, one by one, of every shape and of both inverses."""
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
        cwd=os.path.dirname(__file__),
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.skipif(not FEWER, reason="this CPU has no lanes at all")
@pytest.mark.parametrize("lanes", FEWER)
def test_fewer_lanes_give_the_same(lanes, tmp_path):
    done = run("-c", WRITE, str(tmp_path / "found.pt"), STEERLENS_LANES=str(lanes))
    assert done.returncode == 0, done.stderr
    used, *theirs = torch.load(tmp_path / "found.pt")
    assert used == lanes
    pairs = list(zip(results(), theirs, strict=True))
    for ours, other in pairs:
        assert_close(ours, other, "render")
    assert any(not torch.equal(ours, other) for ours, other in pairs), "it is another computation"


@pytest.mark.slow
@pytest.mark.skipif(_C.PLANE_LANES != 16, reason="what has fewer lanes than this CPU is not there")
def test_the_ops_of_eight_lanes():
    """All tests of the ops for whole planes, as a CPU with AVX2 alone runs them."""
    files = ["test_planes.py", "test_morph_planes.py"]
    done = run("-m", "pytest", "-q", "-x", "-m", "not slow", *files, STEERLENS_LANES="8")
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-4000:]


def test_a_wish_that_cannot_be_is_refused():
    """Also when it is asked for again, since ops have been registered by then."""
    again = "import os, torch\ntry: import steerlens_fast\nexcept ImportError: os.environ['STEERLENS_LANES'] = '0'\n"
    for script in ("import steerlens_fast", again + "import steerlens_fast"):
        done = run("-c", script, STEERLENS_LANES="12")
        assert done.returncode == 1
        assert "ImportError: STEERLENS_LANES must be 0, 8 or 16 in the environment, got '12'" in done.stderr


def test_an_empty_wish_is_none():
    done = run("-c", "import steerlens_fast; print(steerlens_fast._C.PLANE_LANES)", STEERLENS_LANES="")
    assert done.returncode == 0 and int(done.stdout) >= _C.PLANE_LANES, done.stderr


def test_the_ops_say_where_they_can_be_had(monkeypatch):
    monkeypatch.setattr(_C, "PLANE_LANES", 0)
    planes, filters, factors = torch.rand(1, 8, 8), [backend.in_panels(torch.ones(1, 8, 8), 8)], torch.ones(2, 1)
    calls = {
        "split_planes": lambda: ops.split_planes(planes, filters, [8], [0], ["real"]),
        "merge_planes": lambda: ops.merge_planes([planes[:, None]], filters, [8], [0], ["real"], 8, 8),
        "morph_planes": lambda: ops.morph_planes(planes, planes, factors, factors, filters * 2, filters, [8]),
    }
    for name, call in calls.items():
        with pytest.raises(RuntimeError, match=rf"{name} needs a CPU with AVX2 or AVX-512.*STEERLENS_LANES"):
            call()

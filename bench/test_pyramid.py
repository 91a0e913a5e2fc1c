"""Analysis, synthesis and its backward compared with plenoptic, plain torch, compiled plain torch and the FFT floor."""

import cases
import pytest

WORK = ("analysis", "synthesis", "backward of synthesis")
COMPILED = cases.SHAPES[:1]  # compiling takes longer than all that is timed


@pytest.mark.parametrize("shape", cases.SHAPES, ids=cases.label)
@pytest.mark.parametrize("work", WORK)
def test_pyramid(measured, work, shape):
    whom = ["plenoptic", "plain", "floor"]
    measured(work, shape, whom + ["compiled"] * (shape in COMPILED))

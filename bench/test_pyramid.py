"""Analysis, synthesis and the backward of synthesis, compared with the baselines."""

import cases
import pytest

WORK = ("analysis", "synthesis", "backward of synthesis")
COMPILED = cases.SHAPES[:1]  # shapes at which plain torch is also compiled, which takes long


@pytest.mark.parametrize("shape", cases.SHAPES, ids=cases.label)
@pytest.mark.parametrize("work", WORK)
def test_pyramid(measured, work, shape):
    baselines = ["plenoptic", "plain", "ffts"]
    measured(work, shape, baselines + ["compiled"] * (shape in COMPILED))

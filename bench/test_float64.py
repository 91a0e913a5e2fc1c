"""Transforms and morphs in float64, compared with float32."""

import cases
import pytest


@pytest.mark.parametrize("work, shape", cases.in_all_shapes(cases.FLOAT64_SETUPS))
def test_float64(measured, work, shape):
    measured(work, shape, ["float32"])

"""Ours with glibc's default allocator settings, compared with ours with the tuned settings."""

import cases
import pytest
from measure import allocator


@pytest.mark.cpu_only
@pytest.mark.skipif(allocator("cpu") == "tuned", reason="this process already has the tuned settings")
@pytest.mark.parametrize("work, shape", cases.in_all_shapes(cases.ALLOCATOR_SETUPS))
def test_allocator(measured, work, shape):
    measured(work, shape, ["tuned"])

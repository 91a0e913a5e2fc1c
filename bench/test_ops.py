"""Every op compared with plain torch, compiled plain torch and a copy of as many bytes; one thread and two."""

import op_cases
import pytest
from measure import THREADS


@pytest.mark.parametrize("count", [1, 2], ids="{}-threads".format)
@pytest.mark.parametrize("work", op_cases.SETUPS)
def test_op(measured, threads, work, count, device):
    if device != "cpu" and count != THREADS:
        pytest.skip("threads are the CPU's")
    threads(count)
    compiled = ["compiled"] * (count == THREADS)  # compiling takes longer than all that is timed
    measured(work, op_cases.shape_for(work), ["plain", *compiled])

"""Every op with one and two threads.

They are compared with plain torch, compiled plain torch and a copy of as many bytes.
"""

import op_cases
import pytest
from measure import THREADS


@pytest.mark.parametrize("count", [1, 2], ids="{}-threads".format)
@pytest.mark.parametrize("work", op_cases.SETUPS)
def test_op(measured, threads, work, count, device):
    if device != "cpu" and count != THREADS:
        pytest.skip("the number of threads matters on the CPU only")
    threads(count)
    compiled = ["compiled"] * (count == THREADS)  # only once, since compiling takes long
    measured(work, op_cases.shape_for(work), ["plain", *compiled])

"""Times of our workloads by pytest-benchmark, to compare two versions of this package on one machine.

    pytest bench --benchmark-autosave                 # with the first version
    pytest bench --benchmark-compare                  # with the second one
    pytest bench -k "analysis and 224x224"            # some of the workloads

Comparisons with other implementations need alternating runs, and are in speed.py.
"""

import baselines
import pytest
import torch
import workloads
from measure import THREADS

REPEATED = {**workloads.ALLOCATOR, **workloads.BUSY}  # repeat other workloads under other conditions
WORKLOADS = {work: workload for work, workload in baselines.WORKLOADS.items() if work not in REPEATED}


@pytest.mark.parametrize(
    "work, shape",
    [
        pytest.param(work, shape, id=f"{work}, {workloads.label(shape)}")
        for work, workload in WORKLOADS.items()
        for shape in workload.shapes
    ],
)
def test_speed(benchmark, work, shape):
    before = torch.get_num_threads()
    torch.set_num_threads(1 if work in workloads.SMALL else THREADS)
    try:
        benchmark(baselines.build(work, shape, "ours"))
    finally:
        torch.set_num_threads(before)

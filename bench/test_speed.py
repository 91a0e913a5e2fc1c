"""The speed of every workload, compared with that of its baselines."""

import op_workloads
import pytest
import workloads
from measure import THREADS


def at_every_shape(works: dict) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "work, shape",
        [
            pytest.param(work, shape, id=f"{work}, {workloads.label(shape)}")
            for work, workload in works.items()
            for shape in workload.shapes
        ],
    )


@pytest.mark.parametrize("count", [1, 2], ids="{}-threads".format)
@at_every_shape(op_workloads.OPS)
def test_ops(measured, threads, work, shape, count, device):
    if device != "cpu" and count != THREADS:
        pytest.skip("the number of threads matters on the CPU only")
    threads(count)
    measured(work, shape)


@at_every_shape(workloads.PYRAMID)
def test_pyramid(measured, work, shape):
    measured(work, shape)


@at_every_shape(workloads.MORPHS)
def test_morph(measured, work, shape):
    measured(work, shape)


@at_every_shape(workloads.FLOAT64)
def test_float64(measured, work, shape):
    measured(work, shape)


@at_every_shape({**workloads.SMALL, **workloads.DISTANCES})
def test_small(measured, threads, work, shape):
    threads(1 if work in workloads.SMALL else THREADS)  # for small images, a second thread would only add waits
    measured(work, shape)

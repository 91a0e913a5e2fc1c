"""Small images beside the least that must be done; searches for a distance; one image beside a busy core."""

import cases
import pytest
import rivals


@pytest.mark.parametrize("work", cases.SMALL_SETUPS)
def test_small(measured, threads, work):
    threads(1)  # a second thread would only add waits
    measured(work, cases.SMALL, rivals.implementations_of(work)[1:])


@pytest.mark.parametrize("shape", cases.MORPHED_L2, ids=cases.label)
@pytest.mark.parametrize("work", cases.DISTANCE_SETUPS)
def test_distance(measured, work, shape):
    measured(work, shape, ["factors"])


@pytest.mark.cpu_only
@pytest.mark.parametrize("work", cases.BUSY_SETUPS)
def test_busy(measured, work):
    measured(work, cases.ONE_IMAGE, ["alone"])

"""Small images, compared with the parts of their work.

Also searches for a distance, and a morph while a core is busy.
"""

import baselines
import cases
import pytest


@pytest.mark.parametrize("work", cases.SMALL_SETUPS)
def test_small(measured, threads, work):
    threads(1)  # a second thread would only add waits
    measured(work, cases.SMALL, baselines.implementations_of(work)[1:])


@pytest.mark.parametrize("shape", cases.MORPHED_L2, ids=cases.label)
@pytest.mark.parametrize("work", cases.DISTANCE_SETUPS)
def test_distance(measured, work, shape):
    measured(work, shape, ["factors"])


@pytest.mark.cpu_only
@pytest.mark.parametrize("work", cases.BUSY_SETUPS)
def test_busy(measured, work):
    measured(work, cases.ONE_IMAGE, ["alone"])

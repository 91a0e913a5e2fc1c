"""Small images compared with the work that they cannot do without; and one image on a machine with a busy core."""

import cases
import pytest
import rivals


@pytest.mark.parametrize("work", cases.SMALL_SETUPS)
def test_small(measured, threads, work):
    threads(1)  # a second thread would only add waits
    measured(work, cases.SMALL, rivals.implementations_of(work)[1:])


@pytest.mark.cpu_only
@pytest.mark.parametrize("work", cases.BUSY_SETUPS)
def test_busy(measured, work):
    measured(work, cases.ONE_IMAGE, ["alone"])

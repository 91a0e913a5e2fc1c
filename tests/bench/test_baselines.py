"""The baselines compute the same results as our package.

Otherwise a comparison of times would mean nothing.
"""

import inspect
import math
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("plenoptic")
sys.path.append(str(Path(__file__).parents[2] / "bench"))

import baselines  # noqa: E402
import measure  # noqa: E402
import op_workloads  # noqa: E402
import workloads  # noqa: E402

SHAPE, ODD = (2, 1, 64, 48), (1, 2, 37, 53)
COEFFICIENTS_SHAPE = (2, 4, 24, 32)  # [N, K, h, w]
FFT_ROUNDING = dict(rtol=2e-5, atol=2e-5)  # rounding errors of float32 FFTs of numbers around 1
PHASE_ROUNDING = dict(rtol=1e-3, atol=1e-3)  # factors up to 12 amplify the rounding errors of phases
NOT_COMPARABLE = ["split_bands, pairs", "merge_bands, pairs"]  # ours: whole spectra; plain torch: half spectra
TABLE_ERRORS = dict(rtol=2e-4, atol=2e-4)  # plenoptic interpolates its masks in tables


def check(work, shape, who, device, tolerance, **options):
    """Compare all tensors of the results.

    If the baseline's tensor is real, compare only our real parts.
    """
    results = (baselines.build(work, shape, w, device=device, **options)() for w in ("ours", who))
    ours, expected = (measure.tensors_in(result) for result in results)
    assert len(ours) == len(expected)
    for a, b in zip(ours, expected):
        a = a if b.is_complex() else a.real
        torch.testing.assert_close(a.reshape(b.shape), b, **tolerance)


@pytest.mark.parametrize("shape", [SHAPE, ODD], ids=workloads.label)
@pytest.mark.parametrize("work", workloads.PYRAMID)
def test_plain_pyramid_agrees(work, shape, device):
    check(work, shape, "plain", device, FFT_ROUNDING)


@pytest.mark.parametrize("shape", [SHAPE, ODD], ids=workloads.label)
@pytest.mark.parametrize("work", [w for w, workload in workloads.MORPHS.items() if "plain" in workload.baselines])
def test_plain_morph_agrees(work, shape, device):
    check(work, shape, "plain", device, PHASE_ROUNDING)


@pytest.mark.parametrize("work", [workloads.SYNTHESIS, workloads.BACKWARD])
def test_plenoptic_agrees(work, device):
    check(work, SHAPE, "plenoptic", device, TABLE_ERRORS)


@pytest.mark.parametrize("work", [w for w in op_workloads.OPS if w not in NOT_COMPARABLE])
def test_plain_op_agrees(work, device):
    shape = SHAPE if "bands" in work else COEFFICIENTS_SHAPE
    check(work, shape, "plain", device, PHASE_ROUNDING)


def test_last_argument_of_every_set_up_is_the_device():
    for workload in baselines.WORKLOADS.values():
        *_, last = inspect.signature(workload.setup).parameters.values()
        assert last.name == "device" and last.default == "cpu"


def test_nbytes_counts_the_bytes_of_all_tensors(device):
    run = baselines.build("polar_split", COEFFICIENTS_SHAPE, "ours", device=device)
    count = math.prod(COEFFICIENTS_SHAPE)
    assert measure.nbytes(run.inputs) == 8 * count  # complex64
    assert measure.nbytes(run()) == 2 * 4 * count  # amplitude and phase, float32


@pytest.mark.slow
def test_failed_or_killed_baseline_raises():
    with pytest.raises(RuntimeError, match="the baseline's process failed:\n.*Traceback"):
        baselines.InSubprocess("analysis", (1, 1, 4, 4), "plain")  # too small for a pyramid
    alive = baselines.InSubprocess("analysis", SHAPE, "plain")
    alive.process.kill()
    with pytest.raises(RuntimeError, match="the baseline's process died, exit status -9"):
        alive.seconds()

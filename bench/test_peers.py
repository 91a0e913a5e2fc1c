"""The peers compute the same results as ours; without this, comparing times is meaningless."""

import inspect

import cases
import measure
import op_cases
import pytest
import rivals
import torch

SHAPE, ODD = (2, 1, 64, 48), (1, 2, 37, 53)
POINTS = (2, 4, 24, 32)
CLOSE = dict(rtol=2e-5, atol=2e-5)  # float32 FFTs of numbers around 1, summed in another order
MORPHS = dict(rtol=1e-3, atol=1e-3)  # factors up to 11 amplify the rounding errors of phases
PAIRED_FILTERS = "split_bands, pairs", "merge_bands, pairs"  # need whole spectra; the plain filters do not
PLENOPTIC = dict(rtol=2e-4, atol=2e-4)  # its masks are read from tables


def check(work, shape, who, device, tolerance, **options):
    """Compare every tensor of the result; only the real parts where the peer's tensor is real."""
    results = (rivals.build(work, shape, w, device=device, **options)() for w in ("ours", who))
    ours, theirs = (measure.tensors_in(result) for result in results)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        a = a if b.is_complex() else a.real
        torch.testing.assert_close(a.reshape(b.shape), b, **tolerance)


@pytest.mark.parametrize("shape", [SHAPE, ODD], ids=cases.label)
@pytest.mark.parametrize("work", ["analysis", "synthesis", "backward of synthesis"])
def test_plain_pyramid(work, shape, device):
    check(work, shape, "plain", device, CLOSE)


@pytest.mark.parametrize("shape", [SHAPE, ODD], ids=cases.label)
@pytest.mark.parametrize("work", [w for w in cases.SETUPS if "phase" in w or "joint" in w])
def test_plain_morph(work, shape, device):
    check(work, shape, "plain", device, MORPHS)


@pytest.mark.parametrize("work", ["synthesis", "backward of synthesis"])
def test_plenoptic(work, device):
    check(work, SHAPE, "plenoptic", device, PLENOPTIC)


@pytest.mark.parametrize("work", [w for w in op_cases.SETUPS if w not in PAIRED_FILTERS])
def test_plain_op(work, device):
    shape = SHAPE if "bands" in work else POINTS
    check(work, shape, "plain", device, MORPHS)


def test_every_set_up_takes_the_device_last():
    for setup in rivals.SETUPS.values():
        *_, last = inspect.signature(setup).parameters.values()
        assert last.name == "device" and last.default == "cpu"


def test_bytes_are_arguments_and_result(device):
    run = rivals.build("polar_split", POINTS, "ours", device=device)
    samples = 2 * 4 * 24 * 32
    assert measure.nbytes(run.inputs) == 8 * samples and measure.nbytes(run()) == 2 * 4 * samples


@pytest.mark.cpu_only
def test_failed_or_killed_rival_raises():
    with pytest.raises(RuntimeError, match="the rival's process failed:\n.*Traceback"):
        rivals.InSubprocess("analysis", (1, 1, 4, 4), "plain")
    alive = rivals.InSubprocess("analysis", SHAPE, "plain")
    alive.process.kill()
    with pytest.raises(RuntimeError, match="the rival's process died, exit status -9"):
        alive.seconds()

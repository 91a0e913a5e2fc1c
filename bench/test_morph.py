"""Morphs by a given gradient, compared with plenoptic, plain torch and FFTs alone.

The lens's morph of a ResNet is compared with the gradient alone. Persistent steps have no baseline.
"""

import cases
import pytest

# In the order of cases.SETUPS
PHASE, JOINT, RESNET, PERSISTENT = (work for work in cases.SETUPS if "morph" in work or "persistent" in work)


@pytest.mark.parametrize("shape", cases.MORPH_SHAPES, ids=cases.label)
def test_phase_morph(measured, shape):
    compiled = ["compiled"] * (shape == cases.MORPH_SHAPES[0])
    measured(PHASE, shape, ["plenoptic", "plain", "ffts", *compiled])


def test_joint_morph(measured):
    measured(JOINT, cases.DIGITS, ["plenoptic", "plain", "ffts"])


def test_frozen_morph_of_a_resnet(measured):
    measured(RESNET, cases.RESNET, ["gradient"])


@pytest.mark.parametrize("shape", cases.PERSISTENT, ids=cases.label)
def test_persistent_steps(measured, shape):
    measured(PERSISTENT, shape)

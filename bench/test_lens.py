"""What a morph costs beyond its classifier's gradient, and beside the same written with plenoptic."""

import cases
import pytest
import torch


def record(benchmark, work, shape, who):
    benchmark.group = f"{work} {cases.label(shape)}"
    benchmark.extra_info.update(work=work, shape=cases.label(shape), who=who)


@pytest.mark.parametrize("who", ["ours", "gradient"])
def test_frozen_morph_of_a_resnet(benchmark, who):
    record(benchmark, "frozen 8-frame morph, ResNet-50", (8, 3, 224, 224), who)
    benchmark.pedantic(cases.lens_morph(who), rounds=7, warmup_rounds=1)


@pytest.mark.parametrize("who", ["ours", "plenoptic"])
def test_joint_morph(benchmark, who):
    record(benchmark, "12-frame joint morph", cases.DIGITS, who)
    with torch.set_grad_enabled(who == "plenoptic"):
        benchmark.pedantic(cases.joint_morph(cases.DIGITS, who), rounds=15, warmup_rounds=2)


@pytest.mark.parametrize("shape", cases.PERSISTENT, ids=cases.label)
def test_persistent_steps(benchmark, shape):
    record(benchmark, "11 persistent steps", shape, "ours")
    benchmark.pedantic(cases.persistent_morph(shape), rounds=15, warmup_rounds=2)

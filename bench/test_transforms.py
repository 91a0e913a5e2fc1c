"""Analysis, synthesis, its backward and the morph: ours, plenoptic and the FFT floor, side by side."""

import cases
import pytest
import torch

WORK = {
    "analysis": (cases.analysis, cases.SHAPES),
    "synthesis": (cases.synthesis, cases.SHAPES),
    "backward of synthesis": (cases.synthesis_backward, cases.SHAPES),
    "8-frame phase morph": (cases.morph, cases.MORPH_SHAPES),
}
WHO = ("ours", "plenoptic", "floor")
ROWS = [(work, shape, who) for work, (_, shapes) in WORK.items() for shape in shapes for who in WHO]
ROWS = [row for row in ROWS if not (row[0].startswith("backward") and row[2] == "floor")]


@pytest.mark.parametrize("work, shape, who", ROWS, ids=lambda v: v if isinstance(v, str) else cases.label(v))
def test_transform(benchmark, work, shape, who):
    setup, _ = WORK[work]
    benchmark.group = f"{work} {cases.label(shape)}"
    benchmark.extra_info.update(work=work, shape=cases.label(shape), who=who)
    function = setup(shape, who)
    rounds = 7 if shape[-1] > 1000 or "morph" in work else 25
    with torch.set_grad_enabled("morph" in work and who == "plenoptic" or work.startswith("backward")):
        benchmark.pedantic(function, rounds=rounds, warmup_rounds=2)

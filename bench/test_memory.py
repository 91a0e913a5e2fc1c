"""Peak memory beyond inputs and output, from the profiler's record of every allocation."""

import itertools
import json

import cases
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

import steerlens_fast as sf

MIB = 2**20
LIMITS = {"analysis": 16, "synthesis": 16, "8-frame phase morph": 48}
SETUPS = {"analysis": cases.analysis, "synthesis": cases.synthesis, "8-frame phase morph": cases.morph}
LENS_LIMIT = 64  # beyond frames and model, however many frames


def peak_bytes(function, path) -> tuple[int, int]:
    """(peak above what was allocated before, bytes of the result)."""
    function()  # masks are built once
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        result = function()
        size = sum(t.untyped_storage().nbytes() for t in torch.utils._pytree.tree_leaves(result))
    record.export_chrome_trace(str(path))
    events = [e for e in json.loads(path.read_text())["traceEvents"] if e.get("name") == "[memory]"]
    totals = list(itertools.accumulate(e["args"]["Bytes"] for e in sorted(events, key=lambda e: e["ts"])))
    return max(totals), size


@pytest.mark.parametrize("work", SETUPS)
def test_peak_memory(benchmark, work, tmp_path):
    """Not timed: one run, its peak recorded, and held against the limit."""
    shape = cases.SHAPES[0]
    function = SETUPS[work](shape, "ours")
    with torch.no_grad():
        peak, output = benchmark.pedantic(lambda: peak_bytes(function, tmp_path / "trace.json"), rounds=1)
    beyond = (peak - output) / MIB
    benchmark.extra_info.update(work=work, shape=cases.label(shape), who="memory", beyond_output_mib=round(beyond, 1))
    assert output > 0 and beyond <= LIMITS[work], f"{work}: {beyond:.1f} MiB beyond the output"


@pytest.mark.parametrize("frames", [8, 24])
@pytest.mark.parametrize("regime", ["frozen", "persistent", "live"])
def test_peak_memory_of_the_lens(benchmark, regime, frames, tmp_path):
    """The same for a whole morph, with a model that holds next to nothing."""
    shape = cases.SHAPES[0]
    images, lens = cases.image_of(shape), sf.SteerableLens(cases.Mean().eval(), regime=regime)
    function = lambda: lens.morph(images, 1, factors=1e3, frames=frames, score="none").frames
    peak, output = benchmark.pedantic(lambda: peak_bytes(function, tmp_path / "trace.json"), rounds=1)
    beyond, work = (peak - output) / MIB, f"{frames}-frame {regime} morph by the lens"
    benchmark.extra_info.update(work=work, shape=cases.label(shape), who="memory", beyond_output_mib=round(beyond, 1))
    assert output > 0 and beyond <= LENS_LIMIT, f"{work}: {beyond:.1f} MiB beyond the output"

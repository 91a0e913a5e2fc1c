"""Peak memory beyond the result stays below a limit.

The memory of baselines is measured together with their times.
"""

import baselines
import measure
import pytest
import workloads

LIMITS = {workloads.ANALYSIS: 16, workloads.SYNTHESIS: 16, workloads.PHASE_MORPH: 48}  # MiB
LENS_LIMIT = 64  # MiB beyond frames and model, for any number of frames
SHAPE = workloads.BATCH

pytestmark = pytest.mark.cpu_only  # chunks are larger on a GPU


def check(benchmark, work, run, limit):
    """Record the peak memory of a run, and check its limit in MiB."""
    run()  # the first call builds masks
    beyond, output = benchmark.pedantic(measure.beyond_output, (run,))
    row = {"work": work, "shape": workloads.label(SHAPE), "device": "cpu", "allocator": measure.allocator("cpu")}
    benchmark.extra_info.update(row, limit=limit * measure.MIB, peak_beyond_output={"ours": beyond})
    assert output > 0 and beyond <= limit * measure.MIB, f"{work}: {beyond / measure.MIB:.1f} MiB beyond the output"


@pytest.mark.parametrize("work", LIMITS)
def test_peak_memory(benchmark, work):
    check(benchmark, f"memory of {work}", baselines.build(work, SHAPE, "ours"), LIMITS[work])


@pytest.mark.parametrize("frames", [8, 24])
@pytest.mark.parametrize("regime", ["frozen", "persistent", "live"])
def test_peak_memory_of_the_lens(benchmark, regime, frames):
    """Measure a whole morph, with a model of negligible size."""
    images, lens = workloads.image_of(SHAPE), workloads.cheap_lens(regime)
    run = workloads.Run(lambda: lens.morph(images, 1, factors=1e3, frames=frames, score="none").frames, grad=True)
    check(benchmark, f"memory of the {frames}-frame {regime} morph by the lens", run, LENS_LIMIT)

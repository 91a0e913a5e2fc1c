"""Peak memory, from the allocations that torch's profiler records."""

import itertools
import json

from torch.profiler import ProfilerActivity, profile

from steerlens_fast import native


def peak_bytes(function, path):
    """Return the result of a function, and the peak of allocated bytes.

    The profile is written to ``path``.
    """
    native.free_idle_blocks()  # the profiler does not see memory that is reused
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        result = function()
    record.export_chrome_trace(str(path))
    events = [e for e in json.loads(path.read_text())["traceEvents"] if e.get("name") == "[memory]"]
    return result, max(itertools.accumulate(e["args"]["Bytes"] for e in sorted(events, key=lambda e: e["ts"])))

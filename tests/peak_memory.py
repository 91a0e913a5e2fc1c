"""Memory at the peak, from the profiler's record of torch's allocations."""

import itertools
import json

from torch.profiler import ProfilerActivity, profile

from steerlens_fast import native


def peak_bytes(function, path):
    """Return the result of a function, and the bytes allocated at the peak; the record is written to ``path``."""
    native.free_idle_blocks()  # memory that is there already would not be recorded
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        result = function()
    record.export_chrome_trace(str(path))
    events = [e for e in json.loads(path.read_text())["traceEvents"] if e.get("name") == "[memory]"]
    return result, max(itertools.accumulate(e["args"]["Bytes"] for e in sorted(events, key=lambda e: e["ts"])))

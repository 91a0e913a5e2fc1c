"""Times of alternating runs, ratios of these times, and peak memory."""

from __future__ import annotations

import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils import _pytree

from steerlens_fast import native

THREADS = 2
BUDGET = 1.5  # seconds for all rounds of one comparison, approximately
ROUNDS = 5, 25  # minimum, maximum
# Seconds before each turn. A baseline may run in another process, whose OpenMP threads spin for several ms after its
# turn. They would take the cores from a short call in this process.
IDLE = 0.01
SLOW = 0.03  # seconds; longer calls are not warmed up, since their data exceed the caches
MIB = 2**20
# glibc's settings that keep freed memory in the process: no mmap, no trimming
TUNED = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "4294967296", "MALLOC_TOP_PAD_": "268435456"}


def allocator(device: str) -> str:
    """Return the settings of glibc's allocator, "default" or "tuned", for the device "cpu"; otherwise ``device``."""
    if device != "cpu":
        return device
    return "tuned" if TUNED.items() <= os.environ.items() else "default"


def synchronize(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def clocked(function: Callable, device: str = "cpu") -> float:
    """Return the seconds of one call, including the work that the call launched on the device."""
    synchronize(device)
    start = time.perf_counter()
    function()
    synchronize(device)
    return time.perf_counter() - start


def turn(run: Callable, device="cpu") -> float:
    """Return the seconds of a call.

    A short call is made twice, and only the second time is returned, because the first call warms the caches.
    """
    first = clocked(run, device)
    return first if first > SLOW else clocked(run, device)


def rounds_for(seconds: float) -> int:
    """Return the number of rounds of ``seconds`` that fit into ``BUDGET``, within the limits ``ROUNDS``."""
    lowest, highest = ROUNDS
    return max(lowest, min(highest, int(BUDGET / max(seconds, 1e-6))))


def compare(timers: dict[str, Callable[[], float]], rounds: int | None = None) -> dict[str, list[float]]:
    """Call functions that return the seconds of a run, like :func:`turn`, and return all of these times.

    They are called alternately, so that disturbances of the machine affect all of them. By default, :func:`rounds_for`
    chooses the number of rounds.
    """
    shortest = [min(timer(), timer()) for timer in timers.values()]
    times: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(rounds or rounds_for(2 * sum(shortest))):  # a turn makes up to two calls
        for name, timer in timers.items():
            time.sleep(IDLE)
            times[name].append(timer())
    return times


def ratio(numerators: list[float], denominators: list[float]) -> float:
    """Return the median of the ratios of two times within a round."""
    return statistics.median(a / b for a, b in zip(numerators, denominators))


def spread(values: list[float]) -> float:
    """Return half the interquartile range, divided by the median: how much rounds differ."""
    if len(values) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(values, n=4)
    return (high - low) / (2 * middle)


def summarised(times: dict[str, list[float]]) -> dict:
    """Return a summary of the times of all rounds.

    For each implementation it has the median, minimum and spread of its times. For each baseline, it also has
    the ratio to ours.
    """
    return {
        "seconds": {who: statistics.median(seconds) for who, seconds in times.items()},
        "least": {who: min(seconds) for who, seconds in times.items()},
        "spread": {who: spread(seconds) for who, seconds in times.items()},
        "over_ours": {who: ratio(seconds, times["ours"]) for who, seconds in times.items() if who != "ours"},
        "rounds": len(times["ours"]),
    }


def check_device(parser, device: str) -> None:
    """Exit with a usage error if the device is "cuda", and there is no GPU."""
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a GPU, and torch finds none")


# --- Bytes ---


def tensors_in(value) -> list[torch.Tensor]:
    return [t for t in _pytree.tree_leaves(value) if isinstance(t, torch.Tensor)]


def nbytes(value) -> int:
    """Return the bytes of all tensors in a structure."""
    return sum(t.numel() * t.itemsize for t in tensors_in(value))


def beyond_output(function: Callable, device="cpu") -> tuple[int, int]:
    """Return the peak memory of a call beyond its result, and the size of the result, in bytes."""
    peak, size = (_peak_cuda if torch.device(device).type == "cuda" else _peak_cpu)(function)
    return peak - size, size


def _storage(result) -> int:
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors_in(result)}.values())


def _peak_cpu(function: Callable) -> tuple[int, int]:
    native.free_idle_blocks()  # the profiler does not see memory that is reused
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        result = function()
        size = _storage(result)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        record.export_chrome_trace(str(path))
        events = [e for e in json.loads(path.read_text())["traceEvents"] if e.get("name") == "[memory]"]
    totals = list(itertools.accumulate(e["args"]["Bytes"] for e in sorted(events, key=lambda e: e["ts"])))
    return max(totals, default=0), size


def _peak_cuda(function: Callable) -> tuple[int, int]:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    size = _storage(function())
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before, size

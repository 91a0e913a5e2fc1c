"""Measures times (by CUDA events, after a warm-up) and peak memory of calls."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

import torch

WARMUP, ROUNDS = 3, 15
MIN_MS = 2.0  # work between two events, whose resolution is half a microsecond
MAX_CALLS = 50  # calls between two events
MIB = 2**20


def median_ms(call: Callable[[], object], device: torch.device, rounds: int = ROUNDS) -> float:
    """Return the milliseconds of a call, the median of ``rounds``.

    Short calls are repeated between two events.
    """
    for _ in range(WARMUP):
        call()
    once = _between(call, device, 1)
    calls = max(1, min(MAX_CALLS, math.ceil(MIN_MS / max(once, 1e-3))))
    return statistics.median(_between(call, device, calls) for _ in range(rounds)) / calls


def _between(call: Callable[[], object], device: torch.device, calls: int) -> float:
    """Return the milliseconds of several calls in sequence."""
    if device.type != "cuda":
        start = time.perf_counter()
        for _ in range(calls):
            call()
        return (time.perf_counter() - start) * 1e3
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    begin.record()
    for _ in range(calls):
        call()
    end.record()
    torch.cuda.synchronize(device)
    return begin.elapsed_time(end)


def rotated(function: Callable, sets: list[list]) -> Callable[[], object]:
    """Return a function that uses the next set of arguments at each call."""
    number = iter(range(1 << 62))
    return lambda: function(*sets[next(number) % len(sets)])


def sets_beyond_cache(size: int, device: torch.device) -> int:
    """Return how many sets of arguments together exceed four times the L2 cache.

    Each set has ``size`` bytes. The result is at most 64, and 1 without a GPU.
    """
    cache = torch.cuda.get_device_properties(device).L2_cache_size if device.type == "cuda" else 0
    return 1 if size > 4 * cache else min(64, math.ceil(4 * cache / max(size, 1)) + 1)


def copy_bandwidth(size: int, device: torch.device) -> float:
    """Return the bandwidth of a copy in GB/s.

    Each of ``size`` bytes is read once and written once.
    """
    source = torch.empty(size // 4, dtype=torch.float32, device=device).normal_()
    target = torch.empty_like(source)
    return 2 * source.nbytes / median_ms(lambda: target.copy_(source), device) / 1e6


def peak_beyond(function: Callable[[], torch.Tensor], device: torch.device) -> float:
    """Measure the peak memory of a call, in MiB.

    Earlier allocations and the result of the call are not counted.
    """
    function()  # the first call makes filters and FFT plans
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    result = function()
    torch.cuda.synchronize(device)
    return (torch.cuda.max_memory_allocated(device) - before - result.untyped_storage().nbytes()) / MIB


def captured(function: Callable[[], object]) -> Callable[[], None]:
    """Return a function that replays a CUDA graph of ``function``."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARMUP):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = function()
    return lambda: (graph.replay(), output)[0]  # keeps `output`, into which the graph writes

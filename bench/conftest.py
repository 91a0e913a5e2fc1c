"""Fixtures of the benchmarks: ``pytest bench [--device cuda]``.

``bench/run`` runs both allocator modes and reports.
"""

import baselines
import measure
import pytest
import torch
import workloads
from lower_bounds import copy
from machine import machine
from measure import THREADS, allocator, synchronize


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", choices=("cpu", "cuda"), help="the device to measure")


def pytest_configure(config):
    torch.set_num_threads(THREADS)
    config.addinivalue_line("markers", "cpu_only: does not apply to other devices")
    if config.getoption("--device") == "cuda" and not torch.cuda.is_available():
        raise pytest.UsageError("--device cuda: torch finds no GPU")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--device") != "cpu":
        skip = pytest.mark.skip(reason="applies to the CPU only")
        for item in items:
            if "cpu_only" in item.keywords:
                item.add_marker(skip)


def pytest_benchmark_update_machine_info(config, machine_info):
    machine_info["measured_on"] = machine("numpy", "plenoptic")
    machine_info["allocator"] = allocator(config.getoption("--device"))


@pytest.fixture
def device(request) -> str:
    return request.config.getoption("--device")


@pytest.fixture
def threads():
    """Set the number of threads for one test."""
    yield torch.set_num_threads
    torch.set_num_threads(THREADS)


@pytest.fixture
def measured(benchmark, device):
    """A function that times ours and the baselines of a workload alternately.

    It records a row of the results.
    """

    def run(work, shape):
        ours = baselines.InProcess(baselines.build(work, shape, "ours", device=device), device)
        moved = measure.nbytes(ours.run.inputs) + measure.nbytes(ours.run())
        workload = baselines.WORKLOADS[work]
        names = list(workload.baselines)
        if "compiled" in names and (shape != workload.shapes[0] or torch.get_num_threads() != THREADS):
            names.remove("compiled")  # compiling takes long
        others = {who: baselines.open_baseline(work, shape, who, device) for who in names}
        copied = copy(moved, device)
        others["copy"] = baselines.InProcess(copied, device)
        try:
            times = in_turns(benchmark, ours, others, device)
            row = {"work": work, "shape": workloads.label(shape), "threads": torch.get_num_threads()}
            row |= {"device": device, "allocator": allocator(device), "bytes": moved, **measure.summarised(times)}
            row["copy_forms"] = copied.milliseconds
            if "seconds" in row:
                row["bytes_per_second"] = moved / row["seconds"]["ours"]
                row["share_of_copy"] = row["over_ours"]["copy"]
            if "ffts" in others:
                ffts = others["ffts"].run.function
                row["fft_form"], row["fft_forms"] = ffts.name, ffts.milliseconds
            # Peak memory depends neither on the allocator nor on the number of threads, so it is measured once
            if allocator(device) != "tuned" and torch.get_num_threads() == THREADS:
                selected = {who: run for who, run in others.items() if who not in ("ffts", "copy")}
                row["peak_beyond_output"] = {who: run.peak()[0] for who, run in {"ours": ours, **selected}.items()}
        finally:
            for baseline in others.values():
                baseline.close()
        benchmark.group = f"{work} {row['shape']}"
        benchmark.extra_info.update(row)

    return run


def in_turns(benchmark, ours, others: dict, device: str) -> dict[str, list[float]]:
    """Return the seconds of all rounds.

    Our calls are timed by pytest-benchmark, and the baselines run before each of its rounds.
    """
    times = {who: [] for who in others}
    if not benchmark.enabled:  # with --benchmark-disable everything runs once, without a ratio
        benchmark.pedantic(ours.run)
        return {who: [baseline.seconds()] for who, baseline in others.items()}
    shortest = [min(run.seconds(), run.seconds()) for run in (ours, *others.values())]

    def before():
        for who, baseline in others.items():
            times[who].append(baseline.seconds())
        if shortest[0] < measure.SLOW:
            ours.run()  # warms the caches
        synchronize(device)

    def ours_until_done():
        ours.run()
        synchronize(device)

    benchmark.pedantic(ours_until_done, setup=before, rounds=measure.rounds_for(2 * sum(shortest)))
    times["ours"] = list(benchmark.stats.stats.data)
    return times

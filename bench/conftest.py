"""Fixtures of the benchmarks: ``pytest bench [--device cuda]``; ``bench/run`` runs both allocator modes and reports."""

import measure
import pytest
import rivals
import torch
from floors import copy, synchronize
from machine import machine
from measure import THREADS, allocator


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
    """``measured(work, shape, whom)`` times ours and these rivals alternately and makes a row of the results."""

    def run(work, shape, whom=(), **options):
        ours = rivals.InProcess(rivals.build(work, shape, "ours", device=device, **options), device)
        moved = measure.nbytes(ours.run.inputs) + measure.nbytes(ours.run())
        others = {who: rivals.rival(work, shape, who, device, **options) for who in whom}
        copied = copy(moved, device)
        others["copy"] = rivals.InProcess(copied, device)
        try:
            times = in_turns(benchmark, ours, others, device)
            row = {"work": work, "shape": "x".join(map(str, shape)), "threads": torch.get_num_threads()}
            row |= {"device": device, "allocator": allocator(device), "bytes": moved, **measure.summarised(times)}
            row["copy_forms"] = copied.milliseconds
            if "seconds" in row:
                row["bytes_per_second"] = moved / row["seconds"]["ours"]
                row["share_of_copy"] = row["over_ours"]["copy"]
            if "floor" in others:
                floor = others["floor"].run.function
                row["floor_form"], row["floor_forms"] = floor.name, floor.milliseconds
            if allocator(device) != "tuned" and torch.get_num_threads() == THREADS:  # peak memory depends on neither
                peers = {who: rival for who, rival in others.items() if who not in ("floor", "copy", "tuned")}
                row["peak_beyond_output"] = {who: r.peak()[0] for who, r in {"ours": ours, **peers}.items()}
        finally:
            for rival in others.values():
                rival.close()
        benchmark.group = f"{work} {row['shape']}"
        benchmark.extra_info.update(row)

    return run


def in_turns(benchmark, ours, others: dict, device: str) -> dict[str, list[float]]:
    """Return the seconds of each round; pytest-benchmark times ours, the others run before each of its rounds."""
    times = {who: [] for who in others}
    if not benchmark.enabled:  # --benchmark-disable: only whether it runs
        benchmark.pedantic(ours.run)
        return {who: [rival.seconds()] for who, rival in others.items()}
    least = [min(rival.seconds(), rival.seconds()) for rival in (ours, *others.values())]
    brief = least[0] < measure.SLOW

    def before():
        for who, rival in others.items():
            times[who].append(rival.seconds())
        if brief:
            ours.run()
        synchronize(device)

    def ours_to_the_end():
        ours.run()
        synchronize(device)

    benchmark.pedantic(ours_to_the_end, setup=before, rounds=measure.rounds_for(2 * sum(least)))
    times["ours"] = list(benchmark.stats.stats.data)
    return times

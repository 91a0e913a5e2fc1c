"""The phase "tests" of bench/cuda.sh: runs the test suite in several processes, and records each test when it ends.

Tests that use the GPU run before the others. In each of these two groups, the slow tests come last. Test files that
cannot be imported (since an extra is not installed) are listed in the result.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from common import ROOT, TESTS, phase_arguments, write_result

CORES_PER_PART = 3
MAX_PARTS = 6  # each process needs memory for its CUDA context
QUICK = ["pyramid/test_filters.py", "pyramid/test_transforms.py"]  # files of a dry run


def main() -> int:
    args = phase_arguments(__doc__)
    if args.rest:
        return one_part(*args.rest, dry=args.device == "cpu")
    parts = 1 if args.device == "cpu" else max(1, min(MAX_PARTS, (os.cpu_count() or 1) // CORES_PER_PART))
    processes = [start(args, part, parts) for part in range(parts)]
    try:
        wait_until(args.deadline, processes)
    finally:
        end(processes)
        result = summary([args.out / f"tests-{part}.jsonl" for part in range(parts)], args.device)
        write_result(args.out, "tests", result)
    return int(bool(result["failed"] or result["not_collected"] or result["not_run"] or not result["passed"]))


def start(args, part: int, parts: int) -> subprocess.Popen:
    log = (args.out / f"tests-{part}.log").open("w")
    results = args.out / f"tests-{part}.jsonl"
    results.unlink(missing_ok=True)
    command = [
        sys.executable,
        __file__,
        f"--out={args.out}",
        f"--device={args.device}",
        f"{part}/{parts}",
        str(results),
    ]
    return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, env=environment(parts))


def environment(parts: int) -> dict[str, str]:
    """Return the environment variables of one part.

    The part uses its share of the cores, and ignores options of an outer pytest.
    """
    inherited = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    return inherited | {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // parts))}


def wait_until(deadline: float, processes: list[subprocess.Popen]) -> None:
    """Wait until all processes have ended or the deadline has passed."""
    while time.monotonic() < deadline and any(process.poll() is None for process in processes):
        time.sleep(0.2)


def end(processes: list[subprocess.Popen]) -> None:
    """Interrupt running processes, and kill those that do not end.

    After the interrupt, pytest writes its summary.
    """
    for number, seconds in ((signal.SIGINT, 4), (signal.SIGKILL, 2)):
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)
        wait_until(time.monotonic() + seconds, processes)


def one_part(part: str, results: str, dry: bool) -> int:
    """Run the tests of one part in this process."""
    number, parts = map(int, part.split("/"))
    where = [str(TESTS / name) for name in QUICK] if dry else [str(TESTS)]
    options = ["-q", "-p", "no:cacheprovider", "--continue-on-collection-errors", f"--rootdir={ROOT}"]
    options += ["-o", "minversion=7"]  # overrides pyproject.toml; the suite also runs with pytest 7
    return int(pytest.main([*options, *where], plugins=[Part(number, parts, Path(results))]))


class Part:
    """A pytest plugin that selects the tests of a part and records each result."""

    def __init__(self, number: int, parts: int, results: Path):
        self.number, self.parts, self.results = number, parts, results

    def note(self, **line) -> None:
        with self.results.open("a") as file:
            file.write(json.dumps(line) + "\n")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items) -> None:
        uses_gpu = lambda item: item.get_closest_marker("cuda") is not None
        slow = lambda item: item.get_closest_marker("slow") is not None
        items.sort(key=lambda item: (not uses_gpu(item), slow(item)))  # stable: apart from this, the order is kept
        items[:] = items[self.number :: self.parts]
        self.gpu_tests = {item.nodeid for item in items if uses_gpu(item)}
        self.note(collected=len(items), on_device=len(self.gpu_tests))

    def pytest_collectreport(self, report) -> None:
        if report.failed:
            self.note(not_collected=report.nodeid, why=str(report.longrepr).strip().splitlines()[-1])

    def pytest_runtest_logreport(self, report) -> None:
        if report.when == "call" or report.outcome != "passed":  # set-up and tear-down are noted if they do not pass
            why = "" if report.passed else str(report.longrepr).strip().splitlines()[-1][:300]
            outcome = "xfailed" if hasattr(report, "wasxfail") and report.skipped else report.outcome
            self.note(test=report.nodeid, outcome=outcome, cuda=report.nodeid in self.gpu_tests, why=why)


def summary(files: list[Path], device: str) -> dict:
    """Return the numbers of tests by outcome, and the names of failed tests."""
    notes = [json.loads(line) for path in files if path.exists() for line in path.read_text().splitlines()]
    tests = [note for note in notes if "test" in note]
    count = lambda counted: dict(Counter(t["outcome"] for t in counted))
    collected = sum(note.get("collected", 0) for note in notes)
    failures = [f"{t['test']}: {t['why']}" for t in tests if t["outcome"] == "failed"]
    absent = {note["not_collected"]: note["why"] for note in notes if "not_collected" in note}
    outcomes = count(tests)
    return {
        "collected": collected,
        "passed": outcomes.get("passed", 0),
        "failed": outcomes.get("failed", 0),
        "skipped": outcomes.get("skipped", 0) + outcomes.get("xfailed", 0),
        "not_run": collected - len({t["test"] for t in tests}),
        "on_device": count(t for t in tests if t["cuda"]) if device == "cuda" else "not measured: dry run",
        "not_collected": absent,
        "failures": failures[:200],
    }


if __name__ == "__main__":
    sys.exit(main())

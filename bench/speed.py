"""Measures the speed and the peak memory of all workloads.

    python bench/speed.py                              # writes bench/results/DATE-DEVICE.json, and prints its tables
    python bench/speed.py --only ops --out mine.json   # one suite
    python bench/speed.py --dry-run                    # only the smallest images, one round; no result file

On the CPU, times are measured twice: with glibc's default allocator settings, and with "tuned" settings that keep
freed memory in the process (no mmap, no trimming). With the default, other implementations spend much time on page
faults.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from pathlib import Path

import baselines
import measure
import op_workloads
import report
import results
import torch
import workloads
from lower_bounds import copy
from machine import machine
from measure import MIB, THREADS, allocator

SMALLEST = (64, 1, 28, 28)  # the shape of a dry run
# Largest peak memory beyond the result, in MiB. The lens's limit applies to any number of frames
LIMITS = {workloads.ANALYSIS: 16, workloads.SYNTHESIS: 16, workloads.PHASE_MORPH: 48}
LENS_LIMIT = 64
Measurement = Callable[[], dict]  # returns a row


def suites(device: str, rounds: int | None = None) -> dict[str, list[Measurement]]:
    """Return functions that measure the rows of each suite."""
    on_cpu = device == "cpu"
    every = lambda works, *threads: list(speed_rows(works, threads or (THREADS,), device, rounds))
    return {
        "ops": every(op_workloads.OPS, *((1, THREADS) if on_cpu else (THREADS,))),
        "pyramid": every(workloads.PYRAMID),
        "morph": every(workloads.MORPHS),
        "float64": every(workloads.FLOAT64),
        "allocator": every(workloads.ALLOCATOR) if allocator(device) == "default" else [],
        "small": every(workloads.SMALL, 1) + every(workloads.DISTANCES) + (every(workloads.BUSY) if on_cpu else []),
        "memory": list(memory_rows()) if on_cpu and not rounds else [],  # the limits are for the CPU
    }


def speed_rows(works: dict, threads: tuple[int, ...], device: str, rounds: int | None) -> Iterator[Measurement]:
    dry_run = rounds is not None
    for work, workload in works.items():
        for shape in [s for s in workload.shapes if s == SMALLEST] if dry_run else workload.shapes:
            for count in threads:
                yield lambda work=work, shape=shape, count=count: speed(work, shape, count, device, rounds)


def speed(work: str, shape, threads: int, device: str, rounds: int | None = None) -> dict:
    """Measure a workload and its baselines alternately."""
    torch.set_num_threads(threads)
    names = list(baselines.WORKLOADS[work].baselines)
    if "compiled" in names and (shape != baselines.WORKLOADS[work].shapes[0] or threads != THREADS):
        names.remove("compiled")  # compiling takes long
    with baselines.opened(work, shape, names, device) as runs:
        ours = runs["ours"].run
        moved = measure.nbytes(ours.inputs) + measure.nbytes(ours())
        fastest_copy = copy(moved, device)
        timed = {**runs, "copy": baselines.InProcess(fastest_copy, device)}
        times = measure.compare({who: run.seconds for who, run in timed.items()}, rounds)
        row = {"work": work, "shape": workloads.label(shape), "threads": threads, "device": device}
        row |= {"allocator": allocator(device), "bytes": moved, **measure.summarised(times)}
        row["copy_forms"] = fastest_copy.milliseconds
        row["bytes_per_second"] = moved / row["seconds"]["ours"]
        row["share_of_copy"] = row["over_ours"]["copy"]
        if "ffts" in runs:
            ffts = runs["ffts"].run.function
            row["fft_form"], row["fft_forms"] = ffts.name, ffts.milliseconds
        # Peak memory does not depend on the allocator, so it is measured once
        if allocator(device) != "tuned" and threads == THREADS:
            row["peak_beyond_output"] = {who: run.peak()[0] for who, run in runs.items() if who != "ffts"}
    return row


def memory_rows() -> Iterator[Measurement]:
    shape = workloads.BATCH
    for work, limit in LIMITS.items():
        yield lambda work=work, limit=limit: memory(work, baselines.build(work, shape, "ours"), limit)
    for regime in ("frozen", "persistent", "live"):
        for frames in (8, 24):
            name = f"the {frames}-frame {regime} morph by the lens"
            build = partial(workloads.cheap_morph, shape, regime, frames)
            yield lambda name=name, build=build: memory(name, build(), LENS_LIMIT)


def memory(name: str, run: Callable, limit: int) -> dict:
    """Measure the peak memory of a run, with a limit in MiB."""
    run()  # the first call builds masks
    beyond, _ = measure.beyond_output(run)
    row = {"work": f"memory of {name}", "shape": workloads.label(workloads.BATCH), "device": "cpu"}
    return row | {"allocator": allocator("cpu"), "limit": limit * MIB, "peak_beyond_output": {"ours": beyond}}


def write_rows(measurements: list[Measurement], path: str) -> bool:
    """Write the rows of this process's allocator, one line of JSON for each; return whether all were measured."""
    failed = 0
    with open(path, "w") as file:
        for measurement in measurements:
            try:
                row = measurement()
            except Exception:  # the others are still measured
                traceback.print_exc()
                failed += 1
                continue
            ours = f"{1e3 * row['seconds']['ours']:.3f} ms" if "seconds" in row else "measured"
            print(f"{row['allocator']}: {row['work']}, {row['shape']}: {ours}", flush=True)
            print(json.dumps(row), file=file, flush=True)
    return not failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(suites("cpu")), help="the suite to measure (default: all)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    text = "result file (default: as above, but none with --only or --dry-run)"
    parser.add_argument("--out", type=Path, help=text)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--rows", help=argparse.SUPPRESS)  # the file of a process for one allocator
    args = parser.parse_args()
    measure.check_device(parser, args.device)
    torch.set_num_threads(THREADS)
    by_suite = suites(args.device, rounds=1 if args.dry_run else None)
    chosen = by_suite[args.only] if args.only else sum(by_suite.values(), [])
    if args.rows:
        return int(not write_rows(chosen, args.rows))
    rows, failed = [], False
    allocators = [{}, measure.TUNED] if args.device == "cpu" and not args.dry_run else [{}]
    with tempfile.TemporaryDirectory() as folder:
        for number, variables in enumerate(allocators):
            path = f"{folder}/{number}.jsonl"
            command = [sys.executable, __file__, *sys.argv[1:], "--rows", path]
            failed |= subprocess.run(command, env=os.environ | variables).returncode != 0
            rows += map(json.loads, Path(path).read_text().splitlines())
    result = {"kind": "speed", "machine": machine("numpy", "plenoptic"), "rows": rows}
    report.print_tables(result)
    name = f"{date.today()}-{args.device}.json"
    out = args.out or (None if args.only or args.dry_run else Path(__file__).parent / "results" / name)
    if out:
        results.write(out, result)
    too_large = [r["work"] for r in rows if "limit" in r and r["peak_beyond_output"]["ours"] > r["limit"]]
    if too_large:
        print("above its limit:", ", ".join(too_large))
    return int(failed or bool(too_large))


if __name__ == "__main__":
    sys.exit(main())

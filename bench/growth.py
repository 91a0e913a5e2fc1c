"""Measures how time grows with the amount of work: ``python bench/growth.py``.

Batch, size, frames, scales, orientations or threads are varied, one of these (an *axis*) at a time. For each value,
ours, plain torch, plenoptic and the FFTs alone run alternately, with glibc's default allocator. The result is written
to bench/results/DATE-DEVICE-growth.json, and a plot for each axis (plots.py) to a folder of the same name without
".json".
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import baselines
import measure
import plots
import results
import torch
import workloads
from machine import machine

LIMIT = 2.0  # seconds; a baseline that took longer is not measured at larger values
BASELINES = ("plain", "plenoptic", "ffts")
PYRAMID, MORPH = (workloads.ANALYSIS, workloads.SYNTHESIS), workloads.PHASE_MORPH


@dataclass(frozen=True)
class Point:
    """A workload at one value of the varied quantity."""

    value: int
    work: str
    shape: tuple[int, ...]
    threads: int | None = None
    options: dict = field(default_factory=dict)


def axes(cores: int) -> dict[str, list[Point]]:
    """Return the points of each axis, from small to large for each workload."""
    powers = lambda last: [2**i for i in range(int(math.log2(last)) + 1)]
    colour = (1, 3, 224, 224)
    sizes = [28, 56, 112, 224, 448, 896, 1792, 2048]
    scales, orientations = range(1, 8), (2, 3, 4, 6, 8, 12, 16)
    each = lambda works, values, make: [make(work, value) for work in works for value in values]
    return {
        "batch": each((*PYRAMID, MORPH), powers(256), lambda w, b: Point(b, w, (b, 1, 128, 128))),
        "size": each((*PYRAMID, MORPH), sizes, lambda w, n: Point(n, w, (1, 1, n, n))),
        "frames": each((MORPH,), powers(64), lambda w, f: Point(f, w, colour, options={"frames": f})),
        "scales": each(PYRAMID, scales, lambda w, s: Point(s, w, (1, 3, 512, 512), options={"height": s})),
        "orientations": each(PYRAMID, orientations, lambda w, k: Point(k, w, colour, options={"order": k - 1})),
        "threads": each((*PYRAMID, MORPH), powers(cores), lambda w, t: Point(t, w, (8, 3, 224, 224), threads=t)),
    }


def measured(axis: str, points: list[Point], device: str) -> Iterator[dict]:
    """Yield a row for each point."""
    slow: dict[str, set[str]] = {}
    for point in points:
        torch.set_num_threads(point.threads or len(os.sched_getaffinity(0)))
        skipped = slow.setdefault(point.work, set())
        seconds = at_point(point, [who for who in BASELINES if who not in skipped], device)
        if axis != "threads":  # with more threads, a baseline is faster
            skipped.update(who for who, duration in seconds.items() if duration > LIMIT and who != "ours")
        work = "phase morph" if axis == "frames" else point.work  # not "8-frame phase morph"
        row = {"axis": axis, "value": point.value, "work": work, "shape": workloads.label(point.shape)}
        yield row | {"threads": torch.get_num_threads(), "seconds": seconds}


def at_point(point: Point, names: list[str], device: str) -> dict[str, float]:
    """Return the median seconds of ours and of some baselines."""
    with baselines.opened(point.work, point.shape, names, device, **point.options) as runs:
        times = measure.compare({who: run.seconds for who, run in runs.items()})
    return {who: statistics.median(durations) for who, durations in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--out", type=Path, help="result file (default: bench/results/DATE-DEVICE-growth.json)")
    names = list(axes(1))
    parser.add_argument(
        "--only", action="append", choices=names, help="an axis to measure; may be repeated; needs --out (default: all)"
    )
    args = parser.parse_args()
    measure.check_device(parser, args.device)
    if args.only and not args.out:
        parser.error("--only needs --out: the result of all axes would be replaced by that of some")
    out = args.out or Path(__file__).parent / "results" / f"{date.today()}-{args.device}-growth.json"
    cores = len(os.sched_getaffinity(0))
    chosen = {name: points for name, points in axes(cores).items() if name in (args.only or names)}
    if args.device != "cpu":
        chosen.pop("threads", None)
    torch.set_num_threads(cores)
    result = {"kind": "growth", "device": args.device, "machine": machine("numpy", "plenoptic"), "rows": []}
    for axis, points in chosen.items():
        for row in measured(axis, points, args.device):
            result["rows"].append(row)
            text = ", ".join(f"{who} {1e3 * s:.2f}" for who, s in row["seconds"].items())
            print(f"{axis} {row['value']}, {row['work']}: {text} ms", flush=True)
        results.write(out, result)  # after each axis, in case a later fails
    plots.draw(results.read(out), results.pictures(out))


if __name__ == "__main__":
    main()

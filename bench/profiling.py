"""Shows what a workload spends its time on.

``python bench/profiling.py [WORK [SHAPE]] [--who WHO] [--trace FILE]``

Prints the shares of FFTs, of this package's kernels, of copies, of torch's other arithmetic, of memory management, of
other ops, and of the time outside of ops (Python, dispatch, waiting), then the table of torch's profiler. ``--list``
lists the workloads.
"""

from __future__ import annotations

import argparse
import re
import statistics
from pathlib import Path

import baselines
import measure
import torch
import workloads
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from steerlens_fast import native
from steerlens_fast.io.argument_types import integer_from

KINDS = {  # patterns of ops' names; the first that matches counts
    "FFTs": r"aten::_?fft",
    "kernels": r"steerlens_fast::",
    "copies": r"aten::(copy_|_?to\b|_to_copy|clone|contiguous|cat|stack|flip|index_select|roll|_conj_physical)|^store$",
    "memory": r"aten::(empty|resize|new_|set_|zero|fill_)|^\[memory\]",
    "other arithmetic": r"aten::(mul|add|sub|div|sum|abs|angle|complex|polar|cos|sin|exp|sqrt|where|masked|clamp|amax"
    r"|square|neg|index|conv|mm|addmm|bmm|relu|mean|max|lt|le|gt|ge|eq|bitwise|logical|linear|_log_softmax|nll)",
}
OTHER_OPS = "views, autograd, other ops"
OUTSIDE = "outside of ops: Python, dispatch, waiting"
# Functions of the library that write with non-temporal stores. They are not ops, so the profiler does not see them
STORES = "stream_copy", "stream_real_float", "stream_real_double"


def name_the_stores() -> None:
    """Make the profiler record the functions in ``STORES``, as "store"."""
    for name in STORES:
        function = getattr(native, name)

        def recorded_store(*args, function=function):
            with record_function("store"):
                return function(*args)

        setattr(native, name, recorded_store)


def kind_of(name: str) -> str:
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, name)), OTHER_OPS)


def recorded(run, rounds: int, device: str) -> profile:
    """Return the profile of several calls, after two unrecorded ones."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device != "cpu")
    for _ in range(2):
        measure.clocked(run, device)
    with profile(activities=activities) as record:
        for _ in range(rounds):
            with record_function("call"):
                measure.clocked(run, device)
    return record


def milliseconds_by_kind(record: profile, rounds: int, device: str) -> dict[str, float]:
    """Return the milliseconds that a call spends on each kind of op: the ops' self times on the device."""
    averages = record.key_averages()
    on_cpu = device == "cpu"
    self_time = lambda event: event.self_cpu_time_total if on_cpu else event.self_device_time_total
    milliseconds = dict.fromkeys([*KINDS, OTHER_OPS], 0.0)
    for event in averages:
        if event.key != "call" and event.device_type == DeviceType.CPU:  # an op's time includes its GPU kernels
            milliseconds[kind_of(event.key)] += self_time(event) / 1e3 / rounds
    if on_cpu:
        milliseconds[OUTSIDE] = (
            sum(event.self_cpu_time_total for event in averages if event.key == "call") / 1e3 / rounds
        )
    return dict(sorted(milliseconds.items(), key=lambda item: -item[1]))


def shape_of(text: str) -> tuple[int, ...]:
    """Return the shape of a label: the inverse of :func:`workloads.label`."""
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){3}", text):
        raise argparse.ArgumentTypeError(f"must be like 8x3x224x224 (batch, channels, height, width), got {text!r}")
    return tuple(map(int, text.split("x")))


def main() -> None:
    description = "Show what a workload spends its time on."
    parser = argparse.ArgumentParser(prog="bench/profiling.py", description=description)
    parser.add_argument("work", nargs="?", default="analysis", help="a workload of --list (default: analysis)")
    parser.add_argument("shape", nargs="?", type=shape_of, help="such as 8x3x224x224 (default: the benchmark's)")
    parser.add_argument("--who", default="ours", help="ours, or a baseline of the workload (default: ours)")
    parser.add_argument("--threads", type=integer_from(1), default=2)
    parser.add_argument("--rounds", type=integer_from(1), default=10)
    parser.add_argument("--rows", type=integer_from(1), default=20, help="number of rows of torch's table")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--trace", type=Path, help="write a trace for chrome://tracing or ui.perfetto.dev")
    parser.add_argument("--list", action="store_true", help="list the workloads and exit")
    args = parser.parse_args()
    if args.list:
        return print(*baselines.WORKLOADS, sep="\n")
    if args.work not in baselines.WORKLOADS:
        parser.error(f"work must be one of {', '.join(baselines.WORKLOADS)}, got {args.work!r}")
    workload = baselines.WORKLOADS[args.work]
    if args.who not in workload.implementations:
        parser.error(f"--who must be one of {', '.join(workload.implementations)} for {args.work}, got {args.who}")
    measure.check_device(parser, args.device)
    torch.set_num_threads(args.threads)
    shape = args.shape or workload.shapes[0]
    run = workload.setup(shape, args.who, device=args.device)
    name_the_stores()
    record = recorded(run, args.rounds, args.device)
    unprofiled = statistics.median(measure.clocked(run, args.device) for _ in range(args.rounds)) * 1e3
    show(args, shape, milliseconds_by_kind(record, args.rounds, args.device), unprofiled)
    sort = "self_cpu_time_total" if args.device == "cpu" else "self_device_time_total"
    print(record.key_averages().table(sort_by=sort, row_limit=args.rows, max_name_column_width=48))
    if args.trace:
        record.export_chrome_trace(str(args.trace))


def show(args, shape, by_kind: dict[str, float], unprofiled: float) -> None:
    whole = sum(by_kind.values())
    print(f"{args.work}, {workloads.label(shape)}, {args.who}, {args.device}, {args.threads} threads:")
    print(f"  {unprofiled:.2f} ms a call; {whole:.2f} ms under the profiler, of which")
    for kind, milliseconds in by_kind.items():
        if milliseconds:
            print(f"  {milliseconds:8.2f} ms  {100 * milliseconds / whole:5.1f} %  {kind}")


if __name__ == "__main__":
    main()

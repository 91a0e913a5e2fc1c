"""Baselines: what this package ("ours") is timed against.

A baseline is another implementation of the same work (plenoptic, plain torch, compiled plain torch), a part of the work
(such as its FFTs alone), or ours under other conditions (such as float32). Ours and its baselines run alternately. On
the CPU, every other implementation runs in a process of its own: the pyramid of this package changes how its process
manages memory (keep_freed_memory in steerlens_fast/memory.py), which would make other libraries faster, too.
"""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from unittest import mock

import measure
import op_workloads
import torch
import workloads

WORKLOADS = {
    **workloads.PYRAMID,
    **workloads.MORPHS,
    **workloads.FLOAT64,
    **workloads.SMALL,
    **workloads.DISTANCES,
    **workloads.ALLOCATOR,
    **workloads.BUSY,
    **op_workloads.OPS,
}
IN_THIS_PROCESS = "ffts", "gradient", "parts", "factors", "float32", "alone"
# Processes are forked from a server process, which has imported only the modules in this list
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch", "torch._inductor.compile_fx", "plenoptic", "plenoptic.process"])
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # a pool of compiler processes would disturb the timing


class InProcess:
    """An implementation that runs in this process."""

    def __init__(self, run, device="cpu"):
        self.run, self.seconds = run, partial(measure.turn, run, device)
        self.device = device

    def peak(self) -> tuple[int, int]:
        """Return the peak bytes beyond the result, and the bytes of the result."""
        return measure.beyond_output(self.run, self.device)

    def close(self) -> None:
        """Do nothing: there is no process to stop."""


class InSubprocess:
    """An implementation that runs in another process.

    Exceptions of that process are raised in this one.
    """

    def __init__(self, work, shape, who, context=CONTEXT, **options):
        self.pipe, child_end = context.Pipe()
        arguments = child_end, work, shape, who, torch.get_num_threads(), options
        self.process = context.Process(target=_serve, args=arguments, daemon=True)  # ends with this process
        self.process.start()
        child_end.close()
        self._answer()

    def seconds(self) -> float:
        return self._ask("seconds")

    def peak(self) -> tuple[int, int]:
        return self._ask("peak")

    def close(self) -> None:
        self.pipe.close()
        self.process.join()

    def _ask(self, question: str):
        with suppress(BrokenPipeError):  # then _answer raises an error that names the exit status
            self.pipe.send(question)
        return self._answer()

    def _answer(self):
        try:
            failed, answer = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            raise RuntimeError(f"the baseline's process died, exit status {self.process.exitcode}") from None
        if failed:
            raise RuntimeError(f"the baseline's process failed:\n{answer}")
        return answer


def _serve(pipe, work, shape, who, threads, options) -> None:
    """Build an implementation, then run the methods named in the pipe until the pipe is closed."""
    try:
        torch.set_num_threads(threads)
        baseline = InProcess(build(work, shape, who, **options), options.get("device", "cpu"))
        baseline.seconds()  # the first call builds masks and compiles graphs
        pipe.send((False, None))
        while True:
            pipe.send((False, getattr(baseline, pipe.recv())()))
    except EOFError:
        return
    except BaseException:
        pipe.send((True, traceback.format_exc()))


def build(work: str, shape, who: str, **options) -> workloads.Run:
    """Set up a workload for one implementation, and return its run."""
    workload = WORKLOADS[work]
    if who not in workload.implementations:
        raise ValueError(f"who must be one of {', '.join(workload.implementations)} for {work}, got {who!r}")
    return workload.setup(shape, who, **options)


@contextmanager
def opened(
    work: str, shape, names: list[str], device="cpu", **options
) -> Iterator[dict[str, InProcess | InSubprocess]]:
    """Yield ours and some baselines by name. They are closed at the end."""
    runs = {"ours": InProcess(build(work, shape, "ours", device=device, **options), device)}
    try:
        for who in names:
            runs[who] = open_baseline(work, shape, who, device, **options)
        yield runs
    finally:
        for run in runs.values():
            run.close()


def open_baseline(work, shape, who, device="cpu", **options) -> InProcess | InSubprocess:
    """Return a baseline.

    On the CPU, other implementations run in processes of their own. So does "tuned", because glibc reads its settings
    when a process starts.
    """
    if who == "tuned":
        with mock.patch.dict(os.environ, measure.TUNED):
            context = multiprocessing.get_context("spawn")
            return InSubprocess(work, shape, "ours", context=context, device=device, **options)
    if who in IN_THIS_PROCESS or torch.device(device).type != "cpu":
        return InProcess(build(work, shape, who, device=device, **options), device)
    return InSubprocess(work, shape, who, device=device, **options)

"""Baselines: what this package ("ours") is timed against.

A baseline is another implementation of the same work (plenoptic, plain torch, compiled plain torch), a part of the work
(such as its FFTs alone), or the same work of ours under other conditions (such as float32). Ours and its baselines run
alternately. On the CPU, each other implementation runs in a process of its own: importing this package changes how its
process manages memory (steerlens_fast/memory.py), which would make other libraries faster, too.
"""

from __future__ import annotations

import multiprocessing
import os
import traceback
from contextlib import suppress
from functools import partial
from unittest import mock

import cases
import measure
import op_cases
import torch

SETUPS = {
    **cases.SETUPS,
    **cases.FLOAT64_SETUPS,
    **cases.ALLOCATOR_SETUPS,
    **cases.SMALL_SETUPS,
    **cases.DISTANCE_SETUPS,
    **cases.BUSY_SETUPS,
    **op_cases.SETUPS,
}
# Baselines of the set-ups that are not compared with other implementations
SPECIAL_BASELINES = {
    cases.persistent_morph: (),
    cases.lens_morph: ("gradient",),
    cases.small_morph: ("parts",),
    cases.small_distance: ("factors",),
    cases.small_steps: ("parts",),
    cases.small_steps_to_distance: ("factors",),
    **dict.fromkeys(cases.DISTANCE_SETUPS.values(), ("factors",)),
    cases.beside_spinner: ("alone",),
    **dict.fromkeys(cases.FLOAT64_SETUPS.values(), ("float32",)),
    **dict.fromkeys(cases.ALLOCATOR_SETUPS.values(), ("tuned",)),
}
IN_THIS_PROCESS = "ffts", "gradient", "parts", "factors", "alone", "float32"
# glibc's settings that keep freed memory in the process: no mmap, no trimming (bench/run)
TUNED = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "4294967296", "MALLOC_TOP_PAD_": "268435456"}
# Processes are forked from one that has imported these modules and nothing else
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

    def __init__(self, work, shape, who, threads=None, context=CONTEXT, **options):
        self.pipe, child_end = context.Pipe()
        arguments = child_end, work, shape, who, threads or torch.get_num_threads(), options
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
    """Build an implementation, then run the methods named in the pipe.

    It ends when the pipe is closed.
    """
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


def implementations_of(work: str) -> tuple[str, ...]:
    """Return the names of ours and of all baselines of a workload."""
    if work in op_cases.SETUPS:
        return "ours", "plain", "compiled"
    if SETUPS[work] in SPECIAL_BASELINES:
        return "ours", *SPECIAL_BASELINES[SETUPS[work]]
    return "ours", "plain", "compiled", "plenoptic", "ffts"


def build(work: str, shape, who: str, **options) -> cases.Run:
    """Return the run of a workload by one implementation."""
    if who not in implementations_of(work):
        raise ValueError(f"who must be one of {', '.join(implementations_of(work))} for {work}, got {who!r}")
    return SETUPS[work](shape, who, **options)


def open_baseline(work, shape, who, device="cpu", **options) -> InProcess | InSubprocess:
    """Return a baseline.

    Other implementations on the CPU, and the one named "tuned", run in processes of their own.
    """
    if who == "tuned":
        with mock.patch.dict(os.environ, TUNED):  # glibc reads these when a process starts
            context = multiprocessing.get_context("spawn")
            return InSubprocess(work, shape, "ours", context=context, device=device, **options)
    if who in IN_THIS_PROCESS or torch.device(device).type != "cpu":
        return InProcess(build(work, shape, who, device=device, **options), device)
    return InSubprocess(work, shape, who, device=device, **options)

"""Rivals: implementations timed alternately with ours, in this process or, as their users run them, in another.

This package lets its process keep freed memory (memory.py), which makes other libraries faster, too. Peers on the CPU
therefore get a process each, forked from one that has imported torch and plenoptic and has done nothing else.
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
# Rivals of the set-ups that no peer has: parts of the work, the same work in another way, or undisturbed
PARTS = {
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
IN_THIS_PROCESS = "floor", "gradient", "parts", "factors", "alone", "float32"
# glibc's settings that keep freed memory in the process: no mmap, no trimming (bench/run)
TUNED = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "4294967296", "MALLOC_TOP_PAD_": "268435456"}
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch", "torch._inductor.compile_fx", "plenoptic", "plenoptic.process"])
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no pool of compilers beside what is timed


class InProcess:
    """A rival that runs in this process."""

    def __init__(self, run, device="cpu"):
        self.run, self.seconds = run, partial(measure.turn, run, device)
        self.device = device

    def peak(self) -> tuple[int, int]:
        """Return the peak bytes beyond the result, and the bytes of the result."""
        return measure.beyond_output(self.run, self.device)

    def close(self) -> None:
        """Do nothing: there is no process to stop."""


class InSubprocess:
    """A rival that runs in another process; its exceptions are raised here."""

    def __init__(self, work, shape, who, threads=None, context=CONTEXT, **options):
        self.pipe, theirs = context.Pipe()
        arguments = theirs, work, shape, who, threads or torch.get_num_threads(), options
        self.process = context.Process(target=_serve, args=arguments, daemon=True)  # ends with this one
        self.process.start()
        theirs.close()
        self._answer()

    def seconds(self) -> float:
        return self._ask("seconds")

    def peak(self) -> tuple[int, int]:
        return self._ask("peak")

    def close(self) -> None:
        self.pipe.close()
        self.process.join()

    def _ask(self, question: str):
        with suppress(BrokenPipeError):  # receiving the answer raises
            self.pipe.send(question)
        return self._answer()

    def _answer(self):
        try:
            failed, answer = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            raise RuntimeError(f"the rival's process died, exit status {self.process.exitcode}") from None
        if failed:
            raise RuntimeError(f"the rival's process failed:\n{answer}")
        return answer


def _serve(pipe, work, shape, who, threads, options) -> None:
    """Set up, then answer requests until the connection is closed."""
    try:
        torch.set_num_threads(threads)
        rival = InProcess(build(work, shape, who, **options), options.get("device", "cpu"))
        rival.seconds()  # masks are built, graphs compiled
        pipe.send((False, None))
        while True:
            pipe.send((False, getattr(rival, pipe.recv())()))
    except EOFError:
        return
    except BaseException:
        pipe.send((True, traceback.format_exc()))


def implementations_of(work: str) -> tuple[str, ...]:
    """Return the implementations of a workload."""
    if work in op_cases.SETUPS:
        return "ours", "plain", "compiled"
    if SETUPS[work] in PARTS:
        return "ours", *PARTS[SETUPS[work]]
    return "ours", "plain", "compiled", "plenoptic", "floor"


def build(work: str, shape, who: str, **options) -> cases.Run:
    """Return the run of a named set-up."""
    if who not in implementations_of(work):
        raise ValueError(f"who must be one of {', '.join(implementations_of(work))} for {work}, got {who!r}")
    return SETUPS[work](shape, who, **options)


def rival(work, shape, who, device="cpu", **options) -> InProcess | InSubprocess:
    """Return a rival: peers in a process as their users have it, floors in this process."""
    if who == "tuned":
        with mock.patch.dict(os.environ, TUNED):  # read as the process starts
            context = multiprocessing.get_context("spawn")
            return InSubprocess(work, shape, "ours", context=context, device=device, **options)
    if who in IN_THIS_PROCESS or torch.device(device).type != "cpu":
        return InProcess(build(work, shape, who, device=device, **options), device)
    return InSubprocess(work, shape, who, device=device, **options)

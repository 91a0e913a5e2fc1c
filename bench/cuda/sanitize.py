"""The phase "sanitize" of bench/cuda.sh: runs every op and a small morph under compute-sanitizer.

Its tools memcheck, racecheck and initcheck run at the same time. Only errors in our kernels, recognised by their names,
make the phase fail; initcheck also reports kernels of torch and cuFFT.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from common import ROOT, TESTS, not_measured, phase_arguments, write_result

TOOLS = ("memcheck", "racecheck", "initcheck")
LABELS = ("odd", "even", "threads")  # labels of shapes in tests/op_cases.py; "threads" needs several blocks
OURS = re.compile(r"steerlens|for_each_kernel|(split|merge|largest|rows|columns)_kernel")


def main() -> int:
    args = phase_arguments(__doc__)
    if args.rest == ["--work"]:
        return work(args.device)
    if args.device == "cpu":
        work("cpu")
        return write(args.out, not_measured("dry run: the work was done on the CPU, without a sanitizer"))
    sanitizer = find_sanitizer()
    if sanitizer is None:
        return write(args.out, not_measured("compute-sanitizer not found"))
    running = {tool: start(sanitizer, tool, args.out) for tool in TOOLS}
    try:
        return write(args.out, {tool: verdict(process, args, tool) for tool, process in running.items()})
    finally:
        for process in running.values():
            end(process)


def write(out: Path, result: dict) -> int:
    write_result(out, "sanitize", result)
    return int(any(isinstance(r, dict) and r.get("ours") for r in result.values()))


def find_sanitizer() -> str | None:
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
    places = [f"{home}/bin", f"{home}/compute-sanitizer", os.environ.get("PATH", "")]
    return shutil.which("compute-sanitizer", path=os.pathsep.join(places))


def start(sanitizer: str, tool: str, out: Path) -> subprocess.Popen:
    command = [sanitizer, f"--tool={tool}", "--print-limit=50", sys.executable, __file__, f"--out={out}", "--work"]
    log = (out / f"sanitize-{tool}.log").open("w")
    # Without torch's cache, each tensor is an allocation of its own, and the sanitizer knows its bounds
    environment = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True)


def verdict(process: subprocess.Popen, args, tool: str) -> dict:
    """Return the number of errors in our kernels and in others, and whether the work was completed."""
    try:
        process.wait(max(1.0, args.deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        end(process)
    text = (args.out / f"sanitize-{tool}.log").read_text(errors="replace")
    ours, others = errors_in(text)
    ended = "all work done" in text
    return {"ours": ours, "others": others, "ended": ended, "exit": process.returncode} | (
        {} if ended else not_measured("the work was not completed")
    )


def end(process: subprocess.Popen) -> None:
    """End the sanitizer and the process it runs."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def errors_in(text: str) -> tuple[int, int]:
    """Return the number of reports about our kernels, and about others.

    Summaries are not counted.
    """
    ours = others = 0
    for report in re.split(r"(?m)^========= (?=\S)", text):
        if not re.match(r"(Invalid|Uninitialized|Error:|Warning:|Race|Potential|Program hit|Misaligned)", report):
            continue
        # The first lines name the kernel. Lines with "Host Frame" may name host functions of this package
        where = "".join(line for line in report.splitlines(True)[:6] if "Host Frame" not in line)
        if OURS.search(where):
            ours += 1
        else:
            others += 1
    return ours, others


def work(device: str) -> int:
    """Run every op, an analysis, a synthesis and a morph."""
    sys.path.insert(0, str(TESTS))
    import torch
    from op_cases import OPS, RAW, case, shapes_of

    import steerlens_fast as sf

    for op in OPS:
        for label in [name for name in LABELS if name in shapes_of(op)]:
            for dtype in (torch.float32, torch.float64):
                getattr(RAW, op)(*case(op, label, shapes_of(op)[label]).build(dtype, device))
    image, gradient = (torch.rand(2, 33, 36).to(device) for _ in range(2))
    pyramid = sf.SteerablePyramid((33, 36))
    pyramid.synthesize(pyramid(image))
    frames = sf.CSPFamily(pyramid, "joint").prepare(image, gradient).render([0.0, 1.0, 2.0], bounds=(0, 1))
    assert bool(frames.isfinite().all())
    print("all work done", flush=True)
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())

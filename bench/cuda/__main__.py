"""Builds, tests and measures the CUDA kernels on a GPU, in phases.

    build     setup.py build_ext --inplace, for this GPU
    compile   every kernel for several architectures: warnings, registers, spills, narrow accesses (needs no GPU)
    tests     the whole test suite; tests that use the GPU run first
    sanitize  every op under compute-sanitizer's memcheck, racecheck and initcheck
    bench     ops, compared with copying memory; transforms and morphs, compared with plenoptic and torch's FFTs; memory

Each phase is a process with a time limit. Time that a phase does not use is added to the next. After a failed phase,
the others still run. "--device cpu" is a dry run with small shapes: it builds and sanitises nothing, and its times are
not reported.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

from common import ROOT, write_result
from table import lines

PHASES = {"build": 130, "compile": 50, "tests": 145, "sanitize": 75, "bench": 115}  # time limits in seconds
LAST_LINES, WIDTH = 12, 200  # lines, and characters of a line, that are printed of a failed phase's log
MARGIN = 12  # seconds that a phase has to write its summary
GRACE = 8  # seconds between SIGINT and SIGKILL
HERE = Path(__file__).parent
FILES = {"compile": "compiled.py", "tests": "suite.py", "sanitize": "sanitize.py", "bench": "timed.py"}


def main() -> int:
    args = arguments()
    out = args.out or Path(os.environ.get("OUT") or tempfile.mkdtemp(prefix="steerlens-cuda-"))
    out.mkdir(parents=True, exist_ok=True)
    phases = [p for p in PHASES if p in args.only and p not in args.skip]
    limits = {p: PHASES[p] * args.patience for p in phases}
    end = time.monotonic() + sum(limits.values())
    results = {}
    for n, phase in enumerate(phases):
        left = end - time.monotonic() - sum(limits[p] for p in phases[n + 1 :])
        results[phase] = run_phase(phase, out, args.device, left)
    result = {"about": about(args.device), **results}
    write_result(out, "cuda", result)
    text = "\n".join(lines(result))
    (out / "table.txt").write_text(text + "\n")
    print(f"\n{text}\n\nresults and logs: {out}")
    return int(any(r["status"] != "ok" for r in results.values()))


def arguments() -> argparse.Namespace:
    def listed(text: str) -> list[str]:
        unknown = set(text.split(",")) - set(PHASES)
        if unknown:
            raise argparse.ArgumentTypeError(f"phases are {', '.join(PHASES)}, got {', '.join(sorted(unknown))}")
        return text.split(",")

    how = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="bench/cuda.sh", description=__doc__, formatter_class=how)
    parser.add_argument(
        "--only", type=listed, default=list(PHASES), metavar="PHASES", help="phases to run, separated by commas"
    )
    parser.add_argument("--skip", type=listed, default=[], metavar="PHASES", help="phases to leave out")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="cpu: a dry run")
    parser.add_argument("--patience", type=float, default=1, metavar="X", help="multiply all time limits by X")
    parser.add_argument("--out", type=Path, help="folder for results and logs (default: $OUT, or a temporary folder)")
    return parser.parse_args()


def run_phase(phase: str, out: Path, device: str, limit: float) -> dict:
    """Run a phase.

    Return its result, with the status "ok", "failed (exit code)" or "out of time".
    """
    start, log = time.monotonic(), out / f"{phase}.log"
    print(f"{phase}: at most {limit:.0f} s (log: {log})", flush=True)
    (out / f"{phase}.json").unlink(missing_ok=True)
    command = [sys.executable, *command_of(phase, device, out, limit)]
    with log.open("w") as file:
        building = phase == "build" and device == "cuda"
        code = run(command, file, limit, build_environment() if building else environment())
    status = {0: "ok", None: "out of time"}.get(code, f"failed ({code})")
    result = {"status": status, "seconds": round(time.monotonic() - start, 1)}
    if (out / f"{phase}.json").exists():
        result |= json.loads((out / f"{phase}.json").read_text())
    print(f"{phase}: {result['status']} after {result['seconds']:.0f} s", flush=True)
    if result["status"] != "ok":
        print(
            "\n".join(f"    {line[:WIDTH]}" for line in log.read_text(errors="replace").splitlines()[-LAST_LINES:]),
            flush=True,
        )
    return result


def command_of(phase: str, device: str, out: Path, limit: float) -> list[str]:
    """Return the arguments of Python for a phase."""
    if phase == "build":
        dry_run = ["-c", "import steerlens_fast; print(steerlens_fast.build_info())"]
        return ["setup.py", "build_ext", "--inplace"] if device == "cuda" else dry_run
    return [str(HERE / FILES[phase]), f"--out={out}", f"--device={device}", f"--seconds={limit - MARGIN:.0f}"]


def run(command: list[str], log, limit: float, environment: dict[str, str]) -> int | None:
    """Run a command and return its exit code, or None if it and its children were ended at the time limit."""
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
    )
    for stop_signal, wait in ((None, limit), (signal.SIGINT, GRACE), (signal.SIGKILL, GRACE)):
        if stop_signal is not None:
            try:
                os.killpg(process.pid, stop_signal)
            except ProcessLookupError:
                pass  # the process has just ended
        try:
            code = process.wait(wait)
            return code if stop_signal is None else None
        except subprocess.TimeoutExpired:
            continue
    return None


def environment() -> dict[str, str]:
    """Return the environment variables of a phase.

    With them, Python imports this checkout's package, and the build finds ninja in Python's folder.
    """
    prepended = {"PYTHONPATH": str(ROOT), "PATH": str(Path(sys.executable).parent)}
    return os.environ | {k: os.pathsep.join(filter(None, (v, os.environ.get(k)))) for k, v in prepended.items()}


def build_environment() -> dict[str, str]:
    """Return the environment variables of a CUDA build for this GPU, or for the architectures that the caller named."""
    variables = environment() | {"FORCE_CUDA": "1"}
    import torch

    if "TORCH_CUDA_ARCH_LIST" not in variables and torch.cuda.is_available():
        variables["TORCH_CUDA_ARCH_LIST"] = "{}.{}".format(*torch.cuda.get_device_capability())
    return variables


def about(device: str) -> dict:
    """Return machine and versions."""
    import torch

    facts = {"date": datetime.now(timezone.utc).date().isoformat(), "python": platform.python_version()}
    facts |= {"torch": torch.__version__, "torch_cuda": torch.version.cuda, "cores": os.cpu_count()}
    facts["commit"] = output_of("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD") or None
    if device == "cpu" or not torch.cuda.is_available():
        return facts | {"device": "cpu (dry run)" if device == "cpu" else "no GPU"}
    p = torch.cuda.get_device_properties(0)
    facts |= {"device": p.name, "capability": f"{p.major}.{p.minor}", "multiprocessors": p.multi_processor_count}
    facts |= {
        "memory_mib": p.total_memory >> 20,
        "l2_mib": p.L2_cache_size >> 20,
        "cudnn": torch.backends.cudnn.version(),
    }
    facts["driver"] = (
        output_of("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").split("\n")[0] or None
    )
    return facts


def output_of(*command: str) -> str:
    try:
        return subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False
        ).stdout.strip()
    except FileNotFoundError:
        return ""


if __name__ == "__main__":
    sys.exit(main())

"""The shipped evaluations, with their reports and what they take: ``python bench/evaluate.py [--out FOLDER]``.

Writes ``DATE-evaluate-digits`` and ``-shapes`` (report, summary, all records) and ``DATE-evaluate-times.json``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import torch
import torch.nn.functional as F
from machine import machine

import steerlens_fast as sf
from steerlens_fast.evaluate.grids import sample, spread
from steerlens_fast.evaluate.presets import PRESETS

FITS, SIZE = 300, 64
KEPT = ("index.html", "summary.json", "figures")


def fits() -> dict:
    """Seconds for warp and gain of images of 64 x 64: known warps of up to 3 pixels, with noise; three restarts."""
    torch.manual_seed(0)
    images = F.interpolate(torch.rand(FITS, 1, SIZE // 4, SIZE // 4), size=(SIZE, SIZE), mode="bicubic").clamp(0, 1)
    coarse = torch.rand(FITS, 2, 4, 4) * 6 - 3
    field = spread(spread(coarse, (8, 8)), (SIZE, SIZE))
    edits = (sample(images, field)[0] + 0.02 * torch.randn_like(images)).clamp(0, 1)
    sf.smooth_reconstruction(images[:16], edits[:16])  # warms up
    told = {"fits": FITS, "size": SIZE}
    for workers in (1, os.cpu_count()):
        start = time.perf_counter()
        found = sf.smooth_reconstruction(images, edits, workers=workers)
        told[f"seconds, {workers} workers"] = round(time.perf_counter() - start, 2)
    return told | {"median E of the warp": round(found.warp.median().item(), 4)}


def preset(name: str, folder: Path) -> dict:
    """Run the command from end to end, keep its report, and tell seconds by the clock and of the CPU."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "steerlens_fast.cli", "evaluate", "--preset", name, "--progress", "none"]
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([*command, "--out", f"{out}/it"], check=True)
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        _keep(Path(out, "it"), folder)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(seconds, 1), "cpu_seconds": round(used, 1)}


def _keep(out: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in KEPT:
        copy = shutil.copytree if (out / name).is_dir() else shutil.copyfile
        copy(out / name, folder / name)
    records = (out / "results.jsonl").read_bytes()
    (folder / "results.jsonl.gz").write_bytes(gzip.compress(records, mtime=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="where results go")
    args = parser.parse_args()
    told = {"machine": machine() | {"cores": os.cpu_count()}, "load_before": [round(n, 2) for n in os.getloadavg()]}
    told["fits"] = fits()
    for name in PRESETS:
        told[name] = preset(name, args.out / f"{date.today()}-evaluate-{name}")
    told["load_after"] = [round(n, 2) for n in os.getloadavg()]
    (args.out / f"{date.today()}-evaluate-times.json").write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()

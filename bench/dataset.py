"""Benchmarks of whole data-set jobs: ``python bench/dataset.py [--out RESULT.json]``.

They take 20 minutes on two cores.

There are four parts:

- photographs: jobs with a ResNet-18, compared with the gradients alone for the same images in memory;
- digits: the command line on small digits, as PNG files and as an array, with a tiny network: the time of
  the whole command, the time until its first shard is complete, and the time to resume the finished job;
- cpu: the CPU time of one worker, compared with that of its gradients or morphs alone. Other processes on the machine
  change CPU time less than they change wall-clock time;
- memory: the peak memory of the main process, which supervises the workers.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from functools import partial
from pathlib import Path

import networks
import numpy as np
import torch
from machine import machine
from PIL import Image

from steerlens_fast import SteerableLens
from steerlens_fast.data.decoding import decode
from steerlens_fast.data.resize import resize_and_crop
from steerlens_fast.job import morph_dataset
from steerlens_fast.job.config import JobConfig
from steerlens_fast.job.engines.local import KEEP_MEMORY
from steerlens_fast.job.pipeline import in_order
from steerlens_fast.job.planning import JobInputs, make_plan
from steerlens_fast.job.worker import Worker

ROUNDS = 3
FRAMES = 8
PHOTOS, PHOTO_SIZE = 256, (375, 500)
DIGITS = 20_000
PHOTO_MODEL, DIGIT_MODEL = "networks:resnet18", "networks:tiny"
BATCH, WORKERS = 32, len(os.sched_getaffinity(0))
UNSCORED = {"score": "none"}
EXTENT_OPTIONS = ("factors", "max_l2")  # how far morphs go
PHOTO_JOBS = {
    "csp-phase, factors": {"factors": 1000.0, **UNSCORED},
    "csp-phase, factors, luma": {"factors": 1000.0, "color": "luma", **UNSCORED},
    "csp-phase, max_l2": {"max_l2": 10.0, **UNSCORED},
    "csp-phase, factors, all frames scored": {"factors": 1000.0},
}
DIGIT_OPTIONS = {"model": DIGIT_MODEL, "channels": 1, "target": "runner-up", "frames": FRAMES, **UNSCORED}
PHOTO_OPTIONS = {"size": 224, "crop_pct": 0.95, "target": 3, "frames": FRAMES, "batch_size": BATCH, "shard_size": BATCH}
# How many shards of each job a worker computes. The first shards are a warm-up, which is not measured: while the heap
# grows, page faults take time.
CPU_SHARDS = 4
CPU_JOBS = {  # work: (data, options, number of measured shards)
    **{
        f"JPEGs of 500 x 375, {name}": ("photos", {"model": PHOTO_MODEL, **PHOTO_OPTIONS, **PHOTO_JOBS[name]}, 1)
        for name in ("csp-phase, factors", "csp-phase, max_l2")
    },
    **{
        f"digits, {data}, {name}": (data, {**DIGIT_OPTIONS, **extent}, 3)
        for data in ("png", "digits.npy")
        for name, extent in {"factors": {"factors": 10.0}, "max_l2": {"max_l2": 2.3}}.items()
    },
}


# --- Data ------------------------------------------------------------------------------------------------------------


def write_photos(folder: Path, count: int) -> None:
    """Write JPEGs of 500 x 375: seeded crops of scikit-learn's two photographs."""
    from sklearn.datasets import load_sample_images  # not above: it would count as memory of the measured worker

    random, (h, w) = np.random.default_rng(0), PHOTO_SIZE
    folder.mkdir(parents=True)
    for n in range(count):
        photo = Image.fromarray(load_sample_images().images[n % 2]).resize((960, 640), Image.Resampling.BICUBIC)
        top, left = random.integers(0, 640 - h), random.integers(0, 960 - w)
        photo.crop((left, top, left + w, top + h)).save(folder / f"{n:04d}.jpg", quality=90)


def digit_pixels(count: int) -> np.ndarray:
    """Return scikit-learn's digits at 32 x 32, shifted and with noise: uint8 [count, 32, 32]."""
    from sklearn.datasets import load_digits

    random, digits = np.random.default_rng(0), load_digits().images
    pixels = np.empty((count, 32, 32), np.uint8)
    for n in range(count):
        big = np.kron(digits[n % len(digits)] * 15, np.ones((4, 4)))
        shifted = np.roll(big, random.integers(-2, 3, 2), (0, 1))
        pixels[n] = np.clip(shifted + random.normal(0, 4, (32, 32)), 0, 255)
    return pixels


def write_digits(folder: Path, count: int) -> None:
    """Write digits as PNG files, and the same in ``digits.npy``."""
    pixels = digit_pixels(count)
    (folder / "png").mkdir(parents=True)
    for n, digit in enumerate(pixels):
        Image.fromarray(digit).save(folder / "png" / f"{n:05d}.png")
    np.save(folder / "digits.npy", pixels)


# --- Photographs -----------------------------------------------------------------------------------------------------


def photographs(folder: Path) -> list[dict]:
    """Return images per second of gradients alone, and of jobs.

    Gradients are computed in this process, and jobs with a worker per core, alternately.
    """
    write_photos(folder / "photos", PHOTOS)
    model, images = networks.resnet18().requires_grad_(False), in_memory(folder / "photos")
    rates: dict[str, list[float]] = {name: [] for name in ("gradients alone", *PHOTO_JOBS)}
    seconds_by_job = {}  # {job: seconds of all parts of its work}
    for number in range(ROUNDS):
        batches = BATCH, BATCH // 2  # it depends on the machine which of them is faster
        rates["gradients alone"].append(max(PHOTOS / seconds(partial(gradients, model, images, n)) for n in batches))
        for n, (name, options) in enumerate(PHOTO_JOBS.items()):
            if number and "score" not in options:
                continue  # scoring all frames takes minutes, so this job runs once
            out = folder / f"photos-{number}-{n}"
            finished = photo_job(folder / "photos", out, options)
            rates[name].append(finished["last_run"]["images_per_second"])
            seconds_by_job[name] = finished["seconds"]
    alone = statistics.median(rates["gradients alone"])
    rows = []
    for name, values in rates.items():
        rate = statistics.median(values)
        row = {"work": f"{PHOTOS} JPEGs, ResNet-18, {FRAMES} frames", "what": name, "images_per_second": rate}
        rows.append(row | {"of_gradients_alone": rate / alone, "seconds": seconds_by_job.get(name)})
    return rows


def photo_job(photos: Path, out: Path, options: dict) -> dict:
    """Run one job and return its summary."""
    return morph_dataset(str(photos), PHOTO_MODEL, out, workers=WORKERS, gallery=0, **PHOTO_OPTIONS, **options).summary


def in_memory(folder: Path) -> torch.Tensor:
    """Return all photographs as the job reads them: uint8 [N, 3, 224, 224]."""
    paths = sorted(folder.iterdir())
    return torch.from_numpy(
        np.stack([resize_and_crop(decode(p.read_bytes()), (224, 224), crop_pct=0.95) for p in paths])
    )


def gradients(model: torch.nn.Module, images: torch.Tensor, batch: int) -> None:
    """Compute one gradient of each image, as every job does."""
    for some in images.split(batch):
        x = some.float().div_(255).requires_grad_()
        loss = -model(x).log_softmax(1)[:, PHOTO_OPTIONS["target"]].sum()
        torch.autograd.grad(loss, x)


def seconds(run) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


# --- Digits, as commands ---------------------------------------------------------------------------------------------


def digits(folder: Path) -> list[dict]:
    """Return a row for each kind of data and each extent of the morphs."""
    write_digits(folder, DIGITS)
    imported = statistics.median(command_seconds([sys.executable, "-c", "import torch"]) for _ in range(ROUNDS))
    rows = []
    for data in ("png", "digits.npy"):
        for extent in (["--factors", "10"], ["--max-l2", "2.3"]):
            runs = [job(folder, data, [*extent, "--score", "none"], number) for number in range(ROUNDS)]
            rows.append({
                "work": f"{DIGITS} digits, {FRAMES} frames, {data}, {extent[0]}",
                "images_per_second": DIGITS / median(runs, "seconds"),
                "seconds": median(runs, "seconds"),
                "import_torch": imported,
                "first_shard": median(runs, "first_shard"),
                "spent": runs[0]["spent"],
                "resume_seconds": median(runs, "resume_seconds"),
            })  # fmt: skip
    return rows


def job(folder: Path, data: str, flags: list[str], number: int) -> dict:
    """Run one job as a user starts it, then resume the finished job."""
    out = folder / f"{data}-{'-'.join(flags)}-{number}"
    base = [sys.executable, "-m", "steerlens_fast", "morph", "--out", str(out), "--progress", "none"]
    arguments = ["--data", str(folder / data), "--model", DIGIT_MODEL, "--channels", "1", "--frames", str(FRAMES)]
    arguments += ["--gallery", "0", "--workers", str(WORKERS)]
    start = time.time()
    duration = command_seconds([*base, *arguments, *flags])
    first = min(p.stat().st_mtime for p in (out / "shards").glob("*.done.json")) - start
    resume = command_seconds([*base, "--resume"])
    by_work = json.loads((out / "summary.json").read_text())["seconds"]  # seconds by what the workers do
    return {"seconds": duration, "first_shard": first, "resume_seconds": resume, "spent": by_work}


def command_seconds(line: list[str]) -> float:
    """Return the seconds that a command takes."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    start = time.perf_counter()
    subprocess.run(line, check=True, env=environment, cwd=Path(__file__).parent)
    return time.perf_counter() - start


def median(runs: list[dict], name: str) -> float:
    return statistics.median(row[name] for row in runs)


# --- CPU time of a worker --------------------------------------------------------------------------------------------


def cpu(folder: Path) -> list[dict]:
    """Return a row for each job: the CPU time per image of one worker with one thread.

    The worker runs in a process with the environment of a job's workers. The same process then computes only the
    gradients (photographs) or only the morphs (digits) of images in memory.
    """
    if not (folder / "photos").exists():
        write_photos(folder / "photos", CPU_SHARDS * BATCH)
    if not (folder / "png").exists():
        write_digits(folder, DIGITS)
    environment = {**os.environ, **KEEP_MEMORY, "OMP_NUM_THREADS": "1"}
    runs_by_work: dict[str, list[dict]] = {work: [] for work in CPU_JOBS}
    for work in list(CPU_JOBS) * ROUNDS:  # alternately, so that disturbances affect all of them
        line = [sys.executable, __file__, "--worker", work, str(folder)]
        finished = subprocess.run(line, check=True, capture_output=True, text=True, env=environment)
        runs_by_work[work].append(json.loads(finished.stdout.splitlines()[-1]))
    names = "job", "alone", "alone_of_job", "peak_mib"
    return [{"work": work} | {name: median(runs, name) for name in names} for work, runs in runs_by_work.items()]


def worker_cpu(work: str, folder: str) -> None:
    """Run a worker in this process; print its CPU seconds per image, and those of gradients or morphs alone."""
    data, options, shards = CPU_JOBS[work]
    config = JobConfig.from_dict({"data": str(Path(folder, data)), **options, "target": str(options["target"])})
    worker = Worker(config, "cpu", decoders=1)
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        (out / "shards").mkdir()
        plan = make_plan(out, JobInputs(config, "cpu"), worker.loaded.description, WORKERS)
        worker.open(out, plan)
        warm_up, measured = range(CPU_SHARDS - shards), range(CPU_SHARDS - shards, CPU_SHARDS)
        worker.run(in_order(warm_up), lambda event: None)
        count = sum(map(plan.count, measured))
        job = cpu_seconds(lambda: worker.run(in_order(measured), lambda event: None)) / count
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if data == "photos":
        images = in_memory(Path(folder, data))[:BATCH]
        run = partial(gradients, worker.loaded.model, images, 8)  # as in a worker: 8 images per thread
    else:
        images = torch.from_numpy(np.load(Path(folder, "digits.npy"))[:2048])
        extent = {name: options[name] for name in options.keys() & EXTENT_OPTIONS}
        run = partial(morphs, images, plan.batch_size, extent)
    run()
    alone = cpu_seconds(run) / len(images)
    print(json.dumps({"job": job, "alone": alone, "alone_of_job": alone / job, "peak_mib": peak}))


def morphs(images: torch.Tensor, batch: int, extent: dict) -> None:
    """Morph digits [N, H, W] in memory, as the jobs do."""
    lens = SteerableLens(networks.tiny())
    lens.warn_about_results = False
    for some in images[:, None].split(batch):
        lens.morph(some.float().div_(255), "runner-up", frames=FRAMES, **UNSCORED, **extent)


def cpu_seconds(run) -> float:
    """Measure the CPU time of one call, in all threads of this process."""
    start = time.process_time()
    run()
    return time.process_time() - start


# --- Memory of the main process --------------------------------------------------------------------------------------


def memory(folder: Path) -> list[dict]:
    """Return the peak memory of a job's main process, without the workers, for growing numbers of items."""
    rows = []
    for count in (1_000, 10_000, 100_000):
        data, out = folder / f"{count}.npy", folder / f"memory-{count}"
        np.save(data, np.random.default_rng(0).integers(0, 256, (count, 8, 8), np.uint8))
        line = [sys.executable, __file__, "--main-process", str(data), str(out)]
        finished = subprocess.run(line, check=True, capture_output=True, text=True, cwd=Path(__file__).parent)
        rows.append({"work": "main process, peak memory", "items": count, "mib": float(finished.stdout.split()[-1])})
    return rows


def main_process(data: str, out: str) -> None:
    """Run one job and print the peak memory of this process."""
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    options = dict(channels=1, frames=2, factors=1.0, score="none", family="pixel", gallery=0)
    morph_dataset(data, "networks:smallest", out, **options)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


# --- Report ----------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    out = Path(__file__).parent / "results" / f"{date.today()}-dataset.json"
    parser.add_argument("--out", type=Path, default=out, help="result file (default: bench/results/DATE-dataset.json)")
    parser.add_argument("--only", choices=("photographs", "digits", "cpu", "memory"), help="run only this part")
    parser.add_argument("--main-process", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.main_process:
        return main_process(*args.main_process)
    if args.worker:
        return worker_cpu(*args.worker)
    parts = {"photographs": photographs, "digits": digits, "cpu": cpu, "memory": memory}
    result = {"machine": machine(), "rounds": ROUNDS}
    with tempfile.TemporaryDirectory() as folder:
        for name, measure in parts.items():
            if args.only in (None, name):
                result[name] = measure(Path(folder))
                print(json.dumps(result[name], indent=1))
    args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Models, data sets and helpers for tests of jobs.

Processes of a job import them by name.

Environment variables make the classifier slow or faulty, so that a test can resume the job later without the fault:

- ``JOB_SLEEP``: seconds in every forward pass;
- ``JOB_OOM``: largest number of images in a call that does not raise an out-of-memory error;
- ``JOB_PRINT``: write to stdout in three ways, and read stdin;
- ``JOB_WHITE``: for a white image, return a gradient of NaN (``nan``), exit (``exit``) or raise an error (``raise``).
"""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch

from steerlens_fast.cli import main

HERE = Path(__file__).parent
MODEL = "job_models:classifier"
SIZE = (16, 16)
PATIENCE = 300  # seconds after which a test assumes that a process hangs
# Files that, like those of shards, must not depend on interruptions
SUMMARIES = ("manifest.jsonl", "failed.jsonl", "items.jsonl")


# --- Models ----------------------------------------------------------------------------------------------------------


class Classifier(torch.nn.Module):
    """A network with one hidden layer and 3 classes, for grey images of ``SIZE``."""

    def __init__(self, channels: int = 1, size: tuple[int, int] = SIZE):
        super().__init__()
        pixels = channels * size[0] * size[1]
        self.layers = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(pixels, 16), torch.nn.GELU(), torch.nn.Linear(16, 3)
        )

    def forward(self, images):
        time.sleep(float(os.environ.get("JOB_SLEEP", 0)))
        if len(images) > int(os.environ.get("JOB_OOM", len(images))):
            raise torch.OutOfMemoryError(f"tried to allocate {len(images)} images")
        if "JOB_PRINT" in os.environ:
            print("a model that talks", flush=True)
            os.write(1, b'{"event": "shard", "shard": 999}\n')
            os.system("cat; echo and a child of it")
        white = (images.detach() > 0.999).flatten(1).all(1)
        outputs = self.layers(images)
        return self._misbehave(os.environ.get("JOB_WHITE"), images, outputs, white) if white.any() else outputs

    def _misbehave(self, behaviour, images, outputs, white):
        if behaviour == "exit":
            os._exit(13)
        if behaviour == "raise":
            raise ValueError("this model does not like white")
        if behaviour == "nan":  # the outputs are finite, but their gradient contains 0 / 0
            zero_if_white = torch.where(white, (images - images).flatten(1).sum(1), 1.0)
            return outputs + 0 * zero_if_white.sqrt()[:, None]
        return outputs


def classifier() -> Classifier:
    torch.manual_seed(0)
    return Classifier()


class Uncollected(Classifier):
    """Raises an error if garbage collection is on in the constructor, or off in calls."""

    def __init__(self):
        super().__init__()
        if gc.isenabled():
            raise RuntimeError("garbage is collected during the loading of the model")

    def forward(self, images):
        if not gc.isenabled():
            raise RuntimeError("no garbage is collected")
        return super().forward(images)


class Forking(Classifier):
    """A model that forks a child, which stays alive, as a pool does.

    The first process that loads the model kills itself in its first call. The process id of each
    child is the name of a file in the folder ``JOB_CHILDREN``.
    """

    def __init__(self):
        super().__init__()
        self.folder = Path(os.environ["JOB_CHILDREN"])
        self.first, child = not any(self.folder.iterdir()), os.fork()
        if not child:
            signal.pause()
            os._exit(0)
        (self.folder / str(child)).touch()

    def forward(self, images):
        if self.first:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(images)


class Noisy(Classifier):
    """A model that uses torch's random numbers."""

    def forward(self, images):
        return super().forward(images + 0.05 * torch.randn_like(images))


class NoisyEverywhere(Classifier):
    """A model that uses random numbers of Python, of numpy and of its own generator in calls.

    Its weights depend on random numbers of Python and numpy, too.
    """

    def __init__(self):
        super().__init__()
        self.generator = np.random.default_rng(0)
        with torch.no_grad():
            self.layers[1].bias += random.random() + np.random.rand()

    def forward(self, images):
        noise = self.generator.normal(size=images.shape) * random.random() + np.random.randn(*images.shape)
        return super().forward(images + 0.05 * torch.from_numpy(noise).to(images))


def noisy() -> Noisy:
    return Noisy()


def noisy_everywhere() -> NoisyEverywhere:
    return NoisyEverywhere()


class Named(torch.nn.Module):
    """A model with attributes for class names and preprocessing. It takes colour images of 12 x 12."""

    class_names = ["ant", "goldfish, Carassius auratus", "tench, Tinca tinca", "cat"]
    mean, std, size, channels = (0.5, 0.4, 0.3), 0.25, 12, 3

    def __init__(self, outputs: int = 4):
        super().__init__()
        self.head = torch.nn.Linear(3 * 12 * 12, outputs)

    def forward(self, images):
        return self.head(images.flatten(1))


def named() -> Named:
    return Named()


def one_logit() -> Named:
    model = Named(1)
    model.class_names = ["healthy", "ill"]
    return model


def sigmoids() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 12 * 12, 1), torch.nn.Sigmoid()).eval()


def colour_24x32() -> Classifier:
    torch.manual_seed(0)
    return Classifier(3, (24, 32))


def grey_8x8() -> Classifier:
    torch.manual_seed(0)
    return Classifier(1, (8, 8))


# --- Data ------------------------------------------------------------------------------------------------------------


def pictures(count: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Return random grey images, uint8 [N, H, W], none of which is white."""
    return np.random.default_rng(0).integers(0, 255, (count, *size), np.uint8)


def make_folder(folder: Path, count: int, size: tuple[int, int] = SIZE) -> Path:
    """Write ``count`` grey PNG files to three folders of classes."""
    from PIL import Image

    for n, pixels in enumerate(pictures(count, size)):
        path = folder / f"c{n * 3 // count}" / f"{n:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


def make_white(path: Path, size: tuple[int, int] = SIZE) -> None:
    from PIL import Image

    Image.new("L", size[::-1], 255).save(path)


class Triples(torch.utils.data.Dataset):
    """A data set of (image, label, key) without attributes for labels or keys."""

    def __init__(self, count: int = 10):
        self.images = pictures(count)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, n):
        return torch.from_numpy(self.images[n])[None], n % 3, f"mine/{n}"


# --- Running ---------------------------------------------------------------------------------------------------------


def arguments(out: Path, *more, data: Path | str | None = None, **options) -> list[str]:
    """Return the arguments of the command ``morph``. With ``data``, the arguments are those of a new job."""
    new = []
    if data is not None:
        new = ["--data", data, "--model", MODEL, "--channels", 1, "--threads", 1, "--shard-size", 4, "--batch-size", 2]
        new += [] if "distances" in options else ["--frames", 4, "--max-l2", 2]
    for name, value in options.items():
        more = (*more, f"--{name.replace('_', '-')}", *(value if isinstance(value, list) else [value]))
    return [str(part) for part in ("morph", "--out", out, "--gallery", 0, *new, *more)]


def run_here(out: Path, *more, **options) -> int:
    """Run a job in this process and return its exit status, such as ``SOME_FAILED`` (steerlens_fast/errors.py)."""
    return main(arguments(out, "--workers", 0, "--progress", "none", *more, **options))


def environment(**variables) -> dict[str, str]:
    """Return the environment of a process that can import this module."""
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    more = {name: str(value) for name, value in variables.items()}
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}


def start(argv: list[str], **variables) -> subprocess.Popen:
    """Start ``steerlens-fast`` as a process in a new session."""
    command = [sys.executable, "-m", "steerlens_fast", *argv]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **pipes, env=environment(**variables), start_new_session=True)


def wait_for_end(process: subprocess.Popen) -> tuple[int, str]:
    """Wait for a process; return its exit status and its stderr."""
    try:
        output = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, output[1]


def children(process: subprocess.Popen) -> list[int]:
    """Return the process ids of a process's children. Any of its threads may have started them."""
    try:
        tasks = Path(f"/proc/{process.pid}/task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def alive(pid: int) -> bool:
    """Return whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(condition, what: str) -> None:
    """Wait until ``condition()`` is true; fail after ``PATIENCE`` seconds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE} s for {what}"
        time.sleep(0.01)


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


# --- Results -------------------------------------------------------------------------------------------------


def markers(out: Path) -> list[Path]:
    return sorted((out / "shards").glob("*.done.json"))


def digests(out: Path) -> dict[str, str]:
    """Return the SHA-256 of all files that must not depend on interruptions, by name."""
    files = [f for f in (out / "shards").rglob("*") if f.is_file() and not f.name.endswith(".done.json")]
    return {
        str(f.relative_to(out)): sha256(f.read_bytes()).hexdigest() for f in (*files, *(out / n for n in SUMMARIES))
    }


def temporaries(out: Path) -> list[str]:
    return [str(path.relative_to(out)) for path in out.rglob("*.tmp")]


def lines(path: Path) -> list[dict]:
    """Return the objects of a jsonl file."""
    return [json.loads(line) for line in path.read_bytes().decode(errors="surrogateescape").split("\n") if line]


def records(out: Path) -> list[dict]:
    return [record for path in sorted((out / "shards").glob("*.jsonl")) for record in lines(path)]


def frames(out: Path) -> dict[str, torch.Tensor]:
    """Return the frames of a job, uint8 [F, C, H, W], by key."""
    from steerlens_fast.job.formats import get_format

    kind = json.loads((out / "config.json").read_text())["format"]
    results = {}
    for path in sorted((out / "shards").glob("*.jsonl")):
        records = lines(path)
        stored = get_format(kind).read(out / "shards", path.stem, records)
        results |= dict(zip((r["key"] for r in records if r["row"] is not None), stored))
    return results


def check_exit(capsys, code: int, *names: str, status: int) -> str:
    """Check that the exit status ``code`` is ``status``, and that stderr contains ``names``; return stderr."""
    message = capsys.readouterr().err
    assert code == status, message
    assert all(name in message for name in names), message
    return message

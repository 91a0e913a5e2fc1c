"""Models, data sets and helpers of the data-set job's tests; importable by the job's own processes.

What a model does besides computing is asked for in the environment, so that a job can go on when it is mended:
``JOB_SLEEP`` (seconds in every forward pass), ``JOB_OOM`` (images in one call, beyond which memory is out),
``JOB_PRINT`` (writes to stdout in three ways), and, for a white image, ``JOB_WHITE``: ``nan`` (gradient), ``exit``,
``raise``.
"""

from __future__ import annotations

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
PATIENCE = 300  # seconds after which a process is taken to hang
SUMS = ("manifest.jsonl", "failed.jsonl", "items.jsonl")  # besides shards, what must not depend on how a job ran


# --- Models ----------------------------------------------------------------------------------------------------------


class Classifier(torch.nn.Module):
    """One hidden layer on grey images of ``SIZE``, 3 classes."""

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
            os.system("echo and a child of it")
        white = (images.detach() > 0.999).flatten(1).all(1)
        outputs = self.layers(images)
        return self._misbehave(os.environ.get("JOB_WHITE"), images, outputs, white) if white.any() else outputs

    def _misbehave(self, how, images, outputs, white):
        if how == "exit":
            os._exit(13)
        if how == "raise":
            raise ValueError("this model does not like white")
        if how == "nan":  # the outputs are finite, 0 / 0 is in their gradient alone
            nothing = torch.where(white, (images - images).flatten(1).sum(1), 1.0).sqrt()
            return outputs + 0 * nothing[:, None]
        return outputs


def classifier() -> Classifier:
    torch.manual_seed(0)
    return Classifier()


class Noisy(Classifier):
    """Draws torch's random numbers."""

    def forward(self, images):
        return super().forward(images + 0.05 * torch.randn_like(images))


class NoisyEverywhere(Classifier):
    """Draws Python's and numpy's random numbers, and those of a generator of its own; also for its weights."""

    def __init__(self):
        super().__init__()
        self.own = np.random.default_rng(0)
        with torch.no_grad():
            self.layers[1].bias += random.random() + np.random.rand()

    def forward(self, images):
        noise = self.own.normal(size=images.shape) * random.random() + np.random.randn(*images.shape)
        return super().forward(images + 0.05 * torch.from_numpy(noise).to(images))


def noisy() -> Noisy:
    return Noisy()


def noisy_everywhere() -> NoisyEverywhere:
    return NoisyEverywhere()


class Named(torch.nn.Module):
    """Says what its classes and images are; colour, 12 x 12."""

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


def with_labels() -> Named:
    return Named()


def for_zoo() -> Classifier:
    torch.manual_seed(0)
    return Classifier(3, (24, 32))


def for_tiny() -> Classifier:
    torch.manual_seed(0)
    return Classifier(1, (8, 8))


# --- Data ------------------------------------------------------------------------------------------------------------


def pictures(count: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Random grey images uint8 [N, H, W], each with a dark pixel: none is white."""
    return np.random.default_rng(0).integers(0, 255, (count, *size), np.uint8)


def make_folder(folder: Path, count: int, size: tuple[int, int] = SIZE) -> Path:
    """``count`` grey PNG files in three folders of classes."""
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
    """(image, target, key); tells neither targets nor keys without being read."""

    def __init__(self, count: int = 10):
        self.images = pictures(count)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, n):
        return torch.from_numpy(self.images[n])[None], n % 3, f"mine/{n}"


# --- Running ---------------------------------------------------------------------------------------------------------


def arguments(out: Path, *more, data: Path | str | None = None, **options) -> list[str]:
    """A command line of ``morph``; of a new job where ``data`` is given."""
    new = [] if data is None else ["--data", data, "--model", MODEL, "--channels", 1, "--threads", 1, "--frames", 4]
    new = new[:-2] if "distances" in options else new
    new += [] if data is None else ["--shard-size", 4, "--batch-size", 2]
    new += [] if data is None or "distances" in options else ["--max-l2", 2]
    for name, value in options.items():
        more = (*more, f"--{name.replace('_', '-')}", *(value if isinstance(value, list) else [value]))
    return [str(part) for part in ("morph", "--out", out, "--gallery", 0, *new, *more)]


def run_here(out: Path, *more, **options) -> int:
    """A job in this process; its exit status."""
    return main(arguments(out, "--workers", 0, "--progress", "none", *more, **options))


def start(argv: list[str], **environment) -> subprocess.Popen:
    """``steerlens-fast`` as a process of its own, in a session of its own."""
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    known = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    known |= {name: str(value) for name, value in environment.items()}
    command = [sys.executable, "-m", "steerlens_fast", *argv]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **pipes, env=known, start_new_session=True)


def ended(process: subprocess.Popen) -> tuple[int, str]:
    """Wait for it; its status, and what it has written to stderr."""
    try:
        output = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, output[1]


def children(process: subprocess.Popen) -> list[int]:
    """Process ids of its children, whichever of its threads has started them."""
    try:
        tasks = Path(f"/proc/{process.pid}/task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def alive(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(condition, what: str) -> None:
    """Until it holds; an assertion error where it never does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE} s for {what}"
        time.sleep(0.01)


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


# --- What came of it -------------------------------------------------------------------------------------------------


def markers(out: Path) -> list[Path]:
    return sorted((out / "shards").glob("*.done.json"))


def digests(out: Path) -> dict[str, str]:
    """SHA-256 of everything that must not depend on how a job ran, by name."""
    files = [f for f in (out / "shards").rglob("*") if f.is_file() and not f.name.endswith(".done.json")]
    return {str(f.relative_to(out)): sha256(f.read_bytes()).hexdigest() for f in (*files, *(out / n for n in SUMS))}


def temporaries(out: Path) -> list[str]:
    return [str(path.relative_to(out)) for path in out.rglob("*.tmp")]


def lines(path: Path) -> list[dict]:
    """Return the objects of a jsonl file."""
    return [json.loads(line) for line in path.read_bytes().decode(errors="surrogateescape").split("\n") if line]


def records(out: Path) -> list[dict]:
    return [record for path in sorted((out / "shards").glob("*.jsonl")) for record in lines(path)]


def frames(out: Path) -> dict[str, torch.Tensor]:
    """Frames uint8 [F, C, H, W] by key, read by the job's own format."""
    from steerlens_fast.job.formats import get_format

    kind = json.loads((out / "config.json").read_text())["format"]
    found = {}
    for path in sorted((out / "shards").glob("*.jsonl")):
        records = lines(path)
        stored = get_format(kind).read(out / "shards", path.stem, records)
        found |= dict(zip((r["key"] for r in records if r["row"] is not None), stored))
    return found


def refused(capsys, code: int, *names: str, says: int) -> str:
    """Check an exit status, and that the message has all of these."""
    message = capsys.readouterr().err
    assert code == says, message
    assert all(name in message for name in names), message
    return message

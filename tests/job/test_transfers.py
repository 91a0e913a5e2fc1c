"""Asynchronous copies: the same bytes in order, however late they arrive, without deadlocks."""

import queue
import threading
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pytest
import torch
from inputs import image
from linear import Linear
from peak_memory import peak_bytes
from tolerances import all_equal

from steerlens_fast import SteerableLens
from steerlens_fast.errors import DONE
from steerlens_fast.job import morph_dataset, worker
from steerlens_fast.job.engines.inprocess import InProcess
from steerlens_fast.job.pipeline import Pipeline
from steerlens_fast.job.shard import store_frames
from steerlens_fast.job.transfers import Transfers

CPU = torch.device("cpu")
SIZE = (24, 20)
JOB = {"target": 2, "factors": 2.0, "frames": 3, "batch_size": 2, "shard_size": 5, "gallery": 0}


class LateTransfers(Transfers):
    """Like transfers from a GPU, but copies to the host are done only when something waits for them."""

    def __init__(self, device):
        super().__init__(device)
        self.max_pending = 1

    def to_host(self, pairs):
        pairs = [(source.clone(), place) for source, place in pairs]

        def arrive():
            for source, place in pairs:
                place.copy_(source)

        return arrive

    def results_to_host(self, morphs):
        results = replace(morphs, frames=morphs.frames[..., :0])
        # Every value is 77 until the copies arrive
        copies = {name: torch.full_like(t, 77) for name, t in results.tensors().items()}
        return replace(results, **copies), self.to_host((t, copies[name]) for name, t in results.tensors().items())


def pixels(count=12):
    data = (image(count, *SIZE, 3, dtype=torch.float32) * 255).round().to(torch.uint8)
    return torch.utils.data.StackDataset(data, [0] * count)


def job_outputs(out, device="cpu", **options):
    """Run a job and return the frames and records of all shards."""
    safetensors = pytest.importorskip("safetensors.torch")
    outcome = morph_dataset(pixels(), Linear(lambda t: t.to(device)), out, device=device, **(JOB | options))
    assert outcome.code == DONE and outcome.summary["items"] == 12
    frames = [safetensors.load_file(p)["frames"] for p in sorted((out / "shards").glob("*.safetensors"))]
    return frames, [p.read_text() for p in sorted((out / "shards").glob("?????.jsonl"))]


def assert_same(first, second):
    assert all_equal(first[0], second[0]) and first[1] == second[1] and len(first[0]) == 3


def test_late_copies_give_the_same_results(tmp_path, monkeypatch):
    expected = job_outputs(tmp_path / "at once")
    monkeypatch.setattr(worker, "Transfers", LateTransfers)
    assert_same(job_outputs(tmp_path / "late"), expected)


def test_nothing_is_copied_on_the_cpu():
    transfers, t = Transfers(CPU), torch.rand(3, 2, 1, 4, 4)
    assert not transfers.pinned and transfers.max_pending == 0
    assert transfers.to_device(t).data_ptr() == t.data_ptr()
    morphs = SteerableLens(Linear()).morph(image(2, 3, *SIZE, dtype=torch.float32), 1, factors=1.0, frames=2)
    results, arrived = transfers.results_to_host(morphs)
    arrived()
    assert results.l2.data_ptr() == morphs.l2.data_ptr() and results.frames.shape[:-1] == morphs.frames.shape[:-1]
    assert results.frames.untyped_storage().nbytes() == 0  # the frames can be freed before the records are made


@pytest.mark.slow
def test_float_frames_of_a_whole_batch_are_never_in_memory(tmp_path):
    """A call of the model has 8 images. Their float frames take 37 MiB, as much as the shard's uint8 frames."""
    photos = torch.randint(0, 256, (32, 224, 224, 3), dtype=torch.uint8)
    data = torch.utils.data.StackDataset(photos, [0] * 32)
    options = {**JOB, "frames": 8, "batch_size": 32, "shard_size": 32, "threads": 1, "score": "none"}
    model = torch.nn.Sequential(torch.nn.AvgPool2d(16), torch.nn.Flatten(), torch.nn.Linear(3 * 14 * 14, 5)).eval()
    work = lambda: morph_dataset(data, model, tmp_path / "out", **options)
    outcome, peak = peak_bytes(work, tmp_path / "trace.json")
    assert outcome.code == DONE and peak <= (37 + 37 + 64) * 2**20  # 64 MiB for the rest


@pytest.mark.parametrize("shape", [(3, 2, 1, 4, 4), (0, 2, 3, 8, 8), (2, 1, 3, 700, 700)], ids=str)
def test_frames_are_rounded_to_bytes(shape):
    frames, out = torch.rand(shape), torch.full(shape, 9, dtype=torch.uint8)
    store_frames(frames, out, Transfers(CPU))()
    assert np.array_equal(out.numpy(), np.rint(frames.numpy() * np.float32(255)).astype(np.uint8))


# --- The pipeline of batches


class Publisher:
    """A publisher that publishes at once."""

    def submit(self, publish, *args):
        publish(*args)
        done = Future()
        done.set_result(None)
        return done


class OneItemBatch:
    """A batch of one item."""

    def __init__(self, shard, last):
        self.shard, self.last, self.items = shard, last, [None]


@pytest.mark.parametrize("max_pending", [0, 1, 2])
def test_batches_are_finished_in_order(max_pending):
    events, finished = [], []
    pipeline = Pipeline(
        Publisher(), lambda shard, tell: tell({"event": "shard", "shard": shard}), events.append, max_pending
    )
    for n in range(6):
        pipeline.add(n // 2, OneItemBatch(n // 2, n % 2 == 1), [lambda n=n: finished.append(n) or 0])
        assert len(finished) == max(0, n + 1 - max_pending)
    pipeline.flush()
    pipeline.wait()
    assert finished == list(range(6))
    kinds = [(event["event"], event["shard"]) for event in events]
    assert kinds == [(kind, shard) for shard in range(3) for kind in ("batch", "batch", "shard")]


def test_shards_that_arrive_one_at_a_time_do_not_block_the_worker(tmp_path, monkeypatch):
    """The next shard comes only after the current one was published, so a worker must publish before it waits."""
    monkeypatch.setattr(worker, "Transfers", LateTransfers)
    shards, events = queue.Queue(), []

    def tell(event):
        events.append(event)
        if event["event"] == "shard":
            shards.put(event["shard"] + 1 if event["shard"] < 2 else None)

    run = lambda self, out, plan, numbers, *_: (
        self.worker.open(out, plan),
        shards.put(0),
        self.worker.run(lambda wait: shards.get() if wait else None, tell),
    )
    monkeypatch.setattr(InProcess, "run", run)
    job = threading.Thread(target=lambda: morph_dataset(pixels(), Linear(), tmp_path / "job", **JOB), daemon=True)
    job.start()
    job.join(60)
    assert not job.is_alive(), "the worker waits for a shard, and the engine for the worker"
    assert [e["shard"] for e in events if e["event"] == "shard"] == [0, 1, 2]


def test_batches_stay_pending_where_the_next_shard_is_known(tmp_path, monkeypatch):
    """A batch is finished only when the next one, even of another shard, was submitted: a GPU always has work."""
    monkeypatch.setattr(worker, "Transfers", LateTransfers)
    events, run = [], InProcess.run

    def watched(self, out, plan, shards, on_event, stop):
        run(self, out, plan, shards, lambda event: (events.append(event), on_event(event)), stop)

    monkeypatch.setattr(InProcess, "run", watched)
    job_outputs(tmp_path)
    order = [e["event"] for e in events if e["event"] == "batch" or (e["event"] == "morph" and e["count"])]
    batches = 3 + 3 + 1  # batches of at most 2 items, in shards of 5, 5 and 2
    assert order == ["morph", *["morph", "batch"] * (batches - 1), "batch"]


# --- On a GPU


@pytest.mark.cuda
def test_copies_to_and_from_a_gpu_are_complete(gpu):
    transfers = Transfers(gpu)
    assert transfers.pinned and transfers.max_pending == 1
    for seed in range(3):
        t = image(8, 3, 200, 200, dtype=torch.float32, seed=seed).pin_memory()
        place = torch.empty(t.shape, pin_memory=True)
        arrived = transfers.to_host([(transfers.to_device(t) * 2, place)])
        arrived()
        assert torch.equal(place, 2 * t)


@pytest.mark.cuda
@pytest.mark.parametrize("options", [{}, {"factors": None, "max_l2": 1.0}], ids=["factors", "max_l2"])
def test_job_on_a_gpu_is_reproducible(options, gpu, tmp_path):
    assert_same(job_outputs(tmp_path / "one", "cuda", **options), job_outputs(tmp_path / "two", "cuda", **options))

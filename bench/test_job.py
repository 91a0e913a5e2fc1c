"""A short data-set job, compared with the lens alone.

The lens gets the same images in memory. For long jobs see dataset.py.
"""

import os

import cases
import measure
import networks
import numpy as np
import pytest
import torch
from dataset import digit_pixels

import steerlens_fast as sf
from steerlens_fast.job import morph_dataset

COUNT, ROUNDS, TARGET = 2000, 3, 3
OPTIONS = {"factors": 10.0, "frames": cases.FRAMES, "score": "none"}
BATCH = 256


@pytest.mark.cpu_only
def test_job(benchmark, tmp_path, monkeypatch):
    """Measure a whole job, with the start of its worker process."""
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(__file__))  # the worker imports networks.py
    pixels = digit_pixels(COUNT)
    np.save(tmp_path / "digits.npy", pixels)
    lens, images = sf.SteerableLens(networks.tiny()), torch.from_numpy(pixels)[:, None]
    times, outcomes = {"lens": []}, []

    def lens_alone():
        for batch in images.split(BATCH):
            lens.morph(batch.float().div_(255), TARGET, **OPTIONS).frames.mul_(255).round_().to(torch.uint8)

    def before():
        times["lens"].append(measure.clocked(lens_alone))

    def job():
        data, out = str(tmp_path / "digits.npy"), tmp_path / f"out-{len(outcomes)}"
        outcomes.append(morph_dataset(data, "networks:tiny", out, channels=1, target=TARGET, gallery=0, **OPTIONS))

    benchmark.pedantic(job, setup=before, rounds=ROUNDS)
    assert all(outcome.code == 0 for outcome in outcomes)
    shape = f"{COUNT}x1x32x32"
    row = {"work": f"data-set job, {cases.FRAMES} frames", "shape": shape, "device": "cpu"}
    row |= {"allocator": measure.allocator("cpu"), "threads": torch.get_num_threads()}
    row["spent"] = outcomes[-1].summary["seconds"]
    if benchmark.stats is not None:
        times["ours"] = list(benchmark.stats.stats.data)
        row |= measure.summarised(times)
    benchmark.extra_info.update(row)

"""What a job says at its end, and when it refuses: what was wrong, in the user's words, and what to do about it."""

import json

import numpy as np
import pytest
import torch

for extra in ("PIL", "safetensors"):
    pytest.importorskip(extra)

from job_models import Classifier, classifier, frames, make_folder, markers, pictures, run_here  # noqa: E402
from test_job import refused  # noqa: E402

from steerlens_fast.cli import main  # noqa: E402
from steerlens_fast.dataset import morph_dataset  # noqa: E402


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("data") / "images", 12)


# --- Images that are not the model's ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_a_model_that_refuses_the_images_says_which(dry, data, tmp_path, capsys):
    """The first line of its error, and the options that decide; the traceback is for the log."""
    code = run_here(tmp_path / "out", *dry, data=data, channels=3)
    told = refused(capsys, code, "the model refused images of 3 x 16 x 16: RuntimeError: mat1 and mat2", says=1)
    assert told.strip().endswith("; --channels and --size decide them") and "Traceback" not in told
    if not dry:
        assert "Traceback" in (tmp_path / "out" / "logs" / "worker-0.log").read_text()


def test_a_dry_run_has_no_traceback(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Classifier, "forward", lambda self, images: self.nothing)
    code = run_here(tmp_path / "out", "--dry-run", data=data)
    assert "Traceback" not in refused(capsys, code, "AttributeError", "'nothing'", says=1)


def test_a_model_that_has_taken_images_is_not_told_of_their_shape(data, tmp_path, capsys, monkeypatch):
    calm = Classifier.forward

    def tires(self, images):
        self.calls = getattr(self, "calls", 0) + 1
        if self.calls > 6:
            raise RuntimeError("I am tired")
        return calm(self, images)

    monkeypatch.setattr(Classifier, "forward", tires)
    told = refused(capsys, run_here(tmp_path / "out", data=data), "RuntimeError: I am tired", says=1)
    assert "--channels" not in told


def test_a_program_for_one_batch_size_says_so(data, tmp_path, capsys):
    """It is met at its own batches, and refuses the last one."""
    torch.export.save(torch.export.export(classifier().layers.eval(), (torch.rand(4, 1, 16, 16),)), tmp_path / "m.pt2")
    options = {"data": data, "model": tmp_path / "m.pt2", "batch_size": 4, "shard_size": 8}
    assert run_here(tmp_path / "even", **options) == 0
    code = run_here(tmp_path / "odd", **options, limit=6)
    refused(capsys, code, "[0] == 4", "exported for batches of one size", "a dynamic batch dimension", says=1)


# --- Grey arrays -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["NHW", "NCHW", "NHWC"])
def test_grey_arrays_are_grey_unless_asked_otherwise(layout, tmp_path, capsys):
    """[N, H, W], [N, 1, H, W], [N, H, W, 1]: one channel, in the plan too, and on resume."""
    grey = pictures(6)
    np.save(tmp_path / "grey.npy", {"NHW": grey, "NCHW": grey[:, None], "NHWC": grey[..., None]}[layout])
    asked = ["--data", str(tmp_path / "grey.npy"), "--model", "job_models:classifier", "--max-l2", "2"]
    argv = ["morph", *asked, "--frames", "4", "--workers", "0", "--gallery", "0", "--shard-size", "4"]
    out = tmp_path / "out"
    assert main([*argv, "--out", str(out)]) == 0
    plan = json.loads((out / "plan.json").read_text())
    assert plan["channels"] == plan["model"]["channels"] == 1
    assert all(np.array_equal(found[0, 0], pixels) for found, pixels in zip(frames(out).values(), grey, strict=True))
    markers(out)[1].unlink()
    assert main(["morph", "--out", str(out), "--resume", "--workers", "0", "--gallery", "0"]) == 0
    capsys.readouterr()
    code = main([*argv, "--out", str(tmp_path / "rgb"), "--channels", "3"])
    refused(capsys, code, "images of 3 x 16 x 16", says=1)


def test_means_of_three_channels_ask_for_three(tmp_path, capsys):
    np.save(tmp_path / "grey.npy", pictures(4, (24, 32)))
    options = {"model": "job_models:for_zoo", "mean": [0.5] * 3, "std": [0.5] * 3, "frames": 3, "gallery": 0}
    assert morph_dataset(str(tmp_path / "grey.npy"), out=tmp_path / "out", workers=0, **options).code == 0

"""Errors of models: errors for single images are listed, memory errors divide batches, other errors end the job."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from job_models import (
    Classifier,
    digests,
    frames,
    lines,
    make_folder,
    make_white,
    markers,
    records,
    run_here,
    temporaries,
)

from steerlens_fast.errors import DONE, FATAL, NO_SPACE, SOME_FAILED, TOO_MANY_FAILED, USAGE

pytest.importorskip("PIL")
pytest.importorskip("safetensors")

COUNT = 12  # images: 3 shards of 4, in batches of 2


def white(images: torch.Tensor) -> torch.Tensor:
    return (images.detach() > 0.999).flatten(1).all(1)


def raising(monkeypatch, error, when=lambda images: bool(white(images).any())) -> None:
    """Make the classifier raise ``error()`` for images for which ``when`` is true."""
    original_forward = Classifier.forward

    def forward(self, images):
        if when(images):
            raise error()
        return original_forward(self, images)

    monkeypatch.setattr(Classifier, "forward", forward)


def error_for_white() -> Exception:
    return ValueError("this model does not like white\nand says so in two lines")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Images, two of which are white. These are in one batch, which is not the first of its shard."""
    images = make_folder(tmp_path_factory.mktemp("data") / "images", COUNT)
    for key in ("c1/006.png", "c1/007.png"):
        make_white(images / key)
    return images


@pytest.fixture(scope="module")
def job_without_errors(data, tmp_path_factory) -> Path:
    """A job whose model raises no errors."""
    out = tmp_path_factory.mktemp("job_without_errors")
    assert run_here(out, data=data) == DONE
    return out


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_images_for_which_the_model_raises_are_listed_and_leave_others_unchanged(
    batch_size, data, tmp_path, monkeypatch, capsys
):
    assert run_here(tmp_path / "job_without_errors", data=data, batch_size=batch_size) == DONE
    raising(monkeypatch, error_for_white)
    assert run_here(tmp_path / "out", data=data, batch_size=batch_size) == SOME_FAILED
    failed = lines(tmp_path / "out" / "failed.jsonl")
    assert [(r["key"], r["status"], r["row"]) for r in failed] == [
        ("c1/006.png", "model-error", None),
        ("c1/007.png", "model-error", None),
    ]
    assert {r["message"] for r in failed} == {"ValueError: this model does not like white"}
    assert "12 of 12 images done, of which 2 failed (failed.jsonl): 2 model-error" in capsys.readouterr().err
    stored, expected = frames(tmp_path / "out"), frames(tmp_path / "job_without_errors")
    assert stored.keys() == expected.keys() - {"c1/006.png", "c1/007.png"}
    assert all(torch.equal(stored[key], expected[key]) for key in stored)
    by_key = {r["key"]: r for r in records(tmp_path / "job_without_errors")}
    for record in records(tmp_path / "out"):
        if record["status"] == "ok":
            assert {**record, "row": 0} == {**by_key[record["key"]], "row": 0}


def test_error_in_the_second_part_of_the_first_batch_does_not_end_the_job(tmp_path, monkeypatch):
    images = make_folder(tmp_path / "images", 4)
    for key in ("c1/002.png", "c2/003.png"):
        make_white(images / key)
    monkeypatch.setattr("steerlens_fast.models.device.CALL_BYTES", 2 * 4 * 16 * 16)  # the size of two images
    raising(monkeypatch, error_for_white)
    assert run_here(tmp_path / "out", data=images, batch_size=4, threads=1) == SOME_FAILED
    assert [r["key"] for r in lines(tmp_path / "out" / "failed.jsonl")] == ["c1/002.png", "c2/003.png"]


def test_sys_exit_in_a_model_is_an_error_of_its_images(data, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        raising(patched, lambda: SystemExit(0))
        assert run_here(tmp_path / "some", data=data) == SOME_FAILED
    failed = lines(tmp_path / "some" / "failed.jsonl")
    assert {r["key"]: r["message"] for r in failed} == dict.fromkeys(
        ("c1/006.png", "c1/007.png"), "ModelExit: sys.exit(0) was called"
    )
    raising(monkeypatch, SystemExit, when=lambda images: True)
    assert run_here(tmp_path / "all", data=data) == FATAL
    paths = [str(data / "c0" / f"00{n}.png") for n in (0, 1)]
    assert (
        f"sys.exit() was called; raised by the model in shard 0, for {paths[0]}, {paths[1]}" in capsys.readouterr().err
    )


def test_sys_exit_in_the_code_of_models_and_data_is_an_error(data, tmp_path, monkeypatch, capsys):
    """SystemExit is treated as any other error: of an item, or of the call that makes a model or data set."""
    (tmp_path / "exits.py").write_text("""
import sys
class Items:
    def __len__(self):
        return 4
    def __getitem__(self, n):
        return sys.exit() if n == 1 else Triples()[n]
from job_models import Triples
def call():
    sys.exit()
""")
    (tmp_path / "exits_too.py").write_text("import sys; sys.exit()")
    monkeypatch.syspath_prepend(tmp_path)
    assert run_here(tmp_path / "items", data="exits:Items") == SOME_FAILED
    assert [r["status"] for r in lines(tmp_path / "items" / "failed.jsonl")] == ["unreadable"]
    assert run_here(tmp_path / "data", data="exits:call") == USAGE
    assert run_here(tmp_path / "model", data=data, model="exits:call") != DONE
    assert run_here(tmp_path / "module", data=data, model="exits_too:model") == USAGE
    assert capsys.readouterr().err.count("SystemExit") >= 3


def test_resumed_job_leaves_out_the_same_images(data, tmp_path, monkeypatch):
    """A resumed job computes one shard. Addresses and temporary folders are removed from messages."""

    def error():
        return ValueError(f"{object()} in {os.path.join(os.environ.get('TMPDIR', '/tmp'), 'scratch')}")

    raising(monkeypatch, error)
    assert run_here(tmp_path / "whole", data=data) == SOME_FAILED
    message = lines(tmp_path / "whole" / "failed.jsonl")[0]["message"]
    assert message == "ValueError: <object object> in scratch"
    assert run_here(tmp_path / "again", data=data) == SOME_FAILED
    assert digests(tmp_path / "again") == digests(tmp_path / "whole")
    for shard in (0, 1, 2):
        (tmp_path / "again" / "shards" / f"{shard:05d}.done.json").unlink()
        assert run_here(tmp_path / "again", "--resume") == SOME_FAILED
        assert digests(tmp_path / "again") == digests(tmp_path / "whole")


def test_retry_with_a_mended_model_computes_the_missing_images(data, job_without_errors, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        raising(patched, error_for_white)
        assert run_here(tmp_path, data=data) == SOME_FAILED
    assert run_here(tmp_path, "--retry-failed") == DONE
    assert digests(tmp_path) == digests(job_without_errors)


def test_one_image_of_the_first_batch_is_left_out(data, tmp_path, monkeypatch):
    images = Path(shutil.copytree(data, tmp_path / "images"))
    make_white(images / "c0" / "000.png")
    raising(monkeypatch, error_for_white)
    assert run_here(tmp_path / "out", data=images) == SOME_FAILED
    assert [r["key"] for r in lines(tmp_path / "out" / "failed.jsonl")][0] == "c0/000.png"


def test_model_that_raises_for_the_whole_first_batch_ends_the_job(data, tmp_path, monkeypatch, capsys):
    images = Path(shutil.copytree(data, tmp_path / "images"))
    for path in images.rglob("*.png"):
        make_white(path)
    raising(monkeypatch, error_for_white)
    assert run_here(tmp_path / "out", data=images) == FATAL
    stderr = capsys.readouterr().err
    assert "ValueError: this model does not like white" in stderr and "shard 0, " in stderr
    assert (
        str(images / "c0" / "000.png") in stderr
        and str(images / "c0" / "001.png") in stderr
        and "two lines" not in stderr
    )
    assert "Traceback" in (tmp_path / "out" / "logs" / "worker-0.log").read_text()
    assert not markers(tmp_path / "out") and not temporaries(tmp_path / "out")


def test_model_that_raises_for_all_later_images_ends_the_job(data, tmp_path, monkeypatch, capsys):
    """If the model raises for all images from some time on, the images are not the cause."""
    calls = []
    # A shard takes 4 calls: its only batch takes one for the gradient, and three for frames
    raising(monkeypatch, lambda: RuntimeError("tired"), lambda images: len(calls) > 5 or calls.append(0))
    assert run_here(tmp_path, data=data, batch_size=4) == FATAL
    assert "RuntimeError: tired; raised by the model in shard 1, for " in (stderr := capsys.readouterr().err)
    assert str(data / "c1" / "004.png") in stderr and "and 1 more" in stderr
    assert [path.name for path in markers(tmp_path)] == ["00000.done.json"]


def test_too_many_images_for_which_the_model_raises_end_the_job(data, tmp_path, monkeypatch, capsys):
    raising(monkeypatch, error_for_white)
    assert run_here(tmp_path, data=data, max_failures=1) == TOO_MANY_FAILED
    message = "2 items failed, more than max_failures allows (1): see failed.jsonl; most often model-error, e.g. "
    assert message in (stderr := capsys.readouterr().err) and ".png: ValueError: " in stderr


def test_error_that_occurs_once_is_not_blamed_on_an_image(data, job_without_errors, tmp_path, monkeypatch):
    calls = []

    def seventh(images):
        calls.append(0)
        return len(calls) == 7

    raising(monkeypatch, lambda: RuntimeError("a hiccup"), seventh)
    assert run_here(tmp_path, data=data) == DONE
    assert digests(tmp_path) == digests(job_without_errors)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_error_for_the_placeholder_of_a_bad_file_is_not_blamed_on_good_images(batch_size, data, tmp_path, monkeypatch):
    """The model raises an error for images without contrast: the placeholder, and the white images."""
    images = Path(shutil.copytree(data, tmp_path / "images"))
    (images / "c0" / "001.png").write_bytes((images / "c0" / "001.png").read_bytes()[:40])
    flat = lambda images: bool((images.detach().flatten(1).std(1) == 0).any())
    raising(monkeypatch, lambda: ZeroDivisionError("no contrast"), flat)
    assert run_here(tmp_path / "out", data=images, batch_size=batch_size) == SOME_FAILED
    failed = [(r["key"], r["status"]) for r in lines(tmp_path / "out" / "failed.jsonl")]
    assert failed == [("c0/001.png", "truncated"), ("c1/006.png", "model-error"), ("c1/007.png", "model-error")]
    assert len(frames(tmp_path / "out")) == COUNT - 3


def test_batches_are_divided_for_a_model_of_single_images(data, job_without_errors, tmp_path, monkeypatch):
    raising(monkeypatch, lambda: RuntimeError("one at a time"), lambda images: len(images) > 1)
    assert run_here(tmp_path, data=data) == DONE
    assert json.loads(markers(tmp_path)[0].read_text())["part_divisor"] == 2
    whole, single = frames(job_without_errors), frames(tmp_path)
    assert whole.keys() == single.keys()
    assert max(int((whole[key].int() - single[key].int()).abs().max()) for key in whole) <= 1


def test_bad_outputs_for_an_image_affect_only_this_image(data, tmp_path, monkeypatch):
    original_forward = Classifier.forward
    monkeypatch.setattr(
        Classifier, "forward", lambda s, images: None if white(images).any() else original_forward(s, images)
    )
    assert run_here(tmp_path, data=data) == SOME_FAILED
    assert lines(tmp_path / "failed.jsonl")[0]["message"].startswith("TypeError: model must return scores")


@pytest.mark.parametrize("error", [MemoryError, lambda: RuntimeError("std::bad_alloc"), lambda: OSError(12, "ENOMEM")])
def test_memory_errors_are_not_blamed_on_images(error, data, tmp_path, monkeypatch, capsys):
    raising(monkeypatch, error)
    assert run_here(tmp_path, data=data) == FATAL
    assert "out of memory on cpu with one image at a time" in capsys.readouterr().err
    assert [path.name for path in markers(tmp_path)] == ["00000.done.json"]


# The float32 frames of all images take 108 MiB, and the stored ones 27 MiB. The first job, a small one, sets up threads
# and allocators.
LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np, torch
import steerlens_fast as sf

class Mean(torch.nn.Module):
    def forward(self, images):
        return images.mean((2, 3))

def run(name, frames):
    options = dict(workers=0, threads=1, decoders=1, gallery=0, progress="none", factors=3.0)
    return sf.morph_dataset("images.npy", Mean().eval(), name, frames=frames, **options).code

np.save("images.npy", np.random.default_rng(0).integers(0, 255, (16, 96, 96, 3), np.uint8))
run("before", 2)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (int(sys.argv[1]) << 20), -1))
sys.exit(run("out", 64))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and RLIMIT_AS")
def test_batches_are_divided_if_memory_is_short(tmp_path):
    def run_with(megabytes: str):
        variables = os.environ | {"MALLOC_ARENA_MAX": "1"}  # an arena reserves 64 MiB for each thread
        command = [sys.executable, "-c", LITTLE_MEMORY, megabytes]
        return subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)

    def part_divisor(megabytes: str) -> int:
        done = run_with(megabytes)
        assert done.returncode == 0, done.stderr
        divisor = json.loads(markers(tmp_path / "out")[0].read_text()).get("part_divisor", 1)
        shutil.rmtree(tmp_path / "before")
        shutil.rmtree(tmp_path / "out")
        return divisor

    # The memory that the job needs varies, so smaller and smaller limits are tried until one is too small.
    assert any(part_divisor(megabytes) > 1 for megabytes in ("220", "190", "160", "130"))
    assert "out of memory for the frames of shard 0 (16 images): use a smaller --shard-size" in run_with("20").stderr


def test_batch_size_is_reset_in_each_shard(data, tmp_path, monkeypatch):
    """A smaller batch size is used only in the shard that needed it, so that a resumed job gives the same results."""
    raising(monkeypatch, MemoryError, lambda images: len(images) > 1 and bool(white(images).any()))
    assert run_here(tmp_path, data=data, batch_size=4) == DONE
    parts = [json.loads(path.read_text()).get("part_divisor", 1) for path in markers(tmp_path)]
    assert parts == [1, 4, 1]
    before = digests(tmp_path)
    markers(tmp_path)[2].unlink()
    assert run_here(tmp_path, "--resume") == DONE and digests(tmp_path) == before


def test_full_disk_in_the_model_is_not_blamed_on_images(data, tmp_path, monkeypatch, capsys):
    raising(monkeypatch, lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "cache"))
    assert run_here(tmp_path, data=data) == NO_SPACE
    assert "no space left" in capsys.readouterr().err


def test_target_that_the_model_lacks_is_a_usage_error(data, tmp_path, capsys):
    (tmp_path / "targets.csv").write_text("key,target\nc0/000.png,1\nc0/001.png,7\n")
    assert run_here(tmp_path / "out", data=data, target=tmp_path / "targets.csv") == USAGE
    assert f"(largest target in this batch: 7, for {data}/c0/001.png)" in capsys.readouterr().err


def test_message_about_the_target_of_all_images_names_no_image(data, tmp_path, capsys):
    assert run_here(tmp_path / "out", data=data, target=7) == USAGE
    message = capsys.readouterr().err
    assert "target must be 0 to 2 " in message and "got 7" in message and ".png" not in message


@pytest.mark.parametrize(("target", "task"), [("7", "multiclass"), ("not:7", "multilabel")])
def test_wrong_target_in_the_last_batch_is_found_in_the_first_batch(data, tmp_path, capsys, target, task):
    paths = sorted(data.rglob("*.png"))
    table = tmp_path / "table.csv"
    table.write_text("path,target\n" + "".join(f"{path},1\n" for path in paths[:-1]) + f"{paths[-1]},{target}\n")
    assert run_here(tmp_path / "out", data=table, task=task) == USAGE
    assert f"target must be one of the model's 3 classes, 0 to 2, got 7 for {paths[-1]}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()  # no shard was computed


def test_wrong_task_is_not_blamed_on_a_target(data, tmp_path, capsys):
    assert run_here(tmp_path / "out", data=data, target="label", task="binary") == USAGE
    message = capsys.readouterr().err
    assert "for task 'binary'" in message and "set task='multiclass'" in message and "largest target" not in message


def test_dry_run_leaves_out_images_for_which_the_model_raises(data, tmp_path, monkeypatch, capsys):
    np.save(tmp_path / "images.npy", np.stack([np.full((16, 16), 255, np.uint8), np.eye(16, dtype=np.uint8) * 99]))
    raising(monkeypatch, error_for_white)
    assert run_here(tmp_path / "out", "--dry-run", data=tmp_path / "images.npy") == DONE
    assert "2 images in 1 shards" in capsys.readouterr().out


def test_memory_error_for_a_single_image_ends_the_job(data, tmp_path, monkeypatch, capsys):
    """Some images of the batch were already computed one by one."""
    calls = []
    # First, 3 calls with the batch and 4 with each image show that the model takes only single images
    first_calls = 3 + 4 * 4

    def forward(self, images):
        calls.append(len(images))
        if len(images) > 1:
            raise RuntimeError("one at a time")
        if len(calls) > first_calls + 4 + 1:  # in the second image, after the 4 calls with the first
            raise MemoryError("no more")
        return original_forward(self, images)

    original_forward = Classifier.forward
    monkeypatch.setattr(Classifier, "forward", forward)
    assert run_here(tmp_path, data=data, batch_size=4) == FATAL
    assert "out of memory on cpu with one image at a time: no more" in capsys.readouterr().err
    assert not markers(tmp_path)


@pytest.mark.slow
def test_worker_processes_leave_out_the_same_images(data, tmp_path, monkeypatch):
    monkeypatch.setenv("JOB_WHITE", "raise")
    assert run_here(tmp_path / "here", data=data) == SOME_FAILED
    assert run_here(tmp_path / "there", workers=1, data=data) == SOME_FAILED
    assert digests(tmp_path / "there") == digests(tmp_path / "here")
    assert [r["key"] for r in lines(tmp_path / "there" / "failed.jsonl")] == ["c1/006.png", "c1/007.png"]


def test_memory_error_while_decoding_names_the_image(data, tmp_path, monkeypatch, capsys):
    def decode(data, **_):
        raise MemoryError

    monkeypatch.setattr("steerlens_fast.job.loading.decode", decode)
    assert run_here(tmp_path, data=data, size=16) == FATAL
    stderr = capsys.readouterr().err
    assert f"out of memory while decoding {data / 'c0' / '000.png'}: use fewer --decoders" in stderr


def test_resumed_job_of_a_stochastic_model_leaves_out_the_same_images(data, tmp_path, monkeypatch):
    original_forward = Classifier.forward

    def forward(self, images):
        if white(images).any():
            raise error_for_white()
        return original_forward(self, images + 0.05 * torch.randn_like(images))

    monkeypatch.setattr(Classifier, "forward", forward)
    assert run_here(tmp_path, data=data, batch_size=4) == SOME_FAILED
    before = digests(tmp_path)
    for shard in (1, 2):
        (tmp_path / "shards" / f"{shard:05d}.done.json").unlink()
        assert run_here(tmp_path, "--resume") == SOME_FAILED and digests(tmp_path) == before

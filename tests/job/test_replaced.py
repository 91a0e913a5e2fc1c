"""Jobs that are overwritten: the old job is kept until the first shard of the new one is complete."""

import errno
import itertools
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from job_models import MODEL, arguments, check_exit, digests, main, make_folder, make_white, pictures, run_here

from steerlens_fast.errors import DONE, FATAL, INTERRUPTED, NO_SPACE, USAGE, usage_error
from steerlens_fast.job import morph_dataset
from steerlens_fast.job import run as run_module
from steerlens_fast.job.engines.inprocess import InProcess
from steerlens_fast.job.shard import Shard

pytest.importorskip("PIL")
pytest.importorskip("safetensors")

COUNT = 8  # images: 2 shards of 4
MOVES = 8  # renames that set the job aside: 7 files and folders of the job, and the folder with them


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp("data") / "images", COUNT)


@pytest.fixture(scope="module")
def job(data, tmp_path_factory) -> Path:
    """A finished job. Tests must not change it."""
    out = tmp_path_factory.mktemp("job") / "out"
    assert run_here(out, data=data) == DONE
    return out


@pytest.fixture
def old(job, tmp_path) -> Path:
    """A copy of the finished job, which the test overwrites."""
    return Path(shutil.copytree(job, tmp_path / "old"))


def is_set_aside(out: Path) -> bool:
    return bool({".replaced", ".replacing"} & {path.name for path in out.iterdir()})


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(target="label"), "target 'label' needs labels"),
        (dict(data="missing.npy"), "missing.npy"),
        (dict(data="same_keys.csv"), "keys must be unique"),
        (dict(target=3, class_names="names.json"), "target must be one of the model's 3 classes, 0 to 2, got 3"),
    ],
)
def test_bad_input_of_the_new_job_changes_nothing(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    np.save("images.npy", pictures(2))
    make_white(tmp_path / "white.png")
    Path("same_keys.csv").write_text("path,key\nwhite.png,a\nwhite.png,a\n")
    Path("names.json").write_text('["a", "b", "c"]')
    out, valid = tmp_path / "out", dict(data="images.npy", target="runner-up")
    assert run_here(out, **valid) == DONE
    before = digests(out)
    check_exit(capsys, run_here(out, "--overwrite", **valid | options), message, status=USAGE)
    assert digests(out) == before
    assert run_here(out, "--resume") == DONE


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "options, status",
    [
        (dict(scales=9), USAGE),
        (dict(target=99), USAGE),
        (dict(task="binary"), USAGE),
        (dict(channels=3), FATAL),
        (dict(size=12), FATAL),
    ],
    ids=str,
)
def test_old_job_is_restored_if_the_first_shard_of_the_new_one_fails(old, data, caplog, options, status, workers):
    before = digests(old)
    command = arguments(old, "--overwrite", "--workers", workers, "--progress", "none", data=data, **options)
    assert main(command) == status
    assert "has the old job again" in caplog.text
    assert digests(old) == before and not is_set_aside(old)


def test_old_job_is_deleted_after_the_first_shard(old, data, monkeypatch):
    kept, publish = [], Shard.publish

    def recording(shard, out, *arguments):
        kept.append((out / ".replaced" / "shards").exists())
        return publish(shard, out, *arguments)

    monkeypatch.setattr(Shard, "publish", recording)
    assert run_here(old, "--overwrite", data=data, frame_dtype="float32") == DONE
    assert kept == [True, False] and not is_set_aside(old)


# The last moves restore the job. The one before them only renames the folder: see the next test.
@pytest.mark.parametrize("moves", [*range(MOVES), *range(MOVES + 1, 2 * MOVES)])
def test_interrupted_moves_are_undone_by_the_next_run(old, data, monkeypatch, moves):
    before, rename, count = digests(old), Path.rename, itertools.count()

    def interrupted(path, target):
        if {".replaced", ".replacing"} & {path.name, path.parent.name, target.parent.name} and next(count) >= moves:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        morph_dataset(data, MODEL, old, overwrite=True, workers=0, progress="none", channels=1, scales=[9])
    assert is_set_aside(old)
    monkeypatch.setattr(Path, "rename", rename)
    assert run_here(old, "--resume") == DONE
    assert digests(old) == before and not is_set_aside(old)


def raising(error):
    def function(*arguments):
        raise error

    return function


def test_old_job_is_restored_if_the_resumed_new_job_fails(old, data, monkeypatch):
    before = digests(old)
    with monkeypatch.context() as patch:
        patch.setattr(InProcess, "run", raising(KeyboardInterrupt))
        assert run_here(old, "--overwrite", data=data, scales=9) == INTERRUPTED
    assert run_here(old, "--resume") == USAGE
    assert digests(old) == before and not is_set_aside(old)


@pytest.mark.parametrize("resumes", [True, False])
def test_interrupted_new_job_can_be_resumed_or_overwritten(old, data, monkeypatch, resumes):
    """The new job is interrupted before its first shard."""
    before = digests(old)
    with monkeypatch.context() as patch:
        patch.setattr(InProcess, "run", raising(KeyboardInterrupt))
        assert run_here(old, "--overwrite", data=data, target="least") == INTERRUPTED
    assert is_set_aside(old)
    if resumes:
        assert run_here(old, "--resume") == DONE
        assert digests(old) != before
    else:
        assert run_here(old, "--overwrite", data=data, scales=9) == USAGE
        assert digests(old) == before
    assert not is_set_aside(old)


def test_restored_job_has_no_files_of_the_new_one(old, data, monkeypatch):
    """The old job is not complete, so it has no summary."""
    for name in ("summary.json", "manifest.jsonl", "failed.jsonl", "shards/00001.done.json"):
        (old / name).unlink()
    names = sorted(path.name for path in old.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(InProcess, "run", raising(KeyboardInterrupt))
        assert run_here(old, "--overwrite", data=data, limit=5) == INTERRUPTED
    for name in ("summary.json", "manifest.jsonl", "failed.jsonl"):
        (old / name).write_text("{}")
    assert run_here(old, "--overwrite", data=data, scales=9) == USAGE
    assert sorted(path.name for path in old.iterdir()) == names
    assert run_here(old, "--resume") == DONE


def test_rejected_resume_keeps_the_new_job(old, data, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(InProcess, "run", raising(KeyboardInterrupt))
        assert run_here(old, "--overwrite", data=data, target="least") == INTERRUPTED
    plan = (old / "plan.json").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "check_same_model", raising(usage_error("the model cannot change on resuming")))
        assert run_here(old, "--resume") == USAGE
    assert (old / "plan.json").read_bytes() == plan and is_set_aside(old)


@pytest.mark.parametrize(
    "error, status, is_kept",
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), NO_SPACE, False),
        (OSError(errno.EIO, os.strerror(errno.EIO)), FATAL, True),
        (MemoryError("no memory"), FATAL, True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_new_job_can_be_resumed_after_errors_of_the_machine(old, data, monkeypatch, error, status, is_kept):
    with monkeypatch.context() as patch:
        patch.setattr(Shard, "publish", raising(error))
        assert run_here(old, "--overwrite", data=data, target="least") == status
    assert is_set_aside(old) == is_kept
    assert run_here(old, "--resume") == DONE
    assert json.loads((old / "config.json").read_text())["target"] == "least" and not is_set_aside(old)


def test_job_with_a_link_cannot_be_overwritten(old, data, tmp_path, capsys):
    before = digests(old)
    (old / "shards").rename(tmp_path / "shards")
    (old / "shards").symlink_to("../shards")
    check_exit(capsys, run_here(old, "--overwrite", data=data), "must not have symbolic links", status=USAGE)
    assert digests(old) == before and not is_set_aside(old)

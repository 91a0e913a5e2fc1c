"""A job's folder must not have other files, and a rejected job leaves no files."""

from pathlib import Path

import pytest
from job_models import make_folder, markers, run_here

from steerlens_fast.cli import main
from steerlens_fast.errors import DONE, FATAL, USAGE

pytest.importorskip("PIL")
pytest.importorskip("safetensors")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp("data") / "images", 6)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_resuming_a_folder_without_a_job_is_an_error(tmp_path, capsys):
    assert main(["morph", "--resume", "--out", str(tmp_path / "none")]) == USAGE
    assert "out must have a job to resume" in capsys.readouterr().err


# Files of a user, in a folder without a plan. A job uses most of these names, too
USER_FILES = ["notes.txt", "config.json", "summary.json", "gallery/mine.txt", "shards/00000.safetensors", ".lock/mine"]


@pytest.mark.parametrize("more", [[], ["--overwrite"], ["--resume"], ["--dry-run"]], ids=str)
@pytest.mark.parametrize("name", USER_FILES)
def test_folder_with_other_files_is_an_error(data, tmp_path, capsys, name, more):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("mine")
    if name == ".lock/mine":
        (tmp_path / "notes.txt").write_text("mine, too")  # .lock alone would count as a job's
    before = contents(tmp_path)
    assert run_here(tmp_path, *more, data=data) == USAGE
    assert "out must be a new folder or a job's" in capsys.readouterr().err
    assert contents(tmp_path) == before


@pytest.mark.parametrize("more", [[], ["--overwrite"], ["--resume"], ["--dry-run"]], ids=str)
def test_file_in_place_of_the_folder_is_an_error(data, tmp_path, capsys, more):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    for name, text in (("file", "which is a file"), ("file/out", "file is a file"), ("link", "which is a broken link")):
        assert run_here(tmp_path / name, *more, data=data) == USAGE
        stderr = capsys.readouterr().err
        assert f"out must be a folder, got {tmp_path / name}, " in stderr and text in stderr
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("inside", [".", "out", "c0/out"])
def test_output_in_the_data_folder_is_an_error(tmp_path, capsys, inside):
    images = make_folder(tmp_path / "images", 6)
    before = contents(images)
    assert run_here(images / inside, "--overwrite", data=images) == USAGE
    assert "out must not be inside data" in capsys.readouterr().err and contents(images) == before


REJECTED = [
    {"model": "job_models:missing"},
    {"model": "missing.py:net"},
    {"data": "missing"},
    {"data": "empty"},
    {"family": "none"},
    {"target": "what?"},
    {"target": 99},  # the worker finds this error after the plan was written
    {"workers": 1, "model": "job_models:missing"},  # replaces --workers 0 of run_here
    {"engine": "env", "model": "job_models:missing"},
    {"engine": "env", "target": 99},
]


@pytest.mark.parametrize("options", REJECTED, ids=str)
def test_rejected_job_leaves_no_files(data, tmp_path, options):
    (tmp_path / "empty").mkdir()
    options = {"data": data} | options
    options["data"] = tmp_path / options["data"]
    before = sorted(tmp_path.rglob("*"))
    for out in (tmp_path / "new" / "out", tmp_path / "empty"):
        assert run_here(out, **options) in (FATAL, USAGE)
        assert sorted(tmp_path.rglob("*")) == before


def test_log_of_a_failed_job_is_kept(data, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("steerlens_fast.job.engines.inprocess.Worker", None)
        assert run_here(tmp_path, data=data) == FATAL
    assert "Traceback" in (tmp_path / "logs" / "worker-0.log").read_text()
    assert run_here(tmp_path, data=data) == DONE  # the folder can be used again


def test_folder_of_a_job_without_results_can_be_used_again(data, tmp_path, capsys):
    assert run_here(tmp_path, data=data) == DONE
    for marker in markers(tmp_path):
        marker.unlink()
    assert run_here(tmp_path, data=data, target=99) == USAGE  # the model has no such class
    assert run_here(tmp_path, data=data) == DONE
    assert run_here(tmp_path, data=data) == USAGE  # the folder now has results
    assert "use --resume or --overwrite" in capsys.readouterr().err

"""Paths of a job: ``~`` is the home directory. The reasons of failed items do not differ between runs."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from job_models import MODEL, make_folder, pictures, records, run_here

from steerlens_fast import Morphs
from steerlens_fast.cli import main
from steerlens_fast.data.sources import open_source
from steerlens_fast.errors import DONE, BadItem, remove_volatile_text
from steerlens_fast.job import JobError, morph_dataset
from steerlens_fast.job.export import export
from steerlens_fast.job.gallery import write_gallery
from steerlens_fast.models import load_model

pytest.importorskip("PIL")
pytest.importorskip("safetensors")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home directory. In the working directory, no file may be created whose name begins with ~."""
    (tmp_path / "home").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    yield tmp_path / "home"
    assert not [name for name in os.listdir() if name.startswith("~")]


def test_tilde_is_the_home_directory_in_paths_of_the_command_line(home):
    make_folder(home / "data", 4)
    keys = [str(p.relative_to(home / "data")) for p in sorted((home / "data").rglob("*.png"))]
    (home / "t.csv").write_text("key,target\n" + "".join(f"{key},1\n" for key in keys))
    assert run_here("~/out", data="~/data", target="~/t.csv") == DONE
    assert [record["target"] for record in records(home / "out")] == [1] * 4
    config = json.loads((home / "out" / "config.json").read_text())
    assert config["data"] == str(home / "data") and config["target"] == str(home / "t.csv")
    for argv in (["status", "~/out"], ["verify", "~/out"], ["export", "~/out", "--to=~/exported", "--format=npz"]):
        assert main(argv) == DONE
    assert (home / "exported").is_dir()


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_tilde_is_the_home_directory_in_the_paths_of_tables(suffix, home):
    """~/name is an absolute path. ~name is a file in the folder of the table."""
    make_folder(home / "data", 3)
    (home / "tables").mkdir()
    paths = sorted((home / "data").rglob("*.png"))
    paths[2].rename(home / "tables" / "~2.png")
    names = [*(f"~/{path.relative_to(home)}" for path in paths[:2]), "~2.png"]
    table, targets = home / "tables" / f"t.{suffix}", home / "targets.csv"
    rows = [json.dumps({"path": name}) for name in names] if suffix == "jsonl" else ["path", *names]
    table.write_text("\n".join(rows))
    targets.write_text("path,target\n" + "".join(f"{name},1\n" for name in (*names[:2], "tables/~2.png")))
    assert run_here("~/out", data=table, target=targets) == DONE
    assert [record["path"] for record in records(home / "out")] == [*map(str, paths[:2]), str(table.parent / "~2.png")]
    assert [record["target"] for record in records(home / "out")] == [1] * 3


def test_tilde_is_the_home_directory_in_paths_given_in_python(home):
    np.save(home / "x.npy", pictures(4))
    np.save(home / "l.npy", np.arange(4) % 3)
    job = {"workers": 0, "gallery": 0, "channels": 1, "frames": 3, "max_l2": 1.0, "labels": "~/l.npy"}
    outcome = morph_dataset("~/x.npy", "job_models:classifier", "~/out", **job)
    assert outcome.code == DONE and [r["label"] for r in records(home / "out")] == [0, 1, 2, 0]
    assert export("~/out", "~/exported", "npz") == 4 and len(list((home / "exported").rglob("*.npz"))) == 4
    assert write_gallery("~/out", to="~/gallery") == home / "gallery" / "index.html"
    (home / "t.csv").write_text("path,label\na.png,1\n")
    for data, count in (("~/x.npy", 4), (Path("~/t.csv"), 1)):
        assert len(list(open_source(data).listing())) == count
    zero, zeros = torch.zeros(1, dtype=torch.int64), torch.zeros(1, 3)
    rest = {"amplitude_factors": None, "budget": None, "attained": None, "status": zero, "settings": {}}
    scores = {"target": zero, "source": zero, "outputs": torch.rand(1, 3, 5), "l2": zeros}
    morphs = Morphs(torch.rand(1, 3, 1, 8, 8), zeros, **scores, **rest)
    torch.save(torch.nn.Linear(2, 2), home / "net.pt")
    assert load_model("~/net.pt", trust_checkpoint=True).model.in_features == 2
    morphs.save("~/m.safetensors")
    assert torch.equal(Morphs.load("~/m.safetensors").frames, morphs.frames) and (home / "m.safetensors").exists()


def test_home_of_an_unknown_user_raises(home, capsys):
    with pytest.raises(SystemExit):
        main(["morph", "--out=~no-such-user/x"])
    assert "in the home directory of a known user, got ~no-such-user/x" in capsys.readouterr().err
    with pytest.raises(JobError, match="in the home directory of a known user"):
        morph_dataset(str(home), MODEL, "~no-such-user/x")


# --- Reasons of failed items -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, stable",
    [
        ("cannot identify <_io.BytesIO object at 0x7f3a5c0d1e40>", "cannot identify"),
        ("<PIL.Image.Image size=9x9 at 0x7F3A5C0D1E40> is bad", "<PIL.Image.Image size=9x9> is bad"),
        ("/tmp/tmpab12_9xy/part.png: no such file", "<temporary file>/part.png: no such file"),
        ("worker (pid 4711) died at 2026-11-28T19:30:53.25", "worker (pid ...) died at <time>"),
        ("colour 0xff00 of a.png, 60000 x 60000 pixels", "colour 0xff00 of a.png, 60000 x 60000 pixels"),
    ],
)
def test_reasons_are_the_same_in_every_run(text, stable, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/tmp")
    assert remove_volatile_text(text) == stable == str(BadItem("corrupt", text))

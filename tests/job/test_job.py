"""Whole jobs, mostly in this process: files, resuming, damage, bad input, errors."""

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from job_models import (
    MODEL,
    Classifier,
    Triples,
    arguments,
    check_exit,
    classifier,
    digests,
    environment,
    frames,
    lines,
    make_folder,
    make_white,
    markers,
    pictures,
    records,
    run_here,
    start,
    temporaries,
    wait_for_end,
)

from steerlens_fast import SteerableLens
from steerlens_fast.cli import main
from steerlens_fast.data.resize import resize_and_crop
from steerlens_fast.errors import DONE, FATAL, SOME_FAILED, TERMINATED, TOO_MANY_FAILED, USAGE, JobError
from steerlens_fast.io.atomic_io import write_json
from steerlens_fast.job import morph_dataset, worker
from steerlens_fast.job.config import JobConfig
from steerlens_fast.job.plan import threads_per_worker
from steerlens_fast.job.planning import JobInputs, make_plan
from steerlens_fast.job.records import write_records
from steerlens_fast.job.success import assess
from steerlens_fast.models import load_model

Image = pytest.importorskip("PIL.Image")
zoo = pytest.importorskip("zoo")
safetensors_file = pytest.importorskip("safetensors.torch").save_file

COUNT = 30  # images: 8 shards of 4, the last of 2


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp("data") / "images", COUNT)


@pytest.fixture(scope="module")
def job(data, tmp_path_factory) -> Path:
    """A finished job without interruptions. Tests must not change it."""
    out = tmp_path_factory.mktemp("job") / "out"
    assert run_here(out, data=data) == DONE
    return out


def test_data_without_class_names_are_listed_only_once(tmp_path, monkeypatch):
    """A listing may read large files."""
    np.save(tmp_path / "images.npy", np.zeros((2, 8, 8), np.uint8))
    inputs = JobInputs(JobConfig.from_dict({"data": str(tmp_path / "images.npy"), "model": "a:b"}), "cpu")
    inputs.model_names, calls = ["cat", "dog"], []
    monkeypatch.setattr(inputs.source, "listing", lambda: iter(calls.append(1) or ()))
    assert inputs.classes().data_names is None and inputs.classes().numbers is None and inputs.label_warnings() == []
    assert len(calls) == 1


@pytest.fixture
def copy(job, tmp_path) -> Path:
    """A copy of the finished job, which the test may change."""
    return Path(shutil.copytree(job, tmp_path / "copy"))


# --- What a job writes -----------------------------------------------------------------------------------------------


def test_all_items_have_records_and_frames(data, job):
    stems = [f"{n:05d}" for n in range(8)]
    kinds = (".done.json", ".jsonl", ".safetensors")
    assert sorted(p.name for p in (job / "shards").iterdir()) == sorted(s + k for s in stems for k in kinds)
    expected = [str(path.relative_to(data)) for path in sorted(data.rglob("*.png"))]
    for file in ("manifest.jsonl", *(f"shards/{s}.jsonl" for s in stems)):
        results = lines(job / file)
        assert [r["index"] for r in results] == list(range(results[0]["index"], results[0]["index"] + len(results)))
    assert [r["key"] for r in lines(job / "manifest.jsonl")] == [r["key"] for r in records(job)] == expected
    assert lines(job / "failed.jsonl") == [] and not temporaries(job)
    summary = json.loads((job / "summary.json").read_text())
    assert (summary["complete"], summary["items"], summary["done"], summary["failed"]) == (True, COUNT, COUNT, 0)


def test_records_and_frames_are_those_of_the_lens(data, job):
    """They are compared with the lens, in the batches of the plan."""
    stored, results = frames(job), records(job)
    files = sorted(data.rglob("*.png"))
    pixels = np.stack([np.asarray(Image.open(path)) for path in files])[:, None]
    lens = SteerableLens(classifier().eval())
    for first in range(0, COUNT, 2):
        morphs = lens.morph(torch.from_numpy(pixels[first : first + 2]).float() / 255, max_l2=2.0, frames=4)
        for n, record in enumerate(results[first : first + 2]):
            path = files[first + n]
            assert torch.equal(stored[record["key"]], (morphs.frames[n] * 255).round().byte())
            assert np.array_equal(stored[record["key"]][0], pixels[first + n])
            assert record["sha256"] == sha256(path.read_bytes()).hexdigest() and record["path"] == str(path)
            assert record["label"] == int(path.parent.name[1:]) and record["size"] == [16, 16]
            assert (record["source"], record["target"]) == (int(morphs.source[n]), int(morphs.target[n]))
            assert record["predictions"] == morphs.predictions[n].tolist() and record["attained"] is True
            for name in ("factors", "l2"):
                assert record[name] == pytest.approx(getattr(morphs, name)[n].tolist(), rel=1e-6)
            assert record["probability"] == pytest.approx(morphs.target_probability[n].tolist(), rel=1e-6)
            assert record["gradient_norm"] == pytest.approx(float(morphs.gradient_norm[n]), rel=1e-6)
            assert record["l2"][-1] == pytest.approx(2.0, abs=1e-3)


def test_plan_and_config_describe_the_job(data, job):
    plan, config = (json.loads((job / name).read_text()) for name in ("plan.json", "config.json"))
    assert (plan["items"], plan["shard_size"], plan["batch_size"], len(plan["offsets"])) == (COUNT, 4, 2, 8)
    assert (
        plan["size"] == [16, 16]
        and plan["frames"] == 4
        and plan["threads"] == 1
        and plan["labels"] == ["c0", "c1", "c2"]
    )
    assert plan["versions"]["torch"] == torch.__version__ and len(plan["model"]["sha256"]) == 64
    assert plan["listing_sha256"] == sha256((job / "items.jsonl").read_bytes()).hexdigest()
    listing = (job / "items.jsonl").read_bytes()
    assert [json.loads(listing[offset:].split(b"\n")[0])[0] for offset in plan["offsets"]] == list(range(0, COUNT, 4))
    assert config["data"] == str(data) and config["model"] == MODEL and config["max_l2"] == 2


def test_markers_have_the_hashes_of_their_files(job):
    for marker in markers(job):
        contents = json.loads(marker.read_text())
        assert len(contents["files"]) == 2
        for name, file in contents["files"].items():
            data = (job / "shards" / name).read_bytes()
            assert file == {"sha256": sha256(data).hexdigest(), "bytes": len(data)}


@pytest.mark.parametrize("kind", ["wds", "folder"])
def test_formats_have_equal_frames(kind, data, job, tmp_path):
    assert run_here(tmp_path, data=data, format=kind) == DONE
    stored, expected = frames(tmp_path), frames(job)
    assert stored.keys() == expected.keys() and all(torch.equal(stored[key], expected[key]) for key in expected)
    assert records(tmp_path) == records(job)


def _as_csv(data: Path, place: Path) -> dict:
    rows = [f"{path},{path.parent.name[1:]}" for path in sorted(data.rglob("*.png"))]
    (place / "all.csv").write_text("\n".join(["path,label", *rows]))
    return {"data": place / "all.csv"}


def _as_tar(data: Path, place: Path) -> dict:
    with tarfile.open(place / "all.tar", "w") as tar:
        for n, path in enumerate(sorted(data.rglob("*.png"))):
            tar.add(path, f"{n:03d}.png")
            label = tarfile.TarInfo(f"{n:03d}.cls")
            label.size = 1
            tar.addfile(label, BytesIO(path.parent.name[1:].encode()))
    return {"data": place / "all.tar"}


def _as_npy(data: Path, place: Path) -> dict:
    np.save(place / "images.npy", pictures(COUNT))
    np.save(place / "labels.npy", np.arange(COUNT) * 3 // COUNT)
    return {"data": place / "images.npy", "labels": place / "labels.npy"}


def _as_safetensors(data: Path, place: Path) -> dict:
    tensors = {"images": torch.from_numpy(pictures(COUNT)), "labels": torch.arange(COUNT) * 3 // COUNT}
    safetensors_file(tensors, place / "all.safetensors")
    return {"data": place / "all.safetensors"}


@pytest.mark.parametrize("as_what", [_as_csv, _as_tar, _as_npy, _as_safetensors])
def test_other_sources_of_data_give_the_same_morphs(as_what, data, job, tmp_path):
    assert run_here(tmp_path / "out", **as_what(data, tmp_path)) == DONE
    results, expected = records(tmp_path / "out"), records(job)
    assert [r["label"] for r in results] == [r["label"] for r in expected]
    stored, wanted_frames = frames(tmp_path / "out"), frames(job)
    assert len(stored) == COUNT
    assert all(torch.equal(stored[r["key"]], wanted_frames[e["key"]]) for r, e in zip(results, expected))


# --- Options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("score, known", [("all", 4), ("last", 2), ("none", 1)])
def test_score_option_selects_the_scored_frames(score, known, data, tmp_path):
    """The scores of the source are known in any case, since they are computed with its gradient."""
    assert run_here(tmp_path, data=data, score=score, limit=4) == DONE
    for record in records(tmp_path):
        assert len(record["probability"]) == len(record["predictions"]) == 4
        for name in ("probability", "predictions"):
            scored = [value is not None for value in record[name]]
            assert scored == ([True] + [score == "all"] * 2 + [score != "none"]) and sum(scored) == known


def test_each_distance_gives_a_frame(data, tmp_path):
    assert run_here(tmp_path, data=data, distances=[0.5, 1, 1.5, 2], limit=4) == DONE
    for record in records(tmp_path):
        assert record["l2"] == pytest.approx([0, 0.5, 1, 1.5, 2], abs=2e-3) and record["attained"] == [True] * 4
        assert len(frames(tmp_path)[record["key"]]) == 5


def test_each_factor_gives_a_frame(data, tmp_path):
    argv = ["morph", "--data", data, "--model", MODEL, "--channels", 1, "--out", tmp_path, "--factors", "0,1,4,2"]
    assert main([*map(str, argv), "--limit", "4", "--workers", "0", "--gallery", "0", "--progress", "none"]) == DONE
    for record in records(tmp_path):
        assert record["factors"] == [0, 1, 4, 2] and record["attained"] is None
        assert record["l2"][2] > record["l2"][3] > record["l2"][1] > 0


def test_kinds_of_targets_give_their_classes(data, tmp_path):
    """For the ranks (runner-up, least, argmax), the class follows from the scores of the classifier."""
    images = torch.from_numpy(pictures(COUNT)[:6, None]).float() / 255
    order = classifier()(images).argsort(1, descending=True)
    (tmp_path / "some.csv").write_text("key,target\nc0/001.png,2\nc0/003.png,0\n")
    labels = [0] * 6
    expected = {
        "label": labels,
        "2": [2] * 6,
        "runner-up": order[:, 1].tolist(),
        "least": order[:, 2].tolist(),
        "argmax": order[:, 0].tolist(),
        "c1": [1] * 6,
        "map:c0=c2": [2] * 6,
        str(tmp_path / "some.csv"): [2, 0],
    }
    for n, (target, wanted_targets) in enumerate(expected.items()):
        out = tmp_path / str(n)
        code = run_here(out, data=data, target=target, limit=6)
        assert code == DONE or (code == SOME_FAILED and target == "argmax")  # toward argmax, a gradient may be 0
        assert [r["target"] for r in records(out)] == wanted_targets, target
    assert [r["key"] for r in records(out)] == ["c0/001.png", "c0/003.png"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("column, default_target", [("target", "column"), ("label", "runner-up")])
def test_default_target_is_the_column_named_target_if_there_is_one(data, tmp_path, suffix, column, default_target):
    table, images = tmp_path / f"data{suffix}", sorted(data.rglob("*.png"))[:4]
    rows = [(str(path), n % 3) for n, path in enumerate(images)]
    csv = [f"path,{column}", *(f"{path},{n}" for path, n in rows)]
    jsonl = [json.dumps({"path": path, column: n}) for path, n in rows]
    table.write_text("\n".join(csv if suffix == ".csv" else jsonl) + "\n")
    assert run_here(tmp_path / "out", data=table) == DONE
    assert json.loads((tmp_path / "out" / "config.json").read_text())["target"] == default_target
    targets = [r["target"] for r in records(tmp_path / "out")]
    assert (targets == [n for _, n in rows]) == (column == "target")
    assert run_here(tmp_path / "least", data=table, target="least") == DONE
    assert json.loads((tmp_path / "least" / "config.json").read_text())["target"] == "least"


def test_folder_with_the_name_of_a_kind_of_target_does_not_change_the_target(data, tmp_path, monkeypatch):
    for name in ("label", "2", "runner-up"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    assert run_here(Path("out"), data=data, target="label", limit=2) == DONE
    assert [r["target"] for r in records(Path("out"))] == [0, 0]


def test_limit_morphs_the_first_images(data, job, tmp_path):
    assert run_here(tmp_path, data=data, limit=6) == DONE
    assert records(tmp_path) == records(job)[:6] and len(markers(tmp_path)) == 2


def test_dry_run_reports_and_writes_nothing(data, tmp_path, capsys):
    out = tmp_path / "new"
    assert run_here(out, "--dry-run", data=data) == DONE
    stdout = capsys.readouterr().out
    assert not out.exists() and not list(tmp_path.iterdir())
    assert "30 images in 8 shards of 4; each morph is 4 x 1 x 16 x 16 bytes" in stdout
    assert re.search(r"about .* for all images in one process, .*: computing 2 of them together took", stdout)
    assert f"{30 * 4 * 256 / 2**20:.1f} MiB of frames" in stdout and "max_l2            2.0" in stdout


@pytest.mark.parametrize(
    ("seconds", "counts", "text"),
    [
        # (seconds of a first call, of a call, of each image), numbers of images: a shard has 4
        ((9.0, 0.0, 0.5), [1, 1, 2, 4, 4], "about 0:15 for all images"),
        ((9.0, 5.0, 0.01), [1, 1, 2, 4, 4], "about 0:38 for all images"),
        ((9.0, 0.0, 7.0), [1, 1, 2, 2], "about 3:30 for all images in one process, without loading the model and the"),
        ((9.0, 0.0, 40.0), [1], "about 24:30 for all images"),
    ],
)
def test_dry_run_estimates_the_time_from_a_warm_batch(seconds, counts, text, data, tmp_path, capsys, monkeypatch):
    """If a batch would take long, fewer images are computed, and the report says that they are fewer."""
    computed, (first, call, image) = [], seconds

    def first_batch(self, count):
        computed.append(count)
        return call + image * count + first * (len(computed) == 1)

    monkeypatch.setattr("steerlens_fast.job.worker.Worker.first_batch", first_batch)
    words = arguments(tmp_path / "new", "--workers", 0, "--dry-run", data=data, batch_size=4)
    at = words.index("--max-l2")
    assert main(words[:at] + words[at + 2 :]) == DONE
    stdout = capsys.readouterr().out
    assert "max_l2            2.0 (default)" in stdout
    assert text in stdout and computed == counts
    assert ("batches are larger" in stdout) == (counts[-1] < 4)


def test_dry_run_divides_the_time_by_the_workers_that_have_a_shard(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("steerlens_fast.job.worker.Worker.first_batch", lambda _, count: 2.0 * count)
    assert run_here(tmp_path / "new", "--dry-run", "--workers", 4, data=data, shard_size=16) == DONE
    assert "about 0:30 for all images on 4 worker(s)" in capsys.readouterr().out


def test_status_export_and_gallery_agree_with_the_job(copy, capsys, tmp_path):
    assert main(["status", str(copy)]) == DONE
    status = json.loads(capsys.readouterr().out)
    assert (status["running"], status["done"], status["shards_done"], status["failed"]) == (False, COUNT, 8, 0)
    to = tmp_path / "exported"
    assert main(["export", str(copy), "--to", str(to), "--format", "npz", "--keys", "c1/*", "--limit", "3"]) == DONE
    stored, expected = sorted(to.rglob("*.npz")), frames(copy)
    assert len(stored) == 3
    for path in stored:
        loaded = np.load(path)
        assert np.array_equal(loaded["frames"], expected[json.loads(str(loaded["record"]))["key"]])
    assert main(["gallery", str(copy), "--sample", "5"]) == DONE
    assert len(list((copy / "gallery" / "images").iterdir())) == 5
    assert "c0/000.png" in (copy / "gallery" / "index.html").read_text()
    assert main(["verify", str(copy)]) == DONE


def test_job_writes_its_gallery(data, tmp_path):
    assert run_here(tmp_path, data=data, limit=4, gallery=3) == DONE
    assert len(list((tmp_path / "gallery" / "images").iterdir())) == 3


# --- Resuming --------------------------------------------------------------------------------------------------------


def test_resume_of_a_finished_job_changes_nothing(job, data, copy):
    """Without options, or with the same options."""
    before = {path: path.stat().st_mtime_ns for path in (copy / "shards").iterdir()}
    assert run_here(copy, "--resume") == DONE
    assert run_here(copy, "--resume", data=data) == DONE
    assert {path: path.stat().st_mtime_ns for path in (copy / "shards").iterdir()} == before
    assert digests(copy) == digests(job)


@pytest.mark.parametrize("workers", [1, 2, 1000])
def test_default_of_threads_is_the_cores_per_worker(workers, monkeypatch):
    """OMP_NUM_THREADS does not change it, because torchrun sets this variable."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(8))
    assert threads_per_worker(JobConfig("images/", "model"), workers) == max(1, 8 // workers)
    assert threads_per_worker(JobConfig("images/", "model", threads=3), workers) == 3


def test_resume_without_a_job_begins_one(data, job, tmp_path):
    assert run_here(tmp_path, "--resume", data=data) == DONE
    assert digests(tmp_path) == digests(job)


# (option, new value, old value in the message)
OTHER_CONFIGURATIONS = [
    ("frames", 5, "4"),
    ("max_l2", 3, "2.0"),
    ("target", "least", "runner-up"),
    ("family", "pixel", "csp-phase"),
    ("batch_size", 4, "2"),
    ("shard_size", 8, "4"),
    ("format", "folder", "safetensors"),
    ("score", "none", "all"),
    ("threads", 2, "1"),
    ("limit", 7, "null"),
    ("pyramid", "order=2", "null"),
    ("dtype", "float64", "float32"),
]


def test_resuming_with_another_configuration_is_an_error(copy, job, capsys):
    for option, value, was in OTHER_CONFIGURATIONS:
        assert str(value) != was
        code = run_here(copy, "--resume", **{option: value})
        check_exit(capsys, code, f"{option} was", was, "cannot change", status=USAGE)
        assert digests(copy) == digests(job)


def test_one_message_names_every_change(copy, capsys):
    message = 'family was "csp-phase" and is "pixel" now, frames was 4 and is 5 now: the configuration cannot'
    check_exit(capsys, run_here(copy, "--resume", frames=5, family="pixel"), message, status=USAGE)


def test_resuming_with_other_data_raises(data, copy, tmp_path, capsys):
    more = Path(shutil.copytree(data, tmp_path / "images"))
    check_exit(capsys, run_here(copy, "--resume", data=more), "data was", status=USAGE)
    assert run_here(tmp_path / "out", data=more) == DONE
    shutil.copy(data / "c0" / "000.png", more / "c0" / "new.png")
    message = f"the data must be unchanged, got {more}/c0/new.png where {more}/c1/010.png was"
    check_exit(capsys, run_here(tmp_path / "out", "--resume"), message, status=USAGE)
    (tmp_path / "out" / "items.jsonl").unlink()
    message = "the data must be unchanged, got items that differ from the"
    check_exit(capsys, run_here(tmp_path / "out", "--resume"), message, status=USAGE)
    (more / "c0" / "new.png").unlink()
    assert run_here(tmp_path / "out", "--resume") == DONE


def test_resuming_with_another_model_raises(data, tmp_path, capsys):
    """If shards are missing and the weights have changed, resuming raises an error."""
    weights, out = tmp_path / "weights.pt", tmp_path / "out"
    torch.save(classifier().state_dict(), weights)
    assert run_here(out, data=data, weights=weights) == DONE
    before = digests(out)
    torch.save(Classifier().state_dict(), weights)  # without a seed: other weights
    markers(out)[3].unlink()
    code = run_here(out, "--resume")
    check_exit(capsys, code, f"SHA-256 of {weights} was", "the model cannot change on resuming", status=USAGE)
    torch.save(classifier().state_dict(), weights)
    assert run_here(out, "--resume") == DONE and digests(out) == before


def test_model_options_survive_a_resume(data, tmp_path):
    """Means and sizes, which were tuples before they were saved, are equal after loading."""
    options = {"mean": "0.5", "std": "0.25", "size": 16}
    assert run_here(tmp_path, data=data, **options) == DONE
    before = digests(tmp_path)
    markers(tmp_path)[0].unlink()
    assert run_here(tmp_path, "--resume", **options) == DONE
    markers(tmp_path)[0].unlink()
    assert run_here(tmp_path, "--resume") == DONE and digests(tmp_path) == before


def test_existing_job_is_kept_unless_overwrite_is_given(data, copy, job, capsys):
    check_exit(capsys, run_here(copy, data=data), "use --resume or --overwrite", status=USAGE)
    assert digests(copy) == digests(job)
    assert run_here(copy, "--overwrite", data=data, limit=2) == DONE
    assert len(records(copy)) == 2 and len(markers(copy)) == 1


@pytest.mark.parametrize("name", ["plan.json", "config.json"])
@pytest.mark.parametrize("text", ["{", "[]", "\0"])
def test_damaged_plan_or_configuration_is_named(name, text, copy, capsys):
    (copy / name).write_text(text)
    check_exit(capsys, run_here(copy, "--resume"), f"{copy / name} is damaged (", "use another --out", status=FATAL)


def test_missing_configuration_is_named(copy, capsys):
    (copy / "config.json").unlink()
    check_exit(capsys, run_here(copy, "--resume"), "which has no config.json", status=USAGE)


def test_overwrite_deletes_nothing_if_plan_json_is_not_a_plan(data, tmp_path, capsys):
    keep = [tmp_path / name for name in ("shards/mine.txt", "gallery/mine.png", "notes.txt", "summary.json")]
    for path in keep:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    (tmp_path / "plan.json").write_text('{"buy": ["milk"]}')
    check_exit(
        capsys,
        run_here(tmp_path, "--overwrite", data=data, limit=2),
        "plan.json is damaged",
        "use another --out",
        status=FATAL,
    )
    assert all(path.read_text() == "mine" for path in keep)


def test_markers_without_a_plan_are_ignored(data, job, copy, monkeypatch):
    """If a folder was only partly cleared, nothing of the old job gets into the new one."""
    assert run_here(copy, "--overwrite", data=data, target="least") == DONE
    (copy / "plan.json").unlink()
    monkeypatch.setenv("JOB_OOM", "0")  # the new job gets as far as its plan
    assert run_here(copy, data=data) == FATAL
    monkeypatch.delenv("JOB_OOM")
    assert run_here(copy, "--resume") == DONE
    assert digests(copy) == digests(job)


# --- Damage ----------------------------------------------------------------------------------------------------------


def flip(path: Path, byte: int = 100) -> None:
    data = bytearray(path.read_bytes())
    data[byte] ^= 1
    path.write_bytes(data)


def times_of_other_shards(out: Path, shard: int) -> dict[str, int]:
    """Return the modification times of the files of other shards."""
    return {p.name: p.stat().st_mtime_ns for p in (out / "shards").iterdir() if not p.name.startswith(f"{shard:05d}")}


@pytest.mark.parametrize("name, byte", [("00003.safetensors", 2000), ("00003.jsonl", 0), ("00003.jsonl", -2)])
def test_damaged_shard_is_found_and_computed_again(name, byte, copy, job, capsys):
    flip(copy / "shards" / name, byte)
    (copy / "summary.json").unlink()
    others = times_of_other_shards(copy, 3)
    code = run_here(copy, "--resume")  # checks the lengths of files and reads records, but no frames
    stderr = capsys.readouterr().err
    if name.endswith(".safetensors"):
        assert code == DONE, stderr
    else:
        assert code == FATAL and "00003.jsonl is damaged: run verify" in stderr, stderr
    assert main(["verify", str(copy)]) == FATAL
    stdout = capsys.readouterr().out
    assert (
        f"shard 3: {name} is damaged" in stdout
        and stdout.count("shard ") == 1
        and "7 of 8 shards are undamaged" in stdout
    )
    assert main(["verify", str(copy), "--discard"]) == FATAL and run_here(copy, "--resume") == DONE
    assert main(["verify", str(copy)]) == DONE
    assert times_of_other_shards(copy, 3) == others and digests(copy) == digests(job)


@pytest.mark.parametrize("kind, name", [("wds", "00001.tar"), ("folder", "00001/c0/004.png/frame_01.png")])
def test_flipped_byte_is_found_in_other_formats(kind, name, data, tmp_path, capsys):
    assert run_here(tmp_path, data=data, format=kind, limit=12) == DONE
    before = digests(tmp_path)
    flip(tmp_path / "shards" / name)
    assert main(["verify", str(tmp_path), "--discard"]) == FATAL
    assert f"shard 1: {name} is damaged" in capsys.readouterr().out
    assert run_here(tmp_path, "--resume") == DONE and digests(tmp_path) == before


@pytest.mark.parametrize(
    "garbage",
    [b"", b'{"shard": 2, "files": {"000', b"null", b"[]", b"\xff\0", b'{"files": [], "items": 4}', b'{"files": {}}'],
)
def test_damaged_marker_counts_as_missing(garbage, copy, job, capsys):
    others = times_of_other_shards(copy, 2)
    markers(copy)[2].write_bytes(garbage)
    assert main(["verify", str(copy)]) == FATAL
    assert "shard 2: the marker is damaged" in capsys.readouterr().out
    assert main(["status", str(copy)]) == DONE and json.loads(capsys.readouterr().out)["shards_done"] == 7
    assert run_here(copy, "--resume") == DONE
    assert times_of_other_shards(copy, 2) == others and digests(copy) == digests(job)


@pytest.mark.parametrize(
    "entry", [{"seconds": ["a"]}, {"seconds": "a"}, {"seconds": {"morph": "1"}}, {"items": 4.0}, {"files": {}}]
)
def test_marker_with_an_invalid_value_counts_as_missing(entry, copy, capsys):
    path = markers(copy)[2]
    path.write_text(json.dumps(json.loads(path.read_text()) | entry))
    assert main(["status", str(copy)]) == DONE and json.loads(capsys.readouterr().out)["shards_done"] == 7


@pytest.mark.parametrize("garbage", ["[]", "null", '{"complete": ', '{"complete": true}'])
def test_damaged_summary_is_written_again(garbage, copy, job):
    (copy / "summary.json").write_text(garbage)
    assert run_here(copy, "--resume") == DONE
    assert json.loads((copy / "summary.json").read_text())["complete"] and digests(copy) == digests(job)


@pytest.mark.parametrize("name", ["00005.safetensors", "00005.jsonl", "00005.done.json"])
def test_missing_file_is_computed_again(name, copy, job, capsys):
    others = times_of_other_shards(copy, 5)
    (copy / "shards" / name).unlink()
    assert main(["verify", str(copy)]) == FATAL
    stdout = capsys.readouterr().out
    assert "shard 5: " + ("not done" if name.endswith("done.json") else f"{name} is missing") in stdout
    assert run_here(copy, "--resume") == DONE
    assert times_of_other_shards(copy, 5) == others and digests(copy) == digests(job)


def test_summary_is_never_older_than_the_shards(data, tmp_path, monkeypatch):
    """A retry is killed after its last shard, before it writes the summary."""
    images, out = Path(shutil.copytree(data, tmp_path / "images")), tmp_path / "out"
    (images / "c0" / "002.png").write_bytes(b"")
    assert run_here(out, data=images) == SOME_FAILED
    shutil.copy(data / "c0" / "002.png", images / "c0" / "002.png")
    with monkeypatch.context() as patched:
        patched.setattr("steerlens_fast.job.run.write_summary", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        assert run_here(out, "--retry-failed") == TERMINATED
    assert run_here(out, "--resume") == DONE
    assert lines(out / "failed.jsonl") == [] and json.loads((out / "summary.json").read_text())["failed"] == 0


@pytest.mark.parametrize("damage", [Path.unlink, flip, lambda path: path.write_bytes(path.read_bytes()[:-20])])
def test_damaged_listing_is_written_again(damage, copy, job, capsys):
    damage(copy / "items.jsonl")
    markers(copy)[7].unlink()
    assert main(["verify", str(copy)]) == FATAL
    assert "items.jsonl differs from the plan" in capsys.readouterr().out
    assert run_here(copy, "--resume") == DONE and main(["verify", str(copy)]) == DONE
    assert digests(copy) == digests(job)


def test_missing_lists_of_items_are_written_again(copy, job):
    for name in ("manifest.jsonl", "failed.jsonl"):
        (copy / name).unlink()
    assert run_here(copy, "--resume") == DONE and digests(copy) == digests(job)


def test_leftovers_of_killed_processes_are_removed(copy, job):
    """Temporary files and folders are deleted in the job's folder and in shards. Files with other names are not."""
    name = f".{'0123456789abcdef' * 2}.tmp"
    for leftover in (copy / name, copy / "shards" / name):
        leftover.mkdir()
        (leftover / "frame").write_bytes(b"x")
        (leftover.parent / name.replace("0", "1")).write_bytes(b"x")
    (copy / ".mine.tmp").write_text("mine")
    assert run_here(copy, "--resume") == DONE
    assert temporaries(copy) == [".mine.tmp"] and digests(copy) == digests(job)


# --- Bad input -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def zoo_jobs(tmp_path_factory):
    """Return the expected items of zoo.py, the outputs of two jobs, and their exit statuses.

    The first job morphs all images of the zoo. In the second one, grey images replace the bad ones.
    """
    folder = tmp_path_factory.mktemp("zoo")
    expected = zoo.make_zoo(folder / "images")
    with_grey = Path(shutil.copytree(folder / "images", folder / "grey", symlinks=True, ignore=_pipes))
    for e in expected:
        if e.reason is not None:
            (with_grey / e.path).unlink(missing_ok=True)
            Image.new("RGB", (32, 24), (128, 128, 128)).save(with_grey / e.path, "PNG")
    options = {"model": "job_models:colour_24x32", "channels": 3, "size": "24x32", "batch_size": 8, "shard_size": 32}
    options |= {"max_pixels": zoo.MAX_PIXELS, "max_failures": 100}
    codes = [run_here(folder / f"of-{which}", data=folder / which, **options) for which in ("images", "grey")]
    return expected, folder / "of-images", folder / "of-grey", codes


def _pipes(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name.startswith("pipe")]


def test_images_of_the_zoo_give_pixels_or_reasons(zoo_jobs):
    expected, out, _, codes = zoo_jobs
    assert codes[0] == SOME_FAILED
    results, stored = records(out), frames(out)
    assert [r["key"] for r in results] == [e.path for e in expected]
    for e, record in zip(expected, results):
        if e.reason is not None:
            assert (record["status"], record["row"]) == (e.reason, None) and record["message"], e.path
            continue
        assert record["status"] == "ok", (e.path, record)
        assert record["size"] == list(e.pixels.shape[:2]), e.path
        source = stored[e.path][0].numpy().astype(int)
        assert record["factors"][0] == 0
        assert np.abs(source - resize_and_crop(Image.fromarray(e.pixels), (24, 32))).max() <= e.tolerance, e.path


def test_zoo_failures_are_listed(zoo_jobs):
    expected, out, _, _ = zoo_jobs
    bad = {e.path: e.reason for e in expected if e.reason is not None}
    assert {r["key"]: r["status"] for r in lines(out / "failed.jsonl")} == bad
    assert len(lines(out / "manifest.jsonl")) == len(expected)
    reasons = json.loads((out / "summary.json").read_text())["reasons"]
    assert sum(reasons.values()) == len(bad) and reasons["truncated"] == list(bad.values()).count("truncated")


def test_another_process_writes_the_same_records_of_bad_images(zoo_jobs, tmp_path):
    """The other process has other addresses, hashes of strings, process id and temporary folder."""
    _, out, _, _ = zoo_jobs
    options = {"model": "job_models:colour_24x32", "channels": 3, "size": "24x32", "batch_size": 8, "shard_size": 32}
    options |= {"max_pixels": zoo.MAX_PIXELS, "max_failures": 100, "workers": 1, "decoders": 2}
    requested = arguments(tmp_path / "out", "--progress", "none", data=out.parent / "images", **options)
    code, stderr = wait_for_end(start(requested, PYTHONHASHSEED=7, TMPDIR=tmp_path))
    assert code == SOME_FAILED, stderr
    assert digests(tmp_path / "out") == digests(out)
    for name in ("plan.json", "config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (out / name).read_bytes()
    text = (tmp_path / "out" / "failed.jsonl").read_text()
    assert " at 0x" not in text and str(tmp_path) not in text


def test_bad_images_leave_the_others_unchanged(zoo_jobs):
    """If grey images replace the bad ones, the results of the other images are the same."""
    expected, out, other, codes = zoo_jobs
    assert codes[1] == DONE
    ours, theirs = frames(out), frames(other)
    by_key = {r["key"]: r for r in records(other)}
    for record in records(out):
        if record["status"] == "ok":
            assert torch.equal(ours[record["key"]], theirs[record["key"]])
            assert {**record, "row": 0, "path": ""} == {**by_key[record["key"]], "row": 0, "path": ""}


def test_gradient_that_is_not_finite_leaves_others_unchanged(data, tmp_path, monkeypatch):
    images = Path(shutil.copytree(data, tmp_path / "images"))
    make_white(images / "c1" / "white.png")
    assert run_here(tmp_path / "good", data=images) == DONE
    monkeypatch.setenv("JOB_WHITE", "nan")
    assert run_here(tmp_path / "bad", data=images) == SOME_FAILED
    assert [(r["key"], r["status"]) for r in lines(tmp_path / "bad" / "failed.jsonl")] == [
        ("c1/white.png", "gradient-not-finite")
    ]
    good, bad = frames(tmp_path / "good"), frames(tmp_path / "bad")
    assert good.keys() == bad.keys() and len(good) == COUNT + 1
    for record, other in zip(records(tmp_path / "good"), records(tmp_path / "bad")):
        if record["key"] != "c1/white.png":
            assert record == other and torch.equal(good[record["key"]], bad[record["key"]])
    assert (bad["c1/white.png"] == 255).all()  # all frames are the source


class Malicious:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("as_what", ["weights", "model"])
def test_code_in_a_malicious_checkpoint_does_not_run(as_what, data, tmp_path, capsys):
    file, owned = tmp_path / "evil.pt", tmp_path / "owned"
    torch.save({"layers.1.weight": torch.zeros(2), "evil": Malicious(owned)}, file)
    code = run_here(tmp_path / "out", data=data, **{as_what: file})
    check_exit(capsys, code, "evil.pt", "trust", status=USAGE)
    assert not owned.exists() and not (tmp_path / "out" / "plan.json").exists()
    with file.open("wb") as plain:
        pickle.dump(Malicious(owned), plain)
    check_exit(capsys, run_here(tmp_path / "out", data=data, **{as_what: file}), "evil.pt", status=USAGE)
    assert not owned.exists()
    pickle.loads(file.read_bytes())
    assert owned.exists()  # the file does run code when it is loaded with pickle


def test_retry_failed_computes_only_shards_with_failures(data, job, tmp_path):
    images, bad = Path(shutil.copytree(data, tmp_path / "images")), ("c0/002.png", "c2/021.png")
    for key in bad:
        (images / key).write_bytes((images / key).read_bytes()[:40])
    out = tmp_path / "out"
    assert run_here(out, data=images) == SOME_FAILED
    assert [r["key"] for r in lines(out / "failed.jsonl")] == list(bad)
    assert run_here(out, "--resume") == SOME_FAILED  # failed items are not tried again
    for key in bad:
        shutil.copy(data / key, images / key)
    before = {p.name: p.stat().st_mtime_ns for p in markers(out)}
    assert run_here(out, "--retry-failed") == DONE
    again = {p.name for p in markers(out) if before[p.name] != p.stat().st_mtime_ns}
    assert again == {"00000.done.json", "00005.done.json"} and lines(out / "failed.jsonl") == []
    assert all(torch.equal(stored, frames(job)[key]) for key, stored in frames(out).items())


def test_retrying_with_another_model_keeps_the_shards(data, tmp_path, capsys):
    images, weights, out = Path(shutil.copytree(data, tmp_path / "images")), tmp_path / "weights.pt", tmp_path / "out"
    (images / "c0/002.png").write_bytes(b"")
    torch.save(classifier().state_dict(), weights)
    assert run_here(out, data=images, weights=weights) == SOME_FAILED
    before = [path.read_bytes() for path in markers(out)]
    torch.save(Classifier().state_dict(), weights)
    check_exit(capsys, run_here(out, "--retry-failed"), "the model cannot change on resuming", status=USAGE)
    assert [path.read_bytes() for path in markers(out)] == before


def test_too_many_failures_stop_a_job(data, tmp_path, capsys):
    """Shards that were begun are finished, so that failed.jsonl is complete. With a higher limit, the job continues."""
    images, out = Path(shutil.copytree(data, tmp_path / "images")), tmp_path / "out"
    bad = sorted(images.rglob("*.png"))[1::2]
    for path in bad:
        path.write_bytes(b"")
    code = run_here(out, data=images, max_failures=3)
    example = f"; most often empty, e.g. {bad[0]} has 0 bytes"
    check_exit(capsys, code, "items failed", "max_failures allows (3)", example, status=TOO_MANY_FAILED)
    failed, done = lines(out / "failed.jsonl"), len(markers(out))
    assert len(failed) >= 4 and {r["status"] for r in failed} == {"empty"} and 2 <= done < 8
    check_exit(capsys, run_here(out, "--resume", max_failures=3), "max_failures allows (3)", status=TOO_MANY_FAILED)
    assert len(markers(out)) == done  # no further shard is begun, since too many items have failed already
    assert run_here(out, "--resume", max_failures="60%") == SOME_FAILED
    assert [r["path"] for r in lines(out / "failed.jsonl")] == [str(path) for path in bad]


def test_batches_are_divided_if_memory_runs_out(data, tmp_path, monkeypatch):
    assert run_here(tmp_path / "whole", data=data, batch_size=4) == DONE
    monkeypatch.setenv("JOB_OOM", "1")
    assert run_here(tmp_path / "cut", data=data, batch_size=4) == DONE
    whole, cut = frames(tmp_path / "whole"), frames(tmp_path / "cut")
    assert whole.keys() == cut.keys()
    for key in whole:  # batches of other sizes differ by rounding
        assert (whole[key].int() - cut[key].int()).abs().max() <= 1


def test_batches_on_cpus_fit_into_the_caches(data, tmp_path, monkeypatch):
    photos = torch.empty(32, 3, 224, 224)
    # A photo has 0.57 MiB, and a call gets at most 5 MiB for each thread (CALL_BYTES)
    assert (worker.samples_per_call(photos, 1), worker.samples_per_call(photos, 4)) == (8, 34)
    assert worker.samples_per_call(photos.to("meta"), 1) is None
    assert run_here(tmp_path / "whole", data=data, batch_size=4) == DONE
    monkeypatch.setattr("steerlens_fast.models.device.CALL_BYTES", 1)
    assert run_here(tmp_path / "single", data=data, batch_size=4) == DONE
    whole, single = frames(tmp_path / "whole"), frames(tmp_path / "single")
    assert whole.keys() == single.keys()
    for key in whole:
        assert (whole[key].int() - single[key].int()).abs().max() <= 1


def test_out_of_memory_with_one_image_is_fatal(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JOB_OOM", "0")
    message = check_exit(
        capsys, run_here(tmp_path, data=data), "out of memory on cpu with one image at a time", status=FATAL
    )
    assert "tried to allocate 1 images" in message and not markers(tmp_path) and not temporaries(tmp_path)


def test_model_that_raises_ends_the_job_with_its_error(data, tmp_path, monkeypatch, capsys):
    """A ValueError of the model is not reported as a usage error."""
    images = Path(shutil.copytree(data, tmp_path / "images"))
    for name in ("000.png", "001.png"):  # all images of the first batch
        make_white(images / "c0" / name)
    monkeypatch.setenv("JOB_WHITE", "raise")
    code = run_here(tmp_path / "out", data=images)
    check_exit(capsys, code, "ValueError: this model does not like white", status=FATAL)
    log = (tmp_path / "out" / "logs" / "worker-0.log").read_text()
    assert "Traceback" in log and "in _misbehave" in log


# (options, words in the message)
WRONG_OPTIONS = [
    ({"target": "7"}, ["target", "7"]),
    ({"target": "zebra"}, ["target", "zebra"]),
    ({"family": "wavelets"}, ["family", "wavelets"]),
    ({"factors": 3}, ["factors and max_l2 are mutually exclusive"]),
    ({"max_failures": "a few"}, ["max_failures", "a few"]),
    ({"max_failures": "inf%"}, ["max_failures", "inf%"]),
    ({"engine": "env"}, ["RANK and WORLD_SIZE"]),
    ({"model": "job_models:nothing"}, ["model", "nothing"]),
    ({"model": "no_such_module:model"}, ["model", "no_such_module"]),
    ({"data": "no/such/folder"}, ["data", "no/such/folder"]),
    ({"size": 5}, ["size", "5"]),
    ({"weights": "no-such-file.pt"}, ["weights", "no-such-file.pt"]),
]


def test_wrong_usage_is_an_error(data, tmp_path, capsys, monkeypatch):
    for name in ("RANK", "SLURM_ARRAY_TASK_ID", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for options, names in WRONG_OPTIONS:
        check_exit(capsys, run_here(tmp_path / "out", **{"data": data, **options}), *names, status=USAGE)
        assert not (tmp_path / "out" / "shards").exists() or not markers(tmp_path / "out")


def test_missing_required_options_raise(data, tmp_path, capsys):
    check_exit(capsys, run_here(tmp_path), "option 'data' is required", status=USAGE)
    check_exit(
        capsys, main(["morph", "--data", str(data), "--out", str(tmp_path)]), "option 'model' is required", status=USAGE
    )
    check_exit(capsys, main(["status", str(tmp_path)]), "which has no plan.json", status=USAGE)
    with pytest.raises(SystemExit) as raised:
        main(["morph", "--out", str(tmp_path), "--frames", "1"])
    assert raised.value.code == USAGE


# --- From Python -----------------------------------------------------------------------------------------------------


def job_options(**more) -> dict:
    return {
        "channels": 1,
        "frames": 3,
        "max_l2": 1.5,
        "threads": 1,
        "shard_size": 4,
        "batch_size": 2,
        "gallery": 0,
        **more,
    }


class DtypeRecorder(torch.nn.Module):
    """A linear classifier that records the dtypes of its inputs and weights."""

    dtypes = set()

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.layer = torch.nn.Linear(256, 3)

    def forward(self, x):
        self.dtypes.add((x.dtype, self.layer.weight.dtype))
        return self.layer(x.flatten(1))


@pytest.mark.parametrize("mean", [None, [0.4]])
def test_job_in_float64_computes_in_float64(mean, tmp_path):
    pixels = torch.randint(0, 256, (4, 16, 16, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    settings = dict(job_options(frames=4, family="csp-joint", regime="persistent", rule="polar", steps=3), mean=mean)
    settings["std"] = None if mean is None else [0.3]
    DtypeRecorder.dtypes.clear()
    data = torch.utils.data.StackDataset(pixels, [0] * 4)
    assert morph_dataset(data, DtypeRecorder().eval(), tmp_path, dtype="float64", **settings).code == DONE
    assert DtypeRecorder.dtypes == {(torch.float64, torch.float64)}
    normalize = None if mean is None else lambda t: (t - 0.4) / 0.3
    lens = SteerableLens(
        DtypeRecorder().double().eval(), preprocessing=normalize, family="csp-joint", regime="persistent", rule="polar"
    )
    expected = lens.morph(pixels.permute(0, 3, 1, 2).double() / 255, max_l2=1.5, frames=4, steps=3)
    stored = [frames(tmp_path)[record["key"]] for record in records(tmp_path)]
    assert expected.frames.dtype == torch.float64
    for one, other in zip(stored, expected.frames):
        assert torch.equal(torch.as_tensor(one), (other * 255).round().byte())


@pytest.mark.parametrize(
    "more, count, steps",
    [({"regime": "live"}, 4, None), ({"regime": "live", "steps": 5}, 4, 5), ({"distances": [0.0, 1.0]}, 3, None)],
    ids=str,
)
def test_number_of_frames_depends_on_distances_but_not_on_steps(more, count, steps, data, tmp_path):
    assert run_here(tmp_path, data=data, limit=2, **more) == DONE
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["steps"] == steps and all(len(record["l2"]) == count for record in records(tmp_path))


@pytest.mark.parametrize("name, data, model", [("data", None, MODEL), ("model", "nowhere", None)])
def test_data_or_model_of_none_raises(tmp_path, name, data, model):
    with pytest.raises(JobError, match=f"{name} must be a name or an object, got None") as error:
        morph_dataset(data, model, tmp_path / "out", **job_options())
    assert error.value.code == USAGE and not (tmp_path / "out").exists()


# (changed arguments, words in the message)
DISTANCES_AND_STEPS_THAT_DO_NOT_AGREE = [
    ({"steps": 5}, ["steps", "frozen"]),
    ({"steps": 1, "regime": "live"}, ["steps", "at least", "2"]),
    ({"max_l2": [1.0, 2.0]}, ["max_l2", "distances"]),
    ({"max_l2": None, "distances": [1.0, 2.0, 3.0]}, ["frames", "None or 4", "distances"]),
    ({"max_l2": None, "distances": [2.0, 1.0], "regime": "live"}, ["distances", "increase"]),
    ({"distances": [1.0, 2.0]}, ["max_l2", "distances", "mutually exclusive"]),
    ({"max_l2": None, "factors": [0.0, 1.0]}, ["frames", "None or 2", "factors"]),
]


def test_distances_and_steps_that_do_not_agree_raise(tmp_path):
    for changes, words in DISTANCES_AND_STEPS_THAT_DO_NOT_AGREE:
        with pytest.raises(JobError) as error:
            morph_dataset("nowhere", MODEL, tmp_path, **{**job_options(), **changes})
        assert error.value.code == USAGE and all(word in str(error.value) for word in words)


def test_job_on_objects_has_the_results_of_a_job_on_their_names(tmp_path):
    """The objects are a data set and a module. Such a job can be resumed, too."""
    data, model = Triples(), classifier().eval()
    outcome = morph_dataset(data, model, tmp_path / "objects", target="label", **job_options())
    assert outcome.code == DONE and outcome.summary["done"] == 10
    results = records(tmp_path / "objects")
    assert [r["key"] for r in results] == [f"mine/{n}" for n in range(10)]
    assert [r["target"] for r in results] == [r["label"] for r in results] == [n % 3 for n in range(10)]
    stored = frames(tmp_path / "objects")
    assert all(np.array_equal(stored[f"mine/{n}"][0, 0], pixels) for n, pixels in enumerate(data.images))
    named = morph_dataset("job_models:Triples", MODEL, tmp_path / "named", target="label", workers=0, **job_options())
    assert named.code == DONE
    assert all(torch.equal(frames(tmp_path / "named")[key], stored[key]) for key in stored)
    before = digests(tmp_path / "objects")
    markers(tmp_path / "objects")[1].unlink()
    assert morph_dataset(data, model, tmp_path / "objects", resume=True, target="label", **job_options()).code == DONE
    assert digests(tmp_path / "objects") == before


def test_python_data_set_may_return_images_of_several_types(tmp_path):
    """A data set may return arrays, tensors, PIL images or bytes of files. Other objects are bad items."""
    image = pictures(1)[0]
    file = make_folder(tmp_path / "images", 1) / "c0" / "000.png"
    half = torch.from_numpy(image)[None].float().div(255).to(torch.bfloat16)
    good = [image, torch.from_numpy(image)[None], half, Image.fromarray(image), file.read_bytes(), image / 255.0]
    bad = [
        "text",
        None,
        [1, 2],
        np.array([object()]),
        torch.rand(16, 16) * 9,
        Image.open(_truncated(tmp_path)),
        object(),
    ]
    data = [(value, n % 3) for n, value in enumerate([*good, *bad])]
    outcome = morph_dataset(data, classifier().eval(), tmp_path / "out", **job_options())
    results, stored = records(tmp_path / "out"), frames(tmp_path / "out")
    assert outcome.code == SOME_FAILED
    assert [r["status"] == "ok" for r in results] == [True] * len(good) + [False] * len(bad)
    assert all(len(r["sha256"]) == 64 for r in results[: len(good)])
    assert {r["status"] for r in results[len(good) :]} == {"bad-array", "truncated"}
    for n in (0, 1, 3, 4, 5):  # number 2 is rounded to bfloat16
        assert np.array_equal(stored[results[n]["key"]][0, 0], image)
    assert (stored[results[2]["key"]][0, 0].int() - torch.from_numpy(image).int()).abs().max() <= 1


def _truncated(folder: Path) -> Path:
    path = folder / "truncated.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:800])
    return path


# (changed arguments, part of the message)
INVALID_ARGUMENTS = [
    ({"frames": 1}, "frames"),
    ({"engine": "spark"}, "engine"),
    ({"progress": "loud"}, "progress"),
    ({"resume": "yes"}, "resume"),
    ({"max_failures": -1}, "max_failures"),
    ({"max_failures": "-5%"}, "max_failures"),
    ({"flames": 3}, "flames"),
    ({"dtype": "float65"}, "dtype.*float64"),
    ({"objective": len}, "objective must be plain data"),
    ({"max_l2": float("nan")}, "max_l2"),
    ({"target": object()}, "target"),
    ({"resume": True, "overwrite": True}, "overwrite"),
    ({"engine": "env", "overwrite": True}, "overwrite"),
]


def test_invalid_arguments_are_usage_errors(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    for change, text in INVALID_ARGUMENTS:
        with pytest.raises(JobError, match=text) as raised:
            morph_dataset(Triples(), classifier().eval(), tmp_path / "out", **{**job_options(), **change})
        assert raised.value.code == USAGE


def test_errors_of_models_have_exit_codes(tmp_path):
    def failing(images):
        raise KeyError("no such layer")

    with pytest.raises(JobError, match="no such layer") as raised:
        morph_dataset(Triples(), failing, tmp_path, **job_options())
    assert raised.value.code == FATAL and isinstance(raised.value.__cause__, KeyError)


@pytest.mark.parametrize("fails", [False, True])
def test_threads_and_signal_handlers_of_the_caller_are_unchanged(fails, tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        model = (lambda images: images.flatten(1)[:, :0]) if fails else classifier().eval()
        if fails:
            with pytest.raises(JobError):
                morph_dataset(Triples(), model, tmp_path, **job_options())
        else:
            morph_dataset(Triples(), model, tmp_path, **job_options())
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_job_runs_in_a_thread_that_is_not_the_main_thread(tmp_path):
    results = []
    run = lambda: results.append(morph_dataset(Triples(), classifier().eval(), tmp_path, **job_options()))
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert results[0].code == DONE and len(records(tmp_path)) == 10


def test_keys_that_are_not_unique_raise(tmp_path):
    data = [(pixels, 0, "same") for pixels in pictures(3)]
    with pytest.raises(
        JobError, match=r"keys must be unique in the data set, got 'same' twice: list\[0\] and list\[1\]"
    ):
        morph_dataset(data, classifier().eval(), tmp_path, **job_options())


def test_message_about_the_same_file_twice_in_a_table_names_the_column_key(data, tmp_path, capsys):
    table, path = tmp_path / "two_targets.csv", min(data.rglob("*.png"))
    table.write_text(f"path,target\n{path},1\n{path},2\n")
    words = "keys must be unique", f"twice: {table}, line 2", "line 3", "its own name in the column key"
    check_exit(capsys, run_here(tmp_path / "out", data=table), *words, status=USAGE)
    table.write_text(f"path,target,key\n{path},1,a\n{path},2,b\n")
    assert run_here(tmp_path / "out", data=table) == DONE


# --- Size ------------------------------------------------------------------------------------------------------------


DRIVER = """
import json, resource, sys
from steerlens_fast.cli import main
codes = [main(argv) for argv in json.loads(sys.argv[1])]
print()
print(max(codes), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def _memory_of_main_process(*commands: list[str]) -> int:
    """Run commands in another process; return the peak memory of that process, without its workers, in KiB."""
    command = [sys.executable, "-c", DRIVER, json.dumps(commands)]
    run = subprocess.run(command, env=environment(), capture_output=True, text=True)
    code, peak = run.stdout.split()[-2:]
    assert code == "0", run.stderr
    return int(peak)


def _write_finished_job(out: Path, count: int) -> None:
    """Write the files of a finished job on ``count`` tiny images, without morphing. Files of frames are sparse."""
    np.save(out.with_suffix(".npy"), np.zeros((count, 8, 8), np.uint8))
    config = {"data": str(out.with_suffix(".npy")), "model": "job_models:grey_8x8", "channels": 1, "frames": 2}
    inputs = JobInputs(JobConfig.from_dict(config | {"shard_size": 500, "threads": 1}), "cpu")
    (out / "shards").mkdir(parents=True)
    plan = make_plan(out, inputs, load_model(config["model"], channels=1).description, 1)
    for shard in range(plan.shards):
        results = [
            {"key": i.key, "index": i.index, "path": i.path, "status": "ok", "row": 0}
            for i in plan.read_items(out, shard)
        ]
        pad = {"sha256": "0" * 64, "predictions": [0] * 12, "probability": [0.1234567] * 12, "l2": [1.234567] * 12}
        pad |= {"source": 0, "target": 1, "label": 0, "factors": [float(f) for f in range(12)]}
        stored = out / "shards" / f"{shard:05d}.safetensors"
        stored.touch()
        os.truncate(stored, 64_000)
        results = [record | pad for record in results]
        files = write_records(stored.with_suffix(".jsonl"), [record | assess(record) for record in results])
        files |= {stored.name: {"sha256": "0" * 64, "bytes": 64_000}}
        marker = {"shard": shard, "files": files, "items": len(results), "failed": 0, "seconds": {"morph": 1.0}}
        write_json(stored.with_suffix(".done.json"), marker)


@pytest.mark.slow
def test_memory_of_the_main_process_does_not_grow_with_the_data(tmp_path, monkeypatch):
    """The peak memory for listing, planning and resuming is compared for 1,000 and 30,000 images.

    The shards are synthetic, to save time.
    """
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # to save time
    peaks = []
    for count in (1_000, 30_000):
        out, new = tmp_path / str(count), str(tmp_path / "new")
        _write_finished_job(out, count)
        options = ["--data", str(out.with_suffix(".npy")), "--model", "job_models:grey_8x8", "--channels", "1"]
        plan = ["morph", *options, "--out", new, "--shard-size", "500", "--dry-run"]
        resume = ["morph", "--out", str(out), "--resume", "--gallery", "0", "--progress", "none"]
        peaks.append(_memory_of_main_process(plan, resume))
        assert sum(1 for _ in (out / "manifest.jsonl").open()) == count
    assert peaks[1] - peaks[0] < 7 * 1024, peaks  # KiB for 29,000 more images: 250 bytes each

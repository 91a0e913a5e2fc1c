"""Messages of a job name the cause, and say what to do."""

import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from job_models import (
    Classifier,
    arguments,
    check_exit,
    classifier,
    frames,
    make_folder,
    markers,
    pictures,
    records,
    run_here,
    start,
    wait_for_end,
)

from steerlens_fast.cli import main
from steerlens_fast.errors import DONE, FATAL, INTERRUPTED, SOME_FAILED, USAGE
from steerlens_fast.job import JobError, morph_dataset
from steerlens_fast.job.summary import format_summary

pytest.importorskip("PIL")
pytest.importorskip("safetensors")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("data") / "images", 12)


# --- Images that the model does not accept ---------------------------------------------------------------------------


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_message_of_a_model_that_raises_names_the_options(dry, data, tmp_path, capsys):
    """The message has the first line of the model's error and the relevant options; only the log has the traceback."""
    code = run_here(tmp_path / "out", *dry, data=data, channels=3)
    message = check_exit(
        capsys, code, "the model failed for images of 3 x 16 x 16: RuntimeError: mat1 and mat2", status=FATAL
    )
    assert (
        message.strip().endswith("; set --channels and --size (in Python channels= and size=) to the model's")
        and "Traceback" not in message
    )
    if not dry:
        assert "Traceback" in (tmp_path / "out" / "logs" / "worker-0.log").read_text()


@pytest.mark.parametrize("workers", [0, 2])
def test_command_warns_once_of_a_model_that_returns_probabilities(workers, data, tmp_path):
    """A batch has 2 images, and a warning needs 8. Warnings of worker processes are in their logs, too."""
    options = {"model": "job_models:sigmoids", "task": "binary", "channels": 3, "size": 12, "shard_size": 12}
    code, stderr = wait_for_end(start(arguments(tmp_path / "out", data=data, workers=workers, **options)))
    assert code == DONE and stderr.count("model must return logits, got values that look like probabilities") == 1
    logs = "".join(log.read_text() for log in tmp_path.glob("out/logs/worker-*.log"))
    assert ("must return logits" in logs) == (workers > 0)


def test_dry_run_has_no_traceback(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Classifier, "forward", lambda self, images: self.nothing)
    code = run_here(tmp_path / "out", "--dry-run", data=data)
    assert "Traceback" not in check_exit(capsys, code, "AttributeError", "'nothing'", status=FATAL)


def test_shape_is_not_the_cause_if_images_were_accepted_before(data, tmp_path, capsys, monkeypatch):
    original_forward = Classifier.forward

    def fails_later(self, images):
        self.calls = getattr(self, "calls", 0) + 1
        if self.calls > 6:  # in the second batch: a batch takes 4 calls
            raise RuntimeError("I am tired")
        return original_forward(self, images)

    monkeypatch.setattr(Classifier, "forward", fails_later)
    message = check_exit(capsys, run_here(tmp_path / "out", data=data), "RuntimeError: I am tired", status=FATAL)
    assert "--channels" not in message


def test_program_for_one_batch_size_is_reported(data, tmp_path, capsys):
    """The program accepts full batches, but not the smaller last one."""
    torch.export.save(torch.export.export(classifier().layers.eval(), (torch.rand(4, 1, 16, 16),)), tmp_path / "m.pt2")
    options = {"data": data, "model": tmp_path / "m.pt2", "batch_size": 4, "shard_size": 8}
    assert run_here(tmp_path / "even", "--trust-checkpoint", **options) == DONE
    code = run_here(tmp_path / "odd", "--trust-checkpoint", **options, limit=6)
    check_exit(capsys, code, "[0] == 4", "exported for one batch size", "a dynamic batch dimension", status=FATAL)


class Fixed(torch.nn.Module):
    """A model that, when traced, works only for one batch size.

    The trace keeps the batch size as a constant: in an expand if ``columns`` is None, otherwise in a reshape.
    """

    def __init__(self, columns):
        super().__init__()
        self.columns, self.linear = columns, torch.nn.Linear(256, 10)
        self.row = torch.nn.Parameter(torch.zeros(1, 256))

    def forward(self, x):
        n = int(x.shape[0])
        flat = x.flatten(1) + self.row.expand(n, 256) if self.columns is None else x.reshape(n, self.columns)
        return self.linear(flat)


@pytest.mark.parametrize("columns", [256, -1, None])
@pytest.mark.filterwarnings("ignore")
def test_trace_for_one_batch_size_is_reported(columns, data, tmp_path, capsys):
    """Channels or size are named as the cause only if they are the cause."""
    torch.jit.trace(Fixed(columns).eval(), torch.rand(4, 1, 16, 16)).save(tmp_path / "m.pt")
    options = {"data": data, "model": tmp_path / "m.pt", "size": 16, "shard_size": 8}
    for batch_size, limit in ((8, 8), (4, 6)):
        code = run_here(tmp_path / f"{batch_size}", **options, batch_size=batch_size, limit=limit)
        message = check_exit(
            capsys, code, "batches of 4 only", "trace or export it with a dynamic batch dimension", status=FATAL
        )
        assert "--channels" not in message and "RuntimeError: " in message
    code = run_here(tmp_path / "size", **{**options, "size": 20}, batch_size=4)
    check_exit(capsys, code, "set --channels and --size (in Python channels= and size=) to the model's", status=FATAL)


@pytest.mark.parametrize(
    "count, message",
    [
        (1, "the only image cannot be decoded; it is "),
        (3, "none of the first 3 images can be decoded; the first is "),
        (101, "none of the first 100 images can be decoded; the first is "),
    ],
)
def test_error_for_undecodable_images_names_the_first(count, message, tmp_path, capsys):
    for n in range(count):
        path = tmp_path / "images" / f"{n}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"" if n == 0 else b"text")
    code = run_here(tmp_path / "out", data=tmp_path / "images", model="job_models:colour_24x32")
    text = check_exit(capsys, code, message, "0.png (empty: ", "0.png has 0 bytes", status=USAGE)
    assert ("if others can, set --size" in text) == (count > 100)


def test_keys_that_are_not_unique_are_named_with_their_lines(data, tmp_path, capsys):
    paths = sorted(data.rglob("*.png"))[:2]
    (tmp_path / "t.csv").write_text(f"path,key\n{paths[0]},a\n\n{paths[1]},b\n{paths[1]},a\n")
    code = run_here(tmp_path / "out", data=tmp_path / "t.csv")
    where = f"t.csv, line 2 ({paths[0]}) and ", f"t.csv, line 5 ({paths[1]})"
    check_exit(capsys, code, "'a' twice: ", *where, status=USAGE)


# --- Grey arrays -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["NHW", "NCHW", "NHWC"])
def test_grey_arrays_have_one_channel_by_default(layout, tmp_path, capsys):
    """Arrays [N, H, W], [N, 1, H, W] and [N, H, W, 1] have one channel, also in the plan and when resumed."""
    grey = pictures(6)
    np.save(tmp_path / "grey.npy", {"NHW": grey, "NCHW": grey[:, None], "NHWC": grey[..., None]}[layout])
    arguments = ["--data", str(tmp_path / "grey.npy"), "--model", "job_models:classifier", "--max-l2", "2"]
    argv = ["morph", *arguments, "--frames", "4", "--workers", "0", "--gallery", "0", "--shard-size", "4"]
    out = tmp_path / "out"
    assert main([*argv, "--out", str(out)]) == DONE
    plan = json.loads((out / "plan.json").read_text())
    assert plan["channels"] == plan["model"]["channels"] == 1
    assert all(np.array_equal(stored[0, 0], pixels) for stored, pixels in zip(frames(out).values(), grey, strict=True))
    markers(out)[1].unlink()
    assert main(["morph", "--out", str(out), "--resume", "--workers", "0", "--gallery", "0"]) == DONE
    capsys.readouterr()
    code = main([*argv, "--out", str(tmp_path / "rgb"), "--channels", "3"])
    check_exit(capsys, code, "images of 3 x 16 x 16", status=FATAL)


def test_three_means_select_three_channels(tmp_path, capsys):
    np.save(tmp_path / "grey.npy", pictures(4, (24, 32)))
    options = {"model": "job_models:colour_24x32", "mean": [0.5] * 3, "std": [0.5] * 3, "frames": 3, "gallery": 0}
    assert morph_dataset(str(tmp_path / "grey.npy"), out=tmp_path / "out", workers=0, **options).code == DONE


# --- The last line ---------------------------------------------------------------------------------------------------


def test_last_line_has_the_failed_items(data, tmp_path, capsys):
    images = Path(shutil.copytree(data, tmp_path / "images"))
    for name, content in (("c0/000.png", b""), ("c1/005.png", b""), ("c2/010.png", b"text")):
        (images / name).write_bytes(content)
    message = "12 of 12 images done, of which 3 failed (failed.jsonl): 2 empty, 1 not-an-image"
    for more, options in ([], {"data": images}), (["--resume"], {}):
        assert run_here(tmp_path / "out", *more, **options) == SOME_FAILED
        assert capsys.readouterr().err.strip().startswith(f"{tmp_path / 'out'}: {message}; target reached by ")


def test_last_line_says_why_most_items_failed(data, tmp_path, capsys):
    images = Path(shutil.copytree(data, tmp_path / "images"))
    for path in sorted(images.rglob("*.png"))[:7]:
        path.write_bytes(b"" if path.name == "000.png" else b"text")
    assert run_here(tmp_path / "out", data=images) == SOME_FAILED
    line = capsys.readouterr().err.strip()
    assert "; most often not-an-image, e.g. " in line and line.count(str(images)) == 1


def test_last_line_has_the_items_without_a_target(data, tmp_path, capsys):
    assert run_here(tmp_path, data=data, target="map:c0=c2") == DONE
    line = capsys.readouterr().err.strip()
    assert "all 4 images done; " in line and line.endswith("; 8 skipped: no target")


@pytest.mark.parametrize(
    "distances, attained, message",
    [("2", 12, ""), ("1000", 0, "; 0 of 12 reached the distance"), ([2, 1000], 0, "; 0 of 12 reached the distance")],
)
def test_last_line_says_how_many_reached_the_distance_if_not_all(distances, attained, message, data, tmp_path, capsys):
    options = {"distances" if isinstance(distances, list) else "max_l2": distances}
    assert run_here(tmp_path, data=data, **options) == DONE
    assert f"all 12 images done{message}; target reached by " in capsys.readouterr().err
    assert json.loads((tmp_path / "summary.json").read_text())["attained"] == attained


def test_summary_of_a_job_by_factors_has_no_attained_distances(data, tmp_path):
    options = {"channels": 1, "factors": 2.0, "frames": 3, "gallery": 0, "workers": 0}
    assert morph_dataset(str(data), "job_models:classifier", tmp_path, **options).summary["attained"] is None


def test_rank_that_ends_first_says_that_others_compute_the_rest(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    rest = "; the other ranks compute the remaining shards"
    for rank, message, is_first in ((0, "8 of 12 images done; ", True), (1, "all 12 images done; ", False)):
        monkeypatch.setenv("RANK", str(rank))
        argv = arguments(tmp_path, "--engine", "env", "--progress", "none", data=data)
        assert main(argv) == DONE
        line = capsys.readouterr().err.strip()
        assert message in line and line.endswith(rest) == is_first


def test_interrupted_rank_does_not_say_that_others_compute_the_rest(data, tmp_path, capsys, monkeypatch):
    from steerlens_fast.job import run

    run_job = run.run_job
    monkeypatch.setattr(run, "run_job", lambda *args: replace(run_job(*args), code=INTERRUPTED))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert main(arguments(tmp_path, "--engine", "env", "--progress", "none", data=data)) == INTERRUPTED
    stderr = capsys.readouterr().err
    assert "8 of 12 images done; " in stderr and "the other ranks" not in stderr


# --- Verify ----------------------------------------------------------------------------------------------------------


def test_verify_names_the_remedy(data, tmp_path, capsys):
    """The commands in the message, run as they are, repair the job."""
    out = tmp_path / "out of place"
    assert run_here(out, data=data) == DONE and main(["verify", str(out)]) == DONE
    assert "steerlens-fast" not in capsys.readouterr().out
    file = out / "shards" / "00001.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert main(["verify", str(out)]) == FATAL
    discard, resume = advice(capsys)
    assert main(discard) == FATAL and advice(capsys) == [resume]
    assert main(["verify", str(out)]) == FATAL and advice(capsys) == [resume]
    assert main(resume) == DONE and main(["verify", str(out)]) == DONE and file.read_bytes() == whole


def advice(capsys) -> list[list[str]]:
    """Return the commands in quotation marks in the last line of the output."""
    last = capsys.readouterr().out.strip().splitlines()[-1]
    return [shlex.split(command) for command in re.findall('"steerlens-fast ([^"]*)"', last)]


# --- Options, targets and data ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"pyramid": "hight=3"},
            ["pyramid must only have options of SteerablePyramid", "'height'", "did you mean 'height'?"],
        ),
        ({"pyramid": "image_shape=3"}, ["pyramid must not contain image_shape"]),
        ({"labels": "t.csv"}, ["labels must be a .npy file of class numbers or names, or 'numbered', got t.csv"]),
    ],
)
def test_bad_options_are_named(options, message, data, tmp_path, capsys):
    check_exit(capsys, run_here(tmp_path / "out", data=data, **options), *message, status=USAGE)


@pytest.mark.parametrize("target", ["label", "map:0=1"])
def test_targets_by_label_need_labels(target, data, tmp_path, capsys):
    """If no item has a label, no job is planned. If some items have labels, only the others fail."""
    flat = data / "c0"
    code = run_here(tmp_path, data=flat, target=target)
    check_exit(capsys, code, "target", "needs labels", "no item of", status=USAGE)
    assert not (tmp_path / "plan.json").exists()
    (tmp_path / "table.csv").write_text(f"path,label\n{next(flat.iterdir())},1\n{next((data / 'c1').iterdir())},\n")
    assert run_here(tmp_path / "out", data=tmp_path / "table.csv", target="label") == SOME_FAILED
    assert [r["status"] for r in records(tmp_path / "out")] == ["ok", "no-label"]


def test_items_without_a_target_in_their_table_fail(data, tmp_path):
    first, second = sorted(data.glob("c*/*"))[:2]
    (tmp_path / "table.csv").write_text(f"path,target\n{first},1\n{second},\n")
    assert run_here(tmp_path / "out", data=tmp_path / "table.csv", target="column") == SOME_FAILED
    assert [r["status"] for r in records(tmp_path / "out")] == ["ok", "no-target"]


def test_python_arguments_are_named_as_in_python(data, tmp_path):
    options = {"channels": 1, "frames": 3, "gallery": 0, "workers": 0, "limit": 2}
    job = lambda **more: morph_dataset(str(data), "job_models:classifier", tmp_path, **options, **more)
    with pytest.raises(JobError, match=r"unknown option 'factor'; did you mean 'factors'\?"):
        job(factor=2.0)
    assert job().code == DONE
    with pytest.raises(JobError, match=r"in Python resume=True or overwrite=True"):
        job()
    with pytest.raises(JobError, match=r"factors was null and is 2\.0 now: .* \(in Python overwrite=True\)"):
        job(resume=True, factors=2.0)


def test_labels_that_the_model_hardly_predicts_give_a_warning(data, tmp_path):
    """A warning needs at least 20 labels, of which the model predicts less than a quarter."""
    assert run_here(tmp_path, data=data) == DONE
    summary = json.loads((tmp_path / "summary.json").read_text())
    results = records(tmp_path)
    assert summary["labelled"] == len(results) and summary["as_labelled"] == sum(
        r["label"] == r["source"] for r in results
    )
    known = {"items": 40, "done": 40, "failed": 0, "reasons": {}, "attained": None, "without_target": 0}
    doubted = format_summary({**known, "labelled": 40, "as_labelled": 9})
    assert (
        doubted
        == "all 40 images done; the model predicts 9 of 40 labels: check that labels have the model's class numbers"
    )
    assert format_summary({**known, "labelled": 40, "as_labelled": 10}) == "all 40 images done"
    assert format_summary({**known, "labelled": 19, "as_labelled": 0}) == "all 40 images done"


def test_target_column_of_a_table_is_used(data, tmp_path, capsys):
    """It is used by default and with target "column". Without it, target "column" is an error."""
    table, paths = tmp_path / "table.csv", sorted((data / "c0").iterdir())[:3]
    table.write_text("path,label,target\n" + "".join(f"{path},{n},{2 - n}\n" for n, path in enumerate(paths)))
    for n, options in enumerate(({}, {"target": "column"})):
        assert run_here(tmp_path / f"out{n}", data=table, **options) == DONE
        assert [(r["label"], r["target"]) for r in records(tmp_path / f"out{n}")] == [(0, 2), (1, 1), (2, 0)]
    assert run_here(tmp_path / "label", data=table, target="label") == DONE
    assert [r["target"] for r in records(tmp_path / "label")] == [0, 1, 2]
    table.write_text(f"path\n{paths[0]}\n")
    code = run_here(tmp_path / "none", data=table, target="column")
    check_exit(capsys, code, "target 'column' needs a data table with a column target", status=USAGE)


def test_left_out_files_are_reported(data, tmp_path, capsys):
    """The plan, the summary, the last line and the dry run report them."""
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data" / "__MACOSX" / "c0").mkdir(parents=True)
    (tmp_path / "data" / "c0" / "notes.txt").touch()
    assert run_here(tmp_path / "dry", "--dry-run", data=tmp_path / "data") == DONE
    assert "unused entries: 1 not an image, e.g. c0/notes.txt" in capsys.readouterr().out
    assert run_here(tmp_path / "out", data=tmp_path / "data") == DONE
    assert "unused entries of the data: 1 in a system folder, 1 not an image" in capsys.readouterr().err
    plan, summary = (json.loads((tmp_path / "out" / name).read_text()) for name in ("plan.json", "summary.json"))
    assert summary["unused_entries"] == {"in a system folder": 1, "not an image": 1}
    assert plan["unused_entries"]["not an image"] == {"count": 1, "examples": ["c0/notes.txt"]}
    assert [r["key"] for r in records(tmp_path / "out")] == [
        str(p.relative_to(data)) for p in sorted(data.rglob("*.png"))
    ]


@pytest.mark.parametrize("integer", [np.int64, np.uint8, lambda n: torch.tensor(n)], ids=["int64", "uint8", "tensor"])
def test_numbers_of_other_libraries_are_accepted(integer, data, tmp_path):
    """Numbers of numpy, for example, give the same configuration as numbers of Python."""
    integers = {"channels": 1, "frames": 3, "size": 16, "limit": 5, "shard_size": 4, "batch_size": 2, "threads": 1}
    integers |= {"target": 1, "seed": 0, "workers": 0, "gallery": 0, "max_failures": 3}
    python_numbers = {"max_pixels": 10_000, "scales": [0, 1], "mean": [0.0], "std": [1.0], "max_l2": 1.5}
    other_numbers = {
        "max_pixels": np.int64(10_000),
        "scales": np.array([0, 1]),
        "mean": np.zeros(1),
        "std": np.ones(1, np.float32),
        "max_l2": np.float32(1.5),
    }
    other_numbers |= {name: integer(n) for name, n in integers.items()}
    for n, options in enumerate((python_numbers | integers, other_numbers)):
        assert morph_dataset(str(data), "job_models:classifier", tmp_path / str(n), **options).code == DONE
    configs = [json.loads((tmp_path / name / "config.json").read_text()) for name in "01"]
    assert configs[0] == configs[1] and configs[1]["size"] == [16, 16]
    with pytest.raises(JobError, match=r"frames must be an int, got 3\.0"):
        morph_dataset(str(data), "job_models:classifier", tmp_path / "float", frames=np.float64(3))

"""Whole evaluations: records, resuming after kills, batches, bad input, the command."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from classifiers import TwoCentres
from evaluations import FAST, dataset, net, pictures, records, run
from tolerances import TOLERANCES

from steerlens_fast import SteerableLens, driver_confidence, smooth_reconstruction
from steerlens_fast.cli import main
from steerlens_fast.errors import NO_SPACE, JobError
from steerlens_fast.evaluate import classifiers
from steerlens_fast.evaluate.classifiers import judge_names
from steerlens_fast.evaluate.config import EvaluationConfig
from steerlens_fast.evaluate.measures import least_squares
from steerlens_fast.evaluate.presets.shapes import Shapes
from steerlens_fast.evaluate.run import run_evaluation
from steerlens_fast.evaluate.summary import read_results

for extra in ("PIL", "matplotlib"):
    pytest.importorskip(extra)

TESTS = Path(__file__).parents[1]


# --- Records


def test_records_are_the_measured_values(tmp_path):
    """Targets, probabilities, shares and predictions are computed here again."""
    result = run(tmp_path)
    assert result.code == 0 and result.summary["problems"] == []
    written = records(tmp_path)
    images = pictures().permute(0, 3, 1, 2).float() / 255
    driver, judges = net(0), {"a": net(1), "b": net(2)}
    for family in FAST["families"]:
        lens = SteerableLens(driver, family=family, rule="polar", regime="persistent")
        morphs = lens.morph(images, max_l2=1.0, frames=3)
        frames, target = morphs.frames[:, -1].contiguous(), morphs.target
        confidence = driver_confidence(driver(frames).detach(), target)
        fit = smooth_reconstruction(images, frames, restarts=1, grid=4)
        family_records = [r for r in written if r["family"] == family and r["budget"] == 1.0]
        assert [r["source"] for r in family_records] == list(range(10)) and [
            r["target"] for r in family_records
        ] == target.tolist()
        assert torch.allclose(torch.tensor([r["target_probability"] for r in family_records]), confidence, atol=1e-5)
        assert torch.allclose(torch.tensor([r["warp"] for r in family_records]).double(), fit.warp, atol=1e-3)
        assert all(r["gain"] >= r["warp"] and r["attained"] for r in family_records)
        for name, judge in judges.items():
            assert [r["judges"][name] for r in family_records] == (judge(frames).argmax(1) == target).tolist()
        results = result.summary["budgets"][0]["families"][family]
        assert results["target_probability"]["value"] == pytest.approx(
            float(confidence.double().quantile(0.5)), abs=1e-5
        )
        assert results["jointly"]["value"] == sum(r["jointly"] for r in family_records) / 10
    assert {r["family"] for r in written} == {*FAST["families"], "noise", "probes"}


def test_binary_classifiers_are_measured_by_their_sigmoid(tmp_path):
    driver, judge = net(0, classes=1), net(1, classes=1)
    result = run(tmp_path, driver=driver, judges={"a": judge}, task="binary", families=["pixel"], frames=3)
    assert result.summary["problems"] == []
    images = pictures().permute(0, 3, 1, 2).float() / 255
    lens = SteerableLens(driver, task="binary", family="pixel", regime="persistent")
    m = lens.morph(images, max_l2=1.0, frames=3)
    toward = lambda net: torch.where(m.target == 1, 1.0, -1.0) * net(m.frames[:, -1].contiguous()).detach()[:, 0]
    pixel_records = [r for r in records(tmp_path) if r["family"] == "pixel" and r["budget"] == 1.0]
    assert [r["target"] for r in pixel_records] == m.target.tolist() == (driver(images)[:, 0] <= 0).long().tolist()
    confidence = torch.tensor([r["target_probability"] for r in pixel_records])
    torch.testing.assert_close(confidence, toward(driver).sigmoid(), atol=1e-5, rtol=0)
    assert [r["judges"]["a"] for r in pixel_records] == (toward(judge) > 0).tolist()


def test_stochastic_classifier_is_measured_reproducibly(tmp_path):
    class Noisy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net(0)

        def forward(self, x):
            return self.net(x + 0.05 * torch.randn_like(x) + 0.05 * random.random())

    results = []
    for name in ("a", "b"):
        torch.rand(1), random.random()  # the state of the caller's generators must not matter
        run(tmp_path / name, driver=Noisy().eval(), families=["pixel"], max_l2=1.0)
        results.append(records(tmp_path / name))
    assert results[0] == results[1]


def test_every_number_has_its_denominator(tmp_path):
    summary = run(tmp_path).summary
    assert summary["sources"] == {"chosen": 10, "examined": 10, "left_out": {}}
    for budget in summary["budgets"]:
        attained = {"common": 10, "of": 10, "by_family": {"pixel": 10, "csp-phase": 10}, "by_control": {"noise": 10}}
        assert budget["attainment"] == attained
        for entry in budget["families"].values():
            counts = [(entry[m]["cases"], entry[m]["of"]) for m in ("target_probability", "jointly", "warp", "gain")]
            assert counts == [(10, 10)] * 4
        assert set(budget["paired"]["warp"]) == {"pixel - csp-phase"}
    bands = summary["bands"]["advantage"]
    assert len(bands) == 2 and len(bands[0]) == 4  # scales and orientations
    assert all(c["of"] == 10 for row in bands for c in row)


def test_true_motion_is_measured_as_a_control(tmp_path):
    """The control "true motion" has the true direction, is explained by warps, and recovers its displacement."""
    shapes = Shapes(4, seed=3)
    driver = net(0, classes=14, size=32)
    options = {"sources": len(shapes), "target": 0, "families": ["pixel"], "max_l2": 0.5, "probe_directions": 0}
    result = run(tmp_path, shapes, driver, {}, **options)
    control = result.summary["budgets"][0]["controls"]["true motion"]
    assert control["alignment"]["value"] > 0.95 and control["warp"]["value"] > 0.9
    groups = result.summary["groups"]["0.5"]
    assert set(groups) == {"position", "orientation", "width", "curvature", "frequency", "gap", "size"}
    assert groups["position"]["true motion"]["recovered"]["value"] == pytest.approx(1, abs=0.03)
    assert all(r["group"] in groups for r in records(tmp_path))
    assert result.summary["bands"] is None


def test_pixel_edits_of_a_driver_that_knows_the_true_change_are_aligned(tmp_path):
    """The driver's gradient is proportional to the difference between the moved bar and the source."""
    shapes = Shapes(2, seed=3)  # the first kind is the position of a bar
    source = shapes.pixels[:1].float() / 255
    toward = source + 0.2 * shapes.derivative([0]).float()
    options = {"target": 1, "sources": 1, "families": ["pixel"], "max_l2": 0.1, "probe_directions": 0, "limit": 1}
    result = run(tmp_path, shapes, TwoCentres(source[0], toward[0]), {}, **options)
    assert result.summary["budgets"][0]["families"]["pixel"]["alignment"]["value"] > 0.97  # less than 1 due to clipping


def test_noise_differs_between_sources(tmp_path):
    """Two sources are the same image, so their pixel edits are equal."""
    data = dataset(pictures(1).expand(2, -1, -1, -1))
    run(tmp_path, data, families=["pixel"], max_l2=1.0, probe_directions=0)
    values = {(r["family"], r["source"]): r["target_probability"] for r in records(tmp_path)}
    assert values["pixel", 0] == values["pixel", 1] and values["noise", 0] != values["noise", 1]


# --- Independence of batches, chunks and interruptions


def test_results_are_bitwise_reproducible_and_close_for_another_batch_size(tmp_path):
    first, again, other = (tmp_path / name for name in "abc")
    run(first)
    run(again)
    run(other, batch_size=4)
    assert (first / "results.jsonl").read_bytes() == (again / "results.jsonl").read_bytes()
    key = lambda r: (r["family"], r.get("budget", 0), r["source"])
    for one, two in zip(sorted(records(first), key=key), sorted(records(other), key=key), strict=True):
        assert one.keys() == two.keys()
        for name, value in one.items():
            assert _close(value, two[name], name), (name, value, two[name])


def test_results_in_chunks_are_close(tmp_path, monkeypatch):
    whole, chunked = tmp_path / "whole", tmp_path / "chunked"
    run(whole)
    monkeypatch.setattr(classifiers, "CALL_BYTES", 3 * 4 * 16 * 16)
    assert classifiers.images_per_call(4 * 16 * 16, torch.device("cpu")) == 3
    run(chunked)
    for one, two in zip(records(whole), records(chunked), strict=True):
        assert one.keys() == two.keys() and all(_close(value, two[name], name) for name, value in one.items())
    for file in whole.glob("parts/*.npz"):
        assert sorted(np.load(file).files) == sorted(np.load(chunked / "parts" / file.name).files)


def test_progress_counts_records(tmp_path, capsys):
    """For 10 sources, there are 10 x (3 x 2 + 1) records: two families and noise at two budgets, and probes."""
    run(tmp_path, progress="json")
    last = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert last["done"] == last["total"] == 70 == len(records(tmp_path))
    assert last["records_per_second"] > 0 and last["eta_seconds"] == 0


def test_progress_counts_records_of_an_earlier_run(tmp_path, capsys):
    run(tmp_path, batch_size=5)
    (tmp_path / "parts/noise-000005.jsonl").unlink()
    run(tmp_path, batch_size=5, resume=True, progress="lines")
    assert capsys.readouterr().err.splitlines()[-1].startswith("70/70 records, ")


# A fit ends after PATIENCE steps that each explain less than MIN_PROGRESS of an edit. Fits may differ by these steps.
FIT_LIMIT = least_squares.PATIENCE * least_squares.MIN_PROGRESS


def _close(one, two, name="") -> bool:
    if isinstance(one, dict):
        return all(_close(one[k], two[k]) for k in one)
    if isinstance(one, list):
        return all(map(_close, one, two))
    limit = FIT_LIMIT if name in ("warp", "gain") else TOLERANCES["evaluation"].float32
    return abs(one - two) <= limit * (1 + abs(one)) if isinstance(one, float) else one == two


def test_interrupted_evaluation_resumes(tmp_path, monkeypatch):
    """Tasks that were done are not repeated, and the results are the same."""
    from steerlens_fast.evaluate.tasks import TaskRunner

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(whole, batch_size=5)
    plain, ran = TaskRunner.run, []

    def failing(self, task):
        ran.append(task.name)
        if len(ran) == 4:
            raise OSError(28, "No space left on device")
        return plain(self, task)

    monkeypatch.setattr(TaskRunner, "run", failing)
    with pytest.raises(JobError) as error:
        run(broken, batch_size=5)
    assert error.value.code == NO_SPACE and not (broken / "results.jsonl").exists()
    assert len(list((broken / "parts").glob("*.jsonl"))) == 3
    monkeypatch.setattr(TaskRunner, "run", lambda self, task: (ran.append(task.name), plain(self, task))[1])
    run(broken, resume=True, batch_size=5)
    assert len(ran) == len(set(ran)) + 1, "only the task that failed ran twice"
    assert (whole / "results.jsonl").read_bytes() == (broken / "results.jsonl").read_bytes()
    summaries = [json.loads((out / "summary.json").read_text()) for out in (whole, broken)]
    assert summaries[0] == summaries[1]


@pytest.mark.slow
def test_killed_evaluation_resumes(tmp_path):
    """After SIGKILL, the results are those of an evaluation without interruption."""
    arguments = "--data evaluate_models:data --driver evaluate_models:driver --judge evaluate_models:judge".split()
    arguments += "--families pixel,csp-phase --max-l2 1 --frames 3 --batch-size 2 --channels 1".split()
    arguments += ["--select", "all", "--restarts", "1", "--draws", "50", "--probe-directions", "1", "--threads", "1"]
    arguments += ["--no-figures", "--progress", "none"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(["evaluate", *arguments, "--out", str(whole)]) == 0
    command = [sys.executable, "-m", "steerlens_fast", "evaluate", *arguments, "--out", str(killed)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    done, end = lambda: len(list(killed.glob("parts/*.jsonl"))), time.monotonic() + 300
    with subprocess.Popen(command, env=environment | {"EVALUATE_SLEEP": "0.05"}) as process:
        while done() < 3 and process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert done() >= 3 and not (killed / "results.jsonl").exists()
    assert main(["evaluate", *arguments, "--out", str(killed), "--resume"]) == 0
    assert (whole / "results.jsonl").read_bytes() == (killed / "results.jsonl").read_bytes()
    assert not list(killed.glob("**/.*.tmp"))


def test_folder_of_an_evaluation_raises_unless_it_is_resumed_unchanged_or_overwritten(tmp_path):
    run(tmp_path)
    with pytest.raises(JobError, match="out must be a new folder"):
        run(tmp_path)
    with pytest.raises(JobError, match="frames was 3 and is 4 now"):
        run(tmp_path, resume=True, frames=4)
    with pytest.raises(JobError, match="the models"):
        run(tmp_path, resume=True, driver=net(9))
    with pytest.raises(JobError, match="sources was"):
        run(tmp_path, resume=True, data=dataset(pictures().flip(0)))
    assert run(tmp_path, resume=True).code == 0
    assert run(tmp_path, overwrite=True, frames=4).summary["config"]["frames"] == 4


def test_overwrite_raises_for_a_folder_with_other_files(tmp_path):
    (tmp_path / "summary.json").write_text("mine")
    with pytest.raises(JobError, match="or an evaluation's, got"):
        run(tmp_path, overwrite=True)
    assert (tmp_path / "summary.json").read_text() == "mine"


# --- Bad input


def test_judges_with_other_classes_are_left_out_of_transfer(tmp_path):
    result = run(tmp_path, judges={"good": net(1), "wide": net(2, classes=5)})
    assert result.code == 3
    assert result.summary["problems"] == ["judge 'wide' has 5 classes, but the driver has 3; it is left out"]
    assert result.summary["judges"] == ["good"]
    assert result.summary["budgets"][0]["families"]["pixel"]["jointly"]["cases"] == 10


def test_wrong_number_of_class_names_raises(tmp_path):
    few, many = (net_with_class_names(seed, names) for seed, names in ((0, ["a", "b"]), (1, ["a", "b", "c", "d"])))
    with pytest.raises(
        JobError, match="class_names of the driver must have one name for each .* 3 classes, got 2 names"
    ):
        run(tmp_path / "a", driver=few)
    result = run(tmp_path / "b", judges={"a": net(1), "many": many})
    assert result.summary["problems"] == ["judge 'many' has 4 class names for 3 classes; it is left out"]


def net_with_class_names(seed, names):
    model = net(seed)
    model.class_names = names
    return model


def test_transfer_is_not_measured_without_judges(tmp_path):
    first = run(tmp_path / "a", judges={"wide": net(2, classes=5)})
    assert "no judge could be used: transfer is not measured" in first.summary["problems"]
    assert run(tmp_path / "b", judges={}).code == 0
    for result in (first, run(tmp_path / "b", judges={}, resume=True)):
        results = result.summary["budgets"][0]["families"]["pixel"]
        assert "jointly" not in results and results["warp"]["cases"] == 10


def test_unattained_budget_is_reported_and_not_averaged(tmp_path):
    result = run(tmp_path, distances=[100.0, 0.5])
    far, near = result.summary["budgets"]
    assert result.code == 3 and far["attainment"]["common"] == 0
    assert far["attainment"]["by_family"] == {"pixel": 0, "csp-phase": 0} and far["attainment"]["of"] == 10
    assert all(entry["value"] is None for entry in (far["families"][f]["warp"] for f in FAST["families"]))
    assert [far["families"]["pixel"]["target_probability"][k] for k in ("value", "cases", "of")] == [None, 0, 10]
    assert any("no source attained L2 = 100 in every family" in problem for problem in result.summary["problems"])
    assert near["attainment"]["common"] == 10 and near["families"]["pixel"]["warp"]["value"] is not None
    assert {r["attained"] for r in records(tmp_path) if r.get("budget") == 100.0} == {False}


def test_unattained_budget_suggests_to_leave_out_the_family_that_attained_least(tmp_path):
    families = ["pixel", "csp-amplitude", "csp-joint"]
    problems = run(tmp_path / "a", families=families, distances=[100.0, 3.0]).summary["problems"]
    far, near = (p for p in problems if "in every family" in p)
    assert far.endswith("csp-joint 0/10)")
    assert near.endswith("csp-joint 10/10); with families (--families) pixel,csp-joint, 10 would be in common")


def test_constant_images_are_left_out(tmp_path):
    images = pictures()
    images[3] = 128
    result = run(tmp_path, dataset(images))
    assert result.code == 3 and result.summary["sources"]["chosen"] == 9
    assert result.summary["sources"]["left_out"]["constant"]["images"] == 1
    assert any(
        "1 images are left out: every pixel has the same value" in problem for problem in result.summary["problems"]
    )
    assert "3" not in {r["key"] for r in records(tmp_path)}


def test_bad_file_is_left_out(tmp_path):
    """Folders are read as by a job: sub-folders are classes; files that are no images are left out and reported."""
    from PIL import Image

    for name, image in zip(("cat/1", "cat/2", "dog/1", "dog/2"), pictures(4)):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0].numpy()).save(tmp_path / "data" / f"{name}.png")
    (tmp_path / "data" / "dog" / "bad.png").write_bytes(b"no image")
    result = run(tmp_path / "out", str(tmp_path / "data"), net(0, classes=2), {}, max_l2=0.5)
    assert result.summary["sources"]["chosen"] == 4
    assert result.summary["sources"]["left_out"]["not-an-image"]["images"] == 1
    assert {r["key"].partition(".")[0] for r in records(tmp_path / "out")} == {"cat/1", "cat/2", "dog/1", "dog/2"}


def test_single_class_is_a_problem(tmp_path):
    result = run(tmp_path, driver=_biased(net(0)), judges={})
    assert any("all sources are of one class" in problem for problem in result.summary["problems"])
    assert result.summary["budgets"][0]["families"]["pixel"]["warp"]["cases"] == 10


def _biased(model):
    """Return a model that always predicts class 0."""
    with torch.no_grad():
        model[-1].bias[0] += 100
    return model


def test_driver_of_one_class_raises(tmp_path):
    with pytest.raises(JobError, match="driver must have at least two classes, got 1"):
        run(tmp_path, driver=net(0, classes=1), judges={})


def test_images_that_are_wrong_or_already_of_the_target_are_left_out(tmp_path):
    predicted = net(0)(pictures().permute(0, 3, 1, 2).float() / 255).argmax(1)
    labels, target = predicted.tolist(), int(predicted[1])
    assert 0 < (predicted[1:] == target).sum() < 9, "the network must predict several classes"
    labels[0] = (labels[0] + 1) % 3
    result = run(tmp_path, dataset(labels=labels), judges={}, select="auto", target=target)
    out = result.summary["sources"]["left_out"]
    assert out["wrong"]["images"] == 1
    assert out["already-target"]["images"] == int((predicted[1:] == target).sum())
    assert all(r["predicted"] != target for r in records(tmp_path))


def test_evaluation_without_sources_raises(tmp_path):
    wrong = (net(0)(pictures().permute(0, 3, 1, 2).float() / 255).argmax(1) + 1) % 3
    with pytest.raises(JobError, match="at least one source, got 10 images: 10 wrong .*select='agree'"):
        run(tmp_path, dataset(labels=wrong.tolist()), judges={}, select="right")


def test_zero_gradient_does_not_affect_others(tmp_path):
    """A source without a gradient does not attain its budget. The other sources attain it."""

    class WithoutGradient(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net(0)

        def forward(self, x):
            if len(x) > 4:  # the gradient of image 4 is zero
                x = x * (x[:, 0, 0, 0] != x[4, 0, 0, 0]).to(x).view(-1, 1, 1, 1)
            return self.net(x)

    result = run(
        tmp_path, driver=WithoutGradient().eval(), judges={}, batch_size=10, probe_directions=0, families=["pixel"]
    )
    bad = [r for r in records(tmp_path) if r["source"] == 4 and r["family"] == "pixel"]
    assert all(r["reason"] and r["warp"] is None and r["attained"] is False for r in bad)
    assert result.summary["budgets"][0]["attainment"]["common"] == 9


# (changed arguments, part of the message)
BAD_OPTIONS = [
    ({"families": []}, "families must name at least one"),
    ({"families": ["pixel", "pixel"]}, "families must be distinct"),
    ({"families": ["wavelet"]}, "family must be one of"),
    ({"distances": [1.0, -1.0]}, "distances must be finite and above 0"),
    ({"distances": []}, "distances must have at least one distance"),
    ({"distances": [1.0, 1.0]}, "distances must be distinct"),
    ({"frames": 1}, "frames must be at least 2"),
    ({"select": "some"}, "select must be one of"),
    ({"probe_family": "haar"}, "probe_family must be one of"),
    ({"rule": "linear"}, "rule must be one of"),
    ({"task": "multilabel"}, "task must be one of"),
    ({"threads": 0}, "threads must be at least 1"),
    ({"judge_weights": ["a", "b", "c"]}, "judge_weights must have one value for each of 2 judges"),
    ({"colour": "rgb"}, "unknown option .colour."),
    ({"target": "map:"}, "target must be 'map:FROM=TO"),
]


def test_bad_options_raise(tmp_path):
    for change, message in BAD_OPTIONS:
        with pytest.raises(JobError, match=message) as error:
            run(tmp_path, **change)
        assert error.value.code == 2 and not list(tmp_path.glob("*.json*"))


def test_configurations_are_plain_data():
    config = EvaluationConfig("images/", "timm:resnet18", "timm:resnet34", max_l2=2)
    assert config.judges == ("timm:resnet34",) and config.budgets == (2,)
    assert EvaluationConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config
    with pytest.raises(JobError, match="option 'driver' is required"):
        EvaluationConfig.from_dict({"data": "x"})
    with pytest.raises(JobError, match="target must be finite"):
        EvaluationConfig("x", "y", target={"a": math.nan})


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"max_l2": [1.0, 2.0]}, "max_l2 must be a float .for several distances use distances"),
        ({"max_l2": 1.0, "distances": [1.0]}, "max_l2 and distances are mutually exclusive"),
        ({"steps": 1, "frames": 3}, "steps must be at least frames - 1 = 2, got 1"),
        ({"steps": 4, "regime": "frozen"}, "steps must be None for regime 'frozen'"),
    ],
)
def test_budgets_and_steps_that_do_not_agree_raise(changes, message):
    with pytest.raises(JobError, match=message):
        EvaluationConfig("images/", "timm:resnet18", **changes)


def test_default_has_two_budgets():
    assert EvaluationConfig("images/", "timm:resnet18").budgets == (2.0, 1.0)


# --- Other sizes, channels, dtypes and names; the report


def test_judges_may_have_other_sizes_and_channels(tmp_path):
    """The judge takes grey images of 24 x 24, the driver RGB images of 16 x 16."""
    from steerlens_fast.evaluate.classifiers import as_classifier
    from steerlens_fast.families.luma import luma
    from steerlens_fast.models import load_model

    judge = as_classifier(load_model(net(1, size=24), size=24, channels=1), 3)
    images = torch.rand(3, 3, 16, 16)
    grey = luma(torch.nn.functional.interpolate(images, size=(24, 24), mode="bicubic", antialias=True).clamp(0, 1))
    assert torch.allclose(judge.outputs(images), net(1, size=24)(grey), atol=1e-5)


def test_float64_evaluation_agrees_with_float32(tmp_path):
    options = dict(max_l2=0.5, families=["csp-joint"], steps=2, probe_directions=0, sources=4)
    result = {dtype: run(tmp_path / dtype, dtype=dtype, **options) for dtype in ("float32", "float64")}
    rows = {dtype: records(tmp_path / dtype) for dtype in result}
    assert json.loads((tmp_path / "float64" / "summary.json").read_text())["config"]["dtype"] == "float64"
    pairs = [(one["l2"], other["l2"]) for one, other in zip(*rows.values()) if one["family"] == "csp-joint"]
    assert len(pairs) == 4 and all(abs(one - other) < 1e-5 for one, other in pairs)
    assert rows["float32"] != rows["float64"]


def test_results_may_contain_any_name(tmp_path):
    names = ["a\u2028b", "c\u0085d", "e\udce9f"]
    lines = [json.dumps({"path": name}, ensure_ascii=False).encode(errors="surrogateescape") for name in names]
    (tmp_path / "results.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    assert [record["path"] for record in read_results(tmp_path / "results.jsonl")] == names


def test_judge_names_are_unique():
    names = judge_names(["w/model-2.pt2", "w/model.pt2", "v/model.pt2", "driver"])
    assert len(set(names)) == 4 and "driver" not in names


def test_report_has_tables_and_figures(tmp_path):
    """There are PNG and SVG figures. The page loads only these, and text does not become markup."""
    images = pictures(6)
    data = dataset(images)
    data.classes = ["<b>nil</b>", "one & two", "$x$"]
    result = run(tmp_path, data, figures=True, judges={"<i>judge</i>": net(1)}, sources=6, distances=[1.0, 50.0])
    page = (tmp_path / "index.html").read_text()
    assert "<i>" not in page.split("<main>")[1] and "<b>" not in page and "http" not in page.split("<main>")[1]
    assert "no source attained L2 = 50 in every family" in page
    names = {"measures", "coverage", "consistency", "bands", "strips"}
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {f"{n}.{k}" for n in names for k in ("png", "svg")}
    for name in names:
        assert f'src="figures/{name}.svg"' in page
        assert (tmp_path / "figures" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert result.code == 3


def test_report_in_a_browser_loads_only_its_own_files(tmp_path):
    import browser

    if not (browser.CHROMIUM and browser.DRIVER):
        pytest.skip("no chromium and chromedriver")
    run(tmp_path / "out", figures=True)
    address = (tmp_path / "out" / "index.html").as_uri()
    with browser.Browser(tmp_path / "profile") as window:
        window.open(address)
        window.wait("[...document.images].every((i) => i.complete)")
        assert window.run("return [...document.images].every((i) => i.naturalWidth > 100)")
        assert window.run("return document.body.scrollWidth <= innerWidth")
        addresses = [a for a in window.requests() if not a.startswith(("data:", "about:", "chrome"))]
        assert address in addresses and all(a.startswith(address.rpartition("/")[0]) for a in addresses), addresses
        assert not [e for e in window.log("browser") if e["level"] == "SEVERE"]


# --- The command


def test_command_line_runs_an_evaluation(tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(TESTS))
    arguments = ["evaluate", "--data", "evaluate_models:data", "--driver", "evaluate_models:driver", "--channels", "1"]
    arguments += "--judge evaluate_models:judge --judge evaluate_models:four_classes --families pixel,fourier".split()
    arguments += "--max-l2 1 --frames 3 --select all --restarts 1 --draws 20 --threads 1".split()
    arguments += ["--no-figures", "--progress", "none", "--probe-directions", "0", "--out", str(tmp_path)]
    assert main(arguments) == 3
    out, err = capsys.readouterr()
    assert (
        "over 8 of 8 sources that every family edited this far" in out
        and out.count("noise") == 1
        and "fourier" in out
        and str(tmp_path / "summary.json") in out
    )
    assert "judge 'four_classes' has 4 classes, but the driver has 3" in err
    (tmp_path / "index.html").touch()  # the report of an earlier run, which stdout must not name
    assert main([*arguments, "--resume"]) == 3
    assert capsys.readouterr().out.endswith(f"wrote {tmp_path / 'summary.json'}\n")
    assert main(arguments) == 2 and "use --resume or --overwrite" in capsys.readouterr().err
    assert main([*arguments, "--resume"]) == 3


def test_bad_options_of_the_command_are_errors(tmp_path, capsys):
    assert main(["evaluate", "--out", str(tmp_path), "--data", "x"]) == 2
    assert "option 'driver' is required" in capsys.readouterr().err
    with pytest.raises(SystemExit) as error:
        main(["evaluate", "--out", str(tmp_path), "--distances", "2", "zero"])
    assert error.value.code == 2 and "expected a number above 0" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits", "shapes"])
def test_presets_run(name, tmp_path, monkeypatch, capsys):
    """Networks are trained for a short time."""
    pytest.importorskip("sklearn")
    monkeypatch.setattr("steerlens_fast.evaluate.presets.networks.EPOCHS", 2)
    quick = "--sources 8 --max-l2 2 --families pixel,csp-phase --frames 3 --restarts 1 --draws 50".split()
    code = main(["evaluate", "--preset", name, "--out", str(tmp_path), "--progress", "lines", *quick])
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert code == 0, summary["problems"]
    stderr = capsys.readouterr().err
    assert all(f"2/2 epochs of {network}" in stderr for network in ("robust_cnn", "plain_cnn", "mlp"))
    assert summary["sources"]["chosen"] == 8 and summary["judges"] == ["robust_cnn", "mlp"]
    assert ("published" in summary) == (name == "digits") and ("groups" in summary) == (name == "shapes")
    if name == "digits":  # its options were changed
        why = " ".join(summary["published"]["not_compared"])
        assert "frames is 3" in why and "do not include fourier, csp-joint" in why and "do not include 2.286" in why
        assert "8 images were selected, not 300" in why and "Not compared" in (tmp_path / "index.html").read_text()


# --- Folders with other files


@pytest.mark.parametrize("name", ["summary.json", "results.jsonl", "parts/mine.txt", "figures/a.png"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_folder_with_other_files_is_an_error(name, overwrite, tmp_path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("{}")
    with pytest.raises(JobError, match="out must be a new folder or an evaluation's"):
        run_evaluation(tmp_path, {"data": "nowhere", "driver": "none:none"}, overwrite=overwrite)
    assert (tmp_path / name).read_text() == "{}" and not (tmp_path / ".lock").exists()


def test_file_in_place_of_the_folder_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(JobError, match="out must be a folder, got .*file, which is a file") as raised:
        run_evaluation(tmp_path / "file", {"data": "nowhere", "driver": "none:none"})
    assert raised.value.code == 2


def test_rejected_evaluation_leaves_no_files(tmp_path):
    with pytest.raises(JobError):
        run_evaluation(tmp_path / "new" / "out", {"data": "nowhere", "driver": "none:none"})
    assert not list(tmp_path.iterdir())


def test_folder_of_an_evaluation_is_not_a_job(tmp_path, capsys):
    run(tmp_path, families=["pixel"], probe_directions=0)
    for command in (["status"], ["verify"], ["gallery"], ["export", "--format", "npz"]):
        assert main([command[0], str(tmp_path), *command[1:]]) == 2
        assert "which has an evaluation" in capsys.readouterr().err


def test_plan_of_a_job_is_an_error(tmp_path):
    (tmp_path / "plan.json").write_text('{"items": 3}')
    with pytest.raises(JobError, match="the plan of a job"):
        run_evaluation(tmp_path, {"data": "nowhere", "driver": "none:none"}, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_resuming_an_evaluation_of_another_format_raises(tmp_path):
    run(tmp_path, families=["pixel"], probe_directions=0)
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan.pop("format_version") == 4  # a plan without it has format 1
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(JobError, match="must have format version 4, got 1: another version of steerlens_fast wrote it"):
        run(tmp_path, families=["pixel"], probe_directions=0, resume=True)

"""Inputs of an evaluation: examined images, targets, classifiers, paths, true motions."""

import json
import re
import shutil
import sys

import evaluate_models
import numpy as np
import pytest
import torch
from evaluations import FAST, dataset, net, pictures, records, run
from torch.utils.data import StackDataset

from steerlens_fast import SteerableLens, evaluate, evaluate_families
from steerlens_fast.cli import main
from steerlens_fast.data.paths import with_absolute_paths
from steerlens_fast.errors import JobError
from steerlens_fast.evaluate.ground_truth import GroundTruth, ground_truth_of
from steerlens_fast.evaluate.presets import presets
from steerlens_fast.evaluate.presets.shapes import Shapes
from steerlens_fast.evaluate.tasks import TaskRunner

Image = pytest.importorskip("PIL.Image")

QUICK = {"families": ["pixel"], "max_l2": 0.5, "probe_directions": 0}


@pytest.fixture
def no_work(monkeypatch):
    """Fail if a task begins.

    A test that uses it shows that an error was raised before any work.
    """

    def refused(self, task):
        raise AssertionError(f"{task.name} has begun")

    monkeypatch.setattr(TaskRunner, "run", refused)


# --- Images of more than 8 bits


@pytest.mark.parametrize("value", ["0,4095", "auto", "image"])
def test_range_scales_images_of_12_bits(value, tmp_path):
    """Images of 12 bits with a range give the same sources as their 8-bit versions."""
    eight = pictures()[..., 0].numpy()
    eight[:, 0, 0], eight[:, 0, 1] = 0, 255
    np.save(tmp_path / "eight.npy", eight)
    np.save(tmp_path / "twelve.npy", np.round(eight * (4095 / 255)).astype(np.uint16))
    plans = []
    for name, more in (("eight", []), ("twelve", ["--range", value])):
        options = ["--driver", "evaluate_models:driver", "--select", "all", "--channels", "1", "--max-l2", "0.5"]
        options += "--families pixel --probe-directions 0 --restarts 1 --draws 20 --frames 2".split()
        options += ["--grid", "4", "--no-figures", "--progress", "none", *more]
        main(["evaluate", "--data", str(tmp_path / f"{name}.npy"), "--out", str(tmp_path / name), *options])
        plans.append(json.loads((tmp_path / name / "plan.json").read_text()))
    assert plans[0]["sources"] == plans[1]["sources"]


def test_images_of_a_narrow_range_are_a_problem(tmp_path):
    images = pictures().to(torch.int32).numpy().astype(np.uint16)
    result = run(tmp_path, StackDataset(torch.from_numpy(images), [0] * len(images)), judges={}, **QUICK)
    assert any("at most a quarter of the range of their type" in problem for problem in result.summary["problems"])


# --- Colour


def test_grey_evaluation_of_rgb_images_equals_a_luma_evaluation_of_grey_images(tmp_path):
    colours = torch.randint(0, 256, (8, 16, 16, 3), dtype=torch.uint8)
    grey = torch.stack([torch.from_numpy(np.array(Image.fromarray(c.numpy()).convert("L"))) for c in colours])
    options = {**QUICK, "families": ["pixel", "csp-phase"], "target": "runner-up", "select": "all", "channels": 3}
    driver = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 4)).eval()
    for name, images, color in [("a", colours, "grey"), ("b", grey[..., None].expand(-1, -1, -1, 3), "luma")]:
        run(tmp_path / name, dataset(images, [0] * 8), driver, {}, color=color, **options)
    numbers = lambda record: {key: value for key, value in record.items() if key not in ("sha256", "key")}
    expected = [numbers(record) for record in records(tmp_path / "b")]
    assert [numbers(record) for record in records(tmp_path / "a")] == expected and len(expected) == 24


# --- Which images were examined


def test_sources_are_a_random_sample_but_keep_the_order_of_the_data(tmp_path):
    """The first images of these data are of one class."""
    images = pictures(60)
    labels = [n // 20 for n in range(60)]
    indices = {}
    for name, options in {"a": {}, "again": {}, "seed": {"seed": 1}, "data": {"order": "data"}}.items():
        out = tmp_path / name
        run(out, dataset(images, labels), judges={}, select="all", sources=12, **options, **QUICK)
        indices[name] = [int(record["key"]) for record in records(out) if record["family"] == "pixel"]
        assert indices[name] == sorted(indices[name])
    assert indices["a"] == indices["again"] != indices["seed"]
    assert {labels[index] for index in indices["a"]} == {0, 1, 2}
    assert indices["data"] == list(range(12))


def test_size_of_images_is_that_of_the_first_image_for_any_seed(tmp_path):
    data = [(picture[..., 0].numpy(), 0) for size in (16, 24, 32) for picture in pictures(4, size)]
    driver = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(16), net(0)).eval()
    plans = []
    for seed in (0, 1):
        run(tmp_path / str(seed), data, driver, {}, select="all", seed=seed, **QUICK)
        plans.append(json.loads((tmp_path / str(seed) / "plan.json").read_text()))
    assert plans[0]["sources"] == plans[1]["sources"]


@pytest.mark.parametrize("select, target, reason", [("right", "runner-up", "no-label"), ("all", "column", "no-target")])
def test_images_without_label_or_target_are_left_out_with_the_reason(select, target, reason, tmp_path):
    pil = pytest.importorskip("PIL.Image")
    rows = ["path,label,target"]
    for n, (image, label) in enumerate(zip(pictures(), predicted())):
        pil.fromarray(image[..., 0].numpy()).save(tmp_path / f"{n}.png")
        rows.append(f"{n}.png," + ("," if n == 3 else f"{label},{(label + 1) % 3}"))
    (tmp_path / "table.csv").write_text("\n".join(rows))
    result = run(tmp_path / "out", str(tmp_path / "table.csv"), judges={}, select=select, target=target, **QUICK)
    assert {r: entry["images"] for r, entry in result.summary["sources"]["left_out"].items()} == {reason: 1}


def test_target_column_of_a_table_is_the_default_target(tmp_path):
    pil = pytest.importorskip("PIL.Image")
    targets = [(label + 1) % 3 for label in predicted()]
    for n, image in enumerate(pictures()):
        pil.fromarray(image[..., 0].numpy()).save(tmp_path / f"{n}.png")
    for column, default in (("target", "column"), ("note", "runner-up")):
        table, out = tmp_path / f"{column}.csv", tmp_path / column
        table.write_text("\n".join([f"path,{column}", *(f"{n}.png,{t}" for n, t in enumerate(targets))]))
        for options in ({}, {"overwrite": True}):
            run(out, str(table), judges={}, select="all", **QUICK, **options)
            assert json.loads((out / "config.json").read_text())["target"] == default
        got = [record["target"] for record in records(out) if record["family"] == "pixel"]
        assert (got == targets) == (column == "target")


def test_selecting_right_images_of_data_without_labels_hints_at_other_selections(tmp_path):
    data = list(pictures()[..., 0].numpy())
    with pytest.raises(JobError, match="10 no-label .*; select='agree' or 'all' selects more images"):
        run(tmp_path / "out", data, judges={}, select="right", **QUICK)


def test_limit_keeps_the_first_images_of_the_data(tmp_path):
    out = tmp_path / "out"
    run(out, dataset(pictures(60)), judges={}, select="all", limit=8, **QUICK)
    assert [int(record["key"]) for record in records(out) if record["family"] == "pixel"] == list(range(8))


def predicted(images=None) -> list[int]:
    images = pictures() if images is None else images
    return net(0)(images.permute(0, 3, 1, 2).float() / 255).argmax(1).tolist()


def counted(sources: dict) -> int:
    """Return the number of images that were chosen or left out."""
    return sources["chosen"] + sum(entry["images"] for entry in sources["left_out"].values())


@pytest.mark.parametrize("count", [1, 3, 5, 9])
def test_images_after_the_last_source_are_not_counted(count, tmp_path):
    """Images that were read in the same batch as the last source, but after it, are not counted as examined."""
    images = pictures(20)
    labels = [label if n % 2 else (label + 1) % 3 for n, label in enumerate(predicted(images))]
    images[18:] = 7
    result = run(tmp_path, dataset(images, labels), judges={}, select="right", sources=count, order="data", **QUICK)
    sources = result.summary["sources"]
    assert sources["examined"] == 2 * count == counted(sources)
    assert {reason: entry["images"] for reason, entry in sources["left_out"].items()} == {"wrong": count}
    assert not any("constant" in problem for problem in result.summary["problems"]), "a later image was counted"


def test_all_images_are_examined_if_there_are_too_few_sources(tmp_path):
    """Unreadable images and images without a target count as examined, too."""
    images, labels = list(pictures(12)), predicted(pictures(12))
    images[4] = b"no image"
    target = {label: (label + 1) % 3 for label in (0, 1)}
    data = StackDataset(images, labels)
    data.labels = labels  # known without reading
    sources = run(tmp_path, data, judges={}, target=target, **QUICK).summary["sources"]
    left = {reason: entry["images"] for reason, entry in sources["left_out"].items()}
    is_read = labels[4] in target  # images without a target are not read
    assert left == {"no-target": labels.count(2)} | ({"not-an-image": 1} if is_read else {})
    assert sources["examined"] == counted(sources) == 12


def test_a_random_order_counts_all_images_without_a_target(tmp_path):
    labels = predicted()
    data = dataset(labels=labels)
    data.labels = labels
    target = {labels[-1]: (labels[-1] + 1) % 3}
    sources = run(tmp_path, data, judges={}, target=target, sources=1, **QUICK).summary["sources"]
    assert sources["left_out"]["no-target"]["images"] == len(labels) - labels.count(labels[-1])
    assert sources["examined"] == counted(sources)


def test_images_without_a_target_are_left_out_if_labels_are_known_only_when_read(tmp_path):
    labels = predicted()
    result = run(tmp_path, dataset(labels=labels), judges={}, target={labels[0]: (labels[0] + 1) % 3}, **QUICK)
    sources = result.summary["sources"]
    assert sources["left_out"]["no-target"]["images"] == len(labels) - labels.count(labels[0])
    assert sources["examined"] == counted(sources) == 10


def test_labels_are_matched_to_the_drivers_classes_by_name(tmp_path):
    driver, data = net(0), dataset(labels=[(label + 1) % 3 for label in predicted()])
    driver.class_names, data.classes = ["ant", "bee", "cat"], ["Cat", "ant", "bee"]
    sources = run(tmp_path / "a", data, driver, {}, select="right", **QUICK).summary["sources"]
    assert sources["chosen"] == 10 and {r["label"] for r in records(tmp_path / "a")} == set(predicted())
    data.classes = ["cat", "ant", "owl"]
    for options in ({"select": "right"}, {"target": "label"}):
        with pytest.raises(JobError, match="needs labels that are classes of the driver; .*: 'owl'"):
            run(tmp_path / "b", data, driver, {}, **QUICK | options)
    result = run(tmp_path / "c", data, driver, {}, **QUICK)
    assert any("count as images without a label" in problem for problem in result.summary["problems"])
    assert {r["label"] for r in records(tmp_path / "c")} == {0, 2, None}


def test_channels_are_those_of_the_array(tmp_path):
    result = run(tmp_path, StackDataset(pictures().movedim(3, 1), [0] * 10), channels=None, **QUICK)
    assert result.summary["about"]["models"]["driver"]["channels"] == 1


# --- Targets


def test_target_argmax_raises(tmp_path, no_work, capsys):
    with pytest.raises(JobError, match="target must differ from the source's class, got 'argmax'"):
        run(tmp_path, target="argmax")
    assert not list(tmp_path.glob("*.json*"))
    arguments = ["evaluate", "--data", "nowhere", "--driver", "no:model", "--target", "argmax", "--out", str(tmp_path)]
    assert main(arguments) == 2 and "differ from the source's class" in capsys.readouterr().err


@pytest.mark.parametrize("target", [3, "map:0=1,1=7", "gnu", {2: 0, 7: 5}])
def test_target_that_is_no_class_of_the_driver_raises_before_any_work(target, tmp_path, no_work):
    data = dataset()
    data.labels, data.classes = [n % 3 for n in range(10)], ["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen"]
    with pytest.raises(JobError, match="target must be one of the driver's 3 classes, 0 to 2, got") as error:
        run(tmp_path, data, target=target)
    assert error.value.code == 2 and not (tmp_path / "plan.json").exists()
    assert ("'gnu', class 6 of the data" in str(error.value)) == (target == "gnu")


def test_target_in_a_table_that_is_no_class_of_the_driver_raises(tmp_path, no_work):
    """The error is raised even if the image with this class would not be examined."""
    (tmp_path / "t.csv").write_text("key,target\n" + "".join(f"{n:02d},{1 if n < 9 else 99}\n" for n in range(10)))
    with pytest.raises(JobError, match="0 to 2, got 99"):
        run(tmp_path / "out", target=str(tmp_path / "t.csv"), sources=1)


def test_images_whose_label_is_no_class_of_the_driver_are_left_out(tmp_path):
    """An image cannot be morphed toward a label that is no class of the driver."""
    labels = [(label + 1) % 3 for label in predicted()]
    labels[2] = 5
    result = run(tmp_path, dataset(labels=labels), judges={}, target="label", **QUICK)
    assert result.summary["sources"]["left_out"]["no-such-class"]["images"] == 1
    assert result.summary["sources"]["chosen"] == 9 and result.code == 0


@pytest.mark.parametrize("judges", [[net(1)], (net(1), "timm:x"), net(1), 5])
def test_judges_that_are_objects_must_have_names(judges, tmp_path, no_work):
    with pytest.raises(JobError, match=r"judges must be a dict \{name: classifier\}, or a list of names"):
        run(tmp_path, judges=judges)


def test_shape_that_the_driver_rejects_is_in_the_message(tmp_path, no_work):
    """The network needs grey images, and gets RGB images."""
    with pytest.raises(JobError, match=r"driver fails on images \[10, 3, 16, 16\].*\n.*channels and size") as error:
        run(tmp_path, channels=3)
    assert error.value.code == 2 and not (tmp_path / "plan.json").exists()


@pytest.mark.parametrize(
    "driver, judge", [("none:none", "evaluate_models:judge"), ("evaluate_models:driver", "none:none")]
)
def test_error_names_the_classifier_that_cannot_be_loaded(driver, judge, tmp_path):
    who = "driver" if driver == "none:none" else "judge 'none'"
    with pytest.raises(JobError, match=f"{who}: model 'none:none' must name an importable module") as error:
        run(tmp_path, driver=driver, judges=[judge])
    assert error.value.code == 2


# --- Paths


def write_inputs(folder):
    """Write images and two exported networks to a folder."""
    from PIL import Image

    for name, image in zip(("cat/1", "cat/2", "dog/1", "dog/2"), pictures(4)):
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0].numpy()).save(folder / "images" / f"{name}.png")
    for n, name in enumerate(("driver", "judge")):
        example = (torch.rand(2, 1, 16, 16),)
        program = torch.export.export(net(n, classes=2), example, dynamic_shapes=({0: torch.export.Dim.AUTO},))
        torch.export.save(program, folder / f"{name}.pt2")


def test_evaluation_continues_from_any_working_directory(tmp_path, monkeypatch, capsys):
    """Data, driver and judge were given as relative paths, which need not be given again to continue."""
    begun, elsewhere = tmp_path / "begun", tmp_path / "elsewhere"
    write_inputs(begun)
    elsewhere.mkdir()
    monkeypatch.chdir(begun)
    arguments = "--data images --driver driver.pt2 --judge judge.pt2 --channels 1 --size 16".split()
    arguments += ["--families", "pixel", "--max-l2", "0.5", "--frames", "3", "--select", "all", "--restarts", "1"]
    arguments += ["--draws", "20", "--threads", "1", "--no-figures", "--progress", "none", "--probe-directions", "0"]
    out = ["--out", str(begun / "out"), "--trust-checkpoint"]
    assert main(["evaluate", *arguments, *out]) == 0
    first = (begun / "out" / "results.jsonl").read_bytes()
    shutil.rmtree(begun / "out" / "parts")
    monkeypatch.chdir(elsewhere)
    assert main(["evaluate", "--resume", "--no-figures", "--progress", "none", *out]) == 0, capsys.readouterr().err
    assert (begun / "out" / "results.jsonl").read_bytes() == first
    assert main(["evaluate", "--resume", "--driver", "driver.pt2", *out]) == 2
    assert "driver was " in capsys.readouterr().err
    monkeypatch.chdir(begun)
    assert main(["evaluate", "--resume", *arguments, *out]) == 0, capsys.readouterr().err


def test_names_of_existing_files_become_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("net.pt2", "a.tar", "t-00.tar", "t-01.tar", "random", "runner-up"):
        (tmp_path / name).touch()
    here = lambda name: str(tmp_path / name)
    arguments = {"driver": "net.pt2", "judges": ["net.pt2", "timm:resnet18"], "judge_weights": ["random", "net.pt2"]}
    expected = {"driver": here("net.pt2"), "judges": [here("net.pt2"), "timm:resnet18"]}
    expected |= {"judge_weights": ["random", here("net.pt2")]}
    assert with_absolute_paths(arguments) == expected
    for name in ("a.tar", "t-{00..01}.tar", "t-*.tar", "t-0?.TAR"):
        exists = name != "t-0?.TAR"  # case matters
        assert with_absolute_paths({"data": name}) == {"data": here(name) if exists else name}
    for arguments in ({"data": "none-*.tar"}, {"data": "hf:a.tar"}, {"target": "runner-up"}, {"weights": "random"}):
        assert with_absolute_paths(arguments) == arguments


def test_names_of_judges_that_are_objects_are_not_taken_for_paths(tmp_path, monkeypatch):
    """A judge named "a" keeps this name if a file named "a" exists."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").touch()
    result = run(tmp_path / "out", judges={"a": net(1)}, **QUICK)
    assert result.summary["judges"] == ["a"] == result.summary["config"]["judges"]


def test_each_judge_may_have_its_own_weights(tmp_path):
    """Judges with "-" keep their own weights, and the second judge gets the weights in the file.

    The third has other classes than the driver, and is removed with its weights.
    """
    other = evaluate_models.judge()
    with torch.no_grad():
        other.layers[-1].bias += 100 * torch.eye(3)[2]  # always predicts class 2
    torch.save(other.state_dict(), tmp_path / "other.pt")
    judges = ["evaluate_models:judge", "evaluate_models:judge", "evaluate_models:four_classes"]
    options = {"select": "all", "judge_weights": ["-", str(tmp_path / "other.pt"), "-"]}
    summary = run(
        tmp_path / "out", evaluate_models.data(), "evaluate_models:driver", judges, **options, **QUICK
    ).summary
    assert summary["judges"] == ["judge", "judge-2"]
    by_judge = summary["budgets"][0]["families"]["pixel"]["judges"]
    target = [r["target"] for r in records(tmp_path / "out") if r["family"] == "pixel"]
    assert by_judge["judge-2"]["value"] == target.count(2) / len(target) != by_judge["judge"]["value"]


def test_each_judge_may_have_its_own_size_mean_and_deviation(tmp_path):
    """Judge b gets normalised images of 24 x 24, judge a the images of the driver."""
    judges = {"a": net(1), "b": net(2, size=24)}
    judge_options = {"judge_size": ["-", 24], "judge_mean": [None, [0.5]], "judge_std": [None, [0.25]]}
    actual = run(tmp_path, judges=judges, **judge_options, **QUICK)
    assert actual.summary["problems"] == []
    assert actual.summary["config"]["judge_size"] == [None, [24, 24]]
    images = pictures().permute(0, 3, 1, 2).float() / 255
    morphs = SteerableLens(net(0), family="pixel", rule="polar", regime="persistent").morph(
        images, max_l2=0.5, frames=3
    )
    frames, target = morphs.frames[:, -1], morphs.target
    larger = torch.nn.functional.interpolate(frames, size=24, mode="bicubic", antialias=True).clamp(0, 1)
    shown = {"a": frames, "b": (larger - 0.5) / 0.25}
    written = [r for r in records(tmp_path) if r["family"] == "pixel"]
    for name, judge in judges.items():
        expected = judge(shown[name]).detach().softmax(1).gather(1, target[:, None])[:, 0].tolist()
        assert [r["judges_probability"][name] for r in written] == pytest.approx(expected, abs=1e-5)
    run(tmp_path, judges=judges, resume=True, **judge_options, **QUICK)  # equal to the stored options


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"judge_size": [24]}, "judge_size must have one value for each of 2 judges"),
        ({"judge_mean": [[0.5], None, None]}, "judge_mean must have one value for each of 2 judges"),
        ({"judge_std": 0.5}, "judge_std must have one value for each judge, got 0.5"),
        ({"judge_size": [None, 4]}, "judge 'b': size must be"),
        ({"judge_mean": [None, [0.5]]}, "judge 'b': mean and std must be given together"),
    ],
)
def test_invalid_options_of_judges_raise(wrong, message, tmp_path, no_work):
    with pytest.raises(JobError, match=re.escape(message)):
        run(tmp_path, **wrong, **QUICK)


def test_command_line_takes_options_of_judges(tmp_path, monkeypatch):
    arguments = {}
    monkeypatch.setattr(
        "steerlens_fast.evaluate.run.run_evaluation", lambda out, passed, **_: arguments.update(passed) or 1 / 0
    )  # 1 / 0 ends the command
    options = "--data d --driver m:d --judge m:a --judge m:b --judge-size 24 --judge-size -".split()
    with pytest.raises(ZeroDivisionError):
        main(["evaluate", *options, "--judge-mean", "-", "--judge-mean", ".5,.4,.3", "--out", str(tmp_path)])
    assert arguments["judge_size"] == [[24, 24], None] and arguments["judge_mean"] == [None, [0.5, 0.4, 0.3]]


def test_models_may_be_paths(tmp_path):
    write_inputs(tmp_path)
    options = {**FAST, **QUICK, "select": "all", "size": 16, "trust_checkpoint": True}
    result = evaluate_families(
        tmp_path / "images", tmp_path / "driver.pt2", tmp_path / "judge.pt2", out=tmp_path / "out", **options
    )
    assert result.code == 0 and result.summary["judges"] == ["judge"]


# --- Files that a killed run has left


def test_resume_deletes_temporary_files_of_a_killed_run(tmp_path):
    run(tmp_path, **QUICK)
    (tmp_path / "figures").mkdir(exist_ok=True)
    leftovers = [tmp_path / folder / f".{'0' * 32}.tmp" for folder in ("", "parts", "figures")]
    for path in leftovers:
        path.touch()
    run(tmp_path, resume=True, **QUICK)
    assert not any(path.exists() for path in leftovers)


# --- True motions


def test_true_motion_of_grey_images_is_compared_with_rgb_edits(tmp_path):
    """A driver for RGB images gets grey images as RGB. At the same distance in each channel, the motion is the same."""
    shapes, grey = Shapes(2, seed=3), net(0, classes=14, size=32)
    takes_rgb = lambda images: grey(images.mean(1, keepdim=True))
    options = {**QUICK, "target": 0, "sources": 14, "families": ["pixel", "csp-phase"]}
    one = run(tmp_path / "grey", shapes, grey, {}, **options | {"max_l2": 0.5})
    other = run(tmp_path / "rgb", shapes, takes_rgb, {}, **options | {"channels": 3, "max_l2": 0.5 * 3**0.5})
    assert one.code == other.code == 0
    for first, second in zip(records(tmp_path / "grey"), records(tmp_path / "rgb"), strict=True):
        if first["family"] != "noise":
            for name in ("alignment", "displacement", "factor_moved"):
                expected = first.get(name)
                expected = None if expected is None else pytest.approx(expected, rel=1e-2, abs=1e-3)
                assert second.get(name) == expected, (first["family"], name)


def test_images_of_another_size_than_the_true_motion_are_a_problem(tmp_path):
    shapes = Shapes(2, seed=3)
    result = run(tmp_path, shapes, net(0, classes=14, size=16), {}, target=0, size=16, sources=7, **QUICK)
    assert result.code == 3 and "groups" not in result.summary
    message = "the true motion is known for images 1x32x32, got 1x16x16"
    assert message in " ".join(result.summary["problems"])
    assert result.summary["budgets"][0]["families"]["pixel"]["warp"]["cases"] == 7


def test_true_motion_of_a_cropped_image_is_unknown():
    class Source:
        data = Shapes(1, seed=0)

    image = Source.data.pixels[0] / 255
    known, why = ground_truth_of(Source, 0, image, cropped=False, color="rgb")
    assert isinstance(known, GroundTruth) and why is None
    known, why = ground_truth_of(Source, 0, image, cropped=True, color="rgb")
    assert known is None and "cropped" in why
    assert ground_truth_of(object(), 0, image, cropped=False, color="rgb") == (None, None)


def test_true_motion_in_colour_is_not_compared_with_grey_edits():
    class Tinted(Shapes):
        def derivative(self, numbers):
            return super().derivative(numbers) * torch.tensor([1.0, 0.5, 0.2]).view(3, 1, 1)

    class Source:
        data = Tinted(1, seed=0)

    image = (Source.data.pixels[0] / 255).expand(3, -1, -1)
    known, why = ground_truth_of(Source, 0, image, cropped=False, color="grey")
    assert known is None and "converted to grey" in why
    assert isinstance(ground_truth_of(Source, 0, image, cropped=False, color="luma")[0], GroundTruth)


def test_preset_says_which_extra_it_needs(tmp_path, monkeypatch, capsys):
    """The error is one line, and no files are written."""
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert main(["evaluate", "--preset", "digits", "--out", str(tmp_path / "out")]) == 1
    err = capsys.readouterr().err
    assert re.search(r"sklearn is not installed: pip install .*scikit-learn  # steerlens_fast\[demo\]", err)
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_presets_are_grey_except_photographs():
    colour = [name for name in presets.PRESETS if presets.preset(name).get("channels") != 1]
    assert colour == ["photographs"]


def test_evaluate_is_another_name_of_evaluate_families():
    assert evaluate.evaluate is evaluate_families

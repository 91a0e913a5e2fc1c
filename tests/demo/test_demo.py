"""The demo on the real digits: short runs, one complete run, and the command."""

import csv
import json
import shlex
import sys
import warnings

import pytest
import torch

from steerlens_fast import SteerableLens, build_info
from steerlens_fast.cli import main
from steerlens_fast.demo import job as demo_job
from steerlens_fast.demo import run_demo
from steerlens_fast.evaluate.presets import digits_data as digits_module
from steerlens_fast.extras import MissingExtra
from steerlens_fast.lens.l2_search import TOLERANCE
from steerlens_fast.morphs.strips import SIDE
from steerlens_fast.version import __version__

for extra in ("sklearn", "matplotlib", "tqdm"):
    pytest.importorskip(extra)
Image = pytest.importorskip("PIL.Image")

SHORT = {"pairs": [(3, 8), (0, 6), (3, 9)], "frames": 4, "epochs": 2, "max_l2": 3.0}
FAMILIES = ["phase", "joint", "pixel"]
OTHERS = ["overview.png", "probabilities.csv", "demo.json"]  # the files that every run writes
DIGITS, TEST_DIGITS = 1797, 450  # in scikit-learn's data set, and the quarter that is for testing


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """The result of a short run."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # the demo turns off the lens's warnings
        return run_demo(tmp_path_factory.mktemp("demo") / "new" / "folder", **SHORT)


# --- Data and classifier ---------------------------------------------------------------------------------------------


def test_digits_are_split_by_seed():
    d = digits_module.load(seed=1)
    assert len(d.train_images) + len(d.test_images) == DIGITS and d.train_images.shape[1:] == (1, 32, 32)
    assert 0 <= d.train_images.min() and d.train_images.max() <= 1
    assert d.test_labels.bincount().min() >= 40  # stratified
    again, other = digits_module.load(seed=1), digits_module.load(seed=2)
    assert torch.equal(d.test_images, again.test_images) and not torch.equal(d.test_labels, other.test_labels)


def test_adversarial_steps_stay_within_the_radius_and_raise_the_loss():
    model, images, labels = digits_module.classifier(), torch.rand(4, 1, 32, 32), torch.tensor([0, 1, 2, 3])
    moved = digits_module.adversarial(model, images, labels, radius=1.5)
    assert (moved - images).flatten(1).norm(dim=1).max() < 1.5 + 1e-5
    loss = lambda x: torch.nn.functional.cross_entropy(model(x), labels)
    assert loss(moved) > loss(images)


def test_training_leaves_the_callers_random_numbers_and_threads_alone():
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    d = digits_module.load()
    few = digits_module.LabelledImages(d.train_images[:64], d.train_labels[:64], d.test_images, d.test_labels)
    digits_module.train_robust_classifier(few, epochs=1)
    assert torch.equal(torch.random.get_rng_state(), before) and torch.get_num_threads() == threads


# --- A short run -----------------------------------------------------------------------------------------------------


def test_files_exist_and_decode(short):
    names = ["3-to-8.png", "3-to-8.gif", "0-to-6.png", "0-to-6.gif", "3-to-9.png", "3-to-9.gif"]
    assert [p.name for p in short.files] == [*names, *OTHERS[:2]]
    assert sorted(p.name for p in short.files[0].parent.iterdir()) == sorted([*names, *OTHERS])
    for path in short.files[:-1]:
        with Image.open(path) as picture:
            picture.load()
            if path.suffix == ".gif":
                assert picture.n_frames == 2 * SHORT["frames"] - 2  # forward and back
                assert picture.width >= len(FAMILIES) * SIDE  # side by side
                assert picture.info["loop"] == 0  # the animation repeats forever
            else:
                assert min(picture.size) > 300


def test_examples_are_the_first_correctly_classified_test_digits(short):
    d = short.digits
    right = short.model(d.test_images).argmax(1) == d.test_labels
    threes = ((d.test_labels == 3) & right).nonzero()[:, 0].tolist()
    zeros = ((d.test_labels == 0) & right).nonzero()[:, 0].tolist()
    assert [e.test_index for e in short.examples] == [threes[0], zeros[0], threes[1]]
    assert short.test_accuracy == pytest.approx(right.float().mean().item())


def test_morphs_reach_their_distance(short):
    for e in short.examples:
        assert list(e.morphs) == FAMILIES
        assert torch.equal(e.image, short.digits.test_images[e.test_index, 0])
        for m in e.morphs.values():
            assert m.frames.shape == (1, 4, 1, 32, 32) and 0 <= m.frames.min() and m.frames.max() <= 1
            assert (m.frames[0, 0, 0] - e.image).abs().max() < 3e-6  # reconstruction in float32
            assert m.attained.all() and abs(m.l2[0, -1] - SHORT["max_l2"]) <= TOLERANCE
            torch.testing.assert_close(m.factors / m.factors[0, -1], torch.linspace(0, 1, 4)[None])
            torch.testing.assert_close(m.l2, (m.frames - e.image).flatten(2).norm(dim=2))
            torch.testing.assert_close(m.probabilities[0], short.model(m.frames[0]).softmax(1), rtol=1e-4, atol=1e-6)


def test_morphs_are_those_of_the_lens(short):
    """The morph of a digit in the demo equals a morph of this digit alone."""
    e = short.examples[0]
    lens = SteerableLens(short.model, family="csp-joint", rule="polar")
    alone = lens.morph(e.image[None, None], e.target, max_l2=SHORT["max_l2"], frames=SHORT["frames"])
    torch.testing.assert_close(alone.frames, e.morphs["joint"].frames, rtol=0, atol=2e-3)


def test_table_has_the_numbers_of_the_morphs(short):
    with open(short.files[-1], newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(SHORT["pairs"]) * len(FAMILIES) * SHORT["frames"]
    by_name = {(e.source, e.target): e for e in short.examples}
    for row in rows:
        e = by_name[int(row["source"]), int(row["target"])]
        m, j = e.morphs[row["family"]], int(row["frame"])
        assert int(row["test_index"]) == e.test_index and int(row["predicted"]) == m.predictions[0, j]
        for column, value in (
            ("factor", m.factors[0, j]),
            ("l2", m.l2[0, j]),
            ("target_probability", m.probabilities[0, j, e.target]),
            ("source_probability", m.probabilities[0, j, e.source]),
        ):
            assert float(row[column]) == pytest.approx(value.item(), rel=1e-5)


def test_flip_rates_cover_all_correctly_classified_test_digits(short):
    right = short.model(short.digits.test_images).argmax(1) == short.digits.test_labels
    for (source, target), share in short.flipped.items():
        assert short.tested[source, target] == int((right & (short.digits.test_labels == source)).sum())
        assert list(share) == FAMILIES and all(0 <= s <= 1 for s in share.values())


def test_same_seed_gives_the_same_files(short, tmp_path):
    again = run_demo(tmp_path, **SHORT)
    for a, b in zip(short.files, again.files):
        assert a.read_bytes() == b.read_bytes(), a.name


def test_complex_rule_reaches_its_distance(tmp_path):
    result = run_demo(tmp_path, [(0, 6)], rule="complex", epochs=1, frames=2, max_l2=1.0)
    assert all(abs(m.l2[0, -1] - 1) <= TOLERANCE for m in result.examples[0].morphs.values())


# --- A complete run --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_full_demo_reaches_its_targets(tmp_path):
    result = run_demo(tmp_path, [(3, 8), (7, 2), (5, 6)])
    assert result.test_accuracy > 0.96
    d = result.digits
    for e in result.examples:
        joint, pixel = e.morphs["joint"], e.morphs["pixel"]
        assert joint.target_probability[0, 0] < 0.1
        assert joint.target_probability[0, -1] > 0.5 and pixel.target_probability[0, -1] > 0.5
        assert joint.reached[0, -1]
        # The last frame is nearer to the mean digit of the target class than the source is
        mean = d.test_images[d.test_labels == e.target].mean(0)[0]
        assert (joint.frames[0, -1, 0] - mean).norm() < (e.image - mean).norm()
    assert result.flipped[3, 8]["joint"] > 0.5
    probability = result.examples[0].morphs["phase"].target_probability[0]
    assert probability.max() > 10 * probability[0]


# --- Errors ----------------------------------------------------------------------------------------------------------


# (arguments, type of the exception, part of the message)
BAD_ARGUMENTS = [
    ({"pairs": []}, ValueError, "pairs must be"),
    ({"pairs": [(3, 3)]}, ValueError, "pairs must be .* two different digits"),
    ({"pairs": [(3, 10)]}, ValueError, "pairs must be"),
    ({"pairs": [(3, 8), (3, 8)]}, ValueError, "pairs must be distinct"),
    ({"frames": 1}, ValueError, "frames must be at least 2"),
    ({"epochs": 0}, ValueError, "epochs"),
    ({"seed": -1}, ValueError, "seed"),
    ({"seed": 1.5}, TypeError, "seed"),
    ({"max_l2": 0.0}, ValueError, "max_l2"),
    ({"max_l2": float("nan")}, ValueError, "max_l2"),
    ({"rule": "both"}, ValueError, "rule"),
]


def test_bad_arguments_raise(tmp_path):
    for arguments, error, text in BAD_ARGUMENTS:
        with pytest.raises(error, match=text):
            run_demo(tmp_path / "out", **arguments)
        assert not (tmp_path / "out").exists()  # the error is raised before anything is written


def test_missing_extra_raises(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.delitem(sys.modules, "tqdm.auto", raising=False)  # an earlier test may have imported it
    with pytest.raises(MissingExtra, match=r"tqdm is not installed: pip install .*tqdm.*  # steerlens_fast\[demo\]"):
        run_demo(tmp_path / "out", **SHORT)
    assert main(["demo", "--out", str(tmp_path / "out")]) == 1
    assert "# steerlens_fast[demo]" in capsys.readouterr().err and not (tmp_path / "out").exists()


# --- The command -----------------------------------------------------------------------------------------------------


def test_demo_command_writes_pictures_and_a_job(tmp_path, capsys):
    command = ["demo", "--out", str(tmp_path), "--pairs", "3:8, 0:6", "--frames", "3", "--epochs", "2", "--max-l2", "2"]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert "3 -> 8  joint" in out and "test accuracy" in out and "training" in out and "total" in out
    assert all(str(tmp_path / name) in out for name in ("3-to-8.png", "overview.png", "probabilities.csv"))
    assert "epoch" in err  # the progress bar
    check_job(tmp_path, out)
    capsys.readouterr()
    assert main([*command, "--quiet", "--pairs", "3:8"]) == 0
    assert capsys.readouterr().err == ""


def check_job(folder, out):
    """Check the data-set job of the demo, its gallery, and the printed command, which repeats the job."""
    summary = json.loads((folder / "job/summary.json").read_text())
    assert summary["complete"] and summary["items"] == TEST_DIGITS and not summary["failed"]
    assert str(folder / "job/gallery/index.html") in out and (folder / "job/gallery/index.html").exists()
    assert f"target reached by {summary['success']['reached']} of {TEST_DIGITS} (median target probability " in out
    (command,) = (line for line in out.splitlines() if "steerlens-fast morph" in line)
    assert main([*shlex.split(command)[1:], "--limit", "40", "--workers", "0", "--gallery", "0"]) == 0
    records = lambda name: (folder / name / "shards/00000.jsonl").read_text().splitlines()
    first, again = (json.loads(records(name)[0]) for name in ("job", "job-again"))
    assert len(records("job-again")) == 40 and first["key"] == again["key"] and first["target"] == again["target"]
    assert first["probability"] == pytest.approx(again["probability"], abs=1e-4)


def test_printed_command_is_found_by_a_shell(tmp_path, monkeypatch):
    """The program is printed as a name if it is on PATH, else as a path (relative if below the working directory)."""
    program = tmp_path / "venv" / "bin" / "steerlens-fast"
    program.parent.mkdir(parents=True)
    program.touch(0o755)
    monkeypatch.setattr(sys, "executable", str(program.with_name("python")))
    monkeypatch.setenv("PATH", "/nowhere")
    assert demo_job.program() == str(program)
    monkeypatch.chdir(tmp_path)
    assert demo_job.program() == "venv/bin/steerlens-fast"
    monkeypatch.setenv("PATH", str(program.parent))
    assert demo_job.program() == "steerlens-fast"


def test_file_in_place_of_the_folder_is_an_error(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for more in ([], ["--photographs"]):
        assert main(["demo", "--out", str(tmp_path / "file"), *more]) == 2
        assert f"out must be a folder, got {tmp_path / 'file'}, which is a file" in capsys.readouterr().err


def test_folder_with_other_files_is_an_error(tmp_path, capsys):
    """A demo's folder is recognised by the content of demo.json; reruns are tested above."""
    for name in ("overview.png", "notes.txt", "demo.json"):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_text('"mine"')
        for more in ([], ["--photographs"]):
            assert main(["demo", "--out", str(folder), *more]) == 2
            message = f"out must be a new folder or a demo's folder, got {folder} with other files, e.g. {name}"
            assert message in capsys.readouterr().err
        assert [path.read_text() for path in folder.iterdir()] == ['"mine"']


# (command line, part of the message)
USAGE_ERRORS = [
    (["demo", "--pairs", "3-8"], "expected digits like 3:8,7:2, got '3-8'"),
    (["demo", "--pairs", "3:3"], "source and target must differ"),
    (["demo", "--pairs", "3:8,3:8"], "expected different pairs"),
    (["demo", "--pairs", "3:12"], "expected digits"),
    (["demo", "--max-l2", "-1"], "expected a number above 0"),
    (["demo", "--max-l2", "inf"], "expected a number above 0"),
    (["demo", "--frames", "1"], "expected a whole number of at least 2"),
    (["demo", "--epochs", "x"], "expected a whole number of at least 1"),
    (["demo", "--rule", "both"], "invalid choice"),
    (["nothing"], "invalid choice"),
    ([], "required"),
]


def test_usage_errors_exit_with_status_2(capsys):
    for words, text in USAGE_ERRORS:
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 2
        assert text in capsys.readouterr().err


def test_help_version_and_info_are_printed(capsys):
    for words in (["--help"], ["demo", "--help"], ["--version"]):
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 0
    out = capsys.readouterr().out
    assert "demo" in out and "--pairs" in out and f"steerlens_fast {__version__}" in out
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()] == list(build_info())


def test_interrupt_exits_with_status_130(tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("steerlens_fast.demo.run_demo", interrupted)
    assert main(["demo", "--out", str(tmp_path)]) == 130
    assert "interrupted" in capsys.readouterr().err

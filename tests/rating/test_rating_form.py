"""The rating form: its images, their order, and that it does not reveal the families."""

import base64
import io
import json
import random
import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from jobs import CLASSES, FAMILIES, make_job, make_jobs, morphs_of

from steerlens_fast.cli import main
from steerlens_fast.errors import DONE, USAGE, JobError
from steerlens_fast.rating import write_form
from steerlens_fast.rating.design import choose_sources, distinct_columns, trial_order

pil = pytest.importorskip("PIL.Image")
pytest.importorskip("safetensors")
pytest.importorskip("jinja2")


def data_of(page) -> dict:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script', page.read_text(), re.S)
    return json.loads(text)


def pixels_of(uri: str) -> np.ndarray:
    return np.asarray(pil.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_each_source_is_shown_in_each_family_and_unedited(tmp_path):
    jobs, _ = make_jobs(tmp_path)
    form = write_form(jobs, tmp_path / "form", count=20)  # three images of each source, so 18
    assert form.conditions == {"csp-phase": 6, "pixel": 6, "unedited": 6} and form.notes == []
    trials = json.loads(form.key.read_text())["trials"]
    assert set(Counter((t["key"], t["condition"]) for t in trials).values()) == {1}
    assert set(Counter(t["key"] for t in trials).values()) == {3}
    assert Counter(t["target_choice"] for t in trials) == {"first": 9, "second": 9}


def test_images_are_the_frames(tmp_path):
    """Images are equal bit for bit to the last frame of a morph, or to the source of a control."""
    jobs, frames = make_jobs(tmp_path)
    form = write_form(jobs, tmp_path / "form", count=12, show_source=True)
    page, key = data_of(form.page), json.loads(form.key.read_text())
    assert page["form"] == key["form"] == form.id
    for shown, trial in zip(page["trials"], key["trials"], strict=True):
        morph = frames[FAMILIES[trial["job"]]][trial["index"]]
        expected = morph[0 if trial["condition"] == "unedited" else -1]
        assert np.array_equal(pixels_of(shown["image"]), expected.movedim(0, -1).numpy())
        assert np.array_equal(pixels_of(shown["source"]), morph[0].movedim(0, -1).numpy())
        classes = [CLASSES[trial["source"]], CLASSES[trial["target"]]]
        assert shown["id"] == trial["id"] and [trial["source_name"], trial["target_name"]] == classes
        assert shown["choices"] == (classes[::-1] if trial["target_choice"] == "first" else classes)
        assert trial["driver"] == (trial["condition"] != "unedited")


def test_page_does_not_reveal_the_families(tmp_path):
    """The page does not contain names of families, folders, keys, targets or settings."""
    jobs, _ = make_jobs(tmp_path)
    form = write_form(jobs, tmp_path / "form", count=12)
    data = data_of(form.page)
    assert set(data) == {"form", "jobs", "show_source", "trials"}
    assert {name for trial in data["trials"] for name in trial} == {"id", "choices", "image", "source", "size"}
    text = re.sub(r"data:image/webp;base64,[\w+/=]+|<style>.*?</style>", "", form.page.read_text(), flags=re.S)
    words = (*FAMILIES, "unedited", "phase", "job-", "photos", "target", "resnet18", "runner-up", "lens.")
    assert [word for word in words if word in text] == []
    ids = [trial["id"] for trial in data["trials"]]
    assert len(set(ids)) == 12 and all(re.fullmatch("[0-9a-f]{12}", one) for one in ids) and ids != sorted(ids)
    assert "default-src 'none'; img-src data:;" in re.sub("&#39;", "'", text) and "http" not in text.replace(
        "http-equiv", ""
    )


def test_equal_seeds_give_equal_forms(tmp_path):
    jobs, _ = make_jobs(tmp_path)
    forms = [write_form(jobs, tmp_path / f"form-{n}", count=12, seed=seed) for n, seed in enumerate((1, 1, 2))]
    first, again, other = ((form.page.read_bytes(), form.key.read_bytes()) for form in forms)
    assert first == again and forms[0].id == forms[1].id != forms[2].id
    assert first[0] != other[0]


@pytest.mark.parametrize("sources, conditions", [(7, 3), (8, 4), (2, 2), (1, 3)])
def test_order_is_balanced_and_separates_images_of_a_source(sources, conditions):
    """The order is cyclic: a rater may start anywhere, and goes on from the last image to the first."""
    for seed in range(20):
        order = trial_order(sources, conditions, random.Random(seed))
        assert sorted(order) == [(s, c) for s in range(sources) for c in range(conditions)]
        for block in range(conditions):
            part = order[block * sources : (block + 1) * sources]
            assert {s for s, _ in part} == set(range(sources))
            counts = Counter(c for _, c in part)
            assert max(counts.values()) - min(counts[c] for c in range(conditions)) <= 1
        for source in range(sources):
            at = [n for n, (s, _) in enumerate(order) if s == source]
            assert all(b - a > sources // 2 for a, b in pairwise([*at, at[0] + len(order)]))


def test_morphs_that_cannot_be_rated_are_left_out(tmp_path):
    def change(record: dict) -> dict:
        changes = {1: {"source": record.get("target")}, 2: {"attained": False}, 3: {"label": 9}}
        return record | changes.get(record["index"], {})

    jobs, _ = make_jobs(tmp_path, ["pixel"], change=change, failed=(4,))
    form = write_form(jobs, tmp_path / "form", count=60)
    assert {t["index"] for t in json.loads(form.key.read_text())["trials"]} == {0, 5, 6, 7}
    assert form.notes == [
        "pixel: 1 left out: distance not attained",
        "pixel: 1 left out: failed",
        "pixel: 1 left out: label differs from the prediction",
        "pixel: 1 left out: target already predicted for the source",
        "only 8 of 60 images: the jobs have no more morphs that can be rated",
    ]


def test_jobs_with_different_targets_are_noted(tmp_path):
    (first, second), _ = make_jobs(tmp_path, ["pixel", "csp-phase"])
    config = json.loads((second / "config.json").read_text())
    (second / "config.json").write_text(json.dumps(config | {"target": "least"}))
    (note,) = write_form([first, second], tmp_path / "form", count=9).notes
    assert "different targets" in note and note.endswith("runner-up (pixel), least (csp-phase)")


def test_labels_are_ignored_if_the_model_predicts_none_of_them(tmp_path):
    keys = [str(n) for n in range(24)]
    make_job(tmp_path / "job", morphs_of(24, 3), keys, change=lambda record: record | {"label": 9})
    assert write_form(tmp_path / "job", tmp_path / "form").conditions == {"csp-phase": 24, "unedited": 24}


def test_jobs_of_different_data_give_equal_numbers_of_morphs(tmp_path):
    jobs = [tmp_path / "a", tmp_path / "b"]
    for folder, keys in zip(jobs, (["x", "y", "z"], ["z", "v"])):
        change = lambda record: record | {"sha256": record["key"], "source": 0, "target": 1, "label": 0}
        make_job(folder, morphs_of(len(keys), 3), keys, family="pixel", change=change, limit=len(keys))
    form = write_form(jobs, tmp_path / "form", controls=False)
    assert form.conditions == {"pixel (a)": 2, "pixel (b)": 2}
    assert "for 1 of 2 morphs of each family, another family has no morph of the same source" in form.notes
    numbers = Counter(trial["source_number"] for trial in json.loads(form.key.read_text())["trials"])
    assert sorted(numbers.values()) == [1, 1, 2]


def test_no_source_is_unedited_twice():
    """Rows of two families may have the same source, if a third family does not have it."""
    preferred = 0
    for seed in range(300):
        rng = random.Random(seed)
        pools = [range(6), range(6), range(6, 12)]
        if seed >= 100:
            pools = [rng.sample(range(12), rng.randrange(2, 12)) for _ in range(rng.randrange(1, 6))]
        rows = choose_sources(pools, 6, rng)
        shown = [row[column] for row, column in zip(rows, distinct_columns(rows), strict=True)]
        assert len(set(shown)) == len(rows)
        in_turn = [row[n % len(pools)] for n, row in enumerate(rows)]
        if len(set(in_turn)) == len(rows):
            assert shown == in_turn
            preferred += 1
    assert 0 < preferred < 300


def test_form_of_three_families_shows_no_source_unedited_twice(tmp_path):
    """The first two jobs have the same sources, and the third has others."""
    jobs = [tmp_path / name for name in ("pixel", "fourier", "csp-phase")]
    for folder, keys in zip(jobs, ("uvwxyz", "uvwxyz", "opqrst")):
        change = lambda record: record | {"sha256": record["key"], "source": 0, "target": 1, "label": 0}
        make_job(folder, morphs_of(6, 3), list(keys), family=folder.name, change=change)
    for seed in range(5):
        form = write_form(jobs, tmp_path / f"form-{seed}", count=24, seed=seed)
        trials = json.loads(form.key.read_text())["trials"]
        counts = Counter((trial["condition"], trial["source_number"]) for trial in trials)
        assert len(trials) == 24 and set(counts.values()) == {1}


def test_form_of_families_with_other_targets_shows_no_image_unedited_twice(tmp_path):
    jobs = [tmp_path / name for name in ("pixel", "csp-phase")]
    for target, folder in enumerate(jobs, 1):
        change = lambda record, target=target: record | {"sha256": record["key"], "source": 0, "target": target}
        make_job(folder, morphs_of(6, 3), list("uvwxyz"), family=folder.name, change=change)
    for seed in range(5):
        form = write_form(jobs, tmp_path / f"form-{seed}", count=18, seed=seed)
        trials = json.loads(form.key.read_text())["trials"]
        shown = [trial["key"] for trial in trials if trial["condition"] == "unedited"]
        assert len(set(shown)) == len(shown) >= 3


def test_judges_in_exported_programs_must_be_trusted(tmp_path):
    jobs, _ = make_jobs(tmp_path, families=["pixel"])
    model = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(12, 4)).eval()
    example = (torch.rand(2, 3, 20, 17),)  # the size of the frames
    program = torch.export.export(model, example, dynamic_shapes=({0: torch.export.Dim.AUTO},))
    torch.export.save(program, tmp_path / "judge.pt2")
    arguments = ["rate", *map(str, jobs), "--out", str(tmp_path / "form"), "--judge", str(tmp_path / "judge.pt2")]
    assert main(arguments) == USAGE
    assert main([*arguments, "--trust-checkpoint"]) == DONE


def test_key_has_the_verdicts_of_judges(tmp_path):
    jobs, _ = make_jobs(tmp_path)
    judge = lambda images: torch.eye(4)[torch.ones(len(images), dtype=torch.int64)]  # always class 1
    form = write_form(jobs, tmp_path / "form", count=24, judges={"one": judge})
    for trial in json.loads(form.key.read_text())["trials"]:
        assert trial["judges"] == {"one": trial["target"] == 1}
    with pytest.raises(JobError, match=r"judge 'two' must return scores \[N, at least 4 classes\], got \[\d+, 2\]"):
        write_form(jobs, tmp_path / "other", count=24, judges={"two": lambda images: images.new_zeros(len(images), 2)})
    judge.class_names = ["zero", "one", "two", "four"]
    with pytest.raises(
        JobError, match="must have the classes of the job's model, got 'four' instead of 'three' for cl"
    ):
        write_form(jobs, tmp_path / "other", judges={"one": judge})


def test_bad_input_raises_and_writes_nothing(tmp_path):
    (good, damaged), _ = make_jobs(tmp_path)
    shard = damaged / "shards" / "00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1] + b"\xff")
    (tmp_path / "taken").mkdir()
    (tmp_path / "file").touch()
    make_job(tmp_path / "failed", morphs_of(2, 3), ["a", "b"], failed=(0, 1))
    make_job(tmp_path / "two", morphs_of(1, 3, channels=2), ["a"])
    make_job(tmp_path / "no-source", morphs_of(1, 3), ["a"], change=lambda r: r | {"factors": [1.0, 2.0, 3.0]})
    before = sorted(tmp_path.rglob("*"))
    cases = {
        "out must be a new folder, got .*taken, which exists": ([good], {"out": "taken"}),
        "out must be a folder, got .*file/form, but .*file is a file": ([good], {"out": "file/form"}),
        "jobs must be folders of jobs, got .*taken, which has no plan.json": ([tmp_path / "taken"], {}),
        "jobs must have at least one job's folder, got none": ([], {}),
        "jobs must be different jobs, got .*phase and .*phase with the same": ([good, good], {}),
        r"must have morphs that can be rated, got .*failed: 2 failed; 1 of 1 shards complete": (
            [tmp_path / "failed"],
            {},
        ),
        "frames must have 1 channel .* or 3 .* to be rated, got 2 in": ([tmp_path / "two"], {}),
        "shard 1 is damaged: .*SHA-256 differs .*verify .*job-pixel": ([good, damaged], {}),
        "count must be at least 2, one image of each of csp-phase, unedited, got 1": ([good], {"count": 1}),
        "show_source must be False: some jobs have no frame": ([tmp_path / "no-source"], {"show_source": True}),
        "judge 'nothing': model must be": ([good], {"judges": ["nothing"]}),
    }
    for message, (jobs, options) in cases.items():
        with pytest.raises(JobError, match=message):
            write_form(jobs, **{"out": tmp_path / options.pop("out", "new/form"), **options})
    assert sorted(tmp_path.rglob("*")) == before

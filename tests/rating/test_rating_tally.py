"""The tally of raters' files, against values computed by hand, and its errors."""

import json
import re

import pytest
import torch
from jobs import make_job, morphs_of

from steerlens_fast.cli import main
from steerlens_fast.errors import JobError
from steerlens_fast.evaluate import bootstrap, proportion, proportion_difference
from steerlens_fast.evaluate.measures.statistics import crossed_bootstrap, crossed_proportion
from steerlens_fast.rating import krippendorff_alpha, table, tally

nan = float("nan")


def trial(name: str, condition: str, source: int, target: str = "first", **fields) -> dict:
    known = {"job": 0, "driver": condition != "unedited", "judges": {"judge": name == "a0"}, "l2": 2.0}
    return {"id": name, "condition": condition, "source_number": source, "target_choice": target, **known, **fields}


KEY = {
    "format_version": 1,
    "form": "f0",
    "jobs": [{"hash": "j0"}],
    "conditions": ["a", "b", "unedited"],
    "judges": ["judge"],
    "trials": [
        trial("a0", "a", 0),
        trial("b0", "b", 0),
        trial("a1", "a", 1, "second", driver=False),
        trial("b1", "b", 1, "second", l2=4.0),
        trial("u0", "unedited", 0, l2=0.0),
        trial("u1", "unedited", 1, "second", l2=0.0, driver=None),
    ],
}


def rated(rater: str, answers: dict, /, **fields) -> dict:
    """Return the file of a rater.

    ``answers`` has the choice and the naturalness of each image.
    """
    listed = [{"id": n, "choice": c, "naturalness": x, "choice_ms": 1500} for n, (c, x) in answers.items()]
    about = {"format": "steerlens-fast ratings", "form": "f0", "jobs": ["j0"], "rater": rater, "exported": "2026-01-01"}
    return {**about, "answers": listed, **fields}


ANNA = {
    "a0": ("first", 4),
    "b0": ("second", 2),
    "a1": ("second", 5),
    "b1": ("neither", 1),
    "u0": ("second", 5),
    "u1": ("first", 5),
}
BERT = {"a0": ("first", 3), "b0": ("first", 2), "a1": ("first", 4), "b1": (None, 2)}


@pytest.fixture
def form(tmp_path):
    """A form's folder, of which only the key exists."""
    (tmp_path / "form").mkdir()
    (tmp_path / "form" / "key.json").write_text(json.dumps(KEY))
    return tmp_path / "form"


def write(folder, *ratings: dict) -> list:
    paths = [folder / f"{n}.json" for n in range(len(ratings))]
    for path, rating in zip(paths, ratings):
        path.write_text(json.dumps(rating))
    return paths


def values(intervals: dict, *names: str) -> list:
    return [intervals[name]["value"] for name in names]


def test_tilde_is_the_home_directory_in_the_paths_of_a_tally(form, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, rated("anna", ANNA))
    form.rename(tmp_path / "of-home")
    assert tally("~/of-home", "~/0.json")["form"]


def test_shares_and_means_by_family_are_those_computed_by_hand(form, tmp_path):
    """In family a, the target was chosen 3 of 4 times; in b, target, source and neither were chosen once each."""
    result = tally(form, write(tmp_path, rated("anna", ANNA), rated("bert", BERT)))
    a, b, unedited = (result["conditions"][name] for name in ("a", "b", "unedited"))
    assert values(a, "target", "source", "neither", "naturalness", "driver") == [0.75, 0.25, 0.0, 4.0, 0.5]
    assert values(b, "target", "source", "neither") == pytest.approx([1 / 3] * 3)
    assert values(b, "naturalness", "driver") == [1.75, 1.0]
    assert values(unedited, "target", "source", "naturalness", "driver") == [0.0, 1.0, 5.0, 0.0]
    assert [values(family["judges"], "judge") for family in (a, b)] == [[0.5], [0.0]]
    assert [(part["target"]["cases"], part["target"]["of"]) for part in (a, b, unedited)] == [(4, 4), (3, 4), (2, 4)]
    assert (unedited["driver"]["cases"], unedited["driver"]["of"], a["seconds"]) == (1, 2, 1.5)
    assert (a["l2"], unedited["l2"]) == (2.0, 0.0)
    difference = result["differences"]["a - b"]
    assert (difference["target"]["cases"], difference["target"]["of"]) == (3, 4)
    # Differences are 1 - 0, 1 - 0 and 1 - 1 for the target, and 2, 4, 1 and 2 for naturalness
    assert values(difference, "target", "naturalness") == pytest.approx([2 / 3, 2.25])
    # Units with two values, as roles: a0 (target, target), b0 (source, target), a1 (target, source).
    # observed: 4 of 6 values differ from the other value of their unit; expected: 2 * 4 * 2 / (6 * 5)
    assert result["alpha"]["choice"]["value"] == pytest.approx(1 - (4 / 6) / (16 / 30))
    assert result["notes"] == ["rater bert: 3 of 6 images without a choice, 2 without naturalness"]
    assert "a - b" in table(result) and "2 raters" in table(result)


def test_all_answers_of_a_source_count(form, tmp_path):
    """In forms of earlier versions, a source may be unedited twice, here as u0 and u2."""
    trials = [*KEY["trials"], trial("u2", "unedited", 0, l2=0.0)]
    (form / "key.json").write_text(json.dumps(KEY | {"trials": trials}))
    answers = {"u0": ("first", 1), "u1": ("first", 5), "u2": ("second", 5)}  # the roles target, source, source
    unedited = tally(form, write(tmp_path, rated("anna", answers)))["conditions"]["unedited"]
    assert values(unedited, "target", "source", "naturalness") == pytest.approx([1 / 3, 2 / 3, 11 / 3])
    assert [(unedited[name]["cases"], unedited[name]["of"]) for name in ("target", "naturalness")] == [(3, 3)] * 2
    # Both images of source 0 are resampled together: a resample of only source 0 has the mean 3.
    assert unedited["naturalness"]["low"] == 3.0
    (form / "key.json").write_text(json.dumps(KEY | {"trials": [*trials, trial("a2", "a", 0)]}))
    with pytest.raises(JobError, match="each source must be shown once in a, got a key in which one is shown twice"):
        tally(form, write(tmp_path, rated("anna", answers)))


def test_medians_of_an_even_number_are_the_mean_of_the_middle_two(form, tmp_path):
    """The choices in a took 1 s and 9 s; the distances in b are 2 and 4."""
    rating = rated("anna", {"a0": ("first", 4), "a1": ("first", 4)})
    for answer, milliseconds in zip(rating["answers"], (1000, 9000), strict=True):
        answer["choice_ms"] = milliseconds
    conditions = tally(form, write(tmp_path, rating))["conditions"]
    assert (conditions["a"]["seconds"], conditions["b"]["l2"]) == (5.0, 3.0)


def test_alpha_is_that_of_the_published_example():
    """Krippendorff (2011), example C: four observers, twelve units. The last unit has only one value."""
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
        [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan],
    ]
    ratings = torch.tensor(observers).T
    alphas = {level: krippendorff_alpha(ratings, level) for level in ("nominal", "ordinal", "interval")}
    assert {level: round(alpha.value, 3) for level, alpha in alphas.items()} == {
        "nominal": 0.743,
        "ordinal": 0.815,
        "interval": 0.849,
    }
    assert all(alpha.cases == 11 and alpha.low < alpha.value < alpha.high <= 1 for alpha in alphas.values())
    assert krippendorff_alpha(torch.ones(3, 2)).value is None


def test_crossed_bootstrap_resamples_images_and_raters():
    """With one rater, the result is that of the bootstrap over images."""
    one = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0, nan])
    assert crossed_bootstrap(one[:, None], seed=3) == bootstrap(one, "mean", seed=3)
    raters = torch.tensor([[0.0, 1.0, 1.0, 0.0]]).expand(50, 4)
    both = crossed_bootstrap(raters)
    # In 1 / 16 of the resamples (more than 2.5 %), all raters answered 0. raters.T has four images, not four raters.
    assert (both.value, both.low, both.high) == (0.5, 0.0, 1.0)
    assert crossed_bootstrap(raters.T).low == 0.0
    # With the same drawn indices for images and raters, no mean would be below 1 / 20.
    assert crossed_bootstrap(torch.eye(20)).low < 0.05


@pytest.mark.parametrize("infinity", [float("inf"), -float("inf")])
def test_infinite_values_count_as_missing(infinity):
    missing = torch.tensor([[0.0, 1.0], [1.0, nan], [1.0, 0.0]])
    infinite = missing.nan_to_num(infinity)
    assert crossed_bootstrap(infinite) == crossed_bootstrap(missing)
    assert bootstrap(infinite.flatten(), "mean") == bootstrap(missing.flatten(), "mean")


def test_equal_answers_do_not_make_an_interval_without_width(form, tmp_path):
    """Both raters say "neither" to both images of each family. The intervals are those of two cases, the images."""
    answers = {name: ("neither", 3) for name in ("a0", "b0", "a1", "b1")}
    result = tally(form, write(tmp_path, rated("anna", answers), rated("bert", answers)))
    for role, value in (("target", 0.0), ("source", 0.0), ("neither", 1.0)):
        actual, of_two = result["conditions"]["b"][role], proportion(torch.tensor([value] * 2))
        assert actual["value"] == value
        assert (actual["low"], actual["high"], actual["cases"]) == (of_two.low, of_two.high, 4)
    # The driver predicts the target for both images of b.
    assert result["conditions"]["b"]["driver"] == proportion(torch.ones(2)).as_dict()
    difference, of_two = result["differences"]["a - b"]["target"], proportion_difference(torch.zeros(2), torch.zeros(2))
    assert (difference["value"], difference["low"], difference["high"]) == (0, of_two.low, of_two.high)


@pytest.mark.parametrize("raters, images, cases", [(3, 20, 3), (20, 3, 3), (1, 20, 20), (20, 1, 20), (1, 1, 1)])
def test_interval_of_equal_answers_has_as_many_cases_as_raters_or_sources(raters, images, cases):
    """The fewer of the two count, but not a single one. Unanswered images and raters, and copies, do not count."""
    for value in (0.0, 1.0):
        expected = proportion(torch.full((cases,), value))
        table, padded = torch.full((images, raters), value), torch.full((images + 5, raters + 5), nan)
        padded[:images, :raters] = table
        twice = torch.arange(2 * images) // 2
        for actual in (
            crossed_proportion(table),
            crossed_proportion(padded),
            crossed_proportion(table.repeat_interleave(2, 0), sources=twice),
        ):
            assert (actual.value, actual.low, actual.high) == (value, expected.low, expected.high)


def test_interval_of_equal_differences_excludes_zero():
    actual = crossed_proportion(torch.ones(20, 5), difference=True)
    expected = proportion_difference(torch.ones(5), torch.zeros(5))
    assert (actual.value, actual.low, actual.high) == (1.0, expected.low, 1.0)
    assert actual.low > 0
    opposite = crossed_proportion(-torch.ones(20, 5), difference=True)
    assert (opposite.value, opposite.low, opposite.high) == (-1.0, -1.0, -actual.low)


def test_interval_is_narrower_with_less_confidence():
    ratings = (torch.rand(30, 5, generator=torch.Generator().manual_seed(0)) * 5).floor()
    for compute in (crossed_bootstrap, krippendorff_alpha):
        half, usual = (compute(ratings, confidence=confidence) for confidence in (0.5, 0.95))
        assert usual.low < half.low < half.value < half.high < usual.high


def test_units_of_a_source_are_resampled_together():
    """If every unit occurs twice, intervals are those of the units once, up to the bias of alpha for few values."""
    ratings = (torch.rand(30, 5, generator=torch.Generator().manual_seed(0)) * 5).floor()
    twice, sources = ratings.repeat_interleave(2, 0), torch.arange(60) // 2
    once, again = crossed_bootstrap(ratings), crossed_bootstrap(twice, sources=sources)
    assert (again.low, again.high) == pytest.approx((once.low, once.high)) and again.cases == 2 * once.cases
    for level in ("nominal", "ordinal"):
        once, again = krippendorff_alpha(ratings, level), krippendorff_alpha(twice, level, sources=sources)
        assert (again.low, again.high) == pytest.approx((once.low, once.high), abs=0.01)
        alone = krippendorff_alpha(twice, level)
        assert alone.high - alone.low < 0.8 * (again.high - again.low)


def test_alpha_of_the_tally_is_ordinal_for_naturalness_and_leaves_out_unedited_sources(form, tmp_path):
    """Raters differ by one for morphs (of 1 and 5), and by four for unedited sources."""
    anna = {"a0": ("first", 1), "b0": ("second", 2), "a1": ("second", 5), "b1": ("neither", 4)}
    bert = {"a0": ("first", 2), "b0": ("second", 1), "a1": ("first", 4), "b1": ("neither", 5)}
    unedited = {"u0": ("first", 1), "u1": ("first", 5)}, {"u0": ("second", 5), "u1": ("second", 1)}
    files = write(tmp_path, rated("anna", anna | unedited[0]), rated("bert", bert | unedited[1]))
    ratings = torch.tensor([[anna[name][1], bert[name][1]] for name in anna])
    expected = {level: krippendorff_alpha(ratings, level).value for level in ("nominal", "ordinal", "interval")}
    alpha = tally(form, files)["alpha"]
    assert alpha["naturalness"]["value"] == expected["ordinal"]
    assert len({round(value, 3) for value in expected.values()}) == 3
    assert (alpha["choice"]["cases"], alpha["naturalness"]["cases"]) == (4, 4)  # 6 with the unedited sources


def test_bad_options_of_alpha_raise():
    for options in {"confidence": 2.0}, {"sources": [0, 1]}, {"sources": torch.zeros(3, dtype=torch.int64)}:
        with pytest.raises((TypeError, ValueError), match=f"{next(iter(options))} must be"):
            krippendorff_alpha(torch.ones(2, 2), **options)


def test_rater_is_counted_once(form, tmp_path):
    """The file with most answers counts; among equal ones, the latest. A choice and a naturalness are two answers."""
    late = rated(" anna ", ANNA | {"a0": ("second", 4)}, exported="2026-01-02")
    other = rated("anna", ANNA, session="5a")  # another browser, or another person
    files = write(tmp_path, rated("anna", {"a0": ("second", 1)}, session="17"), late | {"session": "17"}, other)
    result = tally(form, files)
    assert [(r["rater"], r["file"], r["answered"]) for r in result["raters"]] == [("anna", str(files[1]), 12)]
    assert result["conditions"]["a"]["target"]["value"] == 0.5
    assert result["notes"] == [
        f"rater anna is counted once: {files[1]} (12 answers) in place of {files[0]} (2 answers)",
        f"rater anna is counted once: {files[1]} (12 answers) in place of {files[2]} (12 answers)"
        "; the sessions differ: if these are two people, change the pseudonym in one file",
        "one rater: intervals are over images only, and agreement between raters is not known",
    ]
    assert result["alpha"]["choice"]["value"] is None and "choice unknown" in table(result)


def test_bad_ratings_and_forms_raise(form, tmp_path):
    answer = {"id": "a0", "choice": "first", "naturalness": 3}
    cases = {
        "ratings must be of form f0, got form f1: another form of the same jobs": {"form": "f1"},
        r"got form f1: a form of other jobs \(\['j1'\] instead of \['j0'\]\), in .*json": {
            "form": "f1",
            "jobs": ["j1"],
        },
        "exported by a form, got .*json, which has other contents": {"format": "csv"},
        "rater must be a pseudonym, got ' ' in": {"rater": " "},
        "answers must be a list of objects, got 3 in": {"answers": 3},
        "id must be that of an image of the form, got 'zz' in": {"answers": [answer | {"id": "zz"}]},
        "id must occur only once in answers, got 'a0' twice in": {"answers": [answer, answer]},
        r"choice must be one of \('first', 'second', 'neither'\) or null, got 'cat' of image a0 in": {
            "answers": [answer | {"choice": "cat"}]
        },
        "naturalness must be a whole number from 1 to 5 or null, got 6 of image a0": {
            "answers": [answer | {"naturalness": 6}]
        },
        "choice_ms must be a non-negative int or null, got -1": {"answers": [answer | {"choice_ms": -1}]},
        "files must have at least one answer, got none in 1 files": {"answers": []},
    }
    for message, fields in cases.items():
        with pytest.raises(JobError, match=message):
            tally(form, write(tmp_path, rated("anna", ANNA, **fields)))
    (tmp_path / "cut.json").write_text('{"format": ')
    for name in ("cut.json", "none.json"):
        with pytest.raises(JobError, match=f"files must be ratings exported by a form, got .*{name}: "):
            tally(form, tmp_path / name)
    (form / "key.json").write_text('{"format_version": 1}')
    with pytest.raises(JobError, match="key.json is damaged: it has no conditions, form, jobs, judges, trials"):
        tally(form, [])
    with pytest.raises(JobError, match="form must be the folder of a form, got .*, which has no key.json"):
        tally(tmp_path, [])


def test_commands_write_a_form_and_its_tally(tmp_path, capsys):
    pytest.importorskip("PIL.Image")
    pytest.importorskip("jinja2")
    make_job(tmp_path / "job", morphs_of(4, 3), list("abcd"))
    job, form, out = (str(tmp_path / name) for name in ("job", "form", "tally.json"))
    assert main(["rate", job, "--out", form, "--count", "6"]) == 0
    assert re.search(r"form.html: for raters, one file of [1-9]\d* kB with 6 images", capsys.readouterr().out)
    assert main(["rate", job, "--out", form]) == 2
    assert "out must be a new folder" in capsys.readouterr().err
    key = json.loads((tmp_path / "form" / "key.json").read_text())
    answers = {t["id"]: (t["target_choice"], 3) for t in key["trials"]}
    (file,) = write(tmp_path, rated("anna", answers, form=key["form"]))
    assert main(["tally", form, str(file), "--json", "--out", out]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "tally.json").read_text())
    assert printed["conditions"]["csp-phase"]["target"]["value"] == 1.0
    assert main(["tally", form, str(file), "--out", str(tmp_path)]) == 2

"""The success of morphs in records and summaries."""

import json

import pytest
from job_models import make_folder, records, run_here
from jobs import make_job, morphs_of

from steerlens_fast.errors import DONE
from steerlens_fast.job.folder import JobFolder
from steerlens_fast.job.success import PAIRS, Tally, assess, outcome_of, start_frame, success_parts
from steerlens_fast.job.summary import format_summary, read_success

pytest.importorskip("PIL")
pytest.importorskip("safetensors")

QUESTIONS = ("already_predicted", "label_differs", "reached", "fell_below_source", "fell_below_earlier")


def record(probability, predictions, *, source=0, target=1, label=None, status="ok", factors=None, **more) -> dict:
    factors = [float(f) for f in range(len(probability or []))] if factors is None else factors
    known = {"status": status, "source": source, "target": target, "label": label, "factors": factors}
    return known | {"probability": probability, "predictions": predictions} | more


# (record, answers to QUESTIONS, outcome)
ANSWERS_OF_A_RECORD = [
    (record([0.1, 0.4, 0.8], [0, 0, 1]), (False, None, True, False, False), "reached"),
    (record([0.1, 0.4, 0.3], [0, 0, 2]), (False, None, False, False, True), "not-reached"),
    (record([0.4, 0.3, 0.1], [0, 0, 0]), (False, None, False, True, True), "not-reached"),
    (record([0.1, 0.9, 0.8], [0, 1, 1], label=0), (False, False, True, False, True), "reached"),
    (record([0.4, 0.4, 0.4], [0, 0, 0]), (False, None, False, False, False), "not-reached"),
    (record([0.9, 1.0, 0.99999], [0, 1, 1]), (False, None, True, False, False), "reached"),  # a rounding error
    (record([1e-6, 3e-7], [0, 0]), (False, None, False, True, True), "not-reached"),
    # the target is predicted for the source, so the morph does not count as reached
    (record([0.8, 0.9, 1.0], [1, 1, 1], source=1, label=1), (True, False, None, False, False), "already-predicted"),
    (record([0.8, 0.5, 0.1], [1, 1, 0], source=1, label=0), (True, True, None, True, True), "already-predicted"),
    # a probability is None if the frame is not scored, or the probability is NaN
    (record([0.1, None, None], [0, None, None], label=2), (False, True, None, None, None), "not-scored"),
    (record([0.1, 0.9, None], [0, 1, 1]), (False, None, None, None, None), "not-scored"),
    (record([0.1, None, 0.9], [0, None, 1]), (False, None, True, False, False), "reached"),
    (record([None, None, 0.9], [None, None, 1]), (False, None, True, None, None), "reached"),
    (record([0.8, None], [1, None], source=1), (True, None, None, None, None), "already-predicted"),
    # the source is not the first frame, or is not among the frames
    (record([0.9, 0.5, 0.2], [1, 0, 0], factors=[-1.0, 0.0, 1.0]), (False, None, False, True, True), "not-reached"),
    (record([0.9, 0.5], [1, 0], factors=[1.0, 2.0]), (False, None, False, None, True), "not-reached"),
    (
        record([0.9, 0.5, 0.6], [1, 0, 1], factors=[0.0, 0.0, 1.0], amplitude_factors=[1.0, 0.0, 1.0]),
        (False, None, True, False, True),
        "reached",
    ),
    # failed
    (record([0.8, 0.8], [1, 1], source=1, status="gradient-zero"), (True, None, None, None, None), "failed"),
    (record([None], [None], label=0, status="gradient-not-finite"), (None,) * 5, "failed"),
    (record(None, None, source=None, target=None, label=0, status="truncated"), (None,) * 5, "failed"),
]


def test_answers_of_a_record_are_right():
    for case, answers, outcome in ANSWERS_OF_A_RECORD:
        assert assess(case) == dict(zip(QUESTIONS, answers))
        assert outcome_of(case | assess(case)) == outcome


def test_start_is_the_frame_nearest_to_the_source():
    assert start_frame({"factors": [-2.0, -0.5, 1.0]}) == 1
    assert start_frame({"factors": [0.0, 0.0], "amplitude_factors": [1.0, 0.0]}) == 1


def tally(*cases) -> Tally:
    counted = Tally()
    for case in cases:
        counted.add(case | assess(case))
    return counted


MIXED = [
    record([0.1, 0.9], [0, 1], label=0),
    record([0.3, 0.2], [0, 0], label=0),
    record([0.2, 0.7, 0.6], [0, 1, 1], label=3),
    record([0.6, 0.9], [1, 1], source=1, label=1),  # already predicted
    record([0.5, None], [2, None], source=2),  # not scored
    record([0.25, 0.5], [2, 1], source=2, label=2),
    record([0.1, 0.9], [0, 1], status="overflow"),
]


def test_summary_counts_the_outcomes():
    success = tally(*MIXED).as_dict(["a", "b", "c"].__getitem__)
    pairs = success.pop("pairs")
    assert success == {
        "morphs": 6,
        "counted": 4,
        "reached": 3,
        "target_probability": {"source": 0.225, "last": 0.55},
        "fell_below_source": 1,
        "fell_below_earlier": 2,
        "already_predicted": 1,
        "not_scored": 1,
        "labelled": 5,
        "label_differs": 1,
        "pairs_left_out": 0,
    }
    assert [(p["source"], p["target"], p["names"], p["morphs"], p["counted"], p["reached"]) for p in pairs] == [
        (0, 1, ["a", "b"], 3, 3, 2),
        (2, 1, ["c", "b"], 2, 1, 1),
        (1, 1, ["b", "b"], 1, 0, None),
    ]
    assert pairs[0]["target_probability"] == {"source": 0.2, "last": 0.6}
    assert pairs[2]["target_probability"] == {"source": None, "last": None} and pairs[2]["already_predicted"] == 1


def test_unknown_numbers_are_none():
    unscored = tally(record([0.1, None], [0, None]), record([0.2, None], [0, None])).as_dict()
    for name in ("reached", "fell_below_source", "fell_below_earlier", "label_differs"):
        assert unscored[name] is None
    assert (unscored["not_scored"], unscored["counted"], unscored["labelled"]) == (2, 0, 0)
    assert unscored["target_probability"] == {"source": None, "last": None}
    no_source = tally(record([0.2, 0.6], [0, 1], factors=[1.0, 2.0])).as_dict()
    assert no_source["target_probability"] == {"source": None, "last": 0.6}
    assert no_source["fell_below_source"] is None and no_source["fell_below_earlier"] == 0
    assert tally().as_dict()["reached"] is None


def test_only_the_most_frequent_pairs_are_listed():
    cases = [record([0.1, 0.9], [0, n], source=0, target=n) for n in range(1, PAIRS + 4)]
    success = tally(*cases, cases[-1]).as_dict()
    assert len(success["pairs"]) == PAIRS and success["pairs_left_out"] == 3
    assert (success["pairs"][0]["target"], success["pairs"][0]["morphs"]) == (PAIRS + 3, 2)
    assert success["reached"] == PAIRS + 4


def test_success_parts_leave_out_counts_of_zero():
    assert success_parts(tally(*MIXED).as_dict(), by_label=True) == [
        "target reached by 3 of 4 (median target probability 0.225 -> 0.55)",
        "target probability fell below the source's in 1, below an earlier frame's in 2",
        "success of 1 unknown: last frame not scored",
        "1 already predicted as the target, not counted as reached",
        "1 labels differ from the prediction",
    ]
    assert success_parts(tally(MIXED[0]).as_dict(), by_label=True) == [
        "target reached by 1 of 1 (median target probability 0.1 -> 0.9)"
    ]
    assert success_parts(tally().as_dict()) == []


# --- In jobs


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("data"), 12)


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"target": "runner-up"}, {"already_predicted": 0, "not_scored": 0}),
        ({"target": "argmax"}, {"already_predicted": 12, "not_scored": 0, "reached": None}),
        ({"target": "label"}, {"not_scored": 0}),
        ({"score": "none"}, {"already_predicted": 0, "not_scored": 12, "reached": None, "counted": 0}),
        ({"score": "last"}, {"already_predicted": 0, "not_scored": 0}),
        ({"target": "label", "score": "none", "regime": "persistent"}, {"reached": None, "fell_below_source": None}),
    ],
    ids=str,
)
def test_summary_and_last_line_follow_from_the_records(data, tmp_path, capsys, options, expected):
    """The answers in the records follow from the predictions."""
    assert run_here(tmp_path, data=data, **options) == DONE
    summary, line = json.loads((tmp_path / "summary.json").read_text()), capsys.readouterr().err.splitlines()[-1]
    success, stored = summary["success"], records(tmp_path)
    assert {name: success[name] for name in expected} == expected
    assert line == f"{tmp_path}: {format_summary(summary)}"
    for r in stored:
        assert r["already_predicted"] == (r["source"] == r["target"]) and r["label_differs"] == (
            r["source"] != r["label"]
        )
        scored = r["predictions"][-1] is not None
        is_counted = scored and not r["already_predicted"]
        assert r["reached"] == ((r["predictions"][-1] == r["target"]) if is_counted else None)
    count = lambda name: sum(r[name] is True for r in stored)
    assert success["reached"] == (count("reached") if success["counted"] else None)
    assert success["already_predicted"] == count("already_predicted")
    assert success["label_differs"] == count("label_differs") == summary["labelled"] - summary["as_labelled"]
    assert ("target reached by" in line) == bool(success["counted"])
    assert ("labels differ from the prediction" in line) == (options.get("target") == "label")
    assert ("already predicted as the target" in line) == bool(success["already_predicted"])
    assert ("last frame not scored" in line) == bool(success["not_scored"])
    assert summary["target_is_label"] == (options.get("target") == "label")


def test_probabilities_of_predictions_are_in_the_record(data, tmp_path):
    assert run_here(tmp_path, data=data, score="last") == DONE
    for r in records(tmp_path):
        assert r["prediction_probability"][1:-1] == [None, None]
        # There are three classes, so the predicted one has a probability of at least 1 / 3.
        assert all(1 / 3 <= p <= 1 for p in (r["prediction_probability"][0], r["prediction_probability"][-1]))
        if r["reached"]:
            assert r["prediction_probability"][-1] == r["probability"][-1]
        assert r["prediction_probability"][0] > r["probability"][0]  # the target is the runner-up


def test_success_without_a_summary_is_that_of_the_shards(tmp_path):
    """The counts are computed from the shards if a job is unfinished, or an older version wrote the summary."""
    keys = [str(i) for i in range(10)]
    results = make_job(tmp_path, morphs_of(10, 3), keys, shard_size=4, failed=(2,), unscored=(3,))
    job = JobFolder(tmp_path)
    for r in results:
        assert set(QUESTIONS) <= r.keys()
    assert read_success(job, job.completed_shards())["morphs"] == 9  # item 2 has no morph
    (tmp_path / "shards" / "00000.done.json").unlink()  # the shard of items 0 to 3
    assert read_success(job, job.completed_shards())["morphs"] == 6
    (tmp_path / "summary.json").write_text('{"done": 6, "failed": 0}')
    assert read_success(job, job.completed_shards())["morphs"] == 6

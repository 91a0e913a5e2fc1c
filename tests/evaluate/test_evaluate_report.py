"""The report of an evaluation, its numbers of cases, and the numbers that bench/quality/README.md quotes."""

import importlib.util
import json
import math
import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from evaluations import FAST, dataset, net, records, run

from steerlens_fast.evaluate import paired_difference, proportion_difference
from steerlens_fast.evaluate.config import EvaluationConfig
from steerlens_fast.evaluate.presets.presets import preset
from steerlens_fast.evaluate.presets.published import COMPARED, FOLLOW_UP, compare_orders, compare_with_published
from steerlens_fast.evaluate.presets.shapes import SIZE, Shapes
from steerlens_fast.evaluate.report import figures, tables
from steerlens_fast.evaluate.report.html import macro
from steerlens_fast.evaluate.report.report import _edit_caption
from steerlens_fast.evaluate.tasks import TaskRunner

for package in ("PIL", "matplotlib"):
    pytest.importorskip(package)

QUALITY = Path(__file__).parents[2] / "bench" / "quality"
RESULTS_PAGE = (QUALITY / "README.md").read_text()


# --- Edits that are no success


@pytest.mark.parametrize(
    "changes, text, bold",
    [
        ({}, ".900  1/2", True),
        ({"driver_agrees": False}, ".900  1/2", False),
        ({"attained": False}, ".900  1/2\nL2 1.5 only", False),
        ({"attained": False, "l2": 1.9967}, ".900  1/2\nL2 1.997 only", False),
        ({"target_probability": None}, "not finite", False),
        ({"target_probability": None, "reason": "the gradient at the source is zero"}, "no edit", False),
    ],
    ids=str,
)
def test_only_attained_edits_that_reach_the_target_are_bold(changes, text, bold):
    record = {
        "target_probability": 0.9,
        "driver_agrees": True,
        "attained": True,
        "l2": 1.5,
        "budget": 2.0,
        "reason": None,
    }
    assert _edit_caption(record | {"judges": {"a": True, "b": False}} | changes) == (text, bold)


def test_nan_outputs_do_not_reach_the_target():
    """argmax treats NaN as the largest number, so it would return class 1 here."""
    outputs = torch.tensor([[0.0, 1.0], [0.0, math.nan]])
    targets = torch.tensor([1, 1])
    work = SimpleNamespace(driver=SimpleNamespace(outputs=lambda frame: outputs), _targets=lambda task, frame: targets)
    edits = {"frame": torch.zeros(2, 1, 4, 4), "l2": torch.zeros(2), "attained": torch.ones(2, dtype=torch.bool)}
    columns = TaskRunner._control(work, task=None, **edits)
    assert columns["driver_agrees"].tolist() == [True, False]


# --- Differences and denominators


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    """An evaluation of ten sources, in which csp-phase attains the larger budget only for some."""
    return run(tmp_path_factory.mktemp("report"), dataset(), figures=True, distances=[6.0, 0.5])


def test_families_are_paired_with_controls(evaluation):
    """The expected differences are over the sources for which all families and the control attained the budget."""
    commons = []
    for budget in evaluation.summary["budgets"]:
        at = [r for r in records(evaluation.out) if r.get("budget") == pytest.approx(budget["l2"])]
        by = {f: {r["source"]: r for r in at if r["family"] == f} for f in ("pixel", "csp-phase", "noise")}
        attained = {f: {n for n, r in by[f].items() if r["attained"]} for f in by}
        common = sorted(attained["pixel"] & attained["csp-phase"] & attained["noise"])
        commons.append(common)
        assert budget["attainment"]["by_control"] == {"noise": len(attained["noise"])}
        for name in ("target_probability", "jointly", "warp"):
            differences = budget["paired_with_controls"][name]
            assert set(differences) == {"pixel - noise", "csp-phase - noise"}
            columns = torch.full((2, 10), torch.nan, dtype=torch.float64)
            for n in common:
                columns[:, n] = torch.tensor([float(by[family][n][name]) for family in ("pixel", "noise")])
            if name == "jointly":
                expected = proportion_difference(*columns)
            else:
                expected = paired_difference(*columns, draws=FAST["draws"])
            assert differences["pixel - noise"] == pytest.approx(expected.as_dict(), abs=1e-6)
            assert differences["pixel - noise"]["cases"] == len(common) and differences["pixel - noise"]["of"] == 10
    at_larger, at_smaller = (budget["attainment"]["common"] for budget in evaluation.summary["budgets"])
    assert at_larger < at_smaller == len(commons[1]) == 10, "all sources must attain only the smaller budget"


def test_page_has_intervals_and_denominators(evaluation):
    page = (evaluation.out / "index.html").read_text()
    for budget, section in zip(evaluation.summary["budgets"], page.split("<h2>L2 = ")[1:], strict=True):
        assert "Paired differences of families from controls" in section
        for name in ("paired", "paired_with_controls"):
            for pair, entry in budget[name]["warp"].items():
                row = section.split(f'<th scope="row">{pair.replace(" - ", " − ")}</th>')[1].split("</tr>")[0]
                assert macro("difference", entry) in row and f"{entry['cases']} of {entry['of']}" in row


def test_page_has_the_denominators_of_every_band(evaluation):
    page = (evaluation.out / "index.html").read_text()
    section = page.split("<h2>Single-band probes</h2>")[1].split("</section>")[0]
    bands = evaluation.summary["bands"]
    for s, row in enumerate(bands["advantage"]):
        cells = section.split(f'<th scope="row">scale {s}</th>')[1].split("</tr>")[0].split("<td>")[1:]
        for k, cell in enumerate(cells):
            share = bands["positive"][s][k]
            assert f"{row[k]['cases']} of {row[k]['of']}" in cell and row[k]["of"] == 10
            assert f"above 0: {round(share['value'] * share['cases'])}/{share['cases']}" in cell


def test_cells_contain_value_interval_and_cases():
    median, count, difference = (partial(macro, name) for name in ("median", "count", "difference"))
    interval = {"value": 0.25, "low": -0.5, "high": 0.75, "cases": 8, "of": 10}
    # The second argument is a number of cases that the page states elsewhere. A cell with this number omits "8 of 10".
    assert median(interval) == median(interval, 9) == ".250<small>−.500 to .750</small><small>8 of 10</small>"
    assert median(interval, 8) == ".250<small>−.500 to .750</small>"
    assert median({**interval, "value": None, "cases": 0}) == "–<small>0 of 10</small>" and median(None) == "–"
    assert count(interval) == "2/8<small>−.500 to .750</small>"
    assert "<strong>" not in difference({**interval, "cases": 9})
    assert difference({**interval, "low": 0.1, "cases": 9}).startswith("<strong>.250</strong>")
    assert "<strong>" not in difference({**interval, "low": 0.1, "cases": 8})


def test_figures_draw_the_values_of_the_summary(evaluation):
    """Small probabilities have the right positions, and each band has its count, such as 9/10."""
    summary = json.loads(json.dumps(evaluation.summary))
    tiny = summary["budgets"][0]["controls"]["noise"]["target_probability"]
    tiny.update(value=3e-8, low=2e-9, high=4e-7)
    axes = figures.measures(summary).axes[0]
    points = [line for line in axes.lines if line.get_marker() == "o"]
    assert points[-1].get_xdata()[0] == 3e-8 and axes.get_xlim()[0] < 2e-9
    tiny.update(value=1e-15, low=1e-15, high=1e-9)  # below the smallest probability that is drawn
    axes = figures.measures(summary).axes[0]
    (arrow,) = [line for line in axes.lines if line.get_marker() == "<"]
    assert arrow.get_xdata()[0] == figures.MIN_PROBABILITY >= axes.get_xlim()[0]
    summary["bands"]["positive"][1][2].update(value=0.9, cases=10)
    summary["bands"]["advantage"][0][0].update(value=None, cases=0)
    texts = [text.get_text() for text in figures.bands(summary["bands"]).axes[0].texts]
    assert texts[0] == "none" and texts[4 + 2].endswith("9/10") and len(texts) == 8  # 2 scales of 4 orientations


# --- True motions


def test_displacements_are_reported_by_kind(tmp_path):
    """Units of displacements differ between kinds, so only their share of the true displacement is pooled."""
    per_kind = 4
    data = Shapes(per_kind, seed=3)
    options = {"target": 0, "sources": len(data), "families": ["pixel"], "max_l2": 0.5, "probe_directions": 0}
    driver = net(0, classes=len(data.classes), size=SIZE)
    summary = run(tmp_path, data, driver, {}, figures=True, **options).summary
    pooled = summary["budgets"][0]["families"]["pixel"]
    assert "displacement" not in pooled and "displacement" not in summary["budgets"][0]["controls"]["true motion"]
    rows = {(r["family"], r["source"]): r for r in records(tmp_path)}
    each = {
        n: rows["pixel", n]["displacement"] / rows["true motion", n]["factor_moved"] for f, n in rows if f == "pixel"
    }
    assert pooled["recovered"]["value"] == pytest.approx(torch.tensor(list(each.values())).double().quantile(0.5))
    groups = summary["groups"]["0.5"]
    for kind, entry in groups.items():
        displacements = [rows["pixel", n]["displacement"] for n in each if rows["pixel", n]["group"] == kind]
        median = torch.tensor(displacements).double().quantile(0.5).item()  # records have seven significant digits
        assert entry["pixel"]["displacement"]["value"] == pytest.approx(median, rel=1e-5)
        counts = entry["pixel"]["displacement"]["cases"], entry["pixel"]["displacement"]["of"], len(displacements)
        assert counts == (per_kind, per_kind, per_kind)
    page = (tmp_path / "index.html").read_text()
    assert "Compared with the true motion, by kind" in page
    assert page.count(f"{per_kind} of {per_kind}") >= len(tables.GROUPED) * len(groups)


def test_true_motion_that_misses_its_distance_is_left_out(tmp_path):
    """For such a source, the true displacement is unknown, so families have no share of it."""
    data = Shapes(2, seed=3)
    options = {"target": 0, "sources": len(data), "families": ["pixel"], "max_l2": 5.0, "probe_directions": 0}
    summary = run(tmp_path, data, net(0, classes=len(data.classes), size=SIZE), {}, **options).summary
    budget = summary["budgets"][0]
    attained = budget["attainment"]["by_control"]["true motion"]
    assert 0 < attained < budget["attainment"]["by_family"]["pixel"] == len(data)
    assert budget["families"]["pixel"]["recovered"]["cases"] == attained
    assert sum(kind["pixel"]["recovered"]["cases"] for kind in summary["groups"]["5"].values()) == attained
    assert sum(kind["pixel"]["displacement"]["cases"] for kind in summary["groups"]["5"].values()) == len(data)


# --- Comparison with the paper "Confidence Is Not Evidence"


def shipped(name="digits", **changes) -> tuple[EvaluationConfig, dict]:
    """Return the configuration and a summary of a preset with changed options."""
    config = EvaluationConfig(**{**preset(name), **changes})
    measures = {measure: {"value": 0.5} for measure in ("target_probability", "jointly", "warp", "gain")}
    attained = {"common": 300, "of": 300}
    families = dict.fromkeys(config.families, measures)
    results = [{"l2": float(f"{b:.7g}"), "attainment": attained, "families": families} for b in config.budgets]
    return config, {"budgets": results, "judges": ["a", "b"], "sources": {"chosen": min(config.sources, 300)}}


def test_shipped_options_are_compared_with_the_published_values():
    for name, l2 in COMPARED.items():
        for changes in ({}, {"seed": 3, "draws": 10, "probe_directions": 0}, {"distances": [1.0, l2]}):
            comparison = compare_with_published(*shipped(name, **changes))
            assert (comparison["cases"], comparison["of"], comparison["l2"]) == (300, 300, pytest.approx(l2))
            assert set(comparison["measures"]["warp"]["ours"]) == set(FOLLOW_UP)
            assert "Ours / published" in (page := macro("published", comparison))
            assert ("not a reproduction" in page) == (name == "digits")


def test_published_order_is_unclear_if_an_interval_contains_zero():
    """For warps, the published order is csp-joint > csp-phase > pixel > fourier."""
    ours = {"pixel": 0.6, "fourier": 0.1, "csp-phase": 0.2, "csp-joint": 0.7}
    of = lambda value: dict.fromkeys(FOLLOW_UP["pixel"], {"value": value, "low": value / 2, "high": 2 * value})
    paired = {"pixel - csp-joint": {"low": -0.3, "high": 0.1}, "fourier - csp-phase": {"low": -0.2, "high": -0.1}}
    warp = compare_orders({family: of(value) for family, value in ours.items()}, {"warp": paired})["warp"]
    others = ["csp-joint > csp-phase", "csp-joint > pixel", "csp-joint > fourier", "csp-phase > fourier"]
    assert warp["agrees"] == [*others, "pixel > fourier"] and warp["differs"] == ["csp-phase > pixel"]
    assert warp["unclear"] == ["csp-joint > pixel"] and warp["intervals"]["pixel"] == [0.3, 1.2]


# (changed arguments, reason)
OTHER_OPTIONS = [
    ({"rule": "complex"}, "rule is complex, not polar"),
    ({"regime": "frozen"}, "regime is frozen, not persistent"),
    ({"distances": [1.0]}, "the distances do not include 2.286"),
    ({"families": ["pixel", "csp-phase"]}, "the families do not include fourier, csp-joint"),
    ({"target": "runner-up"}, "target is runner-up, not map:"),
    ({"driver": "my.nets:net"}, "driver is my.nets:net, not steerlens_fast"),
    ({"grid": 4}, "grid is 4, not 8"),
    ({"sources": 40}, "40 images were selected, not 300"),
]


def test_changed_options_are_a_reason_not_to_compare():
    for changes, why in OTHER_OPTIONS:
        comparison = compare_with_published(*shipped(**changes))
        assert (
            list(comparison) == ["not_compared"]
            and len(comparison["not_compared"]) == 1
            and why in comparison["not_compared"][0]
        )
        page = macro("published", comparison)
        assert "Comparison with the paper" in page and "Not compared" in page and why in page and "<table" not in page


def test_other_data_have_no_published_values(evaluation):
    assert compare_with_published(*shipped(data="digits/")) is None and "published" not in evaluation.summary
    assert "Comparison with the paper" not in (evaluation.out / "index.html").read_text()


def test_missing_judges_are_a_reason_not_to_compare():
    config, summary = shipped()
    assert "1 judges were used, not 2" in compare_with_published(config, summary | {"judges": ["a"]})["not_compared"][0]


# --- The page of results


def sections_of_presets() -> str:
    return RESULTS_PAGE.split("\n## Families at matched distances\n")[0]


def bench_evaluate():
    spec = importlib.util.spec_from_file_location("bench_evaluate", QUALITY / "evaluate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def required_phrases() -> list[str]:
    """Return the phrases that bench/quality/README.md must contain, with numbers of the committed results."""
    return bench_evaluate().results_phrases(QUALITY / "results")


def summary_of(name: str) -> dict:
    return json.loads((bench_evaluate().newest(QUALITY / "results", name) / "summary.json").read_text())


def flat(text: str) -> str:
    """Return the text in one line, since line breaks may differ."""
    return " ".join(text.split())


def test_results_page_has_the_numbers_of_the_committed_results():
    """``python bench/quality/evaluate.py --print`` prints all rows and phrases that the page must contain."""
    for phrase in required_phrases():
        assert flat(phrase) in flat(sections_of_presets()), phrase


def test_every_table_row_of_the_results_page_is_checked():
    """Every row is in the printed results. A row with another digit at any place is not."""
    phrases = "\n".join(required_phrases()).splitlines()
    rows = [line for line in sections_of_presets().splitlines() if re.match(r"\| .*\d", line)]
    assert len(rows) >= 40, "tables are missing"
    for row in rows:
        assert row in phrases, row
        # The heads of two tables differ by one digit: "both judges, of 297" and "of 207".
        numbers = [] if row.startswith("| family |") else re.finditer(r"\d", row)
        for at in (m.start() for m in numbers):
            assert f"{row[:at]}{(int(row[at]) + 1) % 10}{row[at + 1 :]}" not in phrases


def test_statements_of_the_results_page_about_shapes_hold():
    """Which family is nearest to the true motion, and what driver and judges predict."""
    summary = summary_of("shapes")
    kinds = next(iter(summary["groups"].values()))
    cosine = lambda kind, family: kinds[kind][family]["alignment"]["value"]
    families = list(summary["budgets"][0]["families"])
    nearest = {kind: max(families, key=lambda family, kind=kind: cosine(kind, family)) for kind in kinds}
    for kind in ("curvature", "orientation", "position", "frequency"):
        assert min(cosine(kind, "csp-phase"), cosine(kind, "csp-joint")) > cosine(kind, "pixel"), kind
    assert [nearest[kind] for kind in ("width", "size", "gap", "position")] == ["pixel"] * 3 + ["fourier"]
    assert all(cosine(kind, "true motion") > cosine(kind, nearest[kind]) for kind in kinds)
    budget = summary["budgets"][0]
    value = lambda family, name: {**budget["families"], **budget["controls"]}[family][name]["value"]
    assert min(value(f, "target_probability") for f in ("pixel", "csp-joint")) > value(
        "true motion", "target_probability"
    )
    assert all(value(f, "jointly") < value("true motion", "jointly") for f in families if f.startswith("csp"))


def test_order_of_smoothness_on_the_results_page_holds():
    summary = summary_of("digits")
    ours = summary["published"]["measures"]["warp"]["ours"]
    assert sorted(ours, key=ours.get, reverse=True) == ["fourier", "csp-phase", "csp-joint", "pixel"]
    assert "csp-joint > csp-phase" in summary["published"]["measures"]["jointly"]["differs"]

"""The tables of the READMEs are those of the results, and are computed correctly."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "bench"
sys.path.append(str(BENCH))

import report  # noqa: E402
import results  # noqa: E402
import tables  # noqa: E402

README = (ROOT / "README.md").read_text()
BENCH_README = (BENCH / "README.md").read_text()


def speed_row(work, allocator, ours, threads=2, **others) -> dict:
    """Return a row like those of bench/speed.py, for 8 MB moved."""
    seconds = {"ours": ours, "copy": ours / 2, **others}
    ratios = {who: s / ours for who, s in seconds.items() if who != "ours"}
    row = {"work": work, "shape": "8x3x4x4", "threads": threads, "allocator": allocator, "bytes": 8_000_000}
    row |= {"bytes_per_second": row["bytes"] / ours, "share_of_copy": 0.5, "peak_beyond_output": {"ours": 2**20}}
    return row | {"seconds": seconds, "over_ours": ratios}


def speed(*rows) -> dict:
    return {"kind": "speed", "machine": {"threads": 2}, "rows": list(rows)}


def growth(power: float) -> dict:
    one = {"axis": "batch", "work": "analysis", "shape": "1x1x8x8"}
    rows = [one | {"value": 2**i, "seconds": {"ours": 1e-3 * 2 ** (power * i)}} for i in range(6)]
    return {"kind": "growth", "machine": {}, "rows": rows}


@pytest.mark.parametrize("path", report.READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_tables_of_the_readmes_are_those_of_their_files(path):
    text = path.read_text()
    marked = {match["name"] for match in report.MARKED.finditer(text)}
    expected = {"transforms", "ops", "lens", "memory", "growth", "dataset", "photographs"}
    assert marked >= (expected if path.parent == BENCH else {"headline"})
    assert report.refreshed(text, report.folder_of(path)) == text, "run `python bench/report.py --readme`"


@pytest.mark.parametrize("path", report.READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_changed_digit_of_a_table_is_found(path):
    text, folder = path.read_text(), report.folder_of(path)
    measured = [match for match in report.MARKED.finditer(text) if match["file"] != report.NONE]
    assert measured
    for match in measured:
        row = match["body"].splitlines()[4]  # the first row after the machine, an empty line and the header
        digit = next(c for c in reversed(row) if c.isdigit())
        changed = row[::-1].replace(digit, str((int(digit) + 1) % 10), 1)[::-1]
        assert report.refreshed(text.replace(row, changed, 1), folder) == text != text.replace(row, changed, 1)


def test_results_files_of_the_readmes_exist_and_name_their_machine():
    files = {match["file"] for text in (README, BENCH_README) for match in report.MARKED.finditer(text)}
    for file in files - {report.NONE}:
        assert file.startswith("bench/results/")
        machine = results.read(ROOT / file)["machine"]
        assert machine["cpu"] and machine["torch"] and machine["python"] and machine["threads"]


def test_result_without_a_place_in_a_readme_raises(tmp_path, monkeypatch):
    file = next(match["file"] for match in report.MARKED.finditer(BENCH_README) if match["name"] == "memory")
    (tmp_path / "README.md").write_text("no tables here")
    monkeypatch.setattr(report, "READMES", (tmp_path / "README.md",))
    with pytest.raises(SystemExit, match="no README has a place for"):
        report.write_tables([file])


def test_results_with_other_vector_instructions_go_to_a_table_of_their_own(tmp_path, monkeypatch):
    file = tmp_path / "a.json"
    machine = {"cpu": "x", "vectors": "AVX2", "threads": 2, "torch": "2", "date": "2026-01-01"}
    results.write(file, speed(speed_row("analysis", "default", 0.01, plenoptic=0.04)) | {"machine": machine})
    monkeypatch.setattr(report, "ROOT", tmp_path)
    usual, of_avx2 = (f"<!-- table: {name}, none -->\n<!-- end -->\n" for name in ("transforms", "transforms-AVX2"))
    filled = report.rewritten(usual + of_avx2, "a.json")
    assert "<!-- table: transforms, none -->" in filled and "<!-- table: transforms-AVX2, a.json -->" in filled
    assert "(x (AVX2), 2 threads" in filled and report.refreshed(filled).count("10.0") == 1
    assert "<!-- table: transforms, a.json -->" in report.rewritten(usual, "a.json"), "the usual table was not filled"


def test_table_without_results_says_not_measured_yet():
    file = next(m["file"] for m in report.MARKED.finditer(BENCH_README) if m["name"] == "dataset")
    empty = "<!-- table: dataset, none -->\nNot measured yet.\n<!-- end -->"
    assert report.refreshed(empty.replace("Not measured yet.\n", "")) == empty
    filled = report.rewritten(empty, file)
    assert filled.count("|") > 20 and report.refreshed(filled) == filled


def test_table_of_transforms_has_both_allocators_ratios_and_shares():
    rows = [
        speed_row("analysis", "default", 0.010, plenoptic=0.040, plain=0.020, ffts=0.005),
        speed_row("analysis", "tuned", 0.008, plenoptic=0.020, ffts=0.004),
    ]
    *_, row = tables.transforms(speed(*rows))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:3] == ["analysis", "8x3x4x4", "10.0 / 8.00"]
    assert cells[3:7] == ["4.00x / 2.50x", "2.00x / -", "", "2.00x / 2.00x"]
    assert cells[7:] == ["8", "1.0 (50 %)", "1.0 / - / -"]


def test_table_of_ops_has_one_thread_and_two():
    rows = [
        speed_row("step", mode, 0.004 / threads, threads, plain=0.01)
        for mode in ("default", "tuned")
        for threads in (1, 2)
    ]
    heading, _, row = tables.ops(speed(*rows))
    names, cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in (heading, row))
    expected = {"MiB moved": "8", "GB/s, 1 / 2 threads": "2.0 / 4.0"}
    for threads, milliseconds in (("1 thread", "4.00 / 4.00"), ("2 threads", "2.00 / 2.00")):
        expected |= {f"ours, ms, {threads}": milliseconds, f"share of copy bandwidth, {threads}": "50 % / 50 %"}
    assert expected.items() <= dict(zip(names, cells, strict=True)).items()


def test_table_of_photographs_compares_rates_with_those_of_gradients():
    row = {"what": "csp-phase, factors", "images_per_second": 16.04, "of_gradients_alone": 0.857}
    assert tables.kind_of({"photographs": [row]}) == "photographs"
    assert tables.photographs({"photographs": [row]})[-1] == "| csp-phase, factors | 16.0 | 0.86 |"


def test_headline_leaves_out_rows_with_other_baselines():
    other = speed_row("analysis, float64", "default", 1.0, float32=2.0)
    rows = [speed_row("analysis", mode, ours, plenoptic=ours * 3) for mode, ours in (("default", 0.5), ("tuned", 0.25))]
    lines = tables.headline(speed(*(row | {"shape": "8x3x224x224"} for row in (other, *rows))))
    assert lines[2:] == ["| analysis, 8x3x224x224 | 500 / 250 ms | plenoptic 2 | 3.00x / 3.00x as fast |"]


def test_table_of_a_gpu_has_one_allocator():
    row = speed_row("analysis", "cuda", 0.001, plenoptic=0.004, ffts=0.0005)
    assert "| 1.00 |" in tables.transforms(speed(row))[-1]


def test_exponents_are_fitted_to_the_largest_values():
    assert tables.growth(growth(0.75))[2:] == ["| batch | analysis | 8 to 32 | 0.75 |  |  |  |"]
    exponent, *_ = tables.exponent_of([(2**i, 1.0 + 2.0**i) for i in range(12)])
    assert exponent == pytest.approx(1, abs=0.01)
    assert tables.exponent_of([(1, 1.0)]) is None


def test_fitted_range_of_a_baseline_is_shown_where_it_differs():
    result = growth(1.0)
    for row in result["rows"][:4]:  # the values 1, 2, 4 and 8, of which the upper half is fitted
        row["seconds"]["plain"] = 2 * row["seconds"]["ours"]
    assert tables.growth(result)[2:] == ["| batch | analysis | 8 to 32 | 1.00 | 1.00 (4 to 8) |  |  |"]


def test_results_have_one_line_per_row_and_numbers_of_four_digits(tmp_path):
    rows = [{"work": work, "seconds": {"ours": 0.123456}} for work in "ab"]
    results.write(tmp_path / "kept.json", {"kind": "speed", "machine": {"cpu": "x"}, "rows": rows})
    reread = results.read(tmp_path / "kept.json")
    assert reread["rows"] == [{"work": work, "seconds": {"ours": 0.1235}} for work in "ab"]
    assert len([line for line in (tmp_path / "kept.json").read_text().splitlines() if '"work"' in line]) == 2


def test_pictures_of_growth_are_reproducible(tmp_path):
    pytest.importorskip("matplotlib")
    import plots

    (first,) = plots.draw(growth(1.0), tmp_path)
    assert first.name == "batch.png" and first.read_bytes()[:4] == b"\x89PNG"
    before = first.read_bytes()
    plots.draw(growth(1.0), tmp_path)
    assert first.read_bytes() == before  # the same numbers, the same bytes


# (command line, words in the message)
WRONG_LINES = [
    (["profiling.py", "analysis", "8x3"], "must be like 8x3x224x224 (batch, channels, height, width), got '8x3'"),
    (["profiling.py", "analysis", "--rounds", "0"], "rounds"),
    (["profiling.py", "11 persistent steps", "1x1x32x32", "--who", "plenoptic"], "--who must be one of ours for"),
    (["profiling.py", "split_bands", "--who", "ffts"], "--who must be one of ours, plain, compiled for split_bands"),
    (["growth.py", "--only", "batch"], "--only needs --out"),
    (["report.py", "nosuch.json"], "no such file: nosuch.json"),
    (["speed.py", "--only", "nothing"], "invalid choice: 'nothing'"),
]
RUN_LINES = """
import contextlib, io, json, runpy, sys
bench, *lines = json.loads(sys.argv[1])
results = []
sys.path.insert(0, bench)
for script, *arguments in lines:
    sys.argv, errors = [script, *arguments], io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            runpy.run_path(f"{bench}/{script}", run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code
    results.append([code, errors.getvalue()])
print(json.dumps(results))
"""


def test_wrong_arguments_are_usage_errors(tmp_path):
    pytest.importorskip("plenoptic")
    lines = json.dumps([str(BENCH), *(line for line, _ in WRONG_LINES)])
    done = subprocess.run(
        [sys.executable, "-c", RUN_LINES, lines], stdout=subprocess.PIPE, text=True, cwd=tmp_path, check=True
    )
    for (code, errors), (line, message) in zip(json.loads(done.stdout), WRONG_LINES, strict=True):
        assert code == 2 and message in errors, line


def test_result_with_fewer_rows_than_the_readme_raises():
    table = lambda text: next(m for m in report.MARKED.finditer(text) if m["name"] == "transforms")
    file = table(BENCH_README)["file"]
    more = BENCH_README.replace("| analysis | 8x3x224x224", "| analysis | 9x9x9x9 | 1 |\n| analysis | 8x3x224x224", 1)
    with pytest.raises(SystemExit, match="has fewer rows than the README's table transforms"):
        report.rewritten(more, file)
    assert table(report.rewritten(BENCH_README, file, "bench"))[0] == table(BENCH_README)[0]


def test_medians_are_marked_if_the_rounds_differ():
    sure, unsure = (speed_row("analysis", "tuned", 0.010, plenoptic=0.04) | {"spread": {"ours": s}} for s in (0.2, 0.3))
    assert tables.our_ms({"default": sure, "tuned": unsure}) == "10.0 / ~10.0"
    assert tables.our_ms({"tuned": sure}) == "- / 10.0"

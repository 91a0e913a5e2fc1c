"""Runs the presets of `steerlens-fast evaluate`: ``python bench/quality/evaluate.py [PRESET ...]``.

Writes the folders ``DATE-evaluate-PRESET`` (report, summary and records) and the file ``DATE-evaluate-times.json``.
Then it prints tables and phrases of the newest results (``--print`` does only this). README.md here must contain them,
as tests/evaluate/test_evaluate_report.py checks. README.md also explains measures such as G and E.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import torch
import torch.nn.functional as F

import steerlens_fast as sf
from steerlens_fast.evaluate.measures.grids import BilinearSamples, upsample
from steerlens_fast.evaluate.presets.presets import PRESETS
from steerlens_fast.evaluate.presets.published import FOLLOW_UP, SOURCE_COUNT
from steerlens_fast.evaluate.report.html import number

sys.path.append(str(Path(__file__).parents[1]))
from machine import machine  # noqa: E402

FITS, SIZE = 300, 64
REPORT_FILES = ("index.html", "summary.json", "figures")


def time_fits() -> dict:
    """Return the seconds in which one thread and two threads fit warp and gain to edits of 64 x 64 images.

    Each fit has three starts. The edits are warps by up to 3 pixels in each direction, with noise.
    """
    torch.manual_seed(0)
    images = F.interpolate(torch.rand(FITS, 1, SIZE // 4, SIZE // 4), size=(SIZE, SIZE), mode="bicubic").clamp(0, 1)
    coarse = torch.rand(FITS, 2, 4, 4) * 6 - 3
    field = upsample(upsample(coarse, (8, 8)), (SIZE, SIZE))
    edits = (BilinearSamples(images, field).values + 0.02 * torch.randn_like(images)).clamp(0, 1)
    sf.smooth_reconstruction(images[:16], edits[:16])  # warm-up
    entry = {"fits": FITS, "size": SIZE}
    for workers in (1, 2):
        start = time.perf_counter()
        result = sf.smooth_reconstruction(images, edits, workers=workers)
        entry[f"seconds, {workers} workers"] = round(time.perf_counter() - start, 2)
    return entry | {"median E of the warp": round(result.warp.quantile(0.5).item(), 4)}


def run_preset(name: str, folder: Path, *options: str) -> dict:
    """Run a preset and copy its report; return wall-clock and CPU seconds, and the load before and after."""
    load = [round(os.getloadavg()[0], 2)]
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "steerlens_fast", "evaluate", "--preset", name, "--progress", "none"]
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([*command, "--out", f"{out}/evaluation", *options], check=True)
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        _copy_report(Path(out, "evaluation"), folder)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    load.append(round(os.getloadavg()[0], 2))
    return {"seconds": round(seconds, 1), "cpu_seconds": round(used, 1), "load": load}


def _copy_report(out: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in REPORT_FILES:
        copy = shutil.copytree if (out / name).is_dir() else shutil.copyfile
        copy(out / name, folder / name)
    records = (out / "results.jsonl").read_bytes()
    (folder / "results.jsonl.gz").write_bytes(gzip.compress(records, mtime=0))


# --- Tables and phrases of README.md; line breaks may differ

NAMES = {"noise": "white noise, a control", "true motion": "the true motion, a control"}
COLUMNS = ("target_probability", "jointly", "warp", "gain")


def newest(results: Path, name: str) -> Path | None:
    """Return the folder of the newest results of a preset."""
    return max(results.glob(f"*-evaluate-{name}"), default=None)


def results_phrases(results: Path) -> list[str]:
    """Return all tables and phrases that README.md must contain, from the newest results."""
    phrases = times_phrases(newest_times(results))
    for name in PRESETS:
        if folder := newest(results, name):
            phrases += [f"results/{folder.name}", *PHRASES[name](json.loads((folder / "summary.json").read_text()))]
    return phrases


def newest_times(results: Path) -> dict:
    """Return the newest times of every preset.

    Load and other entries are those of the newest run of the preset digits.
    """
    times: dict = {}
    for file in sorted(results.glob("*-evaluate-times.json")):
        entry = json.loads(file.read_text())
        times |= entry if "digits" in entry else {name: entry[name] for name in PRESETS if name in entry}
    return times


def times_phrases(entry: dict) -> list[str]:
    """Return the phrases about running times."""
    took = lambda name: _minutes(entry[name]["seconds"])
    fit_seconds = round(entry["fits"]["seconds, 2 workers"])
    loads = [entry[when][0] for when in ("load_before", "load_after")]
    load = f"(load {min(loads):.0f} to {max(loads):.0f})"
    phrase = f"{load}, the complete digits preset took {took('digits')}, shapes {took('shapes')}"
    count = entry["fits"]["fits"]
    fitted = f"fitting warp and gain to {count} images of 64 x 64, with three starts each, took {fit_seconds} s"
    others = [name for name in ("mnist", "fashion", "photographs") if name in entry]
    return [phrase, fitted, *(f"{name} {_minutes(entry[name]['cpu_seconds'])}" for name in others)]


def _minutes(seconds: float) -> str:
    return "{} min {} s".format(*divmod(round(seconds), 60))


def digits_phrases(summary: dict) -> list[str]:
    """Return the table with the published values, and the phrases about it."""
    entry, compared = summary["budgets"][0], summary["published"]["measures"]
    lines = []
    for family, measures in {**entry["families"], **entry["controls"]}.items():
        cells = []
        for name in COLUMNS:
            value, theirs = measures[name]["value"], FOLLOW_UP.get(family, {}).get(name)
            shown = number if name != "jointly" else lambda v: str(round(v * SOURCE_COUNT))
            cells.append(shown(value) + ("" if theirs is None else f" / {shown(theirs)}"))
        lines.append(f"| {NAMES.get(family, family)} | {' | '.join(cells)} |")
    pairs = lambda name: len(compared[name]["agrees"])
    lowest_and_highest = lambda name: [
        f(m[name]["value"] for m in entry["families"].values() if name in m) for f in (min, max)
    ]
    share = lambda name: "{:.0f} to {:.0f} %".format(*(100 * value for value in lowest_and_highest(name)))
    return [
        f"{entry['attainment']['of']} test digits toward the next digit",
        f"L2 = {entry['l2']:.2f}, all families attained the distance for all {entry['attainment']['common']} digits",
        f"| family | median G | both judges, of {SOURCE_COUNT} | E warp | E warp + gain |",
        "\n".join(lines),
        f"G has the published order in {pairs('target_probability')}, the judges' count in {pairs('jointly')}",
        # The page has one number for E without and with gain. If the results differ, the test of the page fails.
        f"and E in only {pairs('warp')}" if pairs("warp") == pairs("gain") else "(two numbers for E)",
        f"{share('folded')} of the pixels lie in folds",
        f"{share('departure')} of the coefficient edit is lost",
        "leakage {} to {}".format(*(hundredths(value) for value in lowest_and_highest("leakage"))),
        f"E of white noise is {hundredths(entry['controls']['noise']['warp']['value'])}",
    ]


def mnist_phrases(summary: dict) -> list[str]:
    """Return the table with intervals and published values, and the phrases about it."""
    compared = summary["published"]["measures"]
    pairs = lambda name: len(compared[name]["agrees"])
    certain = lambda name: sum(pair not in compared[name]["unclear"] for pair in compared[name]["agrees"])
    return [
        *_accuracy_phrases(summary),
        *_attainment_phrases(summary),
        _interval_table(summary["budgets"][0], FOLLOW_UP),
        f"G has the published order in {pairs('target_probability')}, the judges' count in {pairs('jointly')}",
        f"E without gain in {pairs('warp')}, and E with gain in {pairs('gain')}",
        "the interval of the paired difference excludes 0 in {} for G, {} for the judges' count, {} for E without gain "
        "and {} for E with gain".format(*map(certain, COLUMNS)),
    ]


def fashion_phrases(summary: dict) -> list[str]:
    """Return the tables of both distances, and the phrases about them."""
    tables = map(_interval_table, summary["budgets"])
    return [*_accuracy_phrases(summary), *_attainment_phrases(summary), *tables]


def photographs_phrases(summary: dict) -> list[str]:
    """Return the tables of both distances, and the phrases about them."""
    sources = summary["sources"]
    phrase = f"of {sources['examined']} photographs, driver and judges agree on {sources['chosen']}"
    return [phrase, *_attainment_phrases(summary), *map(_interval_table, summary["budgets"])]


def _accuracy_phrases(summary: dict) -> list[str]:
    networks = summary["networks"]
    (images,) = {entry["test_images"] for entry in networks.values()}
    each = ", ".join(f"{name} {entry['test_accuracy']:.1%}" for name, entry in networks.items())
    return [f"{each} of {images:,} test images"]


def _attainment_phrases(summary: dict) -> list[str]:
    entries = summary["budgets"]
    counts = [f"{entry['attainment']['common']} at L2 = {entry['l2']:g}" for entry in entries]
    header = "| family | median G | both judges, of {} | E warp | E warp + gain |"
    headers = [header.format(entry["attainment"]["common"]) for entry in entries]
    return [f"of {entries[0]['attainment']['of']} sources, {' and '.join(counts)} are common", *headers]


def _interval_table(entry: dict, published: dict | None = None) -> str:
    """Return the rows of families and controls.

    Cells are like ".8 (.7 to .9)" or ".8 (.7 to .9) / published".
    """
    lines = []
    for family, measures in {**entry["families"], **entry["controls"]}.items():
        cells = []
        for name in COLUMNS:
            interval, theirs = measures[name], (published or {}).get(family, {}).get(name)
            show = number if name != "jointly" else lambda v, n=interval["cases"]: str(round(v * n))
            text = f"{show(interval['value'])} ({show(interval['low'])} to {show(interval['high'])})"
            show_published = number if name != "jointly" else lambda v: str(round(v * SOURCE_COUNT))
            cells.append(text if theirs is None else f"{text} / {show_published(theirs)}")
        lines.append(f"| {NAMES.get(family, family)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def shapes_phrases(summary: dict) -> list[str]:
    """Return the table of cosines by kind of image, and the phrases about it."""
    entry, groups = summary["budgets"][0], next(iter(summary["groups"].values()))
    attained, lines = entry["attainment"], []
    for family, measures in {**entry["families"], **entry["controls"]}.items():
        if family == "noise":
            continue
        cells = [hundredths(kind[family]["alignment"]["value"]) for kind in groups.values()]
        judged = measures["jointly"]
        cells += [number(measures["target_probability"]["value"]), str(round(judged["value"] * judged["cases"]))]
        lines.append(f"| {NAMES.get(family, family)} | {' | '.join(cells)} |")
    cases = lambda family: [kind[family]["alignment"]["cases"] for kind in groups.values()]
    range_of = lambda families: f"{min(sum(map(cases, families), []))} to {max(sum(map(cases, families), []))}"
    others = [family for family in entry["families"] if family != "csp-amplitude"]
    return [
        f"{attained['of']} sources",
        f"At L2 = {entry['l2']:.2f} only {attained['common']} sources are common",
        f"{range_of(others)} sources, for csp-amplitude {range_of(['csp-amplitude'])}",
        f"| family | {' | '.join(groups)} | median G | both judges, of {attained['common']} |",
        "\n".join(lines),
    ]


def hundredths(value: float) -> str:
    """Format a number like ".25" or "−1.25"."""
    return ("−" if value < 0 else "") + f"{abs(value):.2f}".removeprefix("0")


PHRASES = {
    "digits": digits_phrases,
    "shapes": shapes_phrases,
    "mnist": mnist_phrases,
    "fashion": fashion_phrases,
    "photographs": photographs_phrases,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("presets", nargs="*", metavar="PRESET", help=f"{', '.join(PRESETS)} (default: all)")
    parser.add_argument("--fashion", metavar="FOLDER", help="IDX files of Fashion-MNIST (default: Debian's package)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder for the results")
    parser.add_argument("--print", action="store_true", help="only print what bench/quality/README.md must contain")
    args = parser.parse_args()
    if unknown := set(args.presets) - set(PRESETS):
        parser.error(f"PRESET must be one of {', '.join(PRESETS)}, got {', '.join(sorted(unknown))}")
    if args.print:
        print("\n".join(results_phrases(args.out)))
        return
    entry = {"machine": machine() | {"cores": os.cpu_count()}, "load_before": [round(n, 2) for n in os.getloadavg()]}
    entry["fits"] = time_fits()
    for name in args.presets or PRESETS:
        options = ["--data", args.fashion] if name == "fashion" and args.fashion else []
        entry[name] = run_preset(name, args.out / f"{date.today()}-evaluate-{name}", *options)
    entry["load_after"] = [round(n, 2) for n in os.getloadavg()]
    file = args.out / f"{date.today()}-evaluate-times.json"
    earlier = json.loads(file.read_text()) if file.exists() else {}
    entry = {
        name: value for name, value in earlier.items() if name in PRESETS
    } | entry  # keeps earlier runs of this day
    file.write_text(json.dumps(entry, indent=1) + "\n")
    print(json.dumps(entry, indent=1))
    print("\n".join(results_phrases(args.out)))


if __name__ == "__main__":
    main()

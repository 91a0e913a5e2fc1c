"""The shipped evaluations, with their reports and what they take: ``python bench/evaluate.py [--out FOLDER]``.

Writes ``DATE-evaluate-digits`` and ``-shapes`` (report, summary, all records) and ``DATE-evaluate-times.json``, and
prints what ``bench/evaluation.md`` says of them (``--readme DATE`` prints it alone); a test checks that it does.
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
from machine import machine

import steerlens_fast as sf
from steerlens_fast.evaluate.measures.grids import sample, upsample
from steerlens_fast.evaluate.presets.presets import PRESETS
from steerlens_fast.evaluate.presets.published import FOLLOW_UP, SOURCES
from steerlens_fast.evaluate.report.html import number

FITS, SIZE = 300, 64
REPORT_FILES = ("index.html", "summary.json", "figures")


def fits() -> dict:
    """Return the seconds of fits of 64 x 64 images: known warps of up to 3 pixels with noise, three restarts."""
    torch.manual_seed(0)
    images = F.interpolate(torch.rand(FITS, 1, SIZE // 4, SIZE // 4), size=(SIZE, SIZE), mode="bicubic").clamp(0, 1)
    coarse = torch.rand(FITS, 2, 4, 4) * 6 - 3
    field = upsample(upsample(coarse, (8, 8)), (SIZE, SIZE))
    edits = (sample(images, field)[0] + 0.02 * torch.randn_like(images)).clamp(0, 1)
    sf.smooth_reconstruction(images[:16], edits[:16])  # warms up
    entry = {"fits": FITS, "size": SIZE}
    for workers in (1, os.cpu_count()):
        start = time.perf_counter()
        found = sf.smooth_reconstruction(images, edits, workers=workers)
        entry[f"seconds, {workers} workers"] = round(time.perf_counter() - start, 2)
    return entry | {"median E of the warp": round(found.warp.median().item(), 4)}


def preset(name: str, folder: Path) -> dict:
    """Run the command, keep its report, and return its wall-clock and CPU seconds."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "steerlens_fast.cli", "evaluate", "--preset", name, "--progress", "none"]
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([*command, "--out", f"{out}/it"], check=True)
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        _copy_report(Path(out, "it"), folder)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(seconds, 1), "cpu_seconds": round(used, 1)}


def _copy_report(out: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in REPORT_FILES:
        copy = shutil.copytree if (out / name).is_dir() else shutil.copyfile
        copy(out / name, folder / name)
    records = (out / "results.jsonl").read_bytes()
    (folder / "results.jsonl.gz").write_bytes(gzip.compress(records, mtime=0))


# --- Tables and phrases of bench/evaluation.md, apart from line breaks ----------------------------------------------

NAMES = {"noise": "white noise, a control", "true motion": "the true motion, a control"}
COLUMNS = ("target_probability", "jointly", "warp", "gain")


def results_phrases(results: Path, day: str) -> list[str]:
    """Return everything that bench/evaluation.md says of a day's results."""
    read = lambda name: json.loads((results / f"{day}-evaluate-{name}").read_text())
    return [
        *times_phrases(read("times.json")),
        *digits_phrases(read("digits/summary.json")),
        *shapes_phrases(read("shapes/summary.json")),
    ]


def times_phrases(entry: dict) -> list[str]:
    """Return the phrases about running times."""
    took = lambda name: "{} min {} s".format(*divmod(round(entry[name]["seconds"]), 60))
    fits = round(entry["fits"]["seconds, 2 workers"])
    loads = [entry[when][0] for when in ("load_before", "load_after")]
    load = f"(load {min(loads):.0f} to {max(loads):.0f})"
    said = f"{load}, the complete digits preset took {took('digits')}, shapes {took('shapes')}"
    count = entry["fits"]["fits"]
    return [said, f"fitting warp and gain to {count} images of 64 x 64, with three starts each, took {fits} s"]


def digits_phrases(summary: dict) -> list[str]:
    """Return the table beside the published values, and the phrases about it."""
    entry, both = summary["budgets"][0], summary["published"]["measures"]
    all_of = entry["attainment"]["of"]
    lines = []
    for family, measures in {**entry["families"], **entry["controls"]}.items():
        cells = []
        for name in COLUMNS:
            value, theirs = measures[name]["value"], FOLLOW_UP.get(family, {}).get(name)
            shown = number if name != "jointly" else lambda v: str(round(v * SOURCES))
            cells.append(shown(value) + ("" if theirs is None else f" / {shown(theirs)}"))
        lines.append(f"| {NAMES.get(family, family)} | {' | '.join(cells)} |")
    pairs = lambda name: len(both[name]["agrees"])
    ends = lambda name: [f(m[name]["value"] for m in entry["families"].values() if name in m) for f in (min, max)]
    share = lambda name: "{:.0f} to {:.0f} %".format(*(100 * value for value in ends(name)))
    return [
        f"{all_of} test digits toward the next digit",
        f"L2 = {entry['l2']:.2f}; all {entry['attainment']['common']} attained by all families",
        f"| family | median G | both judges, of {SOURCES} | E warp | E warp + gain |",
        "\n".join(lines),
        f"The order of G is the published one in {pairs('target_probability')} of 6 pairs of families",
        f"that of the judges in {pairs('jointly')}",
        f"Smooth reconstruction has that order in only {pairs('warp')} of 6"
        if pairs("warp") == pairs("gain")
        else "(E differs)",
        f"{share('folded')} of the pixels lie in folds",
        f"{share('departure')} of the coefficient edit is lost",
        "leakage {} to {}".format(*(hundredths(value) for value in ends("leakage"))),
        f"E of white noise is {hundredths(entry['controls']['noise']['warp']['value'])}",
    ]


def shapes_phrases(summary: dict) -> list[str]:
    """Return the table of cosines by kind, and the phrases about it."""
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
        f"{range_of(others)} of a kind; amplitudes {range_of(['csp-amplitude'])}",
        f"| family | {' | '.join(groups)} | median G | both judges, of {attained['common']} |",
        "\n".join(lines),
    ]


def hundredths(value: float) -> str:
    """Format a number with two decimal places."""
    return f"{value:.2f}".replace("0.", ".", 1).replace("-", "−")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="where results go")
    parser.add_argument(
        "--readme", metavar="DATE", help="measure nothing: print what bench/evaluation.md says of that day"
    )
    args = parser.parse_args()
    if args.readme:
        print("\n".join(results_phrases(args.out, args.readme)))
        return
    entry = {"machine": machine() | {"cores": os.cpu_count()}, "load_before": [round(n, 2) for n in os.getloadavg()]}
    entry["fits"] = fits()
    for name in PRESETS:
        entry[name] = preset(name, args.out / f"{date.today()}-evaluate-{name}")
    entry["load_after"] = [round(n, 2) for n in os.getloadavg()]
    (args.out / f"{date.today()}-evaluate-times.json").write_text(json.dumps(entry, indent=1) + "\n")
    print(json.dumps(entry, indent=1))
    print("\n".join(results_phrases(args.out, str(date.today()))))


if __name__ == "__main__":
    main()

"""Compares edit families at equal distances on scikit-learn's digits: ``python bench/quality/digits.py``.

The experiment is like that of the follow-up paper (steerlens_fast/evaluate/README.md) on MNIST. There are three
classifiers with different architectures and training. Each is the driver once: morphs use its gradients. The other two
are then the judges. Measured are the driver's probability of the target, and how often both judges predict the target.
Classifiers, targets and distances were chosen before the first run. Only one choice was made after it: to run the polar
rule toward both targets.

``steerlens-fast evaluate --preset digits`` has one driver, more measures, intervals and a report.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from itertools import product
from pathlib import Path

import torch
from torch import Tensor, nn

import steerlens_fast as sf
from steerlens_fast.evaluate.presets import digits_data, networks
from steerlens_fast.families import FAMILIES
from steerlens_fast.memory import threads

sys.path.append(str(Path(__file__).parents[1]))
from machine import machine  # noqa: E402

SOURCES = 300  # upper limit of the number of test digits
FRAMES = 12
BUDGETS = digits_data.DISTANCES  # a pixel changes as much (RMS) as in the follow-up
TARGETS = ("runner-up", "next digit")
REGIMES = ("persistent", "frozen")
RULES = ("complex", "polar")
# The follow-up's order of families, from high to low values; both of its measures have this order
PUBLISHED = ("pixel", "csp-joint", "csp-phase", "fourier")


# --- Classifiers


def classifiers(d: digits_data.LabelledImages, seed: int) -> dict[str, nn.Module]:
    """Train the three classifiers on the training digits."""
    makers = {"robust CNN": networks.robust_cnn, "plain CNN": networks.plain_cnn, "MLP": networks.mlp}
    return {name: make(d, seed) for name, make in makers.items()}


# --- Morphs


@dataclass(frozen=True)
class Case:
    """A lens and its target. A case is one cell in the table of each distance.

    ``rule`` is None for the pixel family, which has no rules: its cases are in the tables of both rules.
    """

    target: str
    rule: str | None
    driver: str
    regime: str
    family: str


def cases(drivers) -> Iterator[Case]:
    """Yield all cases; those of the pixel family only once, not for each rule."""
    for rule, target, driver, regime in product(RULES, TARGETS, drivers, REGIMES):
        for family in FAMILIES:
            if family != "pixel":
                yield Case(target, rule, driver, regime, family)
            elif rule == RULES[0]:
                yield Case(target, None, driver, regime, family)


def morphs(case: Case, model: nn.Module, images: Tensor, labels: Tensor) -> Iterator[tuple[float, sf.Morphs]]:
    """Yield each budget with the morphs that end there."""
    lens = sf.SteerableLens(model, family=case.family, rule=case.rule or "complex", regime=case.regime)
    target = case.target if case.target == "runner-up" else (labels + 1) % 10
    for budget in BUDGETS:
        yield budget, lens.morph(images, target, max_l2=budget, frames=FRAMES, score="last")


def measure(case: Case, models: dict[str, nn.Module], images: Tensor, labels: Tensor) -> Iterator[dict]:
    """Yield a row per budget, a summary of the predictions of driver and judges for the last frames."""
    judges = [model for name, model in models.items() if name != case.driver]
    for budget, m in morphs(case, models[case.driver], images, labels):
        misses = (m.l2[:, -1] - budget).abs()[m.attained].tolist()
        agree = torch.stack([judge(m.frames[:, -1]).argmax(1) == m.target for judge in judges])
        yield asdict(case) | {
            "l2": round(budget, 4),
            "median": float(f"{m.target_probability[:, -1].double().quantile(0.5):.4g}"),
            "driver_agrees": int(m.reached[:, -1].sum()),  # the driver predicts the target
            "both_judges": int(agree.all(0).sum()),
            "attained": int(m.attained.sum()),
            "ok": int(m.ok.sum()),
            "largest_miss": float(f"{max(misses, default=0.0):.2g}"),
        }


# --- Report


def select(rows: list[dict], target: str, rule: str, l2: float) -> list[dict]:
    """Return the rows of one table."""
    return [r for r in rows if (r["l2"], r["target"]) == (round(l2, 4), target) and r["rule"] in (rule, None)]


def table(rows: list[dict], target: str, rule: str, l2: float) -> list[str]:
    """Format a table of all drivers, regimes and families."""
    chosen = select(rows, target, rule, l2)
    cells = {(r["driver"], r["regime"], r["family"]): cell(r) for r in chosen}
    lines = [f"| driver | regime | {' | '.join(FAMILIES)} |", "|---" * (2 + len(FAMILIES)) + "|"]
    for driver, regime in dict.fromkeys((r["driver"], r["regime"]) for r in chosen):
        lines.append(f"| {driver} | {regime} | {' | '.join(cells[driver, regime, f] for f in FAMILIES)} |")
    return lines


def orders(rows: list[dict], target: str, rule: str, l2: float) -> Iterator[str]:
    """Yield, as text, for how many drivers the published order of families holds.

    Ties count as ordered.
    """
    chosen = select(rows, target, rule, l2)
    drivers = dict.fromkeys(r["driver"] for r in chosen)
    for regime, what in product(REGIMES, ("median", "both_judges")):
        value = {(r["driver"], r["family"]): r[what] for r in chosen if r["regime"] == regime}
        lists = [[value[driver, family] for family in PUBLISHED] for driver in drivers]
        held = sum(values == sorted(values, reverse=True) for values in lists)
        yield f"{regime}, {what}: {' >= '.join(PUBLISHED)} for {held} of {len(drivers)} drivers"


def cell(row: dict) -> str:
    """Return the text of a cell: the median probability, and for how many sources both judges predict the target.

    If some sources did not attain the distance, the text also has the number of those that did.
    """
    short = "" if row["attained"] == row["sources"] else f", {row['attained']} there"
    return f"{number(row['median'])} ({row['both_judges']}{short})"


def number(p: float) -> str:
    if p < 1e-3:
        return f"{p:.1e}".replace("e-0", "e-")
    return f"{p:.4f}".lstrip("0") if p < 1e-2 else f"{p:.3f}".lstrip("0")


def report(result: dict) -> Iterator[str]:
    count = result["sources"]
    yield ", ".join(f"{name} {accuracy:.1%}" for name, accuracy in result["test_accuracy"].items())
    yield f"median target probability (both judges predict the target, of {count}), {FRAMES} frames"
    for rule, target, l2 in product(RULES, TARGETS, BUDGETS):
        yield f"\n{target}, rule {rule}, L2 {l2:.4f}\n"
        yield from table(result["rows"], target, rule, l2)
        yield ""
        yield from orders(result["rows"], target, rule, l2)


def as_json(result: dict) -> str:
    """Return JSON with one line per row."""
    rows = ",\n".join("  " + json.dumps(row) for row in result["rows"])
    return json.dumps(result | {"rows": []}, indent=1).replace('"rows": []', f'"rows": [\n{rows}\n ]') + "\n"


def run(seed: int = 0, sources: int = SOURCES) -> dict:
    """Run the experiment."""
    d = digits_data.load(seed)
    models = classifiers(d, seed)
    right = torch.stack([model(d.test_images).argmax(1) == d.test_labels for model in models.values()])
    chosen = right.all(0).nonzero()[:sources, 0]
    images, labels = d.test_images[chosen], d.test_labels[chosen]
    rows = [row for case in cases(models) for row in measure(case, models, images, labels)]
    accuracy = {name: round(r.double().mean().item(), 4) for name, r in zip(models, right)}
    return {
        "machine": machine("scikit-learn"),
        "seed": seed,
        "sources": len(chosen),
        "frames": FRAMES,
        "epochs": networks.EPOCHS,
        "test_accuracy": accuracy,
        "rows": [row | {"sources": len(chosen)} for row in rows],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    out = Path(__file__).parent / "results" / f"{date.today()}-digits.json"
    parser.add_argument("--out", type=Path, default=out, help="default: bench/quality/results/DATE-digits.json")
    parser.add_argument("--seed", type=int, default=0, help="seed of the split into training and test, and of training")
    parser.add_argument("--sources", type=int, default=SOURCES, help="upper limit of the number of test digits")
    args = parser.parse_args()
    start = time.perf_counter()
    with threads(1):  # so that the result does not depend on the number of threads
        result = run(args.seed, args.sources)
    args.out.write_text(as_json(result))
    print("\n".join(report(result)))
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()

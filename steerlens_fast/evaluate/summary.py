"""Summarises the records of an evaluation by medians and proportions, with intervals."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import combinations, product
from pathlib import Path

import torch
from torch import Tensor

from .config import EvaluationConfig
from .measures.statistics import bootstrap, paired_difference, proportion, proportion_difference
from .measures.transfer import common_attainment
from .sources import EXCLUSION_REASONS
from .tasks import CONTROLS, PROBES, TRUE_MOTION, TaskRunner

# The measures of a family, with their statistic. A share is the proportion of sources for which the value is true.
SHARE = "share"
MEASURES = {
    "target_probability": "median",
    "driver_agrees": SHARE,  # the driver predicts the target
    "jointly": SHARE,  # all judges predict the target
    "warp": "median",
    "gain": "median",
    "folded": "median",  # share of pixels where the best warp folds (measures/smooth.py)
    "clipped_pixels": "median",
    "clipped_energy": "median",
    "leakage": "median",
    "departure": "median",
    "departure_clipped": "median",
    "alignment": "median",
    "recovered": "median",
}
RECOVERED = "recovered"  # displacement of an edit divided by that of the true motion at the same L2 distance
PAIRED = ("target_probability", "jointly", "warp", "gain", "alignment")
# Measures that need the true motion. They are also summarised for each kind of image. Displacements are summarised only
# for each kind, since the true motion changes another quantity in each kind, such as position or width.
GROUPED = ("alignment", "displacement", RECOVERED)


def read_results(path: Path) -> list[dict]:
    """Read the records of ``results.jsonl``. Items' keys may contain any bytes but line feeds."""
    lines = path.read_bytes().split(b"\n")
    return [json.loads(line.decode(errors="surrogateescape")) for line in lines if line]


def summarise(results: Path, config: EvaluationConfig, runner: TaskRunner, problems: list[str]) -> dict:
    """Return the summary of ``results.jsonl`` as JSON values.

    The statistics of a budget are computed over the sources for which every family attained the budget ("common"). Each
    statistic has the number of these sources that have a value. If a budget has no common sources, its statistics are
    None, and a problem says so.
    """
    records = read_results(results)
    chosen, problems = runner.sources, list(problems)
    table = _Table(records, len(chosen), config)
    budgets = [_budget(table, budget, problems) for budget in table.budgets]
    left_out = {
        reason: {"images": n, "description": EXCLUSION_REASONS[reason]} for reason, n in sorted(chosen.left_out.items())
    }
    summary = {
        "config": config.as_dict(),
        "judges": list(runner.judges),
        "sources": {"chosen": len(chosen), "examined": chosen.examined, "left_out": left_out},
        "problems": problems,
        "budgets": budgets,
        "bands": _bands(records, table) if config.probe_directions else None,
    }
    return summary if runner.truth is None else summary | {"groups": _groups(table)}


class _Table:
    """The records as columns [sources], one for each family, budget and measure. Missing values are NaN."""

    def __init__(self, records: list[dict], count: int, config: EvaluationConfig):
        self.count, self.config, self.groups = count, config, {}
        self.rows: dict[tuple[str, float], list[dict]] = {}
        for record in records:
            if record["family"] != PROBES:
                self.rows.setdefault((record["family"], record["budget"]), []).append(record)
                self.groups.setdefault(record.get("group"), set()).add(record["source"])
        self.budgets = list(dict.fromkeys(budget for _, budget in self.rows))
        known = dict.fromkeys(family for family, _ in self.rows)
        self.families = [family for family in known if family not in CONTROLS]
        self.controls = [family for family in known if family in CONTROLS]

    def column(self, family: str, budget: float, value: Callable[[dict], float | bool | None]) -> Tensor:
        """Return a column [sources], float64."""
        column = torch.full((self.count,), torch.nan, dtype=torch.float64, device="cpu")
        for row in self.rows[family, budget]:
            if (entry := value(row)) is not None:
                column[row["source"]] = float(entry)
        return column

    def measure(self, family: str, budget: float, name: str) -> Tensor:
        if name != RECOVERED:
            return self.column(family, budget, lambda row: row.get(name))
        true = torch.where(
            self.attained(TRUE_MOTION, budget), self.measure(TRUE_MOTION, budget, "factor_moved"), torch.nan
        )
        return self.measure(family, budget, "displacement") / true

    def attained(self, family: str, budget: float) -> Tensor:
        """Return whether each source attained the budget, [sources] bool."""
        return self.measure(family, budget, "attained") == 1

    def has(self, family: str, budget: float, name: str) -> bool:
        name = "displacement" if name == RECOVERED else name
        return any(row.get(name) is not None for row in self.rows[family, budget])

    @property
    def bootstrap_options(self) -> dict:
        """Options of the bootstrap: the same resamples for every statistic."""
        return {"draws": self.config.draws, "seed": self.config.seed}

    def interval(self, values: Tensor, statistic: str) -> dict:
        """Return a median or a share with its interval."""
        if statistic == SHARE:
            return proportion(values).as_dict()
        return bootstrap(values, statistic, **self.bootstrap_options).as_dict()

    def difference(self, first: Tensor, second: Tensor, statistic: str) -> dict:
        """Return the paired difference of a median or a share with its interval."""
        if statistic == SHARE:
            return proportion_difference(first, second).as_dict()
        return paired_difference(first, second, statistic, **self.bootstrap_options).as_dict()


def _without_least(attained: dict[str, Tensor]) -> str:
    """Return a hint how many sources are common without the families that attained the fewest, if there are any."""
    counts = {family: int(reached.sum()) for family, reached in attained.items()}
    others = {family: attained[family] for family, count in counts.items() if count > min(counts.values())}
    if not others or not (common := common_attainment(others).count):
        return ""
    return f"; with families (--families) {','.join(others)}, {common} would be in common"


def _budget(table: _Table, budget: float, problems: list[str]) -> dict:
    attained = {family: table.attained(family, budget) for family in table.families}
    reached = common_attainment(attained)
    if not reached.count:
        problems.append(f"no source attained L2 = {budget:.4g} in every family: {reached}" + _without_least(attained))
    never = [family for family, n in reached.by_family.items() if not n]
    problems += [f"no source attained L2 = {budget:.4g} in family {family}" for family in never]
    # A control is measured over the common sources for which the control attained the budget, too.
    attained_too = {control: reached.common & table.attained(control, budget) for control in table.controls}
    counted = {**dict.fromkeys(table.families, reached.common), **attained_too}
    measures = {family: _family(table, family, budget, counted[family]) for family in counted}
    attainment = {"common": reached.count, "of": reached.of, "by_family": reached.by_family}
    attainment["by_control"] = {control: int(table.attained(control, budget).sum()) for control in table.controls}
    family_pairs, control_pairs = list(combinations(table.families, 2)), list(product(table.families, table.controls))
    return {
        "l2": budget,
        "attainment": attainment,
        "families": {family: measures[family] for family in table.families},
        "controls": {family: measures[family] for family in table.controls},
        "paired": {name: _paired(table, budget, name, counted, family_pairs) for name in PAIRED},
        "paired_with_controls": {name: _paired(table, budget, name, counted, control_pairs) for name in PAIRED},
    }


def _family(table: _Table, family: str, budget: float, which: Tensor) -> dict:
    """Return the measures of a family over some sources. They include the predictions of each judge."""
    summary, selected = {}, lambda values: torch.where(which, values, torch.nan)
    for name, statistic in MEASURES.items():
        if table.has(family, budget, name):
            summary[name] = table.interval(selected(table.measure(family, budget, name)), statistic)
    judges = next((row["judges"] for row in table.rows[family, budget] if row.get("judges")), {})
    for judge in judges:
        agrees = lambda row, judge=judge: (row.get("judges") or {}).get(judge)
        summary.setdefault("judges", {})[judge] = table.interval(selected(table.column(family, budget, agrees)), SHARE)
    return summary


def _paired(table: _Table, budget: float, name: str, counted: dict[str, Tensor], pairs: list[tuple]) -> dict:
    """Return the paired differences between families, over the sources that have both values."""
    result = {}
    for pair in pairs:
        if all(table.has(family, budget, name) for family in pair):
            columns = (torch.where(counted[f], table.measure(f, budget, name), torch.nan) for f in pair)
            result[" - ".join(pair)] = table.difference(*columns, MEASURES[name])
    return result


def _bands(records: list[dict], table: _Table) -> dict:
    """Return the ``advantage`` of :func:`.band_probes` by scale and orientation."""
    probes = [record for record in records if record["family"] == PROBES]
    scales, orientations = len(probes[0]["advantage"]), len(probes[0]["advantage"][0])
    advantage = torch.full((table.count, scales, orientations), torch.nan, dtype=torch.float64, device="cpu")
    for record in probes:
        values = [[torch.nan if v is None else v for v in row] for row in record["advantage"]]
        advantage[record["source"]] = torch.tensor(values, dtype=torch.float64, device="cpu")
    cell = lambda s, k, f, statistic: table.interval(f(advantage[:, s, k]), statistic)
    places = [[(s, k) for k in range(orientations)] for s in range(scales)]
    positive = lambda v: torch.where(v.isnan(), v, (v > 0).double())
    return {
        "family": table.config.probe_family,
        "l2": table.config.probe_l2,
        "directions": table.config.probe_directions,
        "advantage": [[cell(s, k, lambda v: v, "median") for s, k in row] for row in places],
        "positive": [[cell(s, k, positive, SHARE) for s, k in row] for row in places],
    }


def _groups(table: _Table) -> dict:
    """Return the measures in ``GROUPED`` of every family and control, by budget and kind of image (``group``).

    They are computed over the sources of the kind for which the family attained the budget.
    """
    result: dict = {}
    for budget in table.budgets:
        for group, members in sorted(table.groups.items()):
            members_mask = torch.zeros(table.count, dtype=torch.bool, device="cpu")
            members_mask[list(members)] = True
            for family in (*table.families, *table.controls):
                counted = members_mask & table.attained(family, budget)
                columns = {name: table.measure(family, budget, name) for name in GROUPED}
                result.setdefault(f"{budget:.4g}", {}).setdefault(group, {})[family] = {
                    name: table.interval(torch.where(counted, values, torch.nan)[members_mask], "median")
                    for name, values in columns.items()
                }
    return result

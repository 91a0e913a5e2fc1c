"""From records to numbers: medians and proportions with intervals, denominators, paired differences, bands, groups."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import combinations, product
from pathlib import Path

import torch
from torch import Tensor

from .config import EvaluationConfig
from .measures.statistics import bootstrap, paired_difference
from .measures.transfer import common_attainment
from .sources import WHY
from .tasks import CONTROLS, PROBES, TRUE, Work

# What is summed up of every family, and how.
MEASURES = {
    "target_probability": "median",
    "driver": "mean",
    "jointly": "mean",
    "warp": "median",
    "gain": "median",
    "folded": "median",
    "clipped_pixels": "median",
    "clipped_energy": "median",
    "leakage": "median",
    "departure": "median",
    "departure_clipped": "median",
    "alignment": "median",
    "recovered": "median",
}
RECOVERED = "recovered"  # of the true displacement to the same distance, the share that phases tell: it has no unit
PAIRED = ("target_probability", "jointly", "warp", "gain", "alignment")
GROUPED = ("alignment", "displacement", RECOVERED)  # kind by kind: factors of different kinds have different units


def read_results(path: Path) -> list[dict]:
    """The records of ``results.jsonl``; names of files may hold any byte, and any line separator but this one."""
    lines = path.read_bytes().split(b"\n")
    return [json.loads(line.decode(errors="surrogateescape")) for line in lines if line]


def summarise(results: Path, config: EvaluationConfig, work: Work, problems: list[str]) -> dict:
    """What ``results.jsonl`` says, JSON-able.

    Statistics of a budget are over the sources that every family brought to it ("common"); each stands with the number
    of cases that have a value and the number that could have. A budget that no source attained in every family has
    values of None, and is among the problems.
    """
    records = read_results(results)
    chosen, problems = work.chosen, list(problems)
    table = _Table(records, len(chosen), config)
    budgets = [_budget(table, budget, problems) for budget in table.budgets]
    left_out = {reason: {"images": n, "why": WHY[reason]} for reason, n in sorted(chosen.left_out.items())}
    summary = {
        "config": config.as_dict(),
        "judges": list(work.judges),
        "sources": {"chosen": len(chosen), "looked_at": chosen.seen, "left_out": left_out},
        "problems": problems,
        "budgets": budgets,
        "bands": _bands(records, table) if config.probe_directions else None,
    }
    return summary if work.truth is None else summary | {"groups": _groups(table)}


class _Table:
    """Columns [sources] of every family and budget; NaN where there is no value."""

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
        """[sources], float64."""
        found = torch.full((self.count,), torch.nan, dtype=torch.float64, device="cpu")
        for row in self.rows[family, budget]:
            told = value(row)
            if told is not None:
                found[row["source"]] = float(told)
        return found

    def measure(self, family: str, budget: float, name: str) -> Tensor:
        if name != RECOVERED:
            return self.column(family, budget, lambda row: row.get(name))
        true = torch.where(self.attained(TRUE, budget), self.measure(TRUE, budget, "factor_moved"), torch.nan)
        return self.measure(family, budget, "displacement") / true

    def attained(self, family: str, budget: float) -> Tensor:
        """[sources], bool."""
        return self.measure(family, budget, "attained") == 1

    def has(self, family: str, budget: float, name: str) -> bool:
        name = "displacement" if name == RECOVERED else name
        return any(row.get(name) is not None for row in self.rows[family, budget])

    @property
    def how(self) -> dict:
        """The same draws for everything."""
        return {"draws": self.config.draws, "seed": self.config.seed}

    def bootstrap(self, values: Tensor, statistic: str) -> dict:
        return bootstrap(values, statistic, **self.how).as_dict()


def _budget(table: _Table, budget: float, problems: list[str]) -> dict:
    common = common_attainment({family: table.attained(family, budget) for family in table.families})
    if not common.count:
        problems.append(f"L2 = {budget:.4g} was attained by every family for none of the sources: {common}")
    never = [family for family, n in common.by_family.items() if not n]
    problems += [f"L2 = {budget:.4g} was not attained by {family} for any source" for family in never]
    # Controls: of the common sources those that they brought there themselves.
    there = {control: common.common & table.attained(control, budget) for control in table.controls}
    within = {**dict.fromkeys(table.families, common.common), **there}
    each = {family: _family(table, family, budget, within[family]) for family in within}
    told = {"common": common.count, "of": common.of, "by_family": common.by_family}
    told["by_control"] = {control: int(table.attained(control, budget).sum()) for control in table.controls}
    among, against = list(combinations(table.families, 2)), list(product(table.families, table.controls))
    return {
        "l2": budget,
        "attainment": told,
        "families": {family: each[family] for family in table.families},
        "controls": {family: each[family] for family in table.controls},
        "paired": {name: _paired(table, budget, name, within, among) for name in PAIRED},
        "paired_with_controls": {name: _paired(table, budget, name, within, against) for name in PAIRED},
    }


def _family(table: _Table, family: str, budget: float, which: Tensor) -> dict:
    """Every measure that the family has, over some sources; of judges one by one, too."""
    told, within = {}, lambda values: torch.where(which, values, torch.nan)
    for name, statistic in MEASURES.items():
        if table.has(family, budget, name):
            told[name] = table.bootstrap(within(table.measure(family, budget, name)), statistic)
    judges = next((row["judges"] for row in table.rows[family, budget] if row.get("judges")), {})
    for judge in judges:
        of = lambda row, judge=judge: (row.get("judges") or {}).get(judge)
        told.setdefault("judges", {})[judge] = table.bootstrap(within(table.column(family, budget, of)), "mean")
    return told


def _paired(table: _Table, budget: float, name: str, within: dict[str, Tensor], pairs: list[tuple]) -> dict:
    """The first minus the second, source by source, over those that both have."""
    told = {}
    for pair in pairs:
        if all(table.has(family, budget, name) for family in pair):
            columns = (torch.where(within[f], table.measure(f, budget, name), torch.nan) for f in pair)
            told[" - ".join(pair)] = paired_difference(*columns, MEASURES[name], **table.how).as_dict()
    return told


def _bands(records: list[dict], table: _Table) -> dict:
    """Advantages by scale and orientation."""
    probes = [record for record in records if record["family"] == PROBES]
    advantage = torch.full((table.count, *_shape(probes[0]["advantage"])), torch.nan, dtype=torch.float64, device="cpu")
    for record in probes:
        values = [[torch.nan if v is None else v for v in row] for row in record["advantage"]]
        advantage[record["source"]] = torch.tensor(values, dtype=torch.float64, device="cpu")
    cell = lambda s, k, f, how: table.bootstrap(f(advantage[:, s, k]), how)
    places = [[(s, k) for k in range(advantage.shape[2])] for s in range(advantage.shape[1])]
    positive = lambda v: torch.where(v.isnan(), v, (v > 0).double())
    return {
        "family": table.config.probe_family,
        "l2": table.config.probe_l2,
        "directions": table.config.probe_directions,
        "advantage": [[cell(s, k, lambda v: v, "median") for s, k in row] for row in places],
        "positive": [[cell(s, k, positive, "mean") for s, k in row] for row in places],
    }


def _shape(rows: list[list]) -> tuple[int, int]:
    return len(rows), len(rows[0])


def _groups(table: _Table) -> dict:
    """By budget and kind: alignment, displacement in units of the kind's factor, and as a share of the true one.

    Of every family and control, over the sources of the kind that it brought to the budget.
    """
    told: dict = {}
    for budget in table.budgets:
        for group, members in sorted(table.groups.items()):
            mine = torch.zeros(table.count, dtype=torch.bool, device="cpu")
            mine[list(members)] = True
            for family in (*table.families, *table.controls):
                reached = mine & table.attained(family, budget)
                columns = {name: table.measure(family, budget, name) for name in GROUPED}
                told.setdefault(f"{budget:.4g}", {}).setdefault(group, {})[family] = {
                    name: table.bootstrap(torch.where(reached, values, torch.nan)[mine], "median")
                    for name, values in columns.items()
                }
    return told

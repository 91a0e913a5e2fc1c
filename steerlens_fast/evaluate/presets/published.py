"""Compares results with the follow-up's published values, which are for another data set and other networks."""

from __future__ import annotations

from itertools import combinations

from ..config import EvaluationConfig
from .presets import FOLLOW_UP_BUDGETS, preset

SOURCE = '"Confidence Is Not Evidence": MNIST, 28 x 28, 300 sources, L2 = 2, medians'
SOURCES = 300
L2 = FOLLOW_UP_BUDGETS[0]  # at 32 x 32 pixels; the same RMS change as 2 at 28 x 28
# Options that change the results only by chance; families, budgets and sources are checked separately.
IGNORED_FIELDS = (
    "trust_checkpoint",
    "sources",
    "limit",
    "max_l2",
    "distances",
    "probe_family",
    "probe_l2",
    "probe_directions",
    "draws",
    "samples",
)
IGNORED_FIELDS += ("seed", "batch_size", "threads", "device", "channels_last", "families")
# Median target probability, share of sources for which both judges predict the target, median E of the warp, and of
# the warp with gain.
FOLLOW_UP: dict[str, dict[str, float]] = {
    "pixel": {"target_probability": 0.962, "jointly": 10 / SOURCES, "warp": 0.365, "gain": 0.457},
    "fourier": {"target_probability": 1.6e-5, "jointly": 3 / SOURCES, "warp": 0.345, "gain": 0.410},
    "csp-phase": {"target_probability": 0.0035, "jointly": 6 / SOURCES, "warp": 0.503, "gain": 0.719},
    "csp-joint": {"target_probability": 0.0095, "jointly": 8 / SOURCES, "warp": 0.505, "gain": 0.722},
}


def compare_with_published(config: EvaluationConfig, summary: dict) -> dict | None:
    """Return the comparison, or the reasons why it is not made; None if the data are not the preset's digits."""
    shipped = EvaluationConfig(**preset("digits"))
    if config.data != shipped.data:
        return None
    ours = [budget for budget in summary["budgets"] if abs(budget["l2"] / L2 - 1) < 1e-3]
    reasons = [
        f"{name} is {_field_text(config, name)}, not {_field_text(shipped, name)}"
        for name in _changed_fields(config, shipped)
    ]
    if missing := [family for family in FOLLOW_UP if family not in config.families]:
        reasons.append(f"the families do not include {', '.join(missing)}")
    if summary["sources"]["chosen"] != shipped.sources:
        reasons.append(f"{summary['sources']['chosen']} images were selected, not {shipped.sources}")
    if not ours:
        reasons.append(f"the distances do not include {L2:.4g}, which corresponds to the follow-up's L2 = 2")
    elif not ours[0]["attainment"]["common"]:
        reasons.append(f"no source attained L2 = {L2:.4g} in every family")
    if len(summary["judges"]) != len(shipped.judges):
        reasons.append(f"{len(summary['judges'])} judges have the driver's classes, not {len(shipped.judges)}")
    if reasons:
        return {"not_compared": reasons}
    attainment = ours[0]["attainment"]
    result = {"l2": ours[0]["l2"], "cases": attainment["common"], "of": attainment["of"]}
    return result | {"measures": compare_orders(ours[0]["families"])}


def _changed_fields(config: EvaluationConfig, shipped: EvaluationConfig) -> list[str]:
    """Return the fields that differ from the preset's."""
    ours, theirs = config.as_dict(), shipped.as_dict()
    return [name for name in theirs if name not in IGNORED_FIELDS and ours[name] != theirs[name]]


def _field_text(config: EvaluationConfig, name: str) -> str:
    value = getattr(config, name)
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def compare_orders(families: dict) -> dict:
    """Compare the order of our families with the published one, by pairs, for every measure.

    Parameters
    ----------
    families : dict
        The families of one budget of a summary: family -> measure -> interval.

    Returns
    -------
    dict
        For each measure: ``ours`` and ``published``, the values by family; ``agrees``, the pairs "a > b" of the
        published order that have the same order in ours; and ``differs``, the other pairs, including ties.

    Examples
    --------
    >>> value = lambda v: {name: {"value": v} for name in ("target_probability", "jointly", "warp", "gain")}
    >>> compare_orders({"pixel": value(0.5), "fourier": value(0.1)})["warp"]["agrees"]
    ['pixel > fourier']
    """
    result = {}
    for measure in next(iter(FOLLOW_UP.values())):
        value = lambda family, measure=measure: families.get(family, {}).get(measure, {}).get("value")
        ours = {family: value(family) for family in FOLLOW_UP if value(family) is not None}
        published = {family: FOLLOW_UP[family][measure] for family in ours}
        order = sorted(published, key=published.get, reverse=True)
        pairs = list(combinations(order, 2))
        same = [pair for pair in pairs if ours[pair[0]] > ours[pair[1]]]
        as_text = lambda pairs: [f"{first} > {second}" for first, second in pairs]
        result[measure] = {
            "ours": ours,
            "published": published,
            "agrees": as_text(same),
            "differs": as_text(pair for pair in pairs if pair not in same),
        }
    return result

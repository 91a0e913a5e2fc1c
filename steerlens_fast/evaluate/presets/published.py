"""Compares results with those published in "Confidence Is Not Evidence", a follow-up of the method's paper.

The published values are for other networks.
"""

from __future__ import annotations

from itertools import combinations

from ..config import EvaluationConfig
from .presets import preset

CITATION = '"Confidence Is Not Evidence": MNIST, 28 x 28, 300 sources, L2 = 2, medians'
SOURCE_COUNT = 300
# The distance at which each preset is compared. For digits (32 x 32 pixels), its RMS equals that of L2 = 2 for 28 x 28.
COMPARED = {name: preset(name)["distances"][0] for name in ("digits", "mnist")}
NOTES = {
    "digits": "This is not a reproduction: the images are 8 × 8 digits upsampled to 32 × 32, not MNIST, networks and "
    "targets are different, and distances are matched by RMS. The order of families can be compared, but not the "
    "values.",
    "mnist": "The images are MNIST digits of the published size, at the published distances; networks and targets are "
    "different, and the networks were trained on 4,000 digits. The values depend on the networks; the order of "
    "families can be compared.",
}
# Options that do not change the compared values except by chance; families, budgets and sources are checked separately.
IGNORED_FIELDS = (
    "trust_checkpoint",
    "sources",
    "order",
    "limit",
    "max_l2",
    "distances",
    "probe_family",
    "probe_l2",
    "probe_directions",
    "draws",
    "samples",
    "seed",
    "batch_size",
    "threads",
    "device",
    "channels_last",
    "families",
)
# The published values: median target probability; share of sources for which both judges predict the target; medians of
# the share of an edit that a warp explains, and that a warp with gain explains
FOLLOW_UP: dict[str, dict[str, float]] = {
    "pixel": {"target_probability": 0.962, "jointly": 10 / SOURCE_COUNT, "warp": 0.365, "gain": 0.457},
    "fourier": {"target_probability": 1.6e-5, "jointly": 3 / SOURCE_COUNT, "warp": 0.345, "gain": 0.410},
    "csp-phase": {"target_probability": 0.0035, "jointly": 6 / SOURCE_COUNT, "warp": 0.503, "gain": 0.719},
    "csp-joint": {"target_probability": 0.0095, "jointly": 8 / SOURCE_COUNT, "warp": 0.505, "gain": 0.722},
}


def compare_with_published(config: EvaluationConfig, summary: dict) -> dict | None:
    """Return the comparison or the reasons why there is none; None if the data are not those of a compared preset."""
    name = next((name for name in COMPARED if preset(name)["data"] == config.data), None)
    if name is None:
        return None
    shipped, l2 = EvaluationConfig(**preset(name)), COMPARED[name]
    ours = [budget for budget in summary["budgets"] if abs(budget["l2"] / l2 - 1) < 1e-3]
    reasons = [
        f"{field} is {_field_text(config, field)}, not {_field_text(shipped, field)}"
        for field in _changed_fields(config, shipped)
    ]
    if missing := [family for family in FOLLOW_UP if family not in config.families]:
        reasons.append(f"the families do not include {', '.join(missing)}")
    if summary["sources"]["chosen"] != shipped.sources:
        reasons.append(f"{summary['sources']['chosen']} images were selected, not {shipped.sources}")
    if not ours:
        reasons.append(f"the distances do not include {l2:.4g}, which corresponds to the follow-up's L2 = 2")
    elif not ours[0]["attainment"]["common"]:
        reasons.append(f"no source attained L2 = {l2:.4g} in every family")
    if len(summary["judges"]) != len(shipped.judges):
        reasons.append(f"{len(summary['judges'])} judges were used, not {len(shipped.judges)}")
    if reasons:
        return {"not_compared": reasons}
    attainment = ours[0]["attainment"]
    result = {"note": NOTES[name], "l2": ours[0]["l2"], "cases": attainment["common"], "of": attainment["of"]}
    return result | {"measures": compare_orders(ours[0]["families"], ours[0].get("paired", {}))}


def _changed_fields(config: EvaluationConfig, shipped: EvaluationConfig) -> list[str]:
    """Return the fields that differ from the preset's."""
    ours, theirs = config.as_dict(), shipped.as_dict()
    return [name for name in theirs if name not in IGNORED_FIELDS and ours[name] != theirs[name]]


def _field_text(config: EvaluationConfig, name: str) -> str:
    value = getattr(config, name)
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def compare_orders(families: dict, paired: dict) -> dict:
    """Compare the order of our families with the published one, by pairs of families, for every measure.

    Parameters
    ----------
    families : dict
        The families of one budget of a summary: family -> measure -> interval.
    paired : dict
        The paired differences of the same budget: measure -> "a - b" -> interval.

    Returns
    -------
    dict
        For each measure:

        ``ours``, ``published``
            The values of each family.
        ``intervals``
            The limits of our values' intervals.
        ``agrees``
            The pairs "a > b" of the published order for which our values have the same order.
        ``differs``
            The other pairs of the published order, including ties.
        ``unclear``
            Of all pairs, those for which the interval of our paired difference contains 0.

    Examples
    --------
    >>> value = lambda v: {name: {"value": v} for name in ("target_probability", "jointly", "warp", "gain")}
    >>> paired = {"warp": {"pixel - fourier": {"low": -0.1, "high": 0.9}}}
    >>> warp = compare_orders({"pixel": value(0.5), "fourier": value(0.1)}, paired)["warp"]
    >>> warp["agrees"], warp["unclear"]
    (['pixel > fourier'], ['pixel > fourier'])
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
        differences = paired.get(measure, {})
        result[measure] = {
            "ours": ours,
            "intervals": {f: [families[f][measure].get(end) for end in ("low", "high")] for f in ours},
            "published": published,
            "agrees": as_text(same),
            "differs": as_text(pair for pair in pairs if pair not in same),
            "unclear": as_text(pair for pair in pairs if _contains_zero(differences, *pair)),
        }
    return result


def _contains_zero(differences: dict, first: str, second: str) -> bool:
    """Return whether the interval of the difference of two families contains 0."""
    interval = differences.get(f"{first} - {second}") or differences.get(f"{second} - {first}")
    return interval is not None and interval["low"] is not None and interval["low"] <= 0 <= interval["high"]

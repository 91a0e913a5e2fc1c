"""The follow-up's published values, to be read beside ours: another data set, other networks, other levels."""

from __future__ import annotations

from itertools import combinations

from ..config import EvaluationConfig
from .presets import FOLLOW_UP_BUDGETS, preset

SOURCE = '"Confidence Is Not Evidence": MNIST, 28 x 28, 300 sources, L2 = 2, medians'
SOURCES = 300
L2 = FOLLOW_UP_BUDGETS[0]  # of the shipped digits, 32 x 32: the RMS of 2 on 28 x 28 pixels
# Options that change no number here, or none beyond chance; families, budgets and sources are compared by themselves.
FREE = (
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
FREE += ("seed", "batch_size", "threads", "device", "channels_last", "families")
# Median target probability, sources on which both judges agree, median E of the warp, and of the warp with gain.
FOLLOW_UP: dict[str, dict[str, float]] = {
    "pixel": {"target_probability": 0.962, "jointly": 10 / SOURCES, "warp": 0.365, "gain": 0.457},
    "fourier": {"target_probability": 1.6e-5, "jointly": 3 / SOURCES, "warp": 0.345, "gain": 0.410},
    "csp-phase": {"target_probability": 0.0035, "jointly": 6 / SOURCES, "warp": 0.503, "gain": 0.719},
    "csp-joint": {"target_probability": 0.0095, "jointly": 8 / SOURCES, "warp": 0.505, "gain": 0.722},
}


def published(config: EvaluationConfig, summary: dict) -> dict | None:
    """What a summary has beside the published values; why it has none; None where the data are not the digits."""
    shipped = EvaluationConfig(**preset("digits"))
    if config.data != shipped.data:
        return None
    ours = [budget for budget in summary["budgets"] if abs(budget["l2"] / L2 - 1) < 1e-3]
    why = [f"{name} is {_of(config, name)}, not {_of(shipped, name)}" for name in _other(config, shipped)]
    if missing := [family for family in FOLLOW_UP if family not in config.families]:
        why.append(f"families lack {', '.join(missing)}")
    if summary["sources"]["chosen"] != shipped.sources:
        why.append(f"{summary['sources']['chosen']} images are sources, not {shipped.sources}")
    if not ours:
        why.append(f"distances lack {L2:.4g}, which is the follow-up's L2 = 2")
    elif not ours[0]["attainment"]["common"]:
        why.append(f"L2 = {L2:.4g} was attained by every family for no source")
    if len(summary["judges"]) != len(shipped.judges):
        why.append(f"{len(summary['judges'])} judges have the driver's classes, not {len(shipped.judges)}")
    if why:
        return {"left_out": why}
    found = ours[0]["attainment"]
    told = {"l2": ours[0]["l2"], "cases": found["common"], "of": found["of"]}
    return told | {"measures": beside(ours[0]["families"])}


def _other(config: EvaluationConfig, shipped: EvaluationConfig) -> list[str]:
    """Fields that are not the shipped ones."""
    ours, theirs = config.as_dict(), shipped.as_dict()
    return [name for name in theirs if name not in FREE and ours[name] != theirs[name]]


def _of(config: EvaluationConfig, name: str) -> str:
    value = getattr(config, name)
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def beside(families: dict) -> dict:
    """Compare the order of our families with the published one, pair by pair, in every measure.

    Parameters
    ----------
    families : dict
        Of one budget of a summary: family -> measure -> interval.

    Returns
    -------
    dict
        By measure: ``ours`` and ``published`` values by family, the pairs "a > b" of the published order that ours
        ``agrees`` with, and those that ``differs``; a tie of ours is among these.

    Examples
    --------
    >>> value = lambda v: {name: {"value": v} for name in ("target_probability", "jointly", "warp", "gain")}
    >>> beside({"pixel": value(0.5), "fourier": value(0.1)})["warp"]["agrees"]
    ['pixel > fourier']
    """
    told = {}
    for measure in next(iter(FOLLOW_UP.values())):
        value = lambda family, measure=measure: families.get(family, {}).get(measure, {}).get("value")
        ours = {family: value(family) for family in FOLLOW_UP if value(family) is not None}
        published = {family: FOLLOW_UP[family][measure] for family in ours}
        order = sorted(published, key=published.get, reverse=True)
        pairs = list(combinations(order, 2))
        held = [pair for pair in pairs if ours[pair[0]] > ours[pair[1]]]
        say = lambda some: [f"{first} > {second}" for first, second in some]
        told[measure] = {
            "ours": ours,
            "published": published,
            "agrees": say(held),
            "differs": say(pair for pair in pairs if pair not in held),
        }
    return told

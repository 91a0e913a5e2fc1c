"""The follow-up's published values, to be read beside ours: another data set, other networks, other levels."""

from __future__ import annotations

from itertools import combinations

SOURCE = '"Confidence Is Not Evidence": MNIST, 28 x 28, 300 sources, L2 = 2, medians'
SOURCES = 300
# Median target probability, sources on which both judges agree, median E of the warp, and of the warp with gain.
FOLLOW_UP: dict[str, dict[str, float]] = {
    "pixel": {"target_probability": 0.962, "jointly": 10 / SOURCES, "warp": 0.365, "gain": 0.457},
    "fourier": {"target_probability": 1.6e-5, "jointly": 3 / SOURCES, "warp": 0.345, "gain": 0.410},
    "csp-phase": {"target_probability": 0.0035, "jointly": 6 / SOURCES, "warp": 0.503, "gain": 0.719},
    "csp-joint": {"target_probability": 0.0095, "jointly": 8 / SOURCES, "warp": 0.505, "gain": 0.722},
}


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

"""The titles, rows and columns of the report's tables."""

from __future__ import annotations

from ...lens.schedule import count_frames
from ..edits import gradient_steps
from ..presets.published import FOLLOW_UP

COLUMNS = {
    "target_probability": "driver's target probability",
    "driver_agrees": "driver: target predicted",
    "jointly": "all judges",
    "warp": "explained by a warp",
    "gain": "explained by a warp with gain",
    "folded": "pixels where the warp folds",
    "clipped_energy": "clipped",
    "leakage": "leakage",
    "departure": "departure",
    "alignment": "alignment",
}
GROUPED = {  # measures with a table by kind of image, and the titles of these tables
    "alignment": "Cosine between the edit and the true derivative image",
    "recovered": "Displacement measured by phases, divided by the true motion's displacement at the same L2 distance",
    "displacement": "Displacement measured by phases: the change of position, width, ... (depending on the kind)",
}
PUBLISHED_MEASURES = {name: COLUMNS[name] for name in FOLLOW_UP["pixel"]}  # the same for every family


def facts(summary: dict) -> dict[str, str]:
    """Return the titles and texts of the table of settings."""
    config, sources = summary["config"], summary["sources"]
    reasons = [f"{entry['images']} {reason} ({entry['description']})" for reason, entry in sources["left_out"].items()]
    left_out = ", ".join(reasons) or "none"
    networks = summary.get("networks", {})
    accuracies = [f"{name} {entry['test_accuracy']:.1%} of {entry['test_images']}" for name, entry in networks.items()]
    return {
        "Driver": config["driver"],
        "Judges": ", ".join(config["judges"]) or "none",
        **({"Test accuracy": ", ".join(accuracies)} if accuracies else {}),
        "Data": config["data"],
        "Sources": f"{sources['chosen']} of {sources['examined']} images; left out: {left_out}",
        "Target": str(config["target"]),
        "Edits": f"{config['regime']}, {config['rule']} rule, {_counts(config)}, {config['objective']}",
        "Intervals": f"95 %; medians: bootstrap with {config['draws']:,} resamples of the sources, the same for every "
        "family and distance (too narrow for few sources: they contain the true median with probability 87 % for 4 or "
        "7 sources, and 89 to 96 % from 8 on); counts: Wilson; differences of counts: Agresti and Min",
    }


def _counts(config: dict) -> str:
    """Return the number of frames or of gradients. The number of gradients is shown if each step has a new one."""
    frames, steps = config["frames"], config["steps"]
    if config["regime"] == "frozen":
        return f"{count_frames(frames, steps)} frames"
    return f"{gradient_steps(frames, steps)} gradients"


def columns(families: dict) -> list[str]:
    """Return the measures that at least one family has."""
    return [name for name in COLUMNS if any(name in measures for measures in families.values())]


def paired_measures(differences: dict) -> list[str]:
    """Return the measures for which there are paired differences."""
    return [name for name, pairs in differences.items() if pairs]


def pair_names(differences: dict) -> dict[str, str]:
    """Map the printed name of each pair of families to its key.

    Examples
    --------
    >>> pair_names({"warp": {"pixel - noise": {}}})
    {'pixel − noise': 'pixel - noise'}
    """
    keys = dict.fromkeys(key for pairs in differences.values() for key in pairs)
    return {key.replace(" - ", " − "): key for key in keys}


def any_family_has(families: dict, name: str) -> bool:
    """Return whether any family has this measure.

    Examples
    --------
    >>> any_family_has({"pixel": {}, "fourier": {"recovered": {}}}, "recovered")
    True
    """
    return any(name in measures for measures in families.values())


def scale_titles(rows: list) -> dict[str, int]:
    """Map the title of each row of bands to its index."""
    return {f"scale {s}": s for s in range(len(rows))}


def orientation_titles(row: list) -> dict[str, int]:
    """Map the title of each column of bands to its index.

    Examples
    --------
    >>> orientation_titles([{}, {}])
    {'0°': 0, '90°': 1}
    """
    return {f"{180 * k / len(row):.3g}°": k for k in range(len(row))}


FILTERS = {
    "columns": columns,
    "paired_measures": paired_measures,
    "pair_names": pair_names,
    "any_family_has": any_family_has,
    "scale_titles": scale_titles,
    "orientation_titles": orientation_titles,
    "beside_published": "{}, ours / published".format,
    "title_of": COLUMNS.__getitem__,
    "merged": lambda first, second: {**first, **second},
}

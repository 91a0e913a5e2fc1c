"""Determines which morphs reached their targets, and counts them for a job and for each pair of classes."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable

import numpy as np

from ..errors import OK
from ..lens.schedule import DEFAULT_L2

# Values of outcome_of
REACHED, NOT_REACHED, ALREADY, UNSCORED, FAILED = "reached", "not-reached", "already-predicted", "not-scored", "failed"
SOURCE_UNKNOWN = ("gradient-not-finite", "image-not-in-bounds")  # statuses for which the source's scores may be NaN
# A relative decrease of a probability up to this is regarded as a rounding error. Morphs.fell, which causes warnings,
# ignores decreases of up to 1 %.
ROUNDING = 1e-4
PAIRS = 100  # maximum number of class pairs in summary.json


def assess(record: dict, label_is_comparable: bool = True) -> dict[str, bool | None]:
    """Return whether a morph reached its target, as fields that the caller adds to its record.

    Parameters
    ----------
    record : dict
        The record of an item, as in ``shards/*.jsonl``, without these fields.
    label_is_comparable : bool
        Whether the label can be compared with the prediction for the source.

    Returns
    -------
    dict
        The fields, each None if it is unknown (the frame was not scored, or the item failed) or has no meaning:

        ``already_predicted``
            The target is the class predicted for the source image.
        ``label_differs``
            The label differs from the prediction for the source. None if there is no label, or they cannot be compared.
        ``reached``
            The target is predicted for the last frame. None if ``already_predicted``.
        ``fell_below_source``
            The target's probability in the last frame is lower than in the source, by more than ROUNDING (relative).
        ``fell_below_earlier``
            The same, compared with its largest value in the earlier scored frames.

    Examples
    --------
    >>> record = {"status": "ok", "source": 0, "target": 1, "label": 0, "predictions": [0, 1, 0]}
    >>> assess(record | {"probability": [0.1, 0.8, 0.4], "factors": [0.0, 1.0, 2.0]})
    {'already_predicted': False, 'label_differs': False, 'reached': False, 'fell_below_source': False, 'fell_below_earlier': True}
    """  # noqa: E501  (a dictionary is one line)
    source, target, label = (record.get(name) for name in ("source", "target", "label"))  # classes
    known = record["status"] not in SOURCE_UNKNOWN and source is not None
    already = source == target if known else None
    differs = source != label if known and label is not None and label_is_comparable else None
    at_source = {"already_predicted": already, "label_differs": differs}
    return at_source | _assess_last_frame(record, already if record["status"] == OK else None)


def missed_distances(record: dict, config: dict) -> list[float]:
    """Return the distances requested in a job's configuration that a morph did not attain.

    Examples
    --------
    >>> missed_distances({"attained": [True, False]}, {"distances": [1.0, 2.0]})
    [2.0]
    """
    requested = config.get("distances") or [DEFAULT_L2 if config.get("max_l2") is None else config["max_l2"]]
    attained = record["attained"]
    attained = attained if isinstance(attained, list) else [attained is not False]
    return [distance for distance, reached in zip(requested, attained) if not reached]


def _assess_last_frame(record: dict, already: bool | None) -> dict[str, bool | None]:
    """Return the fields that depend on the last frame. ``already`` is None for failed items."""
    if already is None or not is_scored(record):
        return dict.fromkeys(("reached", "fell_below_source", "fell_below_earlier"))
    *earlier, last = record["probability"]
    before = source_probability(record)
    scored = [p for p in earlier if p is not None]
    return {
        "reached": None if already else record["predictions"][-1] == record["target"],
        "fell_below_source": None if before is None else _fell(last, before),
        "fell_below_earlier": _fell(last, max(scored)) if scored else None,
    }


def _fell(last: float, before: float) -> bool:
    return last < before * (1 - ROUNDING)


def is_scored(record: dict) -> bool:
    """Return whether the last frame was scored, with a finite probability."""
    return record["predictions"][-1] is not None and record["probability"][-1] is not None


def start_frame(record: dict) -> int:
    """Return the number of the frame that is nearest to the source.

    This is the first frame with the smallest absolute factors.

    Examples
    --------
    >>> start_frame({"factors": [-1.0, 0.0, 1.0]}), start_frame({"factors": [2.0, 1.0]})
    (1, 1)
    """
    sizes = _sizes(record)
    return sizes.index(min(sizes))


def source_frame(record: dict) -> int | None:
    """Return the number of the frame that is the source, with factors 0.

    The result is None if there is none.

    Examples
    --------
    >>> source_frame({"factors": [-1.0, 0.0, 1.0]}), source_frame({"factors": [1.0, 2.0]})
    (1, None)
    """
    start = start_frame(record)
    return start if _sizes(record)[start] == 0 else None


def _sizes(record: dict) -> list[float]:
    """Return the sum of the absolute factors of each frame."""
    amplitudes = record.get("amplitude_factors") or [0.0] * len(record["factors"])
    return [abs(f or 0) + abs(a or 0) for f, a in zip(record["factors"], amplitudes)]


def source_probability(record: dict) -> float | None:
    """Return the target's probability in the source; None if it was not scored or is not among the frames."""
    frame = source_frame(record)
    return None if frame is None else record["probability"][frame]


def outcome_of(record: dict) -> str:
    """Return the outcome of a record: REACHED, NOT_REACHED, ALREADY, UNSCORED or FAILED.

    Examples
    --------
    >>> outcome_of({"status": "ok", "already_predicted": False, "reached": True})
    'reached'
    >>> outcome_of({"status": "truncated"})
    'failed'
    """
    if record["status"] != OK:
        return FAILED
    if record["already_predicted"]:
        return ALREADY
    return {True: REACHED, False: NOT_REACHED, None: UNSCORED}[record["reached"]]


class _Group:
    """Counts and target probabilities of a group of morphs."""

    def __init__(self):
        self.counts = Counter()
        # Target probabilities of source and last frame; arrays, because jobs may have millions of morphs
        self.before, self.after = array("f"), array("f")

    def add(self, record: dict) -> None:
        self.counts["morphs"] += 1
        self.counts["label_differs", record["label_differs"]] += 1
        if record["already_predicted"]:
            self.counts["already_predicted"] += 1
        elif not is_scored(record):
            self.counts["not_scored"] += 1
        else:
            for name in ("reached", "fell_below_source", "fell_below_earlier"):
                self.counts[name, record[name]] += 1
            before = source_probability(record)
            self.before.append(math.nan if before is None else before)
            self.after.append(record["probability"][-1])

    def merge(self, other: _Group) -> None:
        self.counts.update(other.counts)
        self.before.extend(other.before)
        self.after.extend(other.after)

    def _count(self, name: str) -> int | None:
        """Return in how many records a field is True; None if it is None in all."""
        known = self.counts[name, True] + self.counts[name, False]
        return self.counts[name, True] if known else None

    def as_dict(self) -> dict:
        counts = self.counts
        return {
            "morphs": counts["morphs"],
            "counted": len(self.after),
            "reached": self._count("reached"),
            "target_probability": {"source": _median(self.before), "last": _median(self.after)},
            "fell_below_source": self._count("fell_below_source"),
            "fell_below_earlier": self._count("fell_below_earlier"),
            "already_predicted": counts["already_predicted"],
            "not_scored": counts["not_scored"],
            "labelled": counts["label_differs", True] + counts["label_differs", False],
            "label_differs": self._count("label_differs"),
        }


def _median(values: array) -> float | None:
    numbers = np.frombuffer(values, np.float32) if values else np.zeros(0, np.float32)
    numbers = numbers[~np.isnan(numbers)]
    return float(f"{np.median(numbers):.7g}") if len(numbers) else None


class Tally:
    """Counts which morphs of a job reached their targets, in total and for each pair of classes.

    A pair consists of the class that is predicted for the source, and the target. Failed items are not counted.

    Examples
    --------
    >>> tally = Tally()
    >>> record = {"status": "ok", "source": 0, "target": 1, "predictions": [0, 1], "probability": [0.1, 0.8]}
    >>> record["factors"] = [0.0, 1.0]
    >>> tally.add(record | assess(record))
    >>> tally.as_dict()["reached"], tally.as_dict()["target_probability"]
    (1, {'source': 0.1, 'last': 0.8})
    >>> tally.as_dict(["cat", "dog"].__getitem__)["pairs"][0]["names"]
    ['cat', 'dog']
    """

    def __init__(self):
        self._pairs: dict[tuple[int, int], _Group] = {}

    def add(self, record: dict) -> None:
        """Add a record."""
        if record["status"] == OK:
            self._pairs.setdefault((record["source"], record["target"]), _Group()).add(record)

    def as_dict(self, name: Callable[[int], str] = str) -> dict:
        """Return the value of "success" in ``summary.json``.

        Notes
        -----
        Some entries refer to *counted* morphs, which have a scored last frame, and whose target was not predicted for
        the source:

        - ``counted``: their number
        - ``reached``, ``fell_below_source``, ``fell_below_earlier``: how many did this; None if it is not known of any
        - ``target_probability``: medians of the target's probability in source and last frame; None if unknown

        The other entries refer to all morphs:

        - ``morphs``: their number
        - ``already_predicted``, ``not_scored``: the numbers of morphs that are not counted, for each reason
        - ``labelled``: the number of morphs with a label that can be compared with the prediction for the source
        - ``label_differs``: how many of these labels are not predicted for the source
        - ``pairs``: these values for the most frequent class pairs, at most 100; ``name`` returns the classes' names
        - ``pairs_left_out``: the number of other pairs
        """
        total = _Group()
        for group in self._pairs.values():
            total.merge(group)
        ordered = sorted(self._pairs.items(), key=lambda item: (-item[1].counts["morphs"], item[0]))
        pairs = [
            {"source": pair[0], "target": pair[1], "names": [name(number) for number in pair]} | group.as_dict()
            for pair, group in ordered[:PAIRS]
        ]
        return total.as_dict() | {"pairs": pairs, "pairs_left_out": len(ordered) - len(pairs)}


def success_parts(success: dict, by_label: bool = False) -> list[str]:
    """Return the success of a job as parts of its summary line.

    Parameters
    ----------
    success : dict
        The value of :meth:`Tally.as_dict`.
    by_label : bool
        Whether the labels are the targets; labels that differ from the prediction are then reported, too.

    Examples
    --------
    >>> success = {"counted": 6, "reached": 4, "target_probability": {"source": 0.0213, "last": 0.7131}}
    >>> success |= {"fell_below_source": 1, "fell_below_earlier": 2}
    >>> success |= {"already_predicted": 3, "not_scored": 0, "label_differs": 6}
    >>> for part in success_parts(success, by_label=True):
    ...     print(part)
    target reached by 4 of 6 (median target probability 0.0213 -> 0.713)
    target probability fell below the source's in 1, below an earlier frame's in 2
    3 already predicted as the target, not counted as reached
    6 labels differ from the prediction
    """
    parts = []
    if success["counted"]:
        before, after = ("unknown" if p is None else f"{p:.3g}" for p in success["target_probability"].values())
        medians = f"median target probability {before} -> {after}"
        parts.append(f"target reached by {success['reached']} of {success['counted']} ({medians})")
        falls = {"the source's": success["fell_below_source"], "an earlier frame's": success["fell_below_earlier"]}
        fell = [f"below {frame} in {count}" for frame, count in falls.items() if count]
        parts += [f"target probability fell {', '.join(fell)}"] if fell else []
    if success["not_scored"]:
        parts.append(f"success of {success['not_scored']} unknown: last frame not scored")
    if success["already_predicted"]:
        parts.append(f"{success['already_predicted']} already predicted as the target, not counted as reached")
    if by_label and success["label_differs"]:
        parts.append(f"{success['label_differs']} labels differ from the prediction")
    return parts

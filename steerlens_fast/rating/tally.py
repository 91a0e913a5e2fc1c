"""Summarises what raters answered, by family, and how much raters agree."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import torch
from torch import Tensor

from ..checks import check_int
from ..errors import usage_error
from ..evaluate.measures.statistics import (
    CONFIDENCE,
    DRAWS,
    check_confidence,
    crossed_bootstrap,
    crossed_proportion,
    proportion,
)
from .agreement import krippendorff_alpha
from .answers import NEITHER, Ratings, one_per_rater, read_key, read_ratings
from .form import CONTROL

TARGET, SOURCE = "target", "source"
ROLES = (TARGET, SOURCE, NEITHER)  # the possible meanings of an answer


def tally(
    form: str | os.PathLike,
    files: str | os.PathLike | Sequence[str | os.PathLike],
    *,
    draws: int = DRAWS,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> dict:
    """Summarise the ratings of a form by family.

    Parameters
    ----------
    form : path
        The folder that :func:`~steerlens_fast.rating.write_form` wrote.
    files : path or sequence of path
        The files that raters exported. Of several files of one rater, only the file with most answers is counted.
    draws, confidence, seed
        Options of the intervals, as in :func:`steerlens_fast.bootstrap`.

    Returns
    -------
    dict
        JSON-serialisable. An interval has ``value``, ``low``, ``high``, ``cases`` (the number of answers or images that
        it is computed from) and ``of`` (their number if none were missing).

        ``conditions``
            A dictionary for each condition: each family, and "unedited" for sources without an edit. ``target``,
            ``source`` and ``neither`` are the shares of these answers, and ``naturalness`` is the mean, with intervals
            over images and raters. ``seconds`` is the median time until the choice, and ``l2`` the median distance.
            ``driver`` is the share of images for which the classifier of the jobs predicts the target, and ``judges``
            has this share for each judge. ``alpha`` is the raters' agreement.
        ``differences``
            The differences of ``target`` and ``naturalness`` between families, over the sources that both have.
        ``alpha``
            Krippendorff's alpha over all morphs, for ``choice`` (nominal: target, source or neither) and for
            ``naturalness`` (ordinal).
        ``raters``
            The raters that were counted, with their numbers of answers.
        ``notes``
            Remarks as text: missing answers, files that were not counted, or that there is only one rater.
        ``form``, ``settings``
            The form's id; the options of the intervals and of the jobs.

    Raises
    ------
    JobError
        If ``form`` is not the folder of a form, or a file is not of this form or has invalid answers, or if no file has
        answers.

    Notes
    -----
    Raters and sources are resampled independently, see
    :func:`~steerlens_fast.evaluate.measures.statistics.crossed_bootstrap`; for ``alpha``, only sources are resampled.
    All images of a source are resampled together. If all answers are the same, the interval of a share, or of a
    difference of shares, is that of :func:`~steerlens_fast.evaluate.measures.statistics.crossed_proportion`. The shares
    of the classifiers always have the interval of :func:`steerlens_fast.proportion`.

    Examples
    --------
    >>> import json, tempfile
    >>> from pathlib import Path
    >>> trial = {"condition": "pixel", "job": 0, "driver": True, "judges": {}, "l2": 2.0, "target_choice": "second"}
    >>> trials = [{**trial, "id": name, "source_number": number} for number, name in enumerate("abc")]
    >>> key = {"format_version": 1, "form": "f", "jobs": [], "conditions": ["pixel"], "judges": [], "trials": trials}
    >>> answers = [{"id": "a", "choice": "second", "naturalness": 4}, {"id": "b", "choice": "neither"}]
    >>> ratings = {"format": "steerlens-fast ratings", "form": "f", "rater": "r1", "answers": answers}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "key.json").write_text(json.dumps(key))
    ...     _ = Path(folder, "r1.json").write_text(json.dumps(ratings))
    ...     result = tally(folder, [Path(folder, "r1.json")])
    >>> pixel = result["conditions"]["pixel"]
    >>> pixel["target"]["value"], pixel["target"]["cases"], pixel["target"]["of"], pixel["naturalness"]["value"]
    (0.5, 2, 3, 4.0)
    >>> print(result["notes"][0])
    rater r1: 1 of 3 images without a choice, 2 without naturalness
    """
    options = {"draws": check_int("draws", draws, 1, None), "seed": check_int("seed", seed, 0, None)}
    options["confidence"] = check_confidence(confidence)
    key = read_key(form)
    files = [files] if isinstance(files, (str, os.PathLike)) else list(files)
    ratings, notes = one_per_rater([read_ratings(path, key) for path in files])
    if not any(rater.answered for rater in ratings):
        raise usage_error(f"files must have at least one answer, got none in {len(files)} files")
    notes = [*_unanswered(ratings, len(key["trials"])), *notes]
    if len(ratings) == 1:
        notes.append("one rater: intervals are over images only, and agreement between raters is not known")
    tables = _Tables(key, ratings)
    families = [name for name in key["conditions"] if name != CONTROL]
    raters = [{"rater": r.rater, "file": r.file, "answered": r.answered, "of": 2 * len(key["trials"])} for r in ratings]
    return {
        "form": key["form"],
        "raters": raters,
        "notes": notes,
        "conditions": {name: _condition(tables, name, options) for name in key["conditions"]},
        "differences": {f"{a} - {b}": _difference(tables, a, b, options) for a, b in combinations(families, 2)},
        "alpha": tables.alpha([n for n, trial in enumerate(key["trials"]) if trial["condition"] != CONTROL], options),
        "settings": {**options, "show_source": key.get("show_source"), "jobs": key["jobs"]},
    }


def _unanswered(ratings: list[Ratings], images: int) -> list[str]:
    notes = []
    for rater in ratings:
        counts = {n: sum(a[n] is not None for a in rater.answers.values()) for n in ("choice", "naturalness")}
        if rater.answered < 2 * images:
            missing = f"{images - counts['choice']} of {images} images without a choice"
            notes.append(f"rater {rater.rater}: {missing}, {images - counts['naturalness']} without naturalness")
    return notes


class _Tables:
    """All answers as tables [images, raters], NaN where an answer is missing; ``role`` has indices of ROLES."""

    def __init__(self, key: dict, ratings: list[Ratings]):
        self.trials, self.judges = key["trials"], key["judges"]
        self.source = torch.tensor([trial["source_number"] for trial in self.trials], device="cpu")
        answers = [[rater.answers.get(trial["id"], {}) for rater in ratings] for trial in self.trials]
        self.role = _tensor([[_role(t, a.get("choice")) for a in row] for t, row in zip(self.trials, answers)])
        self.naturalness = _tensor([[a.get("naturalness") for a in row] for row in answers])
        self.milliseconds = _tensor([[a.get("choice_ms") for a in row] for row in answers])

    def images_of(self, condition: str) -> list[int]:
        """Return the images of a condition."""
        return [n for n, trial in enumerate(self.trials) if trial["condition"] == condition]

    def by_source(self, values: Tensor, images: list[int]) -> Tensor:
        """Return the values of ``images``, ordered by source: a row for each source, NaN if it has no such image.

        Raise a JobError if two of the images have the same source.
        """
        sources = self.source[images]
        if len(sources.unique()) < len(images):
            condition = self.trials[images[0]]["condition"]
            raise usage_error(f"each source must be shown once in {condition}, got a key in which one is shown twice")
        table = values.new_full((int(self.source.max()) + 1, *values.shape[1:]), torch.nan)
        table[sources] = values[images]
        return table

    def is_role(self, role: str) -> Tensor:
        """Return 1 where the answer is ``role``, 0 where it differs, and NaN where it is missing."""
        return torch.where(self.role.isnan(), torch.nan, (self.role == ROLES.index(role)).double())

    def alpha(self, images: list[int], options: dict) -> dict:
        """Return the agreement of the raters on some images."""
        options = {"sources": self.source[images], **options}
        choice = krippendorff_alpha(self.role[images], "nominal", **options)
        naturalness = krippendorff_alpha(self.naturalness[images], "ordinal", **options)
        return {"choice": choice.as_dict(), "naturalness": naturalness.as_dict()}


def _role(trial: dict, choice: str | None) -> int | None:
    """Return the index in ROLES of what a choice means."""
    if choice is None:
        return None
    return ROLES.index(choice if choice == NEITHER else TARGET if choice == trial["target_choice"] else SOURCE)


def _tensor(rows: list[list]) -> Tensor:
    nan = float("nan")
    rows = [[nan if value is None else float(value) for value in row] for row in rows]
    return torch.tensor(rows, dtype=torch.float64, device="cpu")


def _condition(tables: _Tables, name: str, options: dict) -> dict:
    images = tables.images_of(name)
    # Forms of earlier versions may show a source unedited twice. These images are resampled together.
    crossed = {"sources": tables.source[images], **options}
    share = lambda values: crossed_proportion(values[images], **crossed).as_dict()
    predicted = lambda verdicts: proportion(_tensor([verdicts])[0], confidence=options["confidence"]).as_dict()
    times = tables.milliseconds[images]
    times = times[times.isfinite()]
    return {
        "images": len(images),
        **{role: share(tables.is_role(role)) for role in ROLES},
        "naturalness": crossed_bootstrap(tables.naturalness[images], **crossed).as_dict(),
        "seconds": round(float(times.quantile(0.5)) / 1000, 3) if len(times) else None,
        "l2": float(_tensor([[tables.trials[n]["l2"] for n in images]]).quantile(0.5)),
        "driver": predicted([tables.trials[n]["driver"] for n in images]),
        "judges": {judge: predicted([tables.trials[n]["judges"][judge] for n in images]) for judge in tables.judges},
        "alpha": tables.alpha(images, options),
    }


def _difference(tables: _Tables, first: str, second: str, options: dict) -> dict:
    images, others = tables.images_of(first), tables.images_of(second)
    shared = {tables.trials[n]["source_number"] for n in images} & {tables.trials[n]["source_number"] for n in others}
    of = len(shared) * tables.role.shape[1]
    minus = lambda values: tables.by_source(values, images) - tables.by_source(values, others)
    target = crossed_proportion(minus(tables.is_role(TARGET)), difference=True, **options)
    naturalness = crossed_bootstrap(minus(tables.naturalness), **options)
    return {"target": replace(target, of=of).as_dict(), "naturalness": replace(naturalness, of=of).as_dict()}


# --- Text -------------------------------------------------------------------------------------------------------------


def table(result: dict) -> str:
    """Return the result of :func:`tally` as text.

    Parameters
    ----------
    result : dict

    Returns
    -------
    str

    Examples
    --------
    >>> part = {"value": 0.5, "low": 0.25, "high": 0.75, "cases": 8, "of": 8}
    >>> mark = {"value": 3.5, "low": 3.0, "high": 4.25, "cases": 8, "of": 8}
    >>> condition = {role: part for role in ("target", "source", "neither", "driver")} | {"judges": {}}
    >>> condition |= {"naturalness": mark, "alpha": {}}
    >>> unknown = {"value": None, "low": None, "high": None, "cases": 0, "of": 8}
    >>> result = {"conditions": {"pixel": condition}, "differences": {}, "raters": [{}], "notes": ["one rater"]}
    >>> result |= {"alpha": {"choice": unknown, "naturalness": part}, "settings": {"confidence": 0.95}}
    >>> print(table(result))
    1 rater; means with 95 % intervals over images and raters
             answers  target             source             neither            naturalness        driver
    pixel      8/8    .50 [.25, .75]     .50 [.25, .75]     .50 [.25, .75]     3.5 [3.0, 4.2]     .50 [.25, .75]
    agreement between raters, Krippendorff's alpha: choice unknown, naturalness .50 [.25, .75]
    note: one rater
    """
    raters, confidence = len(result["raters"]), f"{100 * result['settings']['confidence']:.3g} %"
    title = f"{raters} rater{'' if raters == 1 else 's'}"
    lines = [f"{title}; means with {confidence} intervals over images and raters"]
    conditions = result["conditions"]
    judges = list(next(iter(conditions.values()))["judges"])
    width = max(9, 2 + max(map(len, [*conditions, *result["differences"]])))
    header = [*ROLES, "naturalness", "driver", *judges]
    lines.append(_row("", "answers", header, width))
    for name, condition in conditions.items():
        cells = [_share(condition[role]) for role in ROLES]
        cells += [_mean(condition["naturalness"]), _share(condition["driver"])]
        cells += [_share(condition["judges"][judge]) for judge in judges]
        lines.append(_row(name, f"{condition['target']['cases']}/{condition['target']['of']}", cells, width))
    for name, difference in result["differences"].items():
        cells = [_share(difference["target"]), "", "", _mean(difference["naturalness"])]
        lines.append(_row(name, str(difference["target"]["cases"]), cells, width))
    alpha = ", ".join(f"{name} {_share(value)}" for name, value in result["alpha"].items())
    lines.append(f"agreement between raters, Krippendorff's alpha: {alpha}")
    return "\n".join([*lines, *(f"note: {note}" for note in result["notes"])])


def _row(name: str, answers: str, cells: list[str], width: int) -> str:
    return f"{name:{width}s}{answers:^7s}  {''.join(f'{cell:19s}' for cell in cells)}".rstrip()


def _share(interval: dict) -> str:
    return _text(interval, lambda value: f"{value:.2f}".replace("0.", ".", 1))


def _mean(interval: dict) -> str:
    return _text(interval, lambda value: f"{value:.1f}")


def _text(interval: dict, number) -> str:
    if interval["value"] is None:
        return "unknown"
    return f"{number(interval['value'])} [{number(interval['low'])}, {number(interval['high'])}]"

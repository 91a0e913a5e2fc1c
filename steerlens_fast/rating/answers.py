"""The files that raters export, checked against the key of their form."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ..checks import is_int, shown
from ..errors import JobError, usage_error
from ..io.atomic_io import read_json
from ..io.output_dir import expand_home
from .form import FIRST, FORMAT_VERSION, KEY, SECOND

FORMAT = "steerlens-fast ratings"
NEITHER = "neither"
CHOICES = (FIRST, SECOND, NEITHER)
SCALE = (1, 5)  # lowest and highest rating of naturalness


@dataclass(frozen=True)
class Ratings:
    """The answers of one rater.

    Attributes
    ----------
    rater : str
        The pseudonym.
    file : str
    exported : str
        Time in ISO format; empty if unknown.
    answers : dict from str to dict
        For the id of each image, ``choice`` and ``naturalness`` (None if not answered) and ``choice_ms``, the time
        until the choice.
    session : str
        A random text that identifies the rater's session; empty if unknown.
    """

    rater: str
    file: str
    exported: str
    answers: dict[str, dict]
    session: str = ""

    @property
    def answered(self) -> int:
        """Number of answered questions, two for each image."""
        return sum(answer[name] is not None for answer in self.answers.values() for name in ("choice", "naturalness"))


def read_key(form: str | Path) -> dict:
    """Read the key of the form in the folder ``form``. Raise a JobError if there is none, or it is damaged."""
    folder = expand_home(form)
    try:
        key = read_json(folder / KEY)
        version = key["format_version"]
        missing = {"form", "jobs", "conditions", "judges", "trials"} - set(key)
    except (FileNotFoundError, NotADirectoryError):
        raise usage_error(f"form must be the folder of a form, got {folder}, which has no {KEY}") from None
    except (ValueError, TypeError, KeyError) as error:
        raise JobError(f"{folder / KEY} is damaged: {type(error).__name__}: {error}") from error
    if version != FORMAT_VERSION:
        raise usage_error(f"{folder / KEY} must have format version {FORMAT_VERSION}, got {version!r}")
    if missing:
        raise JobError(f"{folder / KEY} is damaged: it has no {', '.join(sorted(missing))}")
    return key


def read_ratings(path: str | Path, key: dict) -> Ratings:
    """Read the file of one rater.

    Raises
    ------
    JobError
        If it cannot be read, belongs to another form, or has answers that the form does not offer.
    """
    file = str(path)
    try:
        data = json.loads(expand_home(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise usage_error(f"files must be ratings exported by a form, got {file}: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise usage_error(f"files must be ratings exported by a form, got {file}, which has other contents")
    _check_form(file, data, key)
    rater = data.get("rater")
    if not isinstance(rater, str) or not rater.strip():
        raise usage_error(f"rater must be a pseudonym, got {shown(rater)} in {file}")
    known = {trial["id"] for trial in key["trials"]}
    entries = data.get("answers")
    if not isinstance(entries, list) or not all(isinstance(answer, dict) for answer in entries):
        raise usage_error(f"answers must be a list of objects, got {shown(entries)} in {file}")
    answers: dict[str, dict] = {}
    for answer in entries:
        image = answer.get("id")
        if not isinstance(image, str) or image not in known:
            raise usage_error(f"id must be that of an image of the form, got {shown(image)} in {file}")
        if image in answers:
            raise usage_error(f"id must occur only once in answers, got {shown(image)} twice in {file}")
        answers[image] = _checked_answer(answer, f"of image {image} in {file}")
    exported, session = (str(data.get(name) or "") for name in ("exported", "session"))
    return Ratings(rater.strip(), file, exported, answers, session)


def _check_form(file: str, data: dict, key: dict) -> None:
    if data.get("form") == key["form"]:
        return
    ours, theirs = [job["hash"] for job in key["jobs"]], data.get("jobs")
    other = "another form of the same jobs" if ours == theirs else f"a form of other jobs ({theirs} instead of {ours})"
    raise usage_error(f"ratings must be of form {key['form']}, got form {data.get('form')}: {other}, in {file}")


def _checked_answer(answer: dict, where: str) -> dict:
    choice, naturalness = answer.get("choice"), answer.get("naturalness")
    if choice is not None and choice not in CHOICES:
        raise usage_error(f"choice must be one of {CHOICES} or null, got {shown(choice)} {where}")
    if naturalness is not None and not (is_int(naturalness) and SCALE[0] <= naturalness <= SCALE[1]):
        text = f"naturalness must be a whole number from {SCALE[0]} to {SCALE[1]} or null"
        raise usage_error(f"{text}, got {shown(naturalness)} {where}")
    milliseconds = answer.get("choice_ms")
    if milliseconds is not None and not (is_int(milliseconds) and milliseconds >= 0):
        raise usage_error(f"choice_ms must be a non-negative int or null, got {shown(milliseconds)} {where}")
    return {"choice": choice, "naturalness": naturalness, "choice_ms": milliseconds}


def one_per_rater(ratings: list[Ratings]) -> tuple[list[Ratings], list[str]]:
    """Return one file for each rater, and notes about the other files.

    Of several files of a rater, the file with most answers is kept; of files with equally many, the latest.

    Examples
    --------
    >>> empty, full = {"choice": None, "naturalness": None}, {"choice": "first", "naturalness": 3}
    >>> first, again = Ratings("a", "1.json", "", {"x": empty}), Ratings("a", "2.json", "", {"x": full})
    >>> kept, notes = one_per_rater([first, again])
    >>> [ratings.file for ratings in kept], notes
    (['2.json'], ['rater a is counted once: 2.json (2 answers) in place of 1.json (0 answers)'])
    """
    best: dict[str, Ratings] = {}
    notes = []
    for new in ratings:
        old = best.get(new.rater)
        if old is None:
            best[new.rater] = new
            continue
        kept, dropped = sorted((old, new), key=lambda r: (r.answered, r.exported), reverse=True)
        best[new.rater] = kept
        counts = [f"{r.file} ({r.answered} answers)" for r in (kept, dropped)]
        differ = kept.session != dropped.session and kept.session and dropped.session
        note = f"rater {new.rater} is counted once: {counts[0]} in place of {counts[1]}"
        hint = "; the sessions differ: if these are two people, change the pseudonym in one file"
        notes.append(note + hint if differ else note)
    return list(best.values()), notes

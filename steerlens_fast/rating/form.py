"""Writes a form, and a key for the tally.

The form is a page on which people rate morphs without seeing their family.
"""

from __future__ import annotations

import os
import random
from base64 import b64encode
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from torch import Tensor

from ..checks import check_bool, check_int
from ..data.class_names import class_name
from ..data.items import compact_json
from ..errors import USAGE, JobError
from ..extras import require_extra
from ..io.atomic_io import write_json
from ..io.html_page import render_page
from ..io.paths import output_folder
from ..job.formats.common import as_8_bit, map_in_threads, replacing_folder, to_pil
from ..job.formats.wds import encode_lossless
from ..job.plan import Plan
from ..job.reader import read_frames
from ..job.report import check_undamaged
from ..job.shard import read_records, shard_name
from ..job.success import source_frame
from .candidates import Identity, JobMorphs, read_job
from .design import balanced_sides, choose_sources, trial_order
from .judges import Judges, check_judges, load_judges, predicted_classes

PAGE, KEY, FORMAT_VERSION = "form.html", "key.json", 1
CONTROL = "unedited"  # the condition of sources that are shown without an edit
FIRST, SECOND = "first", "second"
TITLE = "Image rating"  # reveals nothing about the jobs


@dataclass(frozen=True)
class Form:
    """A form that :func:`write_form` wrote.

    Attributes
    ----------
    page : Path
        The page for raters, one file that loads no other files.
    key : Path
        The file for :func:`~steerlens_fast.rating.tally` that says what each image is. Do not give it to raters.
    id : str
        The form's id, which each rater's file repeats.
    conditions : dict from str to int
        Number of images of each family, and of unedited sources.
    notes : list of str
        What was left out, and why.
    """

    page: Path
    key: Path
    id: str
    conditions: dict[str, int]
    notes: list[str]


@dataclass(frozen=True)
class _Trial:
    """An image to be rated."""

    job: int
    morph: Identity
    control: bool  # whether the source is shown in place of the last frame
    target_first: bool


@dataclass
class _TrialData:
    """The record and images of a trial.

    Also whether each judge predicts the target.
    """

    record: dict
    image: bytes
    source: bytes | None
    judges: dict[str, bool]


def write_form(
    jobs: str | os.PathLike | Sequence[str | os.PathLike],
    out: str | os.PathLike,
    *,
    count: int = 60,
    seed: int = 0,
    show_source: bool = False,
    controls: bool = True,
    judges: Judges = (),
) -> Form:
    """Write a page on which people rate morphs.

    They rate the last frames, without seeing which family made them.

    Parameters
    ----------
    jobs : path or sequence of path
        Folders of data-set jobs, one for each family.
    out : path
        A new folder for ``form.html``, which is for raters, and ``key.json``, which is not.
    count : int
        Maximum number of images. All families have the same number of images.
    seed : int
        Seed of the choice and order of images. The same jobs and seed give the same bytes.
    show_source : bool
        Whether the source is shown next to each image. Raters then tend to judge the change instead of the image.
    controls : bool
        Whether unedited sources are shown, too, as many as morphs of each family. They show how raters judge images
        without an edit.
    judges : sequence of str, or mapping from str to callable
        Classifiers that also predict the classes of the frames, for comparison with the raters. See
        :func:`steerlens_fast.models.load_model`.

    Returns
    -------
    Form

    Raises
    ------
    JobError
        If one of the jobs is not a job's folder, has no morphs that can be rated, or has a damaged shard; if ``out``
        exists; if ``count`` is less than one image of each family; or if a judge has other classes. No files are
        written then.
    TypeError, ValueError
        For another invalid argument.
    ImportError
        If an extra is not installed.

    Notes
    -----
    Raters choose the class that the model predicts for the source, the target class, or neither. The two classes are in
    random order. Raters also rate how natural the image is, from 1 to 5.

    Every source is shown in every family, if all jobs have it. In each block of images, every source occurs once. A
    Latin square decides in which family, so that each family occurs equally often. The pseudonym decides at which place
    in this order a rater starts.

    A morph is left out if the model already predicts the target for the source. It is also left out if the label is
    neither the target nor predicted for the source, because neither of the two offered classes would be right. A morph
    that does not reach its distance is left out, too, because families are compared at equal distances.

    Examples
    --------
    >>> import tempfile, torch
    >>> from steerlens_fast import morph_dataset
    >>> images = torch.randint(0, 256, (8, 16, 16, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    >>> data = torch.utils.data.StackDataset(images)
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 3)).eval()
    >>> options = dict(channels=1, frames=3, max_l2=0.5, gallery=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jobs = [Path(folder, family) for family in ("csp-phase", "pixel")]
    ...     for job in jobs:
    ...         outcome = morph_dataset(data, model, job, family=job.name, **options)
    ...     form = write_form(jobs, Path(folder, "form"), count=12)
    ...     sorted(path.name for path in Path(folder, "form").iterdir())
    ['form.html', 'key.json']
    >>> form.conditions
    {'csp-phase': 4, 'pixel': 4, 'unedited': 4}
    """
    count, seed = check_int("count", count, 1, None), check_int("seed", seed, 0, None)
    check_bool("show_source", show_source), check_bool("controls", controls)
    out = output_folder(out)
    if os.path.lexists(out):
        raise JobError(f"out must be a new folder, got {out}, which exists", USAGE)
    require_extra("cli", "PIL.Image")
    morphs = _read_jobs(jobs)
    families = _condition_names(morphs)
    notes = _notes(families, morphs)
    has_sources = all(job.has_sources for job in morphs)
    if show_source and not has_sources:
        raise JobError("show_source must be False: some jobs have no frame with factor 0, which is the source", USAGE)
    if controls and not has_sources:
        notes.append("no unedited sources are shown: some jobs have no frame with factor 0")
    conditions = [*families, CONTROL] if controls and has_sources else families
    if count < len(conditions):
        text = f"count must be at least {len(conditions)}, one image of each of {', '.join(conditions)}"
        raise JobError(f"{text}, got {count}", USAGE)
    rng = random.Random(seed)
    trials = _design(morphs, len(conditions), count, rng, notes)
    loaded = load_judges(judges, morphs[0].plan.channels)
    for job in morphs:
        check_judges(loaded, job.plan, job.config.get("task", "multiclass"))
    shown = _show(morphs, trials, loaded, show_source)
    ids = [f"{number:012x}" for number in rng.sample(range(1 << 48), len(trials))]
    entries = [_key_entry(*args, conditions, morphs) for args in zip(ids, trials, shown)]
    _number_sources(entries, trials)
    settings = {"seed": seed, "show_source": show_source, "controls": CONTROL in conditions}
    key = {**settings, "judges": list(loaded), "jobs": [_job_entry(*args) for args in zip(families, morphs)]}
    key |= {"conditions": conditions, "trials": entries}
    form_id = _form_id(key, shown)
    key = {"format_version": FORMAT_VERSION, "form": form_id, **key}
    key["folders"] = [str(job.out) for job in morphs]  # not a part of the id, since folders may be moved
    _write(out, key, _page(key, trials, shown, morphs))
    numbers = Counter(entry["condition"] for entry in entries)
    return Form(out / PAGE, out / KEY, form_id, {name: numbers[name] for name in conditions}, notes)


# --- Jobs -------------------------------------------------------------------------------------------------------------


def _read_jobs(jobs) -> list[JobMorphs]:
    folders = [jobs] if isinstance(jobs, (str, os.PathLike)) else list(jobs)
    if not folders:
        raise JobError("jobs must have at least one job's folder, got none", USAGE)
    morphs: list[JobMorphs] = []
    for folder in map(output_folder, folders):
        job = read_job(folder)
        same = next((other for other in morphs if other.hash == job.hash), None)
        if same is not None:
            text = "with the same configuration and plan"
            raise JobError(f"jobs must be different jobs, got {same.out} and {folder} {text}", USAGE)
        morphs.append(job)
    return morphs


def _condition_names(jobs: list[JobMorphs]) -> list[str]:
    """Return the family of each job.

    If a family is not unique, the job's folder is added.
    """
    families = [str(job.config["family"]) for job in jobs]
    named = [
        f"{family} ({job.out.name})" if families.count(family) > 1 else family for family, job in zip(families, jobs)
    ]
    return [
        f"{family} ({job.out})" if named.count(name) > 1 else name for family, name, job in zip(families, named, jobs)
    ]


def _notes(names: list[str], jobs: list[JobMorphs]) -> list[str]:
    notes, targets = [], [str(job.config["target"]) for job in jobs]
    if len(set(targets)) > 1:
        rules = ", ".join(f"{target} ({name})" for target, name in zip(targets, names))
        notes.append(f"warning: the jobs have different targets, so that their families cannot be compared: {rules}")
    for name, job in zip(names, jobs):
        notes += [f"{name}: {n} left out: {reason}" for reason, n in sorted(job.excluded.items())]
        if job.shards_done < job.plan.shards:
            command = f'"steerlens-fast verify {job.out}"'
            notes.append(f"{name}: {job.shards_done} of {job.plan.shards} shards are complete, see {command}")
    return notes


def _design(jobs: list[JobMorphs], conditions: int, count: int, rng: random.Random, notes: list[str]) -> list[_Trial]:
    """Choose the trials, in order, and append to ``notes``."""
    sources = choose_sources([job.places for job in jobs], count // conditions, rng)
    if len(sources) < count // conditions:
        notes.append(
            f"only {len(sources) * conditions} of {count} images: the jobs have no more morphs that can be rated"
        )
    unshared = sum(len(set(row)) > 1 for row in sources)
    if unshared:
        notes.append(f"{unshared} of {len(sources)} morphs of each family are of sources that the other families lack")
    sides = balanced_sides(len(sources), rng)
    trials = []
    for source, condition in trial_order(len(sources), conditions, rng):
        control = condition == len(jobs)  # the condition after the families; its sources are from each job in turn
        job = source % len(jobs) if control else condition
        trials.append(_Trial(job, sources[source][job], control, sides[source]))
    return trials


# --- Frames -----------------------------------------------------------------------------------------------------------


def _show(jobs: list[JobMorphs], trials: list[_Trial], judges: dict, show_source: bool) -> list[_TrialData]:
    """Read and encode the frames of all trials, one shard at a time."""
    by_shard = defaultdict(list)
    for number, trial in enumerate(trials):
        shard, _ = jobs[trial.job].places[trial.morph]
        by_shard[trial.job, shard].append(number)
    shown: list[_TrialData | None] = [None] * len(trials)
    for (job, shard), numbers in sorted(by_shard.items()):
        of_shard = _show_shard(jobs[job], shard, [trials[n] for n in numbers], judges, show_source)
        for number, trial_data in zip(numbers, of_shard):
            shown[number] = trial_data
    return shown


def _show_shard(
    job: JobMorphs, shard: int, trials: list[_Trial], judges: dict, show_source: bool
) -> Iterator[_TrialData]:
    check_undamaged(job.out, job.plan, shard)
    indices = {job.places[trial.morph][1] for trial in trials}
    records = [r for r in read_records(job.out / "shards" / f"{shard_name(shard)}.jsonl") if r["index"] in indices]
    frames = as_8_bit(read_frames(job.out, job.config["format"], shard, records))
    rows = {record["index"]: row for row, record in enumerate(records)}
    at = [rows[job.places[trial.morph][1]] for trial in trials]
    images = [frames[row, source_frame(records[row]) if t.control else -1] for row, t in zip(at, trials)]
    sources = [frames[row, source_frame(records[row])] if show_source else None for row in at]
    verdicts = {name: _verdicts(name, judge, images, [records[row] for row in at]) for name, judge in judges.items()}
    encoded = map_in_threads(_encode, [*images, *sources])
    pictures = list(encoded)
    for n, row in enumerate(at):
        judged = {name: verdict[n] for name, verdict in verdicts.items()}
        yield _TrialData(records[row], pictures[n], pictures[n + len(at)], judged)


def _verdicts(name: str, judge, images: list[Tensor], records: list[dict]) -> list[bool]:
    """Return whether a judge predicts the target of each image."""
    import torch

    classes = 1 + max(max(record["target"], record["source"]) for record in records)
    predicted = predicted_classes(name, judge, torch.stack(images), classes)
    return [prediction == record["target"] for prediction, record in zip(predicted, records)]


def _encode(frame: Tensor | None) -> bytes | None:
    return None if frame is None else encode_lossless(to_pil(frame))


# --- Key and page -----------------------------------------------------------------------------------------------------


def _key_entry(identifier: str, trial: _Trial, shown: _TrialData, conditions: list[str], jobs: list[JobMorphs]) -> dict:
    record = shown.record
    frame = source_frame(record) if trial.control else -1
    prediction, probability = record["predictions"][frame], record["probability"][frame]
    choices = _choices(trial, jobs[trial.job].plan)
    return {
        "id": identifier,
        "condition": CONTROL if trial.control else conditions[trial.job],
        "job": trial.job,
        **{name: record.get(name) for name in ("key", "index", "source", "target")},
        "source_name": choices[trial.target_first],
        "target_name": choices[not trial.target_first],
        "target_choice": FIRST if trial.target_first else SECOND,
        "l2": 0.0 if trial.control else record["l2"][-1],
        "target_probability": probability,
        "driver": None if prediction is None else prediction == record["target"],
        "judges": shown.judges,
    }


def _choices(trial: _Trial, plan: Plan) -> tuple[str, str]:
    """Return the names of the two classes, in the order shown."""
    _, _, source, target = trial.morph
    numbers = (target, source) if trial.target_first else (source, target)
    names = [class_name(number, plan.shown_classes) for number in numbers]
    if names[0] == names[1]:  # two of the model's classes have the same name
        names = [f"{name} (class {number})" for name, number in zip(names, numbers)]
    return names[0], names[1]


def _number_sources(entries: list[dict], trials: list[_Trial]) -> None:
    """Add a number of the source to each entry.

    Images of the same source have the same number.
    """
    numbers: dict[Identity, int] = {}
    for entry, trial in zip(entries, trials):
        entry["source_number"] = numbers.setdefault(trial.morph, len(numbers))


def _job_entry(name: str, job: JobMorphs) -> dict:
    return {"hash": job.hash, "condition": name, "settings": job.settings}


def _form_id(key: dict, shown: list[_TrialData]) -> str:
    digest = sha256(compact_json(key).encode(errors="surrogateescape"))
    for trial_data in shown:
        digest.update(trial_data.image)
    return digest.hexdigest()[:16]


def _page(key: dict, trials: list[_Trial], shown: list[_TrialData], jobs: list[JobMorphs]) -> str:
    """Render the page.

    It does not tell which family an image is from: of each trial, it has the id, the images, and two class names in
    random order.
    """
    data = {"form": key["form"], "jobs": [job["hash"] for job in key["jobs"]], "show_source": key["show_source"]}
    data["trials"] = [
        {
            "id": entry["id"],
            "choices": _choices(trial, jobs[trial.job].plan),
            "image": _data_uri(trial_data.image),
            "source": None if trial_data.source is None else _data_uri(trial_data.source),
            "size": jobs[trial.job].plan.size,
        }
        for entry, trial, trial_data in zip(key["trials"], trials, shown)
    ]
    return render_page(__package__, TITLE, data, images="data:")


def _data_uri(image: bytes) -> str:
    return f"data:image/webp;base64,{b64encode(image).decode()}"


def _write(out: Path, key: dict, page: str) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing_folder(out) as folder:
        (folder / PAGE).write_text(page, encoding="utf-8")
        write_json(folder / KEY, key)

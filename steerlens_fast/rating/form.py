"""Writes a form (a page on which people rate morphs without seeing their family), and a key for the tally."""

from __future__ import annotations

import os
import random
from base64 import b64encode
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from ..checks import check_bool, check_int
from ..data.items import compact_json
from ..errors import usage_error
from ..extras import require_extra
from ..io.atomic_io import write_json
from ..io.html_page import render_page
from ..io.output_dir import check_is_folder, expand_home
from ..job.formats.common import as_8_bit, map_in_threads, replacing_folder, to_pil
from ..job.formats.wds import encode_lossless
from ..job.success import source_frame
from .candidates import RatedJob, Source
from .design import balanced_sides, choose_sources, distinct_columns, trial_order
from .judges import Judges, check_judges, load_judges, predicted_classes

PAGE, KEY, FORMAT_VERSION = "form.html", "key.json", 1
CONTROL = "unedited"  # the condition of sources without an edit; the other conditions are families
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
        For :func:`~steerlens_fast.rating.tally`: a file that says what each image is. Do not give it to raters.
    id : str
        The form's id, which each rater's file repeats.
    conditions : dict from str to int
        Number of images in each condition: of each family, and of unedited sources.
    notes : list of str
        What was left out, and why.
    """

    page: Path
    key: Path
    id: str
    conditions: dict[str, int]
    notes: list[str]


@dataclass
class _Trial:
    """An image to be rated: a source, edited or not."""

    job: RatedJob
    source: Source
    edited: bool  # True: the last frame of the job's morph is shown; False: the source
    target_first: bool  # whether the target is the first of the two classes that the form offers
    # _read_images sets the following fields.
    record: dict = field(default_factory=dict)
    image: bytes = b""
    source_image: bytes | None = None  # shown next to ``image``
    judges: dict[str, bool] = field(default_factory=dict)  # whether each judge predicts the target

    @property
    def frame(self) -> int:
        """The index of the frame that is shown."""
        return -1 if self.edited else source_frame(self.record)

    @property
    def choices(self) -> tuple[str, str]:
        """The names of the two classes, in the order shown."""
        numbers = [self.source.target, self.source.predicted]
        names = [self.job.plan.class_name(number) for number in numbers]
        if names[0] == names[1]:  # two of the model's classes have the same name
            names = [f"{name} (class {number})" for name, number in zip(names, numbers)]
        target, source = names
        return (target, source) if self.target_first else (source, target)


def write_form(
    jobs: str | os.PathLike | Sequence[str | os.PathLike],
    out: str | os.PathLike,
    *,
    count: int = 60,
    seed: int = 0,
    show_source: bool = False,
    controls: bool = True,
    judges: Judges = (),
    trust_checkpoint: bool = False,
) -> Form:
    """Write a page on which people rate the last frames of morphs, without seeing which family made them.

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
        Whether unedited sources are shown, too. Their number is that of the morphs of a family. They show how raters
        judge images without an edit.
    judges : sequence of str, or mapping from str to callable
        Classifiers that also predict the classes of the frames, for comparison with the raters. See
        :func:`steerlens_fast.models.load_model`.
    trust_checkpoint : bool
        Whether to load judges from pickles and exported programs, which may run arbitrary code.

    Returns
    -------
    Form

    Raises
    ------
    JobError
        If one of the jobs is not a job's folder, has no morphs that can be rated, or has a damaged shard; if ``out``
        exists; if ``count`` is less than one image of each condition (each family, and the controls); or if a judge
        has other classes. No files are written then.
    TypeError, ValueError
        For another invalid argument.
    ImportError
        If an extra is not installed.

    Notes
    -----
    Raters choose the class that the model predicts for the source, the target class, or neither. The two classes are in
    random order. Raters also rate how natural the image is, from 1 to 5.

    Sources that all jobs have are chosen first, and are shown in every condition. There are as many blocks of images
    as conditions. In each block, every one of these sources occurs once. A Latin square decides in which condition, so
    that all conditions occur equally often. The rater's pseudonym decides where in this order the rater starts.

    A morph is left out if the model already predicts the target for the source. It is also left out if the label is
    neither the target nor the class predicted for the source, because neither of the two offered classes would be
    right. A morph that does not reach its distance is left out, too, because families are compared at equal distances.

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
    out = expand_home(out)
    if os.path.lexists(out):
        raise usage_error(f"out must be a new folder, got {out}, which exists")
    check_is_folder(out)
    require_extra("cli", "PIL.Image")
    rated = _read_jobs(jobs)
    notes = _notes(rated)
    has_sources = all(job.has_sources for job in rated)
    if show_source and not has_sources:
        raise usage_error("show_source must be False: some jobs have no frame with factor 0, which is the source")
    if controls and not has_sources:
        notes.append("no unedited sources are shown: some jobs have no frame with factor 0")
    controls = controls and has_sources
    conditions = [job.condition for job in rated] + [CONTROL] * controls
    if count < len(conditions):
        text = f"count must be at least {len(conditions)}, one image of each of {', '.join(conditions)}"
        raise usage_error(f"{text}, got {count}")
    rng = random.Random(seed)
    trials = _design(rated, len(conditions), count, rng, notes)
    loaded = load_judges(judges, rated[0].plan.channels, trust_checkpoint)
    for job in rated:
        check_judges(loaded, job.plan, job.config.get("task", "multiclass"))
    _read_images(trials, loaded, show_source)
    key = {"seed": seed, "show_source": show_source, "controls": controls, "judges": list(loaded)}
    key["jobs"] = [{"hash": job.hash, "condition": job.condition, "settings": job.settings} for job in rated]
    key |= {"conditions": conditions, "trials": _key_entries(trials, rng)}
    form_id = _form_id(key, trials)
    key = {"format_version": FORMAT_VERSION, "form": form_id, **key}
    key["folders"] = [str(job.out) for job in rated]  # not a part of the id, since folders may be moved
    _write(out, key, _page(key, trials))
    numbers = Counter(entry["condition"] for entry in key["trials"])
    return Form(out / PAGE, out / KEY, form_id, {name: numbers[name] for name in conditions}, notes)


# --- Jobs -------------------------------------------------------------------------------------------------------------


def _read_jobs(jobs) -> list[RatedJob]:
    folders = [jobs] if isinstance(jobs, (str, os.PathLike)) else list(jobs)
    if not folders:
        raise usage_error("jobs must have at least one job's folder, got none")
    rated: list[RatedJob] = []
    for folder in map(expand_home, folders):
        job = RatedJob(folder)
        same = next((other for other in rated if other.hash == job.hash), None)
        if same is not None:
            text = "with the same configuration and plan"
            raise usage_error(f"jobs must be different jobs, got {same.out} and {folder} {text}")
        rated.append(job)
    for number, (job, name) in enumerate(zip(rated, _family_names(rated))):
        job.number, job.condition = number, name
    return rated


def _family_names(jobs: list[RatedJob]) -> list[str]:
    """Return the family of each job, with the job's folder if this is necessary to distinguish two jobs."""
    families = [str(job.config["family"]) for job in jobs]
    named = [
        f"{family} ({job.out.name})" if families.count(family) > 1 else family for family, job in zip(families, jobs)
    ]
    return [
        f"{family} ({job.out})" if named.count(name) > 1 else name for family, name, job in zip(families, named, jobs)
    ]


def _notes(jobs: list[RatedJob]) -> list[str]:
    notes, targets = [], [str(job.config["target"]) for job in jobs]
    if len(set(targets)) > 1:
        rules = ", ".join(f"{target} ({job.condition})" for target, job in zip(targets, jobs))
        notes.append(f"warning: the jobs have different targets, so that their families cannot be compared: {rules}")
    for job in jobs:
        notes += [f"{job.condition}: {n} left out: {reason}" for reason, n in sorted(job.excluded.items())]
        if job.shards_done < job.plan.shards:
            command = f'"steerlens-fast verify {job.out}"'
            notes.append(f"{job.condition}: {job.shards_done} of {job.plan.shards} shards are complete, see {command}")
    return notes


def _design(jobs: list[RatedJob], num_conditions: int, count: int, rng: random.Random, notes: list) -> list[_Trial]:
    """Return the trials, in order, and append to ``notes``."""
    sources = choose_sources([job.places for job in jobs], count // num_conditions, rng)
    if len(sources) < count // num_conditions:
        notes.append(
            f"only {len(sources) * num_conditions} of {count} images: the jobs have no more morphs that can be rated"
        )
    unshared = sum(len(set(row)) > 1 for row in sources)
    if unshared:
        notes.append(
            f"for {unshared} of {len(sources)} morphs of each family, another family has no morph of the same source"
        )
    sides = balanced_sides(len(sources), rng)
    # Unedited sources are read from each job in turn, unless a source would be shown twice.
    unedited = distinct_columns([[(source.key, source.sha256) for source in row] for row in sources])
    trials = []
    for number, condition in trial_order(len(sources), num_conditions, rng):
        edited = condition < len(jobs)
        job_index = condition if edited else unedited[number]
        trials.append(_Trial(jobs[job_index], sources[number][job_index], edited, sides[number]))
    return trials


# --- Frames -----------------------------------------------------------------------------------------------------------


def _read_images(trials: list[_Trial], judges: dict, show_source: bool) -> None:
    """Read and classify the frames of all trials, one shard at a time."""
    by_shard = defaultdict(list)
    for trial in trials:
        shard, _ = trial.job.places[trial.source]
        by_shard[trial.job.number, shard].append(trial)
    for (_, shard), of_shard in sorted(by_shard.items()):
        _read_shard(shard, of_shard, judges, show_source)


def _read_shard(shard: int, trials: list[_Trial], judges: dict, show_source: bool) -> None:
    """Read and classify the frames of trials from one shard of a job."""
    job = trials[0].job
    job.check_undamaged(shard)
    indices = [job.places[trial.source][1] for trial in trials]
    wanted = set(indices)
    records = [record for record in job.records(shard) if record["index"] in wanted]
    frames = as_8_bit(job.frames(shard, records))
    row_of = {record["index"]: row for row, record in enumerate(records)}
    rows = [row_of[index] for index in indices]
    for trial, row in zip(trials, rows):
        trial.record = records[row]
    images = [frames[row, trial.frame] for trial, row in zip(trials, rows)]
    sources = [frames[row, source_frame(records[row])] if show_source else None for row in rows]
    for name, judge in judges.items():
        for trial, verdict in zip(trials, _verdicts(name, judge, images, [trial.record for trial in trials])):
            trial.judges[name] = verdict
    encoded = list(map_in_threads(_encode, [*images, *sources]))
    for trial, image, source in zip(trials, encoded, encoded[len(trials) :]):
        trial.image, trial.source_image = image, source


def _verdicts(name: str, judge, images: list[Tensor], records: list[dict]) -> list[bool]:
    """Return whether a judge predicts the target of each image."""
    # record["source"] is the class that the model predicts for the source.
    classes = 1 + max(max(record["target"], record["source"]) for record in records)
    predicted = predicted_classes(name, judge, torch.stack(images), classes)
    return [prediction == record["target"] for prediction, record in zip(predicted, records)]


def _encode(frame: Tensor | None) -> bytes | None:
    return None if frame is None else encode_lossless(to_pil(frame))


# --- Key and page -----------------------------------------------------------------------------------------------------


def _key_entries(trials: list[_Trial], rng: random.Random) -> list[dict]:
    """Return what the key records of each trial."""
    ids = rng.sample(range(1 << 48), len(trials))
    source_numbers: dict[Source, int] = {}
    entries = []
    for trial, identifier in zip(trials, ids):
        record, (first, second) = trial.record, trial.choices
        prediction = record["predictions"][trial.frame]
        entry = {
            "id": f"{identifier:012x}",
            "condition": trial.job.condition if trial.edited else CONTROL,
            "job": trial.job.number,
            **{name: record.get(name) for name in ("key", "index", "source", "target")},
            "source_name": second if trial.target_first else first,
            "target_name": first if trial.target_first else second,
            "target_choice": FIRST if trial.target_first else SECOND,
            "l2": record["l2"][-1] if trial.edited else 0.0,
            "target_probability": record["probability"][trial.frame],
            "driver": None if prediction is None else prediction == record["target"],
            "judges": trial.judges,
            "source_number": source_numbers.setdefault(trial.source, len(source_numbers)),
        }
        entries.append(entry)
    return entries


def _form_id(key: dict, trials: list[_Trial]) -> str:
    digest = sha256(compact_json(key).encode(errors="surrogateescape"))
    for trial in trials:
        digest.update(trial.image)
    return digest.hexdigest()[:16]


def _page(key: dict, trials: list[_Trial]) -> str:
    """Render the page.

    It does not tell which family an image is from: of each trial, it has the id, the images, and two class names in
    random order.
    """
    data = {"form": key["form"], "jobs": [job["hash"] for job in key["jobs"]], "show_source": key["show_source"]}
    data["trials"] = [
        {
            "id": entry["id"],
            "choices": trial.choices,
            "image": _data_uri(trial.image),
            "source": None if trial.source_image is None else _data_uri(trial.source_image),
            "size": trial.job.plan.size,
        }
        for entry, trial in zip(key["trials"], trials)
    ]
    return render_page(__package__, TITLE, data, images="data:")


def _data_uri(image: bytes) -> str:
    return f"data:image/webp;base64,{b64encode(image).decode()}"


def _write(out: Path, key: dict, page: str) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing_folder(out) as folder:
        (folder / PAGE).write_text(page, encoding="utf-8")
        write_json(folder / KEY, key)

"""Finds the morphs of a job that people can rate."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from ..errors import OK, usage_error
from ..io.atomic_io import existing_path
from ..job.folder import JobFolder
from ..job.success import source_frame
from ..job.summary import labels_look_wrong, read_success

SETTINGS = ("family", "rule", "regime", "objective", "color", "max_l2", "distances", "model", "data", "target")


class Source(NamedTuple):
    """An image of the data, the class that the model predicts for it, and its target class.

    Two jobs have equal sources if image, prediction and target are the same.
    """

    key: str
    sha256: str | None  # hash of the image's file
    predicted: int
    target: int


class RatedJob(JobFolder):
    """The folder of a job, and its morphs that can be rated.

    Parameters
    ----------
    out : Path
        The job's folder.

    Attributes
    ----------
    hash : str
        Hash of the job's configuration and plan.
    places : dict from Source to (int, int)
        For each source whose morph can be rated, the shard of the morph and the index of its item.
    excluded : Counter
        The number of other morphs, by reason.
    shards_done : int
        Number of complete shards.
    has_sources : bool
        Whether the frames of every morph in ``places`` include the source.
    number : int
        Position among the jobs of the form.
    condition : str
        The job's family; with the folder's name if several jobs have this family.

    Raises
    ------
    JobError
        If ``out`` is not a job's folder, none of its morphs can be rated, or its frames are not images.
    """

    def __init__(self, out: Path):
        for name in ("plan.json", "config.json"):
            if not existing_path(out / name).exists():
                raise usage_error(f"jobs must be folders of jobs, got {out}, which has no {name}")
        super().__init__(out)
        channels = self.plan.channels
        if channels not in (1, 3):
            raise usage_error(f"frames must have 1 channel (grey) or 3 (RGB) to be rated, got {channels} in {out}")
        self.hash, self.number, self.condition = _hash(out), 0, self.config["family"]
        self.places: dict[Source, tuple[int, int]] = {}
        self.excluded, self.has_sources = Counter(), True
        done = self.completed_shards()
        self.shards_done = len(done.shards)
        success = read_success(self, done)
        labelled, differs = success["labelled"], success["label_differs"] or 0
        # Labels that rarely equal the predictions are not checked: they are probably not the model's class numbers
        check_labels = not labels_look_wrong(labelled, labelled - differs)
        for record in self.records_of(done.shards):
            reason = _reason_to_exclude(record, check_labels)
            if reason is None:
                predicted = record["source"]  # a class number
                source = Source(record["key"], record.get("sha256"), predicted, record["target"])
                self.places[source] = (record["shard"], record["index"])
                self.has_sources &= source_frame(record) is not None
            else:
                self.excluded[reason] += 1
        if not self.places:
            reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(self.excluded.items())) or "no morphs"
            shards = f"{self.shards_done} of {self.plan.shards} shards complete"
            raise usage_error(f"each job must have morphs that can be rated, got {out}: {reasons}; {shards}")

    @property
    def settings(self) -> dict:
        """The settings that are written to the form's key.json."""
        return {name: self.config[name] for name in SETTINGS if self.config.get(name) is not None}


def _hash(out: Path) -> str:
    digest = sha256()
    for name in ("config.json", "plan.json"):
        digest.update(existing_path(out / name).read_bytes())
    return digest.hexdigest()[:16]


def _reason_to_exclude(record: dict, check_labels: bool) -> str | None:
    """Return why a morph cannot be rated; None if it can."""
    if record["status"] != OK or record["row"] is None:
        return "failed"
    if record["already_predicted"] is not False:
        return "target already predicted for the source"
    attained = record.get("attained")
    if not (all(attained) if isinstance(attained, list) else attained is not False):
        return "distance not attained"
    # A form offers two classes: the one predicted for the source, and the target. If neither is the label, both
    # would be wrong.
    if check_labels and record["label_differs"] and record["label"] != record["target"]:
        return "label differs from the prediction"
    return None

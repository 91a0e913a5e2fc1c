"""From a configuration to a plan, and from a plan on disk back to a job that can go on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path

from ..data.items import Item, hash_items, write_listing
from ..data.sources import Source
from ..data.sources.base import printable
from ..data.sources.open import open_source_from_config
from ..data.sources.table import has_target_column
from ..data.targets import COLUMN, parse_target
from ..errors import USAGE, BadItem, JobError
from ..io.atomic_io import TEMPORARY_PATTERN, read_json, sha256_of, write_json
from ..io.output_dir import check_unchanged
from ..io.versions import versions
from .config import JobConfig
from .depth import check_depth, data_warnings, logger, read_image, value_range_of
from .plan import Plan, batch_and_shard_size, threads_of

FILES = ("summary.json", "failed.jsonl", "manifest.jsonl", "plan.json", "items.jsonl", "config.json")
FOLDERS = ("shards", "gallery")
BY_NAME = ("class", "map", "csv", "column")  # targets that may name classes
BY_LABEL = ("label", "map")
BESIDE = ("logs", ".lock", ".lock-*", ".planning")  # what else lies in a job's folder; the lock is its sign
TRIED = 100  # images that are decoded in search of a size


class Inputs:
    """What goes into a job: its configuration, its data, and where each item is to go.

    Parameters
    ----------
    config : JobConfig
    device : {"cpu", "cuda"}
    dataset : Dataset, optional
        In place of what the configuration names.

    Attributes
    ----------
    model_names : list of str or None
        Of the model's classes, once they are known: targets may be named by them.
    """

    def __init__(self, config: JobConfig, device: str, dataset=None):
        self.config, self.device = config, device
        self.rule, self.model_names = parse_target(config.target), None
        self.source: Source = open_source_from_config(config, dataset)

    def items(self) -> Iterator[Item]:
        """Those of the data that the target does not leave out, up to the limit."""
        if self.source.class_names is None and self.rule.kind in BY_NAME:
            for _ in self.source.listing():  # some know their classes' names at the end only
                pass
        resolved = self.rule.resolve(self.source.listing(), self.source.class_names, self.model_names)
        items = islice(resolved, self.config.limit)
        if self.rule.kind == COLUMN:
            return self._with_targets(items)
        return self._labelled(items) if self.rule.kind in BY_LABEL and not self.source.labels_late else items

    def _with_targets(self, items: Iterator[Item]) -> Iterator[Item]:
        """The same; at their end JobError where the data have no targets of their own."""
        missing, item = True, None
        for item in items:
            missing = missing and item.target is None
            yield item
        if item is not None and missing:
            wanted = "'column' only with a data table that has a column target"
            raise JobError(f"target must be {wanted}, and none of the data in {self.config.data} has a target", USAGE)

    def _labelled(self, items: Iterator[Item]) -> Iterator[Item]:
        """The same; at their end JobError where none has the label that the target goes by."""
        missing, item = True, None
        for item in items:
            missing = missing and item.label is None
            yield item
        if item is not None and missing:
            raise JobError(
                f"target must be one that needs no labels, got {self.config.target!r}, and none of the data in "
                f"{self.config.data} has a label: class folders, a column label, or labels bring them",
                USAGE,
            )


def make_plan(out: Path, inputs: Inputs, model: dict, workers: int) -> Plan:
    """List the data, cut it, and write configuration, listing and plan, in this order, into ``out``."""
    config, inputs.model_names = inputs.config, model["class_names"]
    check_depth(config, model["channels"])
    size = model["size"] or _size_of_first(inputs)
    value_range = value_range_of(inputs) if config.range == "auto" else config.range
    batch_size, shard_size = batch_and_shard_size(config, (config.count_of_frames, model["channels"], *size))
    write_json(out / "config.json", config.as_dict())
    listing = write_listing(out / "items.jsonl", inputs.items(), shard_size, inputs.source.where)
    if not listing.items:
        raise JobError(f"data must hold at least one item, got none in {config.data}", USAGE)
    plan = Plan(
        items=listing.items,
        shard_size=shard_size,
        batch_size=batch_size,
        offsets=listing.offsets,
        listing_sha256=listing.sha256,
        size=list(size),
        channels=model["channels"],
        frames=config.count_of_frames,
        threads=threads_of(config, workers),
        dropped=inputs.rule.dropped,
        classes=model["class_names"] or inputs.source.class_names,
        labels=inputs.source.class_names,
        model=model,
        source=inputs.source.description,
        versions=versions(inputs.device),
        left_out=inputs.source.left_out.as_dict(),
        range=list(value_range) if isinstance(value_range, tuple) else value_range,
        frame_dtype=config.frame_dtype,
        warnings=data_warnings(inputs),
    )
    for warning in plan.warnings:
        logger.warning(warning)
    for marker in (out / "shards").glob("*.done.json"):
        marker.unlink()  # of a job that somebody has half removed: they say nothing of this one's shards
    plan.write(out)
    return plan


def check_plan(out: Path, inputs: Inputs) -> Plan:
    """The plan in ``out``, if data and software are still what it was made with."""
    plan = Plan.read(out)
    check_unchanged(plan.versions, versions(inputs.device), "the software")
    check_unchanged(plan.source, inputs.source.description, "the data")
    inputs.model_names = plan.model.get("class_names")
    if hash_items(inputs.items()) != plan.listing_sha256:
        raise JobError(f"data must be what it was, got other items than the {plan.items} that were planned", USAGE)
    _mend_listing(out, inputs, plan)
    return plan


def _mend_listing(out: Path, inputs: Inputs, plan: Plan) -> None:
    """Workers read the file, not the data: it is written again where it is gone or damaged."""
    path = out / "items.jsonl"
    if not path.exists() or sha256_of(path) != plan.listing_sha256:
        write_listing(path, inputs.items(), plan.shard_size, inputs.source.where)


def has_plan(out: Path) -> bool:
    """Whether a job was planned here; before that there is nothing to go on with."""
    return (out / "plan.json").exists()


def refuse_foreign(out: Path, data) -> None:
    """Nobody else's folder is written into: neither one with other files, nor the data's."""
    if isinstance(data, (str, os.PathLike)) and os.path.isdir(data):
        if out.resolve().is_relative_to(Path(data).resolve()):
            raise JobError(f"out must not lie in data, got {out} and {data}", USAGE)
    names = [] if not out.exists() else os.listdir(out)
    ours = (*FILES, *FOLDERS, *BESIDE, TEMPORARY_PATTERN)
    others = [name for name in names if not any(fnmatch(name, pattern) for pattern in ours)]
    if names and not has_plan(out) and (".lock" not in names or others):
        raise JobError(f"out must be a new folder or a job's, got {out}, which has other files: {names[0]}", USAGE)


def nothing_made(out: Path) -> bool:
    """Whether a job that was planned here has no shard yet: nothing is lost with it."""
    return not any((out / "shards").glob("*.done.json"))


def resumed_config(out: Path, asked: Mapping) -> JobConfig:
    """The configuration in ``out``; what is asked for again must agree with it."""
    saved = JobConfig.from_dict(read_json(out / "config.json"))
    now = JobConfig.from_dict({**saved.as_dict(), "trust_checkpoint": False, **asked})  # trust is not inherited
    check_unchanged(saved.as_dict(), now.as_dict(), "the configuration")
    return now


def with_targets_of_data(asked: Mapping) -> dict:
    """The same fields; where nobody says to what, images go to the targets that a table's column ``target`` has."""
    told = asked.get("target") is None and isinstance(asked.get("data"), (str, os.PathLike))
    return {**asked, "target": COLUMN} if told and has_target_column(os.fspath(asked["data"])) else dict(asked)


def clear(out: Path) -> None:
    """Remove what a job has written here, and nothing else; its logs stay."""
    Plan.read(out)  # a folder that is no job's is not ours to clear
    for name in FOLDERS:  # first: no marker may outlive its plan
        if (out / name).exists():
            shutil.rmtree(out / name)
    for name in FILES:
        (out / name).unlink(missing_ok=True)


def clear_leftovers(out: Path) -> None:
    """Remove what killed workers and drivers were writing; what cannot be removed does no harm."""
    for leftover in (*out.glob(TEMPORARY_PATTERN), *(out / "shards").glob(TEMPORARY_PATTERN)):
        with suppress(OSError):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def _size_of_first(inputs: Inputs) -> tuple[int, int]:
    """[H, W] of the first image that can be decoded, where neither the model nor the configuration says."""
    first, count = None, 0
    for item in islice(inputs.items(), TRIED):
        try:
            image = read_image(inputs, item)
        except BadItem as error:
            first, count = first or f"{printable(item.path)} is {error.reason}: {error}", count + 1
            continue
        return image.height, image.width
    if first is None:
        raise JobError(f"data must hold at least one item, got none in {inputs.config.data}", USAGE)
    many = "the only image cannot" if count == 1 else f"none of the first {count} images can"
    text = f"size must be given, or images that can be decoded: {many} be decoded, and the model does not say"
    raise JobError(f"{text}; {'' if count == 1 else 'the first, '}{first}", USAGE)

"""Plans a job, and checks the plan of a resumed job."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from ..data.class_matching import ClassMatch
from ..data.items import Item, Listing, describe_first_change, hash_items, write_listing
from ..data.sources import Source
from ..data.sources.base import printable
from ..data.sources.open import open_source_from_config
from ..data.targets import COLUMN, LABEL, check_target_number, parse_target
from ..data.value_range import narrow_range_warnings, read_image, value_range_of
from ..errors import BadItem, usage_error
from ..io.atomic_io import atomic_path, atomic_write, sha256_of, write_json
from ..io.output_dir import check_unchanged
from ..io.versions import versions
from ..lens.settings import with_settings
from .config import JobConfig
from .folder import JobFolder, clear, has_complete_shard, has_plan
from .plan import Plan, batch_and_shard_size, threads_per_worker
from .replaced import set_aside

TARGETS_WITH_NAMES = ("class", "map", "csv", "column")  # kinds of targets that may name classes
TARGETS_BY_LABEL = ("label", "map")  # kinds of targets that need labels of the data
MAX_TRIES_FOR_SIZE = 100  # images that are tried to find one whose size can be read
logger = logging.getLogger(__name__)


class PlanExistsError(Exception):
    """Another rank has made the plan."""


class JobInputs:
    """The inputs of a job: configuration, data, and targets.

    Parameters
    ----------
    config : JobConfig
    device : {"cpu", "cuda"}
    dataset, model : optional
        Objects that are used in place of the configuration's ``data`` and ``model``.

    Attributes
    ----------
    model_names : list of str or None
        Names of the model's classes, which targets may use. :func:`make_plan` and :func:`check_plan` set them.
    """

    def __init__(self, config: JobConfig, device: str, dataset=None, model=None):
        self.config, self.device, self.dataset, self.model = config, device, dataset, model
        self.target_rule, self.model_names = parse_target(config.target), None
        self.source: Source = open_source_from_config(config, dataset)

    def items(self) -> Iterator[Item]:
        """Iterate over the items that the target rule keeps, up to the limit.

        Raise a JobError at an item whose target is not a class of the model.
        """
        resolved = self.target_rule.resolve(self.source.listing(), self.classes())
        items = self._with_checked_targets(islice(resolved, self.config.limit))
        if self.target_rule.kind == COLUMN:
            text = f"target 'column' needs a data table with a column target, got {self.config.data}, in which no item"
            return _require_any(items, lambda item: item.target is not None, f"{text} has a target")
        if self.target_rule.kind in TARGETS_BY_LABEL and not self.source.labels_read_with_images:
            text = f"target {self.config.target!r} needs labels, and no item of {self.config.data} has one: use class "
            text += "folders, a column label, or --labels (in Python labels=)"
            return _require_any(items, lambda item: item.label is not None or item.target is not None, text)
        return items

    def _with_checked_targets(self, items: Iterable[Item]) -> Iterator[Item]:
        count = None if self.model_names is None else len(self.model_names)
        for item in items:
            if item.target is not None:
                check_target_number(item.target, count, self.config.task, self.target_rule.where(item))
            yield item

    def write_listing(self, path: Path, shard_size: int) -> Listing:
        """Write the items to a file, see :func:`~steerlens_fast.data.items.write_listing`."""
        return write_listing(path, self.items(), shard_size, self.source.where, self.source.key_hint)

    def classes(self) -> ClassMatch:
        """Return the classes of data and model.

        If the source does not know the names of its classes yet, they are looked up only if model or target may use
        them, since this may read large files.
        """
        may_need_names = self.model_names is not None or self.target_rule.kind in TARGETS_WITH_NAMES
        names = self.source.find_class_names() if may_need_names else self.source.class_names
        return ClassMatch(names, self.model_names, self.config.labels)

    def label_warnings(self) -> list[str]:
        """Return a warning if some of the data's classes are not classes of the model.

        Raise a JobError instead if the labels are the targets.
        """
        needed_by = "target 'label'" if self.target_rule.kind == LABEL else None
        more_hints = ", or use --target map:... or a .csv file"
        return self.classes().check(needed_by, more_hints=more_hints)


def _require_any(items: Iterable[Item], is_usable: Callable[[Item], bool], message: str) -> Iterator[Item]:
    """Yield all items; after the last one, raise a JobError if there were items, but none was usable."""
    item, any_usable = None, False
    for item in items:
        any_usable = any_usable or is_usable(item)
        yield item
    if item is not None and not any_usable:
        raise usage_error(message)


def make_plan(out: Path, inputs: JobInputs, model: dict, workers: int, *, shared: bool = False) -> Plan:
    """List the items, and divide them into shards.

    Write config.json, items.jsonl and plan.json, in this order. An existing job is set aside before that (see
    :mod:`.replaced`), once all items are listed and no option was rejected. With ``shared``, an existing plan raises
    PlanExistsError, since complete shards may be those of other ranks.
    """
    config, inputs.model_names = inputs.config, model["class_names"]
    if config.format == "folder" and config.frame_dtype != "uint8" and model["channels"] != 1:
        text = f"frame_dtype must be uint8 for colour frames in format 'folder', got {config.frame_dtype!r}"
        raise usage_error(f"{text}: only grey frames are stored as 16-bit PNG files; use format 'safetensors'")
    size = model["size"] or _size_of_first(inputs)
    decode_options = {"max_pixels": config.max_pixels}
    label_warnings = inputs.label_warnings()
    value_range = config.range
    if value_range == "auto":
        value_range = value_range_of(inputs.source, inputs.items(), **decode_options)
    batch_size, shard_size = batch_and_shard_size(config, (config.num_frames, model["channels"], *size))
    with atomic_path(out / "items.jsonl") as items_path:
        listing = inputs.write_listing(items_path, shard_size)
        if not listing.items:
            raise usage_error(f"data must have at least one item, got none in {config.data}")
        range_warnings = [] if config.range else narrow_range_warnings(inputs.source, inputs.items(), **decode_options)
        if not shared:
            if has_plan(out) and has_complete_shard(out):
                set_aside(out)
            else:
                clear(out)
        write_json(out / "config.json", config.as_dict())
    plan = Plan(
        items=listing.items,
        shard_size=shard_size,
        batch_size=batch_size,
        offsets=listing.offsets,
        listing_sha256=listing.sha256,
        size=list(size),
        channels=model["channels"],
        frames=config.num_frames,
        threads=threads_per_worker(config, workers),
        without_target=inputs.target_rule.dropped,
        classes=model["class_names"] or inputs.source.class_names,
        labels=inputs.source.class_names,
        model=model,
        source=inputs.source.description,
        versions=versions(inputs.device),
        unused_entries=inputs.source.left_out.as_dict(),
        range=list(value_range) if isinstance(value_range, tuple) else value_range,
        frame_dtype=config.frame_dtype,
        warnings=label_warnings + range_warnings,
        label_numbers=inputs.classes().numbers,
        max_target=listing.max_target,
    )
    try:  # contains only this line, since data sets may raise FileExistsError, too
        plan.write(out, exclusive=shared)
    except FileExistsError as error:
        raise PlanExistsError from error
    return plan


def make_shared_plan(out: Path, inputs: JobInputs, model: dict, workers: int) -> None:
    """Make the plan of a job of several ranks.

    The caller has seen no plan, but another rank may have written one that a network file system shows only later. Then
    that plan and its config.json are kept. Raise a JobError if there was no plan, but there are complete shards.
    """
    path = out / "config.json"
    config = path.read_bytes() if path.exists() else None
    try:
        log_warnings(make_plan(out, inputs, model, workers, shared=True))
    except PlanExistsError:
        if config is not None:
            with atomic_write(path) as file:  # make_plan has overwritten it
                file.write(config)
        return
    if has_complete_shard(out):  # shards of an earlier job, since this rank has just made the plan
        (out / "plan.json").unlink()
        text = f"out must not have complete shards without a plan.json, got {out}"
        raise usage_error(f"{text}: delete its folder shards, or use another --out")


def log_warnings(plan: Plan) -> None:
    """Log the warnings of a new plan."""
    for warning in plan.warnings:
        logger.warning(warning)


def check_plan(out: Path, inputs: JobInputs) -> Plan:
    """Read the plan in ``out``; raise a JobError if data or software have changed since."""
    plan = Plan.read(out)
    check_unchanged(plan.versions, versions(inputs.device), "the software")
    check_unchanged(plan.source, inputs.source.description, "the data")
    inputs.model_names = plan.model.get("class_names")
    if hash_items(inputs.items()) != plan.listing_sha256:
        raise usage_error(f"the data must be unchanged, got {_change_of_data(out, inputs, plan)}")
    _restore_listing(out, inputs, plan)
    return plan


def _change_of_data(out: Path, inputs: JobInputs, plan: Plan) -> str:
    if _has_listing(out, plan):
        return printable(describe_first_change(out / "items.jsonl", inputs.items()))
    return f"items that differ from the {plan.items} in the plan"


def _restore_listing(out: Path, inputs: JobInputs, plan: Plan) -> None:
    """Write items.jsonl again if it is missing or damaged. Workers read their items from it."""
    if not _has_listing(out, plan):
        inputs.write_listing(out / "items.jsonl", plan.shard_size)


def _has_listing(out: Path, plan: Plan) -> bool:
    """Return whether items.jsonl is there and undamaged."""
    path = out / "items.jsonl"
    return path.exists() and sha256_of(path) == plan.listing_sha256


def resumed_config(out: Path, options: Mapping) -> JobConfig:
    """Read the configuration in ``out``; raise a JobError if any of the ``options`` differs from it."""
    saved = JobConfig.from_dict(JobFolder(out).config)  # raises an error if another version wrote the folder
    # trust_checkpoint is never restored from the folder: the user must pass it again
    now = JobConfig.from_dict({**saved.as_dict(), "trust_checkpoint": False, **options})
    check_unchanged(saved.as_dict(), now.as_dict(), "the configuration")
    return now


def expand_settings(options: Mapping) -> dict:
    """Replace the option ``settings`` by the options that it stands for; raise a JobError for an unknown name."""
    try:
        return with_settings(options)
    except (TypeError, ValueError) as error:
        raise usage_error(str(error)) from error


def _size_of_first(inputs: JobInputs) -> tuple[int, int]:
    """Return (H, W) of the first image that can be decoded."""
    first_error, count = None, 0
    for item in islice(inputs.items(), MAX_TRIES_FOR_SIZE):
        try:
            image = read_image(inputs.source, item, inputs.config.range, max_pixels=inputs.config.max_pixels)
        except BadItem as error:
            first_error, count = first_error or f"{printable(item.path)} ({error.reason}: {error})", count + 1
            continue
        return image.height, image.width
    if first_error is None:
        raise usage_error(f"data must have at least one item, got none in {inputs.config.data}")
    tried = "the only image cannot" if count == 1 else f"none of the first {count} images can"
    text = f"{tried} be decoded; {'it' if count == 1 else 'the first'} is {first_error}"
    hint = "; if others can, set --size (in Python size=)" if count == MAX_TRIES_FOR_SIZE else ""
    raise usage_error(f"{text}{hint}")

"""Prepares an evaluation.

It loads models and data, compares the models' classes, and selects the images to edit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..classifier.class_names import class_name
from ..data.sources.open import open_source_from_config
from ..data.targets import parse_target
from ..data.value_range import narrow_range_warnings
from ..errors import usage_error
from ..io.versions import versions
from ..models.device import resolve_device
from .classifiers import ClassifierSet, load_driver, load_judges
from .config import EvaluationConfig
from .ground_truth import ground_truth_of
from .sources import CONSTANT, EXCLUSION_REASONS, SourceSelection, select_sources
from .tasks import TaskRunner

FORMAT_VERSION = 4  # version of the files of an evaluation, and of its measures
NO_JUDGES = "no judge could be used: transfer is not measured"


@dataclass
class Preparation:
    """What an evaluation needs to run."""

    config: EvaluationConfig
    runner: TaskRunner
    plan: dict  # models, data, software and sources, which must not change on resume
    problems: list[str]  # problems found so far


def prepare(config: EvaluationConfig, dataset, driver, judges) -> Preparation:
    """Load models and data, and select the sources."""
    device = resolve_device(config.device)
    target_rule = parse_target(config.target)
    data = open_source_from_config(config, dataset)
    driver_model = load_driver(config, device, driver, data.channels())
    judge_models = load_judges(config, device, judges, data.channels())
    if reserved := {"", "driver"} & set(judge_models):
        raise usage_error(f"judges must not be named {reserved.pop()!r}, which is reserved for the driver")
    classifiers = ClassifierSet(driver_model, judge_models, device, config.task)
    for classifier in (classifiers.driver, *classifiers.judges.values()):
        classifier.seed = (config.seed, "sources")
    sources = select_sources(config, data, target_rule, driver_model, classifiers)
    problems = (
        classifiers.problems
        + sources.warnings
        + ([NO_JUDGES] if judge_models and not classifiers.judges else [])
        + _source_warnings(sources)
    )
    if config.range is None:
        problems += narrow_range_warnings(data, sources.items)
    first, cropped = sources.items[0].index, driver_model.crop_pct < 1
    truth, problem = ground_truth_of(data, first, sources.images[0], cropped, config.color)
    problems += [problem] if problem else []
    runner = TaskRunner(config, sources, classifiers.driver, classifiers.judges, truth, device)
    models = {"driver": driver_model.description, **{name: model.description for name, model in judge_models.items()}}
    plan = {
        "format_version": FORMAT_VERSION,
        "models": models,
        "data": data.description,
        "sources": sources.sha256,
        "budgets": runner.budgets,
        "versions": versions(device),
        "threads": torch.get_num_threads(),
    }
    return Preparation(config, runner, plan, problems)


def _source_warnings(sources: SourceSelection) -> list[str]:
    """Return warnings about the sources, for the report."""
    problems = []
    if sources.left_out[CONSTANT]:
        problems.append(f"{sources.left_out[CONSTANT]} images are left out: {EXCLUSION_REASONS[CONSTANT]}")
    classes = set(sources.predicted.tolist())
    if len(classes) == 1:
        name = class_name(min(classes), sources.classes)
        problems.append(f"all sources are of one class ({name}): results hold only for that class")
    return problems

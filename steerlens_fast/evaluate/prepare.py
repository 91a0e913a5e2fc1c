"""What an evaluation is made with: models and data are loaded, classes compared, sources chosen."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..data.class_names import class_name
from ..data.sources import open_source
from ..data.targets import parse_target
from ..errors import USAGE, JobError
from ..io.versions import versions
from ..models.device import resolve_device
from .classifiers import Panel, load_driver, load_judges
from .config import EvaluationConfig
from .ground_truth import ground_truth_of
from .sources import CONSTANT, WHY, SourceSelection, choose
from .tasks import Work


@dataclass
class Prepared:
    """Work that is ready to be done, and what it is done with."""

    config: EvaluationConfig
    work: Work
    about: dict  # models, data, software and sources, which must not change
    problems: list[str]


def prepare(config: EvaluationConfig, data, driver, judges) -> Prepared:
    """Load models and data, and choose the sources."""
    device = resolve_device(config.device)
    rule = parse_target(config.target)
    source = open_source(config.data if data is None else data, labels=config.labels)
    main = load_driver(config, device, driver)
    others = load_judges(config, device, judges)
    if reserved := {"", "driver"} & set(others):
        raise JobError(f"judges must not be named {reserved.pop()!r}, which is the driver", USAGE)
    panel = Panel(main, others, device, config.task)
    for classifier in (panel.driver, *panel.judges.values()):
        classifier.seed = (config.seed, "sources")
    chosen = choose(config, source, rule, main, panel)
    problems = panel.problems + _doubts(chosen, bool(panel.judges), bool(others))
    truth, doubt = ground_truth_of(source, chosen.items[0].index, chosen.images[0], main.crop_pct < 1)
    problems += [doubt] if doubt else []
    work = Work(config, chosen, panel.driver, panel.judges, truth, device)
    models = {"driver": main.description, **{name: model.description for name, model in others.items()}}
    told = {"models": models, "data": source.description, "sources": chosen.sha256, "budgets": work.budgets}
    return Prepared(config, work, {**told, "versions": versions(device), "threads": torch.get_num_threads()}, problems)


def _doubts(chosen: SourceSelection, judged: bool, wanted: bool) -> list[str]:
    """What a reader must know of the sources."""
    problems = []
    if wanted and not judged:
        problems.append("no judge has the driver's classes: transfer is not measured")
    if chosen.left_out[CONSTANT]:
        problems.append(f"{chosen.left_out['constant']} images are constant, and left out: {WHY[CONSTANT]}")
    classes = set(chosen.predicted.tolist())
    if len(classes) == 1:
        name = class_name(min(classes), chosen.classes)
        problems.append(f"all sources are of one class ({name}): nothing is said of others")
    return problems

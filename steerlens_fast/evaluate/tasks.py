"""An evaluation's work, cut into tasks that are each computed and written down at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..classifier import Classifier
from ..classifier.targets import resolve_target
from ..families import PixelFamily
from ..lens.l2_search import factor_at_l2
from ..morphs import REASONS
from ..pyramid import SteerablePyramid
from .classifiers import images_per_call
from .config import EvaluationConfig
from .edits import Editor, Edits, gradient_steps
from .ground_truth import GroundTruth
from .measures.alignment import alignment, phase_displacement
from .measures.arguments import noise
from .measures.consistency import clipping, coefficient_consistency
from .measures.probes import band_probes
from .measures.smooth import smooth_reconstruction
from .measures.transfer import driver_confidence, transfer
from .sources import SourceSelection

NOISE, TRUE, PROBES = "noise", "true motion", "probes"  # tasks beside the families
CONTROLS = (NOISE, TRUE)
FIT_COST = 12.0  # of a smooth reconstruction: EfficientNet-Lite0's forward pass at 224 x 224 is 1
DIGITS = 7  # of a number in a record


@dataclass(frozen=True)
class Task:
    """One family, control or probe, over some of the sources."""

    what: str
    first: int
    last: int

    @property
    def name(self) -> str:
        """As its files are called."""
        return f"{self.what.replace(' ', '-')}-{self.first:06d}"

    @property
    def at(self) -> slice:
        return slice(self.first, self.last)


@dataclass
class TaskResult:
    """What a task gives: records, and the frames of the sources that the report shows, uint8 by source."""

    records: list[dict] = field(default_factory=list)
    frames: dict[str, np.ndarray] = field(default_factory=dict)


class Work:
    """Everything that tasks need.

    Parameters
    ----------
    config : EvaluationConfig
    chosen : SourceSelection
    driver : Classifier
    judges : dict of str to Classifier
    truth : GroundTruth or None
    device : str
    """

    def __init__(
        self,
        config: EvaluationConfig,
        chosen: SourceSelection,
        driver: Classifier,
        judges,
        truth: GroundTruth | None,
        device,
    ):
        self.config, self.chosen, self.driver, self.judges, self.truth = config, chosen, driver, judges, truth
        self.device = torch.device(device)
        self.channels, *size = chosen.images.shape[1:]
        self.pyramid = SteerablePyramid(tuple(size), **(config.pyramid or {}))
        self.budgets = sorted(config.budgets, reverse=True)  # the largest comes first everywhere
        self.shown = self._shown()
        self.report: Callable[[str, int], None] = lambda what, records: None  # called as a task's records are computed

    def tasks(self) -> Iterator[Task]:
        """In the order of the results."""
        extra = [NOISE] + [TRUE] * (self.truth is not None) + [PROBES] * (self.config.probe_directions > 0)
        for what in (*self.config.families, *extra):
            for first in range(0, len(self.chosen), self.config.batch_size):
                yield Task(what, first, min(first + self.config.batch_size, len(self.chosen)))

    def _shown(self) -> set[int]:
        """Sources that the report shows: evenly spaced, or the first of each group."""
        count, most = len(self.chosen), min(self.config.samples, len(self.chosen))
        if self.truth is None:
            return {i * (count - 1) // max(most - 1, 1) for i in range(most)}
        first = {self.truth.group(item.index): n for n, item in reversed(list(enumerate(self.chosen.items)))}
        return set(sorted(first.values())[:most])

    def run(self, task: Task) -> TaskResult:
        """Compute one, a few sources at a time."""
        for classifier in (self.driver, *self.judges.values()):
            classifier.seed = (self.config.seed, task.what, task.first)  # whatever was done before
        done = TaskResult()
        if task.what == PROBES:
            for part in self._parts(task, 1 + self.config.probe_directions):
                done.records += self._probe(part)
                self.report(task.what, part.last - part.first)
            return done
        for budget in self.budgets:
            for part in self._parts(task):
                records, frames = self._edited(part, budget)
                done.records += records
                done.frames |= frames if budget == max(self.budgets) else {}
                self.report(task.what, len(records))
        return done

    def records_of(self, task: Task) -> int:
        """How many records a task has in the results."""
        return (task.last - task.first) * (1 if task.what == PROBES else len(self.budgets))

    def cost_of(self, what: str) -> float:
        """What a record is expected to cost, in evaluations of a classifier; a gradient is two."""
        if what == PROBES:
            return 2.0 + self.pyramid.height * self.pyramid.orientations * (1 + self.config.probe_directions)
        steps = 1 if self.config.regime == "frozen" else gradient_steps(self.config.frames, self.config.steps)
        gradients = 0 if what in CONTROLS else steps
        return 2.0 * gradients + 1 + len(self.judges) + FIT_COST

    def _parts(self, task: Task, images_of_each: int = 1) -> list[Task]:
        """The task in pieces of few enough sources, each of which becomes so many images."""
        source = self.chosen.images[:1]
        count = max(1, images_per_call(source.shape[1:].numel() * source.itemsize, self.device) // images_of_each)
        edges = [*range(task.first, task.last, count), task.last]
        return [Task(task.what, first, last) for first, last in zip(edges, edges[1:])]

    def _edited(self, task: Task, budget: float) -> tuple[list[dict], dict[str, np.ndarray]]:
        """Records of some sources at a budget, and the frames of those that the report shows."""
        images = self.chosen.images[task.at].to(self.device)
        make = {NOISE: self._noise, TRUE: self._true}.get(task.what, self._edit)
        columns, frame = make(task, images, budget)
        columns |= self._measured(task, images, frame, columns["target"])
        pixels = (frame.clamp(0, 1) * 255).round().byte().cpu().numpy()
        shown = sorted(self.shown & set(range(task.first, task.last)))
        return self._records(task, budget, columns), {str(n): pixels[n - task.first] for n in shown}

    # --- Images at a budget, with what is known of them ---

    def _edit(self, task: Task, images: Tensor, budget: float) -> tuple[dict, Tensor]:
        edits = Editor(self.config, task.what, self.driver, self.pyramid, self.channels)(
            images, self.chosen.targets(task.at), budget
        )
        m = edits.morphs
        columns = {"target": m.target, "l2": m.l2[:, -1], "attained": m.attained, "status": m.status}
        columns |= {"target_probability": m.target_probability[:, -1], "driver": m.reached[:, -1]}
        return columns | self._consistency(images, edits), edits.frame

    def _consistency(self, images: Tensor, edits: Edits) -> dict:
        clipped = clipping(images, edits.unclipped)
        columns = {"clipped_pixels": clipped.pixels, "clipped_energy": clipped.energy}
        if edits.coefficients is not None:
            found = coefficient_consistency(self.pyramid, edits.source, edits.coefficients)
            columns |= {"leakage": found.leakage, "departure": found.departure}
            columns |= {"departure_clipped": found.departure_clipped}
        return columns

    def _noise(self, task: Task, images: Tensor, budget: float) -> tuple[dict, Tensor]:
        """White noise in the gradient's place: what a fit, a judge or an alignment says of nothing at all."""
        drawn = noise(images.shape[1:], self.config.seed, range(task.first, task.last)).to(images)
        motion = PixelFamily().prepare(images, drawn)
        factor, l2, attained = factor_at_l2(motion, budget)
        return self._control(task, motion.render(factor[None], bounds=(0, 1))[0], l2, attained)

    def _true(self, task: Task, images: Tensor, budget: float) -> tuple[dict, Tensor]:
        """The true motion, at the same distance."""
        moved, by = self.truth.moved(self._numbers(task), budget)
        frame = moved.to(images).clamp(0, 1)
        l2 = (frame - images).flatten(1).norm(dim=1)
        columns, _ = self._control(task, frame, l2, (l2 - budget).abs() < 0.01 * budget)  # sources have 8 bits
        return columns | {"factor_moved": by}, frame

    def _control(self, task: Task, frame: Tensor, l2: Tensor, attained: Tensor) -> tuple[dict, Tensor]:
        target = self._targets(task, frame)
        outputs = self.driver.outputs(frame)
        columns = {"target": target, "l2": l2, "attained": attained, "status": torch.zeros_like(target)}
        says_target = (outputs.argmax(1) == target) & ~outputs.isnan().any(1)  # argmax takes NaN for the largest
        return columns | {"target_probability": driver_confidence(outputs, target), "driver": says_target}, frame

    def _targets(self, task: Task, like: Tensor) -> Tensor:
        """Classes [n], also where the driver decides them."""
        outputs = self.driver.outputs(self.chosen.images[task.at].to(self.device))
        return resolve_target(self.chosen.targets(task.at), outputs)[0].to(like.device)

    # --- Measures ---

    def _measured(self, task: Task, images: Tensor, frame: Tensor, target: Tensor) -> dict:
        columns = {}
        if self.judges:
            found = transfer(self.judges, frame, target)
            columns |= {"judges": found.agrees, "judges_probability": found.probability, "jointly": found.jointly}
        how = {"grid": self.config.grid, "restarts": self.config.restarts, "seed": self.config.seed}
        fit = smooth_reconstruction(images, frame, workers=len(os.sched_getaffinity(0)), **how)
        columns |= {"warp": fit.warp, "gain": fit.gain, "folded": fit.folded}
        if self.truth is not None:
            derivative = self.truth.derivative(self._numbers(task)).to(images)
            columns["alignment"] = alignment(images, frame, derivative)
            columns["displacement"] = phase_displacement(images, frame, derivative, pyramid=self.pyramid)
        return columns

    def _probe(self, task: Task) -> list[dict]:
        config, source = self.config, self.chosen.predicted[task.at]
        images = self.chosen.images[task.at].to(self.device)
        found = band_probes(
            self.driver,
            images,
            self._targets(task, images),
            source.to(images.device),
            family=config.probe_family,
            rule=config.rule,
            objective=config.objective,
            pyramid=self.pyramid,
            max_l2=config.probe_l2,
            directions=config.probe_directions,
            seed=config.seed,
            numbers=torch.arange(task.first, task.last, device="cpu"),
        )
        columns = {"advantage": found.advantage, "along": found.along, "chance": found.chance}
        return [self._head(task, n) | _row(columns, n - task.first) for n in range(task.first, task.last)]

    # --- Records ---

    def _records(self, task: Task, budget: float, columns: dict) -> list[dict]:
        reasons = [REASONS[s] or None for s in columns.pop("status").tolist()]
        records = []
        for n, reason in zip(range(task.first, task.last), reasons):
            row = _row(columns, n - task.first)
            if reason is not None:  # its frames repeat the source: there is nothing to be measured
                row = {name: value if name == "target" else None for name, value in row.items()} | {"attained": False}
            records.append(self._head(task, n) | {"budget": _number(budget), "reason": reason, **row})
        return records

    def _head(self, task: Task, n: int) -> dict:
        item = self.chosen.items[n]
        told = {"family": task.what, "source": n, "key": item.key, "label": self.chosen.labels[n]}
        told["predicted"] = int(self.chosen.predicted[n])
        return told if self.truth is None else told | {"group": self.truth.group(item.index)}

    def _numbers(self, task: Task) -> list[int]:
        return [item.index for item in self.chosen.items[task.at]]


def _row(columns: dict, n: int) -> dict:
    """One sample of every column, JSON-able."""
    told = {}
    for name, values in columns.items():
        told[name] = _row(values, n) if isinstance(values, dict) else _plain(values[n].tolist())
    return told


def _plain(value):
    """Numbers as they are written; what is not finite is None."""
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return _number(value) if isinstance(value, float) else value


def _number(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None

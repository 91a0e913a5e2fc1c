"""The tasks of an evaluation.

Each measures one family, one control or the probes, for a batch of sources.
"""

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
from ..morphs import MorphStatus
from ..pyramid import SteerablePyramid
from .classifiers import images_per_call
from .config import EvaluationConfig
from .edits import Edits, gradient_steps, make_edits
from .ground_truth import GroundTruth
from .measures.alignment import alignment, phase_displacement
from .measures.arguments import gaussian_noise
from .measures.consistency import clipping, coefficient_consistency
from .measures.probes import band_probes
from .measures.smooth import smooth_reconstruction
from .measures.transfer import driver_confidence, transfer
from .sources import SourceSelection

NOISE, TRUE_MOTION, PROBES = "noise", "true motion", "probes"  # tasks other than the families
CONTROLS = (NOISE, TRUE_MOTION)
FIT_COST = 12.0  # cost of a smooth reconstruction, in forward passes of EfficientNet-Lite0 at 224 x 224
DIGITS = 7  # significant digits of numbers in a record


@dataclass(frozen=True)
class Task:
    """The measurement of one family, one control or the probes, for a range of sources."""

    kind: str  # a family, a control, or PROBES
    first: int
    last: int  # not included

    @property
    def name(self) -> str:
        """The stem of its file names."""
        return f"{self.kind.replace(' ', '-')}-{self.first:06d}"

    @property
    def at(self) -> slice:
        return slice(self.first, self.last)


@dataclass
class TaskResult:
    """The records of a task, and uint8 frames for the report."""

    records: list[dict] = field(default_factory=list)
    frames: dict[str, np.ndarray] = field(default_factory=dict)


class TaskRunner:
    """Runs tasks: edits the sources and measures the edits.

    Parameters
    ----------
    config : EvaluationConfig
    sources : SourceSelection
    driver : Classifier
    judges : dict of str to Classifier
    truth : GroundTruth or None
    device : str
    """

    def __init__(
        self,
        config: EvaluationConfig,
        sources: SourceSelection,
        driver: Classifier,
        judges,
        truth: GroundTruth | None,
        device,
    ):
        self.config, self.sources, self.driver, self.judges, self.truth = config, sources, driver, judges, truth
        self.device = torch.device(device)
        self.pyramid = SteerablePyramid(tuple(sources.images.shape[2:]), **(config.pyramid or {}))
        self.budgets = sorted(config.budgets, reverse=True)  # the largest first
        self.shown = self._shown()
        self.on_records: Callable[[str, int], None] = lambda kind, records: None  # called when records are computed

    def tasks(self) -> Iterator[Task]:
        """Yield all tasks in the order of the results."""
        extra = [NOISE] + [TRUE_MOTION] * (self.truth is not None) + [PROBES] * (self.config.probe_directions > 0)
        for kind in (*self.config.families, *extra):
            for first in range(0, len(self.sources), self.config.batch_size):
                yield Task(kind, first, min(first + self.config.batch_size, len(self.sources)))

    def _shown(self) -> set[int]:
        """Return the sources that the report shows: evenly spaced or, with ``truth``, the first of each group."""
        count, maximum = len(self.sources), min(self.config.samples, len(self.sources))
        if self.truth is None:
            return {i * (count - 1) // max(maximum - 1, 1) for i in range(maximum)}
        first = {self.truth.group(item.index): n for n, item in reversed(list(enumerate(self.sources.items)))}
        return set(sorted(first.values())[:maximum])

    def run(self, task: Task) -> TaskResult:
        """Run a task, a few sources at a time."""
        for classifier in (self.driver, *self.judges.values()):
            classifier.seed = (self.config.seed, task.kind, task.first)  # independent of earlier tasks
        done = TaskResult()
        if task.kind == PROBES:
            for part in self._split(task, 1 + self.config.probe_directions):
                done.records += self._probe(part)
                self.on_records(task.kind, part.last - part.first)
            return done
        for budget in self.budgets:
            for part in self._split(task):
                records, frames = self._run_part(part, budget)
                done.records += records
                done.frames |= frames if budget == max(self.budgets) else {}
                self.on_records(task.kind, len(records))
        return done

    def num_records(self, task: Task) -> int:
        """Return the number of records of a task."""
        return (task.last - task.first) * (1 if task.kind == PROBES else len(self.budgets))

    def cost_of(self, kind: str) -> float:
        """Return the expected cost of a record, in forward passes. A gradient costs two."""
        if kind == PROBES:
            bands = self.pyramid.geometry.num_scales * self.pyramid.orientations
            return 2.0 + bands * (1 + self.config.probe_directions)
        steps = 1 if self.config.regime == "frozen" else gradient_steps(self.config.frames, self.config.steps)
        gradients = 0 if kind in CONTROLS else steps
        return 2.0 * gradients + 1 + len(self.judges) + FIT_COST

    def _split(self, task: Task, images_per_source: int = 1) -> list[Task]:
        """Split a task into parts that each fit into one call of a classifier."""
        source = self.sources.images[:1]
        count = max(1, images_per_call(source.shape[1:].numel() * source.itemsize, self.device) // images_per_source)
        edges = [*range(task.first, task.last, count), task.last]
        return [Task(task.kind, first, last) for first, last in zip(edges, edges[1:])]

    def _run_part(self, task: Task, budget: float) -> tuple[list[dict], dict[str, np.ndarray]]:
        """Return the records of some sources at a budget, and the frames that the report shows."""
        images = self.sources.images[task.at].to(self.device)
        make = {NOISE: self._noise_control, TRUE_MOTION: self._true_control}.get(task.kind, self._edit)
        columns, frame = make(task, images, budget)
        columns |= self._measures(task, images, frame, columns["target"])
        pixels = (frame.clamp(0, 1) * 255).round().byte().cpu().numpy()
        shown = sorted(self.shown & set(range(task.first, task.last)))
        return self._records(task, budget, columns), {str(n): pixels[n - task.first] for n in shown}

    # --- Edits and controls at a budget ---

    def _edit(self, task: Task, images: Tensor, budget: float) -> tuple[dict, Tensor]:
        target = self.sources.targets(task.at)
        edits = make_edits(self.config, task.kind, self.driver, self.pyramid, images, target, budget)
        m = edits.morphs
        columns = {"target": m.target, "l2": m.l2[:, -1], "attained": m.attained, "status": m.status}
        predicts_target = m.reached[:, -1]  # reached: the target class, not the distance
        columns |= {"target_probability": m.target_probability[:, -1], "driver_agrees": predicts_target}
        return columns | self._consistency(images, edits), edits.frame

    def _consistency(self, images: Tensor, edits: Edits) -> dict:
        clipped = clipping(images, edits.unclipped)
        columns = {"clipped_pixels": clipped.pixels, "clipped_energy": clipped.energy}
        if edits.coefficients is not None:
            result = coefficient_consistency(self.pyramid, edits.source, edits.coefficients, clipped=edits.clipped)
            columns |= {"leakage": result.leakage, "departure": result.departure}
            columns |= {"departure_clipped": result.departure_clipped}
        return columns

    def _noise_control(self, task: Task, images: Tensor, budget: float) -> tuple[dict, Tensor]:
        """Move along white noise in place of the gradient. This is a baseline of every measure."""
        noise = gaussian_noise(images.shape[1:], self.config.seed, range(task.first, task.last)).to(images)
        motion = PixelFamily().prepare(images, noise)
        factor, l2, attained = factor_at_l2(motion, budget)
        frame = motion.render(factor[None], bounds=(0, 1))[0]
        return self._control(task, frame, l2, attained), frame

    def _true_control(self, task: Task, images: Tensor, budget: float) -> tuple[dict, Tensor]:
        """Move along the true motion, to the budget."""
        # factor_moved: the change of a parameter of the images, such as a position (TrueMotionData)
        moved, factor_moved = self.truth.moved(self._indices(task), budget)
        frame = moved.to(images).clamp(0, 1)
        l2 = (frame - images).flatten(1).norm(dim=1)
        attained = (l2 - budget).abs() < 0.01 * budget  # 1 %, since the sources are rounded to 8 bits
        return self._control(task, frame, l2, attained) | {"factor_moved": factor_moved}, frame

    def _control(self, task: Task, frame: Tensor, l2: Tensor, attained: Tensor) -> dict:
        """Return the columns that :meth:`_edit` returns for a family, except those of :meth:`_consistency`."""
        target, outputs = self._targets(task, frame), self.driver.outputs(frame)
        columns = {"target": target, "l2": l2, "attained": attained, "status": torch.zeros_like(target)}
        predicts_target = (outputs.argmax(1) == target) & ~outputs.isnan().any(1)  # argmax treats NaN as the largest
        probability = driver_confidence(outputs, target)
        return columns | {"target_probability": probability, "driver_agrees": predicts_target}

    def _targets(self, task: Task, like: Tensor) -> Tensor:
        """Return the target classes [n], including those that the driver chooses."""
        outputs = self.driver.outputs(self.sources.images[task.at].to(self.device))
        return resolve_target(self.sources.targets(task.at), outputs)[0].to(like.device)

    # --- Measures ---

    def _measures(self, task: Task, images: Tensor, frame: Tensor, target: Tensor) -> dict:
        columns = {}
        if self.judges:
            result = transfer(self.judges, frame, target)
            columns |= {"judges": result.agrees, "judges_probability": result.probability, "jointly": result.jointly}
        options = {"grid": self.config.grid, "restarts": self.config.restarts, "seed": self.config.seed}
        fit = smooth_reconstruction(images, frame, workers=len(os.sched_getaffinity(0)), **options)
        columns |= {"warp": fit.warp, "gain": fit.gain, "folded": fit.folded}
        if self.truth is not None:
            derivative = self.truth.derivative(self._indices(task)).to(images)
            columns["alignment"] = alignment(images, frame, derivative)
            columns["displacement"] = phase_displacement(images, frame, derivative, pyramid=self.pyramid)
        return columns

    def _probe(self, task: Task) -> list[dict]:
        config, source_classes = self.config, self.sources.predicted[task.at]
        images = self.sources.images[task.at].to(self.device)
        result = band_probes(
            self.driver,
            images,
            self._targets(task, images),
            source_classes.to(images.device),
            family=config.probe_family,
            rule=config.rule,
            objective=config.objective,
            pyramid=self.pyramid,
            max_l2=config.probe_l2,
            directions=config.probe_directions,
            seed=config.seed,
            numbers=torch.arange(task.first, task.last, device="cpu"),
        )
        columns = {"advantage": result.advantage, "along": result.along, "chance": result.chance}
        return [self._record_start(task, n) | _row(columns, n - task.first) for n in range(task.first, task.last)]

    # --- Records ---

    def _records(self, task: Task, budget: float, columns: dict) -> list[dict]:
        reasons = [MorphStatus(s).reason or None for s in columns.pop("status").tolist()]
        records = []
        for n, reason in zip(range(task.first, task.last), reasons):
            row = _row(columns, n - task.first)
            if reason is not None:  # measures of a failed morph would have no meaning
                row = {name: value if name == "target" else None for name, value in row.items()} | {"attained": False}
            records.append(self._record_start(task, n) | {"budget": _number(budget), "reason": reason, **row})
        return records

    def _record_start(self, task: Task, n: int) -> dict:
        item = self.sources.items[n]
        record = {"family": task.kind, "source": n, "key": item.key, "label": self.sources.labels[n]}
        record["predicted"] = int(self.sources.predicted[n])
        return record if self.truth is None else record | {"group": self.truth.group(item.index)}

    def _indices(self, task: Task) -> list[int]:
        return [item.index for item in self.sources.items[task.at]]


def _row(columns: dict, n: int) -> dict:
    """Return row n of the columns, for JSON."""
    record = {}
    for name, values in columns.items():
        record[name] = _row(values, n) if isinstance(values, dict) else _rounded(values[n].tolist())
    return record


def _rounded(value):
    """Round numbers; those that are not finite become None."""
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return _number(value) if isinstance(value, float) else value


def _number(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None

"""What an evaluation is asked to do: everything that decides its results, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..checks import check_bool, check_choice, check_int, check_number
from ..errors import USAGE, JobError
from ..families import FAMILIES
from ..io.base_config import BaseConfig
from ..lens import SteerableLens
from ..lens.schedule import DEFAULT_L2, check_exclusive, check_steps
from ..models.options import MODEL_OPTIONS
from .measures.probes import DIRECTIONS, PROBE_L2
from .measures.statistics import DRAWS

SELECTIONS = ("auto", "right", "agree", "all")
TASKS = ("multiclass", "binary")  # labels are no classes to choose between
LENS = ("task", "rule", "regime", "objective", "color", "pyramid", "phase_cap")
LISTS = ("judges", "judge_weights", "families", "distances", "size", "mean", "std")
NO_WEIGHTS = "-"  # of a judge that has its own
OF_JUDGES = ("judge_weights", "judge_size", "judge_mean", "judge_std")  # one for each judge
COUNTS = {"sources": 1, "grid": 2, "restarts": 1, "draws": 1, "samples": 0, "batch_size": 1}


@dataclass(frozen=True)
class EvaluationConfig(BaseConfig):
    """What decides an evaluation's results.

    Parameters
    ----------
    data, labels : str
        See :func:`steerlens_fast.data.sources.open_source`.
    driver : str
        The classifier whose gradient is followed, as :func:`steerlens_fast.models.load_model` takes it.
    judges : sequence of str
        Classifiers over the same classes that are never differentiated.
    weights, judge_weights, trust_checkpoint, size, mean, std, channels, interpolation, crop_pct, dtype, channels_last
        See :func:`steerlens_fast.models.load_model`; ``judge_weights`` has one for each judge ("-" for one that
        has its own), or none. What is given holds for all models; what a hub tells of a model holds for that one.
    judge_size, judge_mean, judge_std : sequence
        One for each judge, or none: its own in place of ``size``, ``mean`` and ``std``; None or "-" for a judge to
        which those apply. Images of the driver's size are resized for a judge with another one.
    device : {"cpu", "cuda"} or None
    target : str or int
        See :func:`steerlens_fast.data.targets.parse_target`; not "argmax", which is the source's own class.
    select : {"auto", "right", "agree", "all"}
        Which images are sources: those that driver and judges take for their label; for the same class; or all.
        "auto" is "right" where there are labels, else "agree".
    sources, limit : int
        At most so many sources, of the first so many images.
    families : sequence of str
    max_l2 : float, optional
        The budget: an L2 distance from the source.
    distances : sequence of float, optional
        Several budgets. With neither, 2 and 1.
    frames : int, optional
        Frames to each budget, the source included; the last one is measured.
    steps : int, optional
        Gradients to each budget, in regimes that refresh them; see :meth:`steerlens_fast.SteerableLens.morph`.
    task : {"multiclass", "binary"}
        What the outputs of driver and judges are.
    rule, regime, objective, color, pyramid, phase_cap
        See :class:`steerlens_fast.SteerableLens`.
    grid, restarts : int
        See :func:`steerlens_fast.smooth_reconstruction`.
    probe_family, probe_l2, probe_directions
        See :func:`steerlens_fast.band_probes`; 0 directions leave the probes out.
    draws : int
        See :func:`steerlens_fast.bootstrap`.
    samples : int
        Sources that the report shows.
    seed : int
        Of all random numbers.
    batch_size : int
        Sources that are computed, and written down, together.
    threads : int, optional
        Of torch; by default as many as it has.

    Raises
    ------
    JobError
        Naming the field, what was expected and what came.

    Examples
    --------
    >>> config = EvaluationConfig("images/", "timm:resnet50", ("timm:resnet18",), distances=(5.0, 10.0))
    >>> EvaluationConfig.from_dict(config.as_dict()) == config
    True
    """

    STRING_FIELDS = ("data", "driver")

    data: str
    driver: str
    judges: Sequence[str] = ()
    labels: str | None = None
    weights: str | None = None
    judge_weights: Sequence[str] = ()
    judge_size: Sequence[tuple[int, int] | None] = ()
    judge_mean: Sequence[tuple[float, ...] | None] = ()
    judge_std: Sequence[tuple[float, ...] | None] = ()
    trust_checkpoint: bool = False
    size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channels: int | None = None
    interpolation: str | None = None
    crop_pct: float | None = None
    dtype: str = "float32"
    channels_last: bool = False
    device: str | None = None
    target: str | int | Mapping = "runner-up"
    task: str = "multiclass"
    select: str = "auto"
    sources: int = 300
    limit: int | None = None
    families: Sequence[str] = FAMILIES
    max_l2: float | None = None
    distances: Sequence[float] | None = None
    frames: int | None = None
    steps: int | None = None
    rule: str = "polar"
    regime: str = "persistent"
    objective: str = "nll"
    color: str = "rgb"
    pyramid: Mapping | None = None
    phase_cap: float | None = None
    grid: int = 8
    restarts: int = 3
    probe_family: str = "csp-phase"
    probe_l2: float = PROBE_L2
    probe_directions: int = DIRECTIONS
    draws: int = DRAWS
    samples: int = 8
    seed: int = 0
    batch_size: int = 50
    threads: int | None = None

    def __post_init__(self):
        self._normalize_values()
        for name in LISTS:
            value = getattr(self, name)
            single = isinstance(value, (str, int, float)) and not isinstance(value, bool)
            if name == "size" and single:
                value = (value, value)
            elif single:
                value = (value,)
            object.__setattr__(self, name, tuple(value) if isinstance(value, (list, tuple)) else value)
        for name in OF_JUDGES[1:]:
            object.__setattr__(self, name, _of_each(getattr(self, name)))
        if isinstance(self.judge_size, tuple):
            sizes = ((one, one) if isinstance(one, int) else one for one in self.judge_size)
            object.__setattr__(self, "judge_size", tuple(sizes))
        try:
            self._check()
        except (TypeError, ValueError) as error:
            raise JobError(str(error), USAGE) from error

    def _check(self) -> None:
        self._check_serializable()
        check_choice("select", self.select, SELECTIONS)
        check_choice("task", self.task, TASKS)
        if self.target == "argmax":
            raise ValueError("target must be another class than the source's, got 'argmax', the driver's own choice")
        for name, least in COUNTS.items():
            check_int(name, getattr(self, name), least, None)
        for name in ("limit", "threads"):
            if getattr(self, name) is not None:
                check_int(name, getattr(self, name), 1, None)
        for name in ("trust_checkpoint", "channels_last"):
            check_bool(name, getattr(self, name))
        check_int("seed", self.seed, 0, 2**31)
        if self.device is not None:
            check_choice("device", self.device, ("cpu", "cuda"))
        self._check_probes()
        self._check_compared()

    def _check_probes(self) -> None:
        check_choice("probe_family", self.probe_family, FAMILIES)
        check_number("probe_l2", self.probe_l2, 0.0)
        check_int("probe_directions", self.probe_directions, 0, None)

    def _check_compared(self) -> None:
        """Judges, families and budgets: at least one of the latter two, none twice."""
        if not self.families or not isinstance(self.families, tuple):
            raise ValueError(f"families must name at least one of {FAMILIES}, got {self.families!r}")
        for name in ("judges", "judge_weights"):
            if not all(isinstance(value, str) for value in getattr(self, name)):
                raise TypeError(f"{name} must be strs, got {getattr(self, name)!r}")
        for name in OF_JUDGES:
            given = getattr(self, name)
            if not isinstance(given, tuple):
                raise TypeError(f"{name} must be a sequence with one for each judge, got {given!r}")
            if given and len(given) != len(self.judges):
                raise ValueError(f"{name} must be one for each of {len(self.judges)} judges, got {given}")
        for name in ("families", "distances"):
            values = getattr(self, name) or ()
            if len(set(values)) != len(values):
                raise ValueError(f"{name} must not repeat, got {list(values)}")
        check_exclusive(max_l2=self.max_l2, distances=self.distances)
        if self.distances == ():
            raise ValueError("distances must have at least one distance, got none")
        for budget in self.distances or ():
            check_number("distances", budget, 0.0)
        if self.max_l2 is not None:
            check_number("max_l2", self.max_l2, 0.0, " (several budgets are distances)")
        check_steps(self.frames, self.steps, self.regime)
        for family in self.families:  # says what is wrong with an option, before a model is loaded
            SteerableLens(len, **self.lens_options(family))

    @property
    def budgets(self) -> tuple[float, ...]:
        """L2 distances from the source, as they were given."""
        return self.distances or ((DEFAULT_L2, DEFAULT_L2 / 2) if self.max_l2 is None else (self.max_l2,))

    def lens_options(self, family: str) -> dict:
        """What :class:`SteerableLens` is made with for a family."""
        options = {name: getattr(self, name) for name in LENS}
        if family in ("pixel", "csp-amplitude"):
            options["phase_cap"] = None  # they move no phase
        return {"family": family, **options}

    def judge_options(self, number: int) -> dict:
        """What a judge is loaded with, besides its weights."""
        options = self.model_options
        for name in ("size", "mean", "std"):
            of_judges = getattr(self, f"judge_{name}")
            if of_judges and of_judges[number] is not None:
                options[name] = of_judges[number]
        return options

    @property
    def model_options(self) -> dict:
        """What every model is loaded with, besides its weights."""
        return {name: getattr(self, name) for name in MODEL_OPTIONS if name not in ("weights",)}


def _of_each(value):
    """A value for each judge as tuples, as they are read from JSON too; None for "-"."""
    if not isinstance(value, (list, tuple)):
        return value
    plain = lambda one: None if one == NO_WEIGHTS else tuple(one) if isinstance(one, list) else one
    return tuple(map(plain, value))

"""The configuration of an evaluation: all options that decide its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..checks import check_int, check_number, shown
from ..data.config import DataConfig
from ..families import FAMILIES
from ..io.argument_types import name_list, number_list, or_none, positive, size
from ..io.base_config import inherited_option, option
from ..lens import SteerableLens
from ..lens.config import LensConfig
from ..lens.schedule import DEFAULT_L2, check_exclusive, check_steps
from ..models.config import ModelConfig
from .measures.probes import DIRECTIONS, PROBE_L2
from .measures.statistics import DRAWS

SELECTIONS = ("auto", "right", "agree", "all")
ORDERS = ("random", "data")
TASKS = ("multiclass", "binary")  # not "multilabel", whose labels are not mutually exclusive
LISTS = ("judges", "judge_weights", "families", "distances", "mean", "std")
USE_DEFAULT = "-"  # in the lists of JUDGE_FIELDS, stands for a judge's default
JUDGE_FIELDS = ("judge_weights", "judge_size", "judge_mean", "judge_std")  # lists with one value for each judge
FOR_EACH_JUDGE = "{}, or - for {}; give it once for each --judge, in the same order"


@dataclass(frozen=True)
class EvaluationConfig(LensConfig, ModelConfig, DataConfig):
    """The options that decide an evaluation's results.

    It also has the fields of :class:`~steerlens_fast.data.config.DataConfig`,
    :class:`~steerlens_fast.models.config.ModelConfig` and :class:`~steerlens_fast.lens.config.LensConfig`, but ``rule``
    is "polar" and ``regime`` "persistent" by default. The fields of ModelConfig apply to the driver and, except
    ``weights``, to all judges that have no values of their own.

    Parameters
    ----------
    data, labels : str
        See :func:`steerlens_fast.data.sources.open_source`. Classes of the data are matched with those of the driver by
        name (:class:`steerlens_fast.data.class_matching.ClassMatch`) unless ``labels`` is "numbered".
    driver : str
        The classifier whose gradient the edits follow, see :func:`steerlens_fast.models.load_model`.
    judges : sequence of str
        Classifiers of the same classes, whose gradients are not used.
    weights : str
        Weights of the driver.
    judge_weights : sequence of str
        Weights of each judge, or "-" for its default weights. Empty: default weights for all.
    judge_size, judge_mean, judge_std : sequence
        A value for each judge. None or "-" stands for the value of ``size``, ``mean`` or ``std``. Images have the
        driver's size, and are resized for judges of other sizes.
    target : str or int
        See :func:`steerlens_fast.data.targets.parse_target`. "argmax", the source's predicted class, is not allowed.
    select : {"auto", "right", "agree", "all"}
        Which images become sources. "right": those whose label the driver and all judges predict. "agree": those for
        which the driver and all judges predict the same class. "all": all images. "auto": "right" for images with a
        label, "agree" for others.
    sources : int
        Maximum number of sources.
    order : {"random", "data"}
        The order in which images are examined until there are enough sources. "random": an order that depends on
        ``seed``, so that the sources are a sample even if the data are sorted by class. "data": the data's order.
    families : sequence of str
        Edit families.
    max_l2 : float, optional
        L2 distance of the edits from the source.
    distances : sequence of float, optional
        Several L2 distances, in place of ``max_l2``. If neither option is given: 2 and 1.
    frames : int, optional
        Frames up to each distance, including the source. Only the last frame is measured.
    steps : int, optional
        Gradients up to each distance, for the regimes "live" and "persistent", as in
        :meth:`steerlens_fast.SteerableLens.morph`.
    task : {"multiclass", "binary"}
        Outputs of driver and judges: one score per class, or one logit per image.
    grid, restarts : int
        See :func:`steerlens_fast.smooth_reconstruction`.
    probe_family, probe_l2, probe_directions
        See :func:`steerlens_fast.band_probes`. With 0 directions there are no probes.
    draws : int
        See :func:`steerlens_fast.bootstrap`.
    samples : int
        Number of sources in the report.
    seed : int
        Seed of all random numbers except those of ``smoothing`` (averaged gradients), which has its own seed.
    batch_size : int
        Number of sources that are computed and stored together.
    threads : int, optional
        Threads of torch; by default unchanged.

    Raises
    ------
    JobError
        With the name of the field, the expected and the actual value.

    Examples
    --------
    >>> config = EvaluationConfig("images/", "timm:resnet50", ("timm:resnet18",), distances=(5.0, 10.0))
    >>> EvaluationConfig.from_dict(config.as_dict()) == config
    True
    """

    STRING_FIELDS = ("data", "driver")

    data: str = option(
        group="data",
        metavar="DATA",
        help="a folder of images, a table, tars, arrays, hf:NAME or pkg.mod:callable",
    )
    driver: str = option(
        group="data",
        metavar="MODEL",
        help="the classifier whose gradient the edits follow: timm:NAME, pkg.mod:callable (with the extra photographs, "
        "for example, steerlens_fast.models.efficientnet_lite:lite0), ...",
    )
    judges: Sequence[str] = option(
        (),
        group="data",
        metavar="MODEL",
        flag="--judge",
        action="append",
        help="a classifier that scores the edits, and whose gradient is never used; can be repeated",
    )
    labels: str | None = option(
        None,
        group="data",
        metavar="FILE",
        help="for --data .npy or .safetensors: a .npy file with the class of each image. numbered: the data's classes "
        "have the model's numbers, whatever their names (by default they are matched by name)",
    )
    judge_weights: Sequence[str] = option(
        (),
        group="data",
        metavar="FILE",
        action="append",
        help=FOR_EACH_JUDGE.format("weights of a judge", "its default weights"),
    )
    judge_size: Sequence[tuple[int, int] | None] = option(
        (),
        group="data",
        metavar="H[xW]",
        type=or_none(size),
        action="append",
        help=FOR_EACH_JUDGE.format("image size of a judge", "the value of --size"),
    )
    judge_mean: Sequence[tuple[float, ...] | None] = option(
        (),
        group="data",
        metavar="M,M,M",
        type=or_none(number_list),
        action="append",
        help=FOR_EACH_JUDGE.format("mean for a judge", "the value of --mean"),
    )
    judge_std: Sequence[tuple[float, ...] | None] = option(
        (),
        group="data",
        metavar="S,S,S",
        type=or_none(number_list),
        action="append",
        help=FOR_EACH_JUDGE.format("standard deviation for a judge", "the value of --std"),
    )
    target: str | int | Mapping = option(
        "runner-up",
        group="data",
        metavar="T",
        help="runner-up (second highest score for the source), least (lowest), label, column (the column target of a "
        "data table), a class, a .csv, or map:3=8,7=2 (default: column if the data are a table with a column target, "
        "otherwise runner-up)",
    )
    select: str = option(
        "auto",
        group="data",
        choices=SELECTIONS,
        help="which images are edited. right: driver and judges predict the label. agree: driver and judges predict "
        "one class. all: all images. auto: right for images with a label, agree for others",
    )
    sources: int = option(300, group="data", metavar="N", minimum=1, help="maximum number of source images")
    order: str = option(
        "random",
        group="data",
        choices=ORDERS,
        help="the order in which images are examined until there are N sources: random (depends on --seed), or the "
        "data's order",
    )
    families: Sequence[str] = option(
        FAMILIES,
        group="method",
        metavar="F,...",
        type=name_list,
        help=f"edit families (default: {','.join(FAMILIES)})",
    )
    grid: int = option(8, group="measures", metavar="N", minimum=2, help="control points of a warp along each side")
    restarts: int = option(3, group="measures", metavar="N", minimum=1, help="starts of the fit of each warp")
    probe_family: str = option(
        "csp-phase", group="measures", metavar="F", choices=FAMILIES, help="edit family of single-band probes"
    )
    probe_l2: float = option(
        PROBE_L2, group="measures", metavar="L2", type=positive, help="L2 distance of single-band probes"
    )
    probe_directions: int = option(
        DIRECTIONS,
        group="measures",
        metavar="N",
        minimum=0,
        help="random directions that a probe is compared with; 0 for no probes",
    )
    draws: int = option(DRAWS, group="measures", metavar="N", minimum=1, help="resamples of the bootstrap")
    samples: int = option(8, group="measures", metavar="N", minimum=0, help="source images shown in the report")
    batch_size: int = option(
        50, group="running", metavar="N", minimum=1, help="source images computed and stored together"
    )
    threads: int | None = option(None, group="running", metavar="N", minimum=1, help="torch threads")

    weights: str | None = inherited_option(ModelConfig, "weights", help="weights of the driver")
    task: str = inherited_option(LensConfig, "task", choices=TASKS)
    rule: str = inherited_option(LensConfig, "rule", default="polar")
    regime: str = inherited_option(LensConfig, "regime", default="persistent")
    # Distances must be above 0, since measures divide by the length of the edit.
    max_l2: float | None = inherited_option(
        LensConfig, "max_l2", type=positive, help="L2 distance of an edit from its source"
    )
    distances: Sequence[float] | None = inherited_option(
        LensConfig, "distances", type=positive, help="several L2 distances (default: 2 1)"
    )

    def _normalize(self) -> None:
        super()._normalize()
        for name in LISTS:
            self._set(name, _as_tuple(getattr(self, name)))
        for name, length in (("judge_size", 2), ("judge_mean", None), ("judge_std", None)):
            if isinstance(values := _as_tuple(getattr(self, name), None), tuple):
                values = tuple(None if value == USE_DEFAULT else _as_tuple(value, length) for value in values)
            self._set(name, values)

    def _check(self) -> None:
        super()._check()
        if self.target == "argmax":
            raise ValueError("target must differ from the source's class, got 'argmax', which the driver predicts")
        check_int("seed", self.seed, 0, 2**31)
        check_number("probe_l2", self.probe_l2, 0.0)
        self._check_compared()

    def _check_compared(self) -> None:
        """Check judges, families and distances."""
        if not self.families or not isinstance(self.families, tuple):
            raise ValueError(f"families must name at least one of {FAMILIES}, got {shown(self.families)}")
        for name in ("judges", "judge_weights"):
            if not all(isinstance(value, str) for value in getattr(self, name)):
                raise TypeError(f"{name} must be a list of str, got {getattr(self, name)!r}")
        for name in JUDGE_FIELDS:
            chosen = getattr(self, name)
            if not isinstance(chosen, tuple):
                raise TypeError(f"{name} must have one value for each judge, got {shown(chosen)}")
            if chosen and len(chosen) != len(self.judges):
                raise ValueError(f"{name} must have one value for each of {len(self.judges)} judges, got {chosen}")
        for name in ("families", "distances"):
            values = getattr(self, name) or ()
            if len(set(values)) != len(values):
                raise ValueError(f"{name} must be distinct, got {list(values)}")
        check_exclusive(max_l2=self.max_l2, distances=self.distances)
        if self.distances == ():
            raise ValueError("distances must have at least one distance, got none")
        for budget in self.distances or ():
            check_number("distances", budget, 0.0)
        if self.max_l2 is not None:
            check_number("max_l2", self.max_l2, 0.0, " (for several distances use distances)")
        check_steps(self.frames, self.steps, self.regime)
        for family in self.families:  # checks the options before a model is loaded
            SteerableLens(len, **self.lens_options(family))  # len stands for a model, which is not called

    @property
    def budgets(self) -> tuple[float, ...]:
        """L2 distances of the edits from the source."""
        return self.distances or ((DEFAULT_L2, DEFAULT_L2 / 2) if self.max_l2 is None else (self.max_l2,))

    def lens_options(self, family: str) -> dict:
        """Return the arguments of :class:`SteerableLens` for a family."""
        options = self.arguments_of("lens")
        if family in ("pixel", "csp-amplitude"):
            options["phase_cap"] = None  # these families do not change phases
        return {"family": family, **options}

    def judge_options(self, number: int) -> dict:
        """Return the arguments of ``load_model`` for a judge, without its weights."""
        options = self.model_options
        for name in ("size", "mean", "std"):
            values = getattr(self, f"judge_{name}")
            if values and values[number] is not None:
                options[name] = values[number]
        return options

    @property
    def model_options(self) -> dict:
        """Arguments of ``load_model`` for every classifier, without the weights."""
        return {name: value for name, value in super().model_options.items() if name != "weights"}


def _as_tuple(value, length: int | None = 1):
    """Return a list (from JSON) as a tuple, and a number or text repeated in a tuple of ``length``.

    If ``length`` is None, numbers and texts are returned unchanged.
    """
    if isinstance(value, (str, int, float)) and not isinstance(value, bool) and length is not None:
        return (value,) * length
    return tuple(value) if isinstance(value, list) else value

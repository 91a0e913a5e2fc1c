"""What a job is asked to do: everything that decides its outputs, as plain data that can be written and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..checks import check_bool, check_choice, check_int, check_number
from ..data.decoding import check_range
from ..errors import USAGE, JobError
from ..io.base_config import BaseConfig
from ..lens import SCORES, SteerableLens
from ..lens.schedule import check_exclusive, check_steps, count_frames, steps_per_frame
from ..models.options import DTYPES, MODEL_OPTIONS

FORMATS = ("safetensors", "wds", "folder")
DECODERS = ("pillow", "torchcodec")
FRAME_DTYPES = {"safetensors": ("uint8", "uint16", "float32"), "folder": ("uint8", "uint16"), "wds": ("uint8",)}
LENS = ("task", "family", "rule", "regime", "objective", "color", "pyramid", "scales", "orientations", "phase_cap")
MORPH = ("factors", "amplitude_factors", "max_l2", "distances", "frames", "steps", "score")


@dataclass(frozen=True)
class JobConfig(BaseConfig):
    """What decides a job's outputs.

    Parameters
    ----------
    data, labels : str
        See :func:`steerlens_fast.data.sources.open_source`.
    model, weights, trust_checkpoint, size, mean, std, channels, interpolation, crop_pct, dtype, channels_last, seed
        See :func:`steerlens_fast.models.load_model`.
    device : {"cpu", "cuda"} or None
        None: a GPU where there is one.
    target : str or int
        See :func:`steerlens_fast.data.targets.parse_target`.
    task, family, rule, regime, objective, color, pyramid, scales, orientations, phase_cap
        See :class:`steerlens_fast.SteerableLens`.
    factors, amplitude_factors, max_l2, distances, frames, steps, score
        See :meth:`steerlens_fast.SteerableLens.morph`: ``max_l2`` is one float, ``distances`` a list of them, factors
        are either.
    decoder, max_pixels
        See :func:`steerlens_fast.data.decoding.decode`.
    range : (float, float), "auto", "image" or None
        Of images of more than 8 bits: which values, in the file's own units, become black and white. None: the full
        range of the file's type, 0 to 65535; (0, 4095) for 12-bit data. "auto": the lowest and the highest value in
        the data set, for which every image is read once before the job. "image": those of each image, which then are
        not comparable with each other.
    format : {"safetensors", "wds", "folder"}
        How shards are stored.
    frame_dtype : {"uint8", "uint16", "float32"}
        Of stored frames: 0 to 255, 0 to 65535 or [0, 1]. Grey images of more than 8 bits keep their depth for the
        model unless it is "uint8". "safetensors" stores all, "folder" uint8, and uint16 of grey frames, "wds" uint8.
    batch_size, shard_size : int, optional
        Images in one call of the model, images in a shard; by default as the image's size suggests.
    threads : int, optional
        Of torch, in each worker: another number may round otherwise. By default the machine's cores over the workers.
    limit : int, optional
        Only the first so many items.

    Raises
    ------
    JobError
        Naming the field, what was expected and what came.

    Examples
    --------
    >>> config = JobConfig("images/", "timm:resnet18", max_l2=5.0)
    >>> config.count_of_frames, config.lens_options["family"]
    (12, 'csp-phase')
    >>> JobConfig.from_dict(config.as_dict()) == config
    True
    """

    STRING_FIELDS = ("data", "model")

    data: str
    model: str
    labels: str | None = None
    weights: str | None = None
    trust_checkpoint: bool = False
    size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channels: int | None = None
    interpolation: str | None = None
    crop_pct: float | None = None
    dtype: str = "float32"
    channels_last: bool = False
    seed: int = 0
    device: str | None = None
    target: str | int | Mapping = "runner-up"
    task: str = "multiclass"
    family: str = "csp-phase"
    rule: str = "complex"
    regime: str = "frozen"
    objective: str = "nll"
    color: str = "rgb"
    pyramid: Mapping | None = None
    scales: Sequence[int] | None = None
    orientations: Sequence[int] | None = None
    phase_cap: float | None = None
    factors: float | Sequence[float] | None = None
    amplitude_factors: float | Sequence[float] | None = None
    max_l2: float | None = None
    distances: Sequence[float] | None = None
    frames: int | None = None
    steps: int | None = None
    score: str = "all"
    decoder: str = "pillow"
    max_pixels: int = 178_956_970  # where Pillow speaks of a decompression bomb
    range: str | Sequence[float] | None = None
    format: str = "safetensors"
    frame_dtype: str = "uint8"
    batch_size: int | None = None
    shard_size: int | None = None
    threads: int | None = None
    limit: int | None = None

    def __post_init__(self):
        self._normalize_values()
        if isinstance(self.size, int) and not isinstance(self.size, bool):
            object.__setattr__(self, "size", (self.size, self.size))
        try:
            self._check()
        except (TypeError, ValueError) as error:
            raise JobError(str(error), USAGE) from error

    def _check(self) -> None:
        self._check_serializable()
        choices = {"score": SCORES, "decoder": DECODERS, "format": FORMATS, "dtype": DTYPES}
        for name, among in choices.items():
            check_choice(name, getattr(self, name), among)
        for name in ("batch_size", "shard_size", "threads", "limit"):
            if getattr(self, name) is not None:
                check_int(name, getattr(self, name), 1, None)
        for name in ("trust_checkpoint", "channels_last"):
            check_bool(name, getattr(self, name))
        if self.range != "auto":
            check_range(self.range)
        check_choice("frame_dtype", self.frame_dtype, FRAME_DTYPES["safetensors"])
        if self.frame_dtype not in FRAME_DTYPES[self.format]:
            stored = " or ".join(FRAME_DTYPES[self.format])
            raise ValueError(f"frame_dtype must be {stored} with format {self.format!r}, got {self.frame_dtype!r}")
        check_int("max_pixels", self.max_pixels, 1, None)
        if self.labels is not None and not str(self.labels).lower().endswith(".npy"):
            raise ValueError(f"labels must be a .npy file of integers, got {self.labels}")
        if self.device is not None:
            check_choice("device", self.device, ("cpu", "cuda"))
        self._check_how_far()
        SteerableLens(len, **self.lens_options)  # says what is wrong with an option, before a model is loaded

    def _check_how_far(self) -> None:
        check_exclusive(factors=self.factors, max_l2=self.max_l2, distances=self.distances)
        for name in ("factors", "amplitude_factors"):
            value = getattr(self, name)
            for number in value if isinstance(value, (list, tuple)) else [] if value is None else [value]:
                check_number(name, number)
        if self.max_l2 is not None:
            check_number("max_l2", self.max_l2, 0.0, " (several distances of each image are distances)")
        if self.distances is not None and (not isinstance(self.distances, (list, tuple)) or not self.distances):
            raise TypeError(f"distances must be a list of floats, got {self.distances!r}")
        for number in self.distances or ():
            check_number("distances", number, 0.0)
        check_steps(self.frames, self.steps, self.regime)
        steps_per_frame(self.steps, self.count_of_frames - 1)  # these two say what does not agree
        if self.regime != "frozen" and sorted(set(self.distances or ())) != list(self.distances or ()):
            raise ValueError(f"distances must increase where the gradient is refreshed, got {self.distances}")

    @property
    def lens_options(self) -> dict:
        """What :class:`SteerableLens` is made with."""
        return {name: getattr(self, name) for name in LENS}

    @property
    def morph_options(self) -> dict:
        """What :meth:`SteerableLens.morph` is called with."""
        return {name: getattr(self, name) for name in MORPH}

    @property
    def model_options(self) -> dict:
        """What the model is loaded with."""
        return {name: getattr(self, name) for name in MODEL_OPTIONS}

    @property
    def count_of_frames(self) -> int:
        """Frames of each morph, the source included."""
        length = lambda table: len(table) if isinstance(table, (list, tuple)) else None
        factors = {"factors": length(self.factors), "amplitude_factors": length(self.amplitude_factors)}
        distances = None if self.distances is None else len(self.distances) + 1
        return count_frames(self.frames, self.steps, **factors, distances=distances)

    @classmethod
    def from_dict(cls, told: Mapping) -> JobConfig:
        """See :meth:`BaseConfig.from_dict`; JSON's lists are tuples again."""
        pairs = {n: tuple(v) for n, v in told.items() if n in ("size", "mean", "std", "range") and isinstance(v, list)}
        return super().from_dict({**told, **pairs})

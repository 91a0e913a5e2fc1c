"""The options of a job: those that decide its outputs (its configuration), and those that decide how it runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..checks import check_number, shown
from ..data.class_matching import NUMBERED
from ..data.config import DataConfig
from ..families import FAMILIES
from ..io.argument_types import integer_list, number_or_list
from ..io.base_config import BaseConfig, option
from ..io.progress import KINDS
from ..lens import SCORES, SteerableLens
from ..lens.config import LensConfig
from ..lens.schedule import check_exclusive, check_steps, count_frames, steps_per_frame
from ..models.config import ModelConfig
from .formats import FORMATS

DECODERS = ("pillow", "torchcodec")
FRAME_DTYPES = {"safetensors": ("uint8", "uint16", "float32"), "wds": ("uint8",), "folder": ("uint8", "uint16")}
ENGINES = ("local", "env", "ray")
MIN_ALLOWED_FAILURES = 10  # if max_failures is a percentage


@dataclass(frozen=True)
class JobConfig(LensConfig, ModelConfig, DataConfig):
    """The options that decide a job's outputs.

    A JobConfig also has the fields of :class:`~steerlens_fast.data.config.DataConfig`,
    :class:`~steerlens_fast.models.config.ModelConfig` and :class:`~steerlens_fast.lens.config.LensConfig`.

    Parameters
    ----------
    data, labels : str
        See :func:`steerlens_fast.data.sources.open_source`. Classes of the data are matched with those of the model by
        name (:class:`steerlens_fast.data.class_matching.ClassMatch`) unless ``labels`` is "numbered".
    model : str
        See :func:`steerlens_fast.models.load_model`.
    target : str, int or mapping
        See :func:`steerlens_fast.data.targets.parse_target`.
    decoder, max_pixels
        See :func:`steerlens_fast.data.decoding.decode`.
    family, scales, orientations
        See :class:`steerlens_fast.SteerableLens`.
    factors, amplitude_factors, score
        See :meth:`steerlens_fast.SteerableLens.morph`; factors are one float or a list of floats.
    format : {"safetensors", "wds", "folder"}
        Storage format of the shards.
    frame_dtype : {"uint8", "uint16", "float32"}
        Dtype of stored frames. Values are 0 to 255 in uint8, 0 to 65535 in uint16, and in [0, 1] in float32. Use uint16
        or float32 to keep all bits of images of more than 8 bits. Format "safetensors" supports all three dtypes,
        "folder" uint8 and (for grey frames) uint16, "wds" only uint8.
    batch_size, shard_size : int, optional
        Number of images in a batch, and in a shard. By default, both depend on the size of an image. On a GPU, the
        model is called with a whole batch; on a CPU, a call may have fewer images.
    threads : int, optional
        Threads of torch in each worker. By default the cores of the machine divided by the number of workers, whatever
        OMP_NUM_THREADS is. Another number may give other rounding errors.

    Raises
    ------
    JobError
        With the name of the field, the expected and the actual value.

    Examples
    --------
    >>> config = JobConfig("images/", "timm:resnet18", max_l2=5.0)
    >>> config.num_frames, config.lens_options["family"]
    (12, 'csp-phase')
    >>> JobConfig.from_dict(config.as_dict()) == config
    True
    """

    STRING_FIELDS = ("data", "model")

    data: str = option(
        group="data",
        metavar="DATA",
        help="a folder of images (flat, or one sub-folder per class); .csv or .jsonl with the columns path, label (the "
        "image's class), target (the class to morph it toward) and key; .tar, or a folder or pattern of tars "
        "(webdataset); .npy; .safetensors; idx:FOLDER[#test], IDX files (MNIST's format); hf:NAME; pkg.mod:callable",
    )
    model: str = option(
        group="data",
        metavar="MODEL",
        help="timm:NAME, torchvision:NAME, pkg.mod:callable (with the extra photographs, for example, "
        "steerlens_fast.models.efficientnet_lite:lite0), an exported .pt2, or TorchScript",
    )
    labels: str | None = option(
        None,
        group="data",
        metavar="FILE",
        help="a .npy file with the class of each image, for --data .npy or .safetensors; or, for any data, the word "
        "numbered: classes of the data and the model are matched by number (default: by name)",
    )
    target: str | int | Mapping = option(
        "runner-up",
        group="data",
        metavar="T",
        help="label (the data's own class), column (the column target of a data table), runner-up, argmax or least "
        "(the class with the second highest, the highest or the lowest score for the source), a class (its number, or "
        "its name in the model or the data), map:3=8,goldfish=tench, or a .csv with the columns target (the class to "
        "morph toward), and key or path; not:T removes a label, with --task multilabel (default: column if the data "
        "are a table with a column target, otherwise runner-up)",
    )
    decoder: str = option("pillow", group="data", choices=DECODERS, help="image decoder")
    max_pixels: int = option(
        178_956_970,  # Pillow's limit, above which it raises a DecompressionBombError
        group="data",
        metavar="N",
        minimum=1,
        help="maximum number of pixels of an image; larger images fail",
    )
    family: str = option(
        "csp-phase", group="method", metavar="F", passed_to="lens", help=f"edit family: {', '.join(FAMILIES)}"
    )
    scales: Sequence[int] | None = option(
        None, group="method", metavar="S,...", type=integer_list, passed_to="lens", help="edit only these scales"
    )
    orientations: Sequence[int] | None = option(
        None, group="method", metavar="K,...", type=integer_list, passed_to="lens", help="edit only these orientations"
    )
    factors: float | Sequence[float] | None = option(
        None,
        group="method",
        metavar="B[,...]",
        type=number_or_list,
        passed_to="morph",
        help="factor of the last frame, or of every frame; a factor multiplies the step that a gradient gives",
    )
    amplitude_factors: float | Sequence[float] | None = option(
        None,
        group="method",
        metavar="A[,...]",
        type=number_or_list,
        passed_to="morph",
        help="factors of the amplitude, with --factors (default: the same factors)",
    )
    score: str = option("all", group="method", choices=SCORES, passed_to="morph", help="frames that the model scores")
    format: str = option("safetensors", group="outputs", choices=FORMATS, help="storage format of frames")
    frame_dtype: str = option(
        "uint8",
        group="outputs",
        choices=FRAME_DTYPES["safetensors"],
        help="dtype of stored frames. uint16 and float32 keep all bits of images of more than 8 bits. float32, and "
        "uint16 for colour images, need --format safetensors",
    )
    batch_size: int | None = option(
        None,
        group="outputs",
        metavar="N",
        minimum=1,
        help="images in a batch, which on a CPU may take several calls of the model (default: depends on the image "
        "size)",
    )
    shard_size: int | None = option(
        None,
        group="outputs",
        metavar="N",
        minimum=1,
        help="images in a shard (default: depends on the image size)",
    )
    threads: int | None = option(
        None,
        group="running",
        metavar="N",
        minimum=1,
        help="torch threads in each worker (default: the cores divided by the workers, whatever OMP_NUM_THREADS is)",
    )

    def _check(self) -> None:
        super()._check()
        if self.frame_dtype not in FRAME_DTYPES[self.format]:
            stored = " or ".join(FRAME_DTYPES[self.format])
            raise ValueError(f"frame_dtype must be {stored} with format {self.format!r}, got {self.frame_dtype!r}")
        if self.labels not in (None, NUMBERED) and not str(self.labels).lower().endswith(".npy"):
            raise ValueError(
                f"labels must be a .npy file of class numbers or names, or {NUMBERED!r}, got {self.labels}"
            )
        self._check_schedule()
        # Checks the options before a model is loaded; `len` is a placeholder for the model and is not called.
        SteerableLens(len, **self.lens_options)

    def _check_schedule(self) -> None:
        check_exclusive(factors=self.factors, max_l2=self.max_l2, distances=self.distances)
        for name in ("factors", "amplitude_factors"):
            value = getattr(self, name)
            for number in value if isinstance(value, (list, tuple)) else [] if value is None else [value]:
                check_number(name, number)
        if self.max_l2 is not None:
            check_number("max_l2", self.max_l2, 0.0, " (for several distances use distances)", closed=True)
        if self.distances is not None and (not isinstance(self.distances, (list, tuple)) or not self.distances):
            raise TypeError(f"distances must be a list of floats, got {shown(self.distances)}")
        for number in self.distances or ():
            check_number("distances", number, 0.0, closed=True)
        check_steps(self.frames, self.steps, self.regime)
        # num_frames and steps_per_frame raise an error if frames, steps and factors do not agree
        steps_per_frame(self.steps, self.num_frames - 1)
        if self.regime != "frozen" and sorted(set(self.distances or ())) != list(self.distances or ()):
            raise ValueError(f"distances must increase with regime {self.regime!r}, got {self.distances}")

    @property
    def lens_options(self) -> dict:
        """Arguments of :class:`SteerableLens`."""
        return self.arguments_of("lens")

    @property
    def morph_options(self) -> dict:
        """Arguments of :meth:`SteerableLens.morph`."""
        return self.arguments_of("morph")

    @property
    def num_frames(self) -> int:
        """Number of frames of each morph, including the source."""
        factors = {name: _length(getattr(self, name)) for name in ("factors", "amplitude_factors")}
        distances = None if self.distances is None else len(self.distances) + 1
        return count_frames(self.frames, self.steps, **factors, distances=distances)


def _length(factors: float | Sequence[float] | None) -> int | None:
    return len(factors) if isinstance(factors, (list, tuple)) else None


@dataclass(frozen=True)
class RunOptions(BaseConfig):
    """Options that decide how a job runs.

    They do not change the bytes of the shards, with one exception: in a new job, the default of ``threads`` depends on
    ``workers``.

    Parameters
    ----------
    engine : {"local", "env", "ray"}
        "local": worker processes on this machine. "env": this process is one of the ranks that torchrun or a SLURM
        array has started. "ray": actors of Ray.
    workers : int, optional
        Number of processes or actors; 0 runs the job in this process. By default one for each GPU, or 1 if there is
        none.
    decoders : int, optional
        Threads that decode images, in each worker. By default the cores divided by the workers, at most 8.
    resume : bool
        Continue the job.
    overwrite : bool
        Replace the job, which is deleted when the first shard of the new job is complete.
    retry_failed : bool
        Continue the job, and compute shards with failed items again.
    max_failures : int or str
        Maximum number of failed items, or a percentage of all items such as "10%". Any percentage allows at least 10
        failed items.
    progress : {"auto", "bar", "lines", "json", "none"}
        How progress is reported on stderr.
    gallery : int
        Maximum number of morphs, and of failed items, in the gallery; 0 for no gallery.
    """

    engine: str = option(
        "local",
        group="running",
        choices=ENGINES,
        help="local: worker processes on this machine. env: this command is one of the ranks that torchrun or a SLURM "
        "array has started. ray: actors of Ray",
    )
    workers: int | None = option(
        None,
        group="running",
        metavar="N",
        minimum=0,
        help="worker processes; 0 runs the job in this process (default: one for each GPU, or 1 if there is none)",
    )
    decoders: int | None = option(
        None,
        group="running",
        metavar="N",
        minimum=1,
        help="threads that decode images, in each worker (default: the cores divided by the workers, at most 8)",
    )
    resume: bool = option(
        False, group="running", help="continue the job in --out; options that are given again must be the same"
    )
    overwrite: bool = option(
        False,
        group="running",
        help="replace the job in --out, which is deleted when the first shard of the new job is complete",
    )
    retry_failed: bool = option(
        False, group="running", help="continue the job, and compute shards with failed items again"
    )
    max_failures: int | str = option(
        "10%",
        group="running",
        metavar="N|P%",
        help="maximum number or percentage of failed items; a percentage allows at least 10 items (default: 10%)",
    )
    progress: str = option("auto", group="running", choices=KINDS, help="how progress is reported on stderr")
    gallery: int = option(
        48,
        group="outputs",
        metavar="N",
        minimum=0,
        help="maximum number of morphs, and of failed items, in the gallery; 0 for no gallery",
    )

    def _check(self) -> None:
        super()._check()
        self.max_failed_items(1)  # raises an error if max_failures is invalid
        if self.overwrite and (self.resume or self.retry_failed):
            raise ValueError("overwrite must not be given with resume or retry_failed, which keep the job")
        if self.overwrite and self.engine == "env":
            why = "since each rank would delete the others' shards"
            raise ValueError(f"overwrite must not be given with engine 'env', {why}")

    def max_failed_items(self, items: int) -> int:
        """Return how many of ``items`` may fail.

        Examples
        --------
        >>> RunOptions(max_failures="10%").max_failed_items(1000), RunOptions(max_failures="10%").max_failed_items(20)
        (100, 10)
        """
        text = str(self.max_failures)
        is_share = text.endswith("%")
        try:
            limit = float(text[:-1]) / 100 * items if is_share else int(text)
        except ValueError:
            limit = -1
        if not 0 <= limit < math.inf:
            expected = 'a number of items or a share of them like "10%"'
            raise ValueError(f"max_failures must be {expected}, got {shown(self.max_failures)}")
        return max(MIN_ALLOWED_FAILURES, int(limit)) if is_share else limit

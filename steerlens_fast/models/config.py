"""Options for loading a model, shared by the configurations of jobs and evaluations."""

from __future__ import annotations

from dataclasses import dataclass

from ..data.resize import INTERPOLATIONS
from ..io.argument_types import number_list, positive, size
from ..io.base_config import BaseConfig, option

DTYPES = ("float32", "float64", "bfloat16", "float16")
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class ModelConfig(BaseConfig):
    """Options of :func:`steerlens_fast.models.load_model`, and the model's device.

    Parameters
    ----------
    weights, trust_checkpoint, size, mean, std, channels, interpolation, crop_pct, class_names, dtype, channels_last,
    seed
        See :func:`steerlens_fast.models.load_model`.
    device : {"cpu", "cuda"}, optional
        By default "cuda" if there are a GPU and CUDA kernels, otherwise "cpu".
    """

    weights: str | None = option(
        None,
        group="data",
        metavar="FILE",
        passed_to="model",
        help='.pt or .safetensors file, or "random" for untrained weights (default: those of the hub)',
    )
    trust_checkpoint: bool = option(
        False,
        group="data",
        passed_to="model",
        help="load pickled objects and exported programs, which may run code from the file",
    )
    size: tuple[int, int] | None = option(
        None,
        group="data",
        metavar="H[xW]",
        type=size,
        passed_to="model",
        help="size of the model's images (default: the model's, otherwise the first image's)",
    )
    mean: tuple[float, ...] | None = option(
        None,
        group="data",
        metavar="M,M,M",
        type=number_list,
        passed_to="model",
        help="mean used to normalise images in [0, 1] (default: the hub's, or the model's attribute)",
    )
    std: tuple[float, ...] | None = option(
        None,
        group="data",
        metavar="S,S,S",
        type=number_list,
        passed_to="model",
        help="standard deviation used to normalise images in [0, 1] (default: as for --mean)",
    )
    channels: int | None = option(
        None,
        group="data",
        type=int,
        choices=(1, 3),
        passed_to="model",
        help="grey or RGB (default: as the model; otherwise as the data, if they are arrays; otherwise RGB)",
    )
    interpolation: str | None = option(
        None,
        group="data",
        choices=INTERPOLATIONS,
        passed_to="model",
        help="interpolation used to resize images (default: the model's, or bicubic)",
    )
    crop_pct: float | None = option(
        None,
        group="data",
        metavar="P",
        type=positive,
        passed_to="model",
        help="fraction of the shorter side that the centre crop keeps (default: the model's, or 1)",
    )
    class_names: str | None = option(
        None,
        group="data",
        metavar="FILE",
        passed_to="model",
        help="names of the model's classes: a file with one name per line, or .json; or imagenet, for the names of the "
        "1,000 classes of ImageNet (default: the hub's, or the model's attribute)",
    )
    dtype: str = option(
        "float32",
        group="running",
        choices=DTYPES,
        passed_to="model",
        help="dtype of the model; with float64, images and frames are computed in float64 as well",
    )
    channels_last: bool = option(
        False,
        group="running",
        passed_to="model",
        help="use the channels-last memory format, in which convolutions are often faster",
    )
    seed: int = option(
        0,
        group="running",
        metavar="N",
        minimum=0,
        passed_to="model",
        help="seed of random weights and of stochastic models",
    )
    device: str | None = option(
        None,
        group="running",
        choices=DEVICES,
        help="device of the model (default: cuda if there are a GPU and CUDA kernels)",
    )

    def _normalize(self) -> None:
        super()._normalize()
        if isinstance(self.size, int) and not isinstance(self.size, bool):
            self._set("size", (self.size, self.size))
        for name in ("size", "mean", "std"):
            if isinstance(getattr(self, name), list):  # from JSON
                self._set(name, tuple(getattr(self, name)))

    @property
    def model_options(self) -> dict:
        """Arguments of :func:`steerlens_fast.models.load_model`."""
        return self.arguments_of("model")

"""Models, by name, file or object, with what must be done to images before they see them."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..checks import check_bool, check_int
from ..classifier.isolation import MODEL_LOCK, RandomStream
from ..errors import USAGE, JobError
from ..io.paths import expand_home
from .attributes import read_attributes
from .exported import SUFFIXES, from_file
from .from_callable import from_name
from .hubs import from_timm, from_torchvision
from .loaded import Built, count_parameters, hash_model, model_name, placed
from .options import DTYPES
from .preprocessing import check_options, preprocessing_for

__all__ = ["LoadedModel", "load_model"]

HUBS = {"timm": from_timm, "torchvision": from_torchvision}
NAME = re.compile(r"[\w.]+:[\w.]+")
DEFAULTS = dict(size=None, mean=None, std=None, channels=3, interpolation="bicubic", crop_pct=1.0)
FORMS = "timm:NAME, torchvision:NAME, pkg.mod:callable, a .pt2 or TorchScript file, or a module"


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to run, and the images that it expects.

    Attributes
    ----------
    model : callable
        Takes preprocessed images [B, channels, H, W], gives class scores.
    preprocessing : callable or None
        From float32 images [B, channels, H, W] in [0, 1] to what ``model`` takes: normalised, in its dtype and memory
        format. None where there is nothing to do.
    size : (int, int) or None
        H, W; None where neither the caller nor a hub nor the model says.
    channels : {1, 3}
    interpolation : str
    crop_pct : float
        How images are resized and cropped, see :func:`steerlens_fast.data.resize.resize_and_crop`.
    class_names : list of str or None
        Where a hub tells what the pretrained model's classes are, or the model has an attribute ``class_names``.
    sha256 : str
        Of the weights; see :func:`load_model`.
    description : dict
        All of this but the objects, JSON-able; and the count of parameters.
    """

    model: Callable
    preprocessing: Callable[[Tensor], Tensor] | None
    size: tuple[int, int] | None
    channels: int
    interpolation: str
    crop_pct: float
    class_names: list[str] | None
    sha256: str
    description: dict


def load_model(
    spec: str | os.PathLike | Callable,
    *,
    weights: str | os.PathLike | None = None,
    trust_checkpoint: bool = False,
    size: int | tuple[int, int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    channels: int | None = None,
    data_channels: int | None = None,
    interpolation: str | None = None,
    crop_pct: float | None = None,
    device: str | torch.device = "cpu",
    dtype: str = "float32",
    channels_last: bool = False,
    seed: int = 0,
) -> LoadedModel:
    """Load a model, in eval mode and without gradients of its parameters, the same in every process.

    Parameters
    ----------
    spec : str, os.PathLike, torch.nn.Module, ExportedProgram or callable
        * ``"timm:NAME"``, ``"torchvision:NAME"``: pretrained, or with ``weights``.
        * ``"pkg.mod:callable"`` (or ``"arch:pkg.mod:callable"``): called without arguments, gives the model, whose
          attributes ``class_names``, ``mean``, ``std``, ``size`` and ``channels``, or ``pretrained_cfg`` as timm has
          it, say what its classes and images are, if they are there; see
          :func:`steerlens_fast.models.attributes.read_attributes`. A module instance that stands there is
          copied. Found as ``python -m`` finds it: the working directory comes first.
        * A file: an exported program (``.pt2``), TorchScript, or, only where it is trusted, a pickled module; its
          content decides. An exported program is code: what is pickled in it is checked as weights are, no more.
        * An object: used as it is, training flags included; its attributes say the same. Where it must move to
          another device, dtype or memory format, a copy does.
    weights : str or os.PathLike, optional
        A checkpoint (.pt, .pth, .safetensors) for a hub's model or what a callable gives; ``"random"``: a hub's model
        untrained. "state_dict", "model", "model_state_dict" in it are opened, the prefixes "module.", "_orig_mod." and
        "model." taken off where all names have them. A hub's model gets as many classes as the checkpoint has.
    trust_checkpoint : bool
        Load pickled objects, which may run any code. Otherwise tensors alone, with ``weights_only``.
    size : int or (int, int), optional
        H, W of the images, 8 or more. This and the next five override what a hub or an attribute tells.
    mean, std : sequence of float, optional
        One for each channel, of images in [0, 1]; where nothing tells them, images are not normalised.
    channels : {1, 3}, optional
        By default what a hub or an attribute tells, else ``data_channels``, else 3.
    data_channels : {1, 3}, optional
        Of the data; left aside where ``mean`` is for other images.
    interpolation, crop_pct : optional
        See :func:`steerlens_fast.data.resize.resize_and_crop`; by default "bicubic" and 1.
    device : str
    dtype : {"float32", "float64", "bfloat16", "float16"}
        In which the model computes. Its gradients come back in the dtype of the images.
    channels_last : bool
    seed : int
        Of torch's, Python's and numpy's random numbers while a model is made, without ``weights`` or before they
        are loaded.

    Returns
    -------
    LoadedModel
        Its ``sha256`` is that of the file for exported programs and TorchScript; of names, dtypes, shapes and bytes of
        the state dict, in the order of names and before ``dtype`` is applied, for modules; of its qualified name for
        what has no state.

    Raises
    ------
    JobError
        Naming model or weights, what was expected and what came; with code ``USAGE``.

    Examples
    --------
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5)).eval()
    >>> loaded = load_model(net, size=8, mean=[0.5] * 3, std=[0.25] * 3, dtype="bfloat16")
    >>> loaded.preprocessing(torch.full((1, 3, 8, 8), 0.75))[0, 0, 0, 0]
    tensor(1., dtype=torch.bfloat16)
    >>> loaded.description["parameters"], loaded.size
    (965, (8, 8))
    """
    asked = dict(size=size, mean=mean, std=std, channels=channels, interpolation=interpolation, crop_pct=crop_pct)
    asked, weights = check_options(asked), _path_or_none(weights)
    default = {**DEFAULTS, "channels": _default_channels(data_channels, asked.get("mean"))}
    _check_plain(trust_checkpoint=trust_checkpoint, channels_last=channels_last, seed=seed)
    place = dict(device=_device(device), dtype=_dtype(dtype), channels_last=channels_last)
    with _seeded(seed):
        built = _build(spec, weights, trust_checkpoint, asked, place["device"])
    name = model_name(spec)
    if not name.startswith(tuple(f"{hub}:" for hub in HUBS)):
        built.told, built.class_names = read_attributes(built.model, name, asked, default["channels"])
    told = {**default, **built.told, **asked}
    preprocessing = preprocessing_for(name, told, **place)
    sha256 = built.sha256 or hash_model(built.model)
    model = placed(built, **place)
    size = None if told["size"] is None else list(told["size"])
    origin = {"spec": name, "weights": weights, "sha256": sha256, "class_names": built.class_names}
    numbers = {"dtype": dtype, "channels_last": channels_last, "parameters": count_parameters(model)}
    described = {**origin, **told, **numbers, "size": size}
    of_images = {key: told[key] for key in ("size", "channels", "interpolation", "crop_pct")}
    return LoadedModel(
        model, preprocessing, **of_images, class_names=built.class_names, sha256=sha256, description=described
    )


def _build(spec, weights: str | None, trust: bool, asked: dict, device: torch.device) -> Built:
    if not isinstance(spec, (str, os.PathLike)):
        return _given(spec, weights)
    spec = os.fspath(spec)
    hub, _, name = spec.partition(":")
    if hub in HUBS:
        return HUBS[hub](name, weights, trust, asked)
    if hub != "arch" and (spec.endswith(SUFFIXES) or os.path.isfile(spec)):
        return from_file(spec, weights, trust, device)
    named = name if hub == "arch" else spec
    if not NAME.fullmatch(named):
        raise JobError(f"model must be {FORMS}, got {spec!r}", USAGE)
    return from_name(named, weights, trust)


def _given(model, weights: str | None) -> Built:
    if weights is not None:
        raise JobError(f"weights must be None where model is an object, which has its own, got {weights!r}", USAGE)
    if isinstance(model, torch.export.ExportedProgram):
        return Built(model.module(), ours=False)
    if not callable(model) or isinstance(model, type):
        raise JobError(f"model must be {FORMS}, got {model!r}", USAGE)
    return Built(model, ours=False)


def _default_channels(of_data: int | None, mean: Sequence[float] | None) -> int:
    return of_data if of_data is not None and len(mean or [0] * of_data) == of_data else DEFAULTS["channels"]


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Random numbers, private and seeded: torch's on the CPU (``torch.manual_seed`` would touch the GPUs', too),
    Python's and numpy's."""
    with MODEL_LOCK, RandomStream():
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        yield


def _path_or_none(weights) -> str | None:
    try:
        return None if weights is None else expand_home(weights)
    except TypeError as error:
        raise JobError(f"weights must be a path, 'random' or None, got {weights!r}", USAGE) from error


def _check_plain(trust_checkpoint: bool, channels_last: bool, seed: int) -> None:
    try:
        check_bool("trust_checkpoint", trust_checkpoint)
        check_bool("channels_last", channels_last)
        check_int("seed", seed, 0, 2**63 - 1)
    except (TypeError, ValueError) as error:
        raise JobError(str(error), USAGE) from error


def _device(device) -> torch.device:
    try:
        device = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise JobError(f"device must be 'cpu', 'cuda' or 'cuda:N', got {device!r}", USAGE) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise JobError(f"device must be one of the {torch.cuda.device_count()} GPUs here, got '{device}'", USAGE)
    return device


def _dtype(dtype: str) -> torch.dtype:
    if dtype not in DTYPES:
        raise JobError(f"dtype must be one of {DTYPES}, got {dtype!r}", USAGE)
    return getattr(torch, dtype)

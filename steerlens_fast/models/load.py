"""Loads models by name, from files and from objects, together with their preprocessing."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..checks import check_bool, check_int, shown
from ..classifier.isolation import RandomStream
from ..classifier.named_classes import shorten
from ..data.array_images import array_may_be_one_image
from ..data.decoding import decode
from ..data.resize import resize_and_crop
from ..data.sources.base import printable
from ..errors import BadItem, usage_error
from .attributes import read_attributes
from .class_names import resolve_class_names
from .config import DTYPES
from .exported import SUFFIXES, load_from_file
from .from_callable import load_from_callable
from .hubs import load_from_timm, load_from_torchvision
from .loaded import RawModel, count_parameters, hash_model, model_name, place_model
from .preprocessing import check_options, preprocessing_for

HUBS = {"timm": load_from_timm, "torchvision": load_from_torchvision}
CALLABLE_NAME = re.compile(r"[\w.]+:[\w.]+")
HUB_NAME = re.compile(r"\w+(\.\w+)?")  # resnet18, resnet18.a1_in1k
DEFAULT_METADATA = dict(size=None, mean=None, std=None, channels=3, interpolation="bicubic", crop_pct=1.0)
KINDS = "timm:NAME, torchvision:NAME, pkg.mod:callable, a .pt2 or TorchScript file, a module or a callable"


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to run, and the format of its images.

    Attributes
    ----------
    model : callable
        Takes preprocessed images [B, channels, H, W] and returns class scores.
    preprocessing : callable or None
        Converts images [B, channels, H, W] in [0, 1] to the input of ``model``: normalises them, and changes dtype and
        memory format. None if there is nothing to do.
    size : (int, int) or None
        (H, W) of the images; None if neither the caller nor the hub nor the model has it.
    channels : {1, 3}
    interpolation : str
    crop_pct : float
        How images are resized and cropped, see :func:`steerlens_fast.data.resize.resize_and_crop`.
    class_names : list of str or None
        The names from the argument, from the hub (for pretrained models), or from the model's attribute
        ``class_names``.
    sha256 : str
        Hash of the weights; see :func:`load_model`.
    description : dict
        All of the above except ``model`` and ``preprocessing``; also spec, weights, mean, std, dtype, channels_last and
        the number of parameters. JSON-serialisable.
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

    def read_images(self, images: Iterable) -> Tensor:
        """Return images in the format of the model, with values in [0, 1].

        They are decoded, resized and cropped as the model expects. ``preprocessing`` normalises them.

        Parameters
        ----------
        images : iterable of path, bytes, PIL image, or array
            Image files, the bytes of such files, or pixels as :func:`steerlens_fast.data.decoding.decode` takes them.
            An array [N, ...] of several images may be passed in place of a list.

        Returns
        -------
        Tensor [N, channels, H, W], float32
            On the CPU.

        Raises
        ------
        BadItem
            If an image cannot be decoded. The message has its path, or its index if it is no path.
        OSError
            If a file cannot be read.
        TypeError
            If ``images`` is a single file, its bytes, or not iterable.
        ValueError
            If ``size`` is None and the images have different sizes, if there are no images, or if ``images`` is an
            array that could be one image.

        Examples
        --------
        >>> from PIL import Image
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 10)).eval()
        >>> loaded = load_model(net, size=32)
        >>> loaded.read_images([Image.new("RGB", (50, 40)), Image.new("L", (60, 60))]).shape
        torch.Size([2, 3, 32, 32])
        """
        if isinstance(images, (str, bytes, os.PathLike)) or not isinstance(images, Iterable):
            raise TypeError(f"images must be a list of images, got {type(images).__name__}: pass [image] for one image")
        array = images if isinstance(images, (np.ndarray, Tensor)) else None
        if array is not None and (array_may_be_one_image(array) or (array.ndim == 3 and array.shape[0] in (1, 3))):
            hint = "pass [image] for one image, and list(images) for several grey ones"
            raise ValueError(f"images must be a list of images, got an array {list(array.shape)}: {hint}")
        pixels = [self._read_image(image, n) for n, image in enumerate(images)]
        shapes = sorted({p.shape for p in pixels})
        if len(shapes) != 1:
            text = "images must have at least one image, and all must have one shape if the model has no size"
            raise ValueError(f"{text}, got shapes {shapes}")
        return torch.from_numpy(np.stack(pixels)).float() / 255

    def _read_image(self, image, n: int) -> np.ndarray:
        """Return the pixels of an image. Errors call it ``images[n]``, unless it is a path."""
        is_path = isinstance(image, (str, os.PathLike))
        data = Path(image).read_bytes() if is_path else image
        try:
            decoded = decode(data, mode="RGB" if self.channels == 3 else "L")
        except BadItem as error:
            raise BadItem(error.reason, f"{printable(image) if is_path else f'images[{n}]'}: {error}") from error
        return resize_and_crop(decoded, self.size, crop_pct=self.crop_pct, interpolation=self.interpolation)

    def __repr__(self) -> str:
        names = None if self.class_names is None else f"[{shorten(self.class_names)}]"
        form = {name: getattr(self, name) for name in ("size", "channels", "interpolation", "crop_pct")}
        settings = ", ".join(f"{name}={value!r}" for name, value in form.items())
        model = f"{model_name(self.model)}, {self.description['parameters']} parameters"
        return f"LoadedModel({model}, {settings}, class_names={names}, sha256={self.sha256[:12]}...)"


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
    class_names: str | os.PathLike | Sequence[str] | Mapping[int, str] | None = None,
    device: str | torch.device = "cpu",
    dtype: str = "float32",
    channels_last: bool = False,
    seed: int = 0,
) -> LoadedModel:
    """Return a model and its preprocessing.

    Models are in eval mode and have frozen parameters, except for an object passed as ``spec``. Random weights are the
    same in every process.

    Parameters
    ----------
    spec : str, os.PathLike, torch.nn.Module, ExportedProgram or callable
        * ``"timm:NAME"``, ``"torchvision:NAME"``: a model of a hub, pretrained or with ``weights``.
        * ``"pkg.mod:callable"``: the model itself, which is copied, or a function without arguments that returns a
          model. The prefix ``"arch:"`` is needed only if the name could be that of a file or a hub. The working
          directory is searched first, as with ``python -m``. Class names and preprocessing are read from the model's
          attributes, see :func:`steerlens_fast.models.attributes.read_attributes`.
        * A file with TorchScript or, with ``trust_checkpoint``, an exported program (``.pt2``) or a pickled module. The
          kind of file is detected from its content.
        * An object, whose training flags and ``requires_grad`` are not changed. Its attributes are read as described
          above. It is copied if it must move to another device, dtype or memory format.
    weights : str or os.PathLike, optional
        A checkpoint (.pt, .pth, .safetensors) for a model from a hub or a callable; ``"random"`` for an untrained model
        from a hub. The checkpoint is a state dict, or has one under "state_dict", "model" or "model_state_dict". The
        prefixes "module.", "_orig_mod." and "model." are removed if all names in the state dict have them and
        the model's do not. A hub's model is created with the number of classes in the checkpoint.
    trust_checkpoint : bool
        Whether to load pickled objects and exported programs, which may run arbitrary code.
    size : int or (int, int), optional
        (H, W) of the images, 8 or more. The options from here to ``class_names``, except ``data_channels``, override
        the metadata of the hub or the model.
    mean, std : sequence of float, optional
        A value for each channel, for images in [0, 1]. If neither the caller nor the model's metadata have them, images
        are not normalised.
    channels : {1, 3}, optional
        By default the number in the model's metadata, otherwise ``data_channels``, otherwise 3.
    data_channels : {1, 3}, optional
        Channels of the data. Ignored if ``mean`` has another length.
    interpolation, crop_pct : optional
        See :func:`steerlens_fast.data.resize.resize_and_crop`. By default those of the metadata, otherwise "bicubic"
        and 1.
    class_names : str, os.PathLike, sequence of str or mapping, optional
        Names of the model's classes, or the path of a file with names (one per line, or .json), or ``"imagenet"`` for
        the 1,000 classes of ImageNet. By default the names are those from the hub, or the attribute ``class_names``.
    device : str or torch.device
    dtype : {"float32", "float64", "bfloat16", "float16"}
        The model's dtype. Gradients have the dtype of the images.
    channels_last : bool
    seed : int
        Seed of torch's, Python's and numpy's random numbers while the model is created.

    Returns
    -------
    LoadedModel
        Its ``sha256`` is the hash of the file for exported programs and TorchScript. For modules, it is the hash of the
        names, dtypes, shapes and bytes in the state dict, sorted by name, before ``dtype`` is applied. For models
        without state, it is the hash of the qualified name.

    Raises
    ------
    JobError
        If an argument is invalid, or the model cannot be loaded; with code ``USAGE``.

    Examples
    --------
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5)).eval()
    >>> loaded = load_model(net, size=8, mean=[0.5] * 3, std=[0.25] * 3, dtype="bfloat16")
    >>> loaded.preprocessing(torch.full((1, 3, 8, 8), 0.75))[0, 0, 0, 0]
    tensor(1., dtype=torch.bfloat16)
    >>> loaded.description["parameters"], loaded.size
    (965, (8, 8))
    """
    options = dict(size=size, mean=mean, std=std, channels=channels, interpolation=interpolation, crop_pct=crop_pct)
    overrides, weights, names = check_options(options), _path_or_none(weights), resolve_class_names(class_names)
    defaults = {**DEFAULT_METADATA, "channels": _default_channels(data_channels, overrides.get("mean"))}
    seed = _check_flags_and_seed(trust_checkpoint=trust_checkpoint, channels_last=channels_last, seed=seed)
    place = dict(device=_device(device), dtype=_dtype(dtype), channels_last=channels_last)
    with _seeded(seed):
        raw = _load_raw(spec, weights, trust_checkpoint, overrides, place["device"])
    name = model_name(spec)
    if not name.startswith(tuple(f"{hub}:" for hub in HUBS)):
        known = overrides if names is None else {**overrides, "class_names": names}
        raw.metadata, raw.class_names = read_attributes(raw.model, name, known, defaults["channels"])
    raw.class_names = raw.class_names if names is None else names
    metadata = {**defaults, **raw.metadata, **overrides}
    preprocessing = preprocessing_for(name, metadata, **place)
    sha256 = raw.sha256 or hash_model(raw.model)
    model = place_model(raw, **place)
    size = None if metadata["size"] is None else list(metadata["size"])
    origin = {"spec": name, "weights": weights, "sha256": sha256, "class_names": raw.class_names}
    parameters = count_parameters(model)
    description = {**origin, **metadata, "dtype": dtype, "channels_last": channels_last, "parameters": parameters}
    description["size"] = size
    image_format = {key: metadata[key] for key in ("size", "channels", "interpolation", "crop_pct")}
    return LoadedModel(
        model, preprocessing, **image_format, class_names=raw.class_names, sha256=sha256, description=description
    )


def _load_raw(spec, weights: str | None, trust: bool, overrides: dict, device: torch.device) -> RawModel:
    if not isinstance(spec, (str, os.PathLike)):
        return _from_object(spec, weights)
    spec = os.path.expanduser(spec)
    hub, _, name = spec.partition(":")
    if hub in HUBS:
        return HUBS[hub](name, weights, trust, overrides)
    if hub != "arch" and (spec.endswith(SUFFIXES) or os.path.isfile(spec)):
        return load_from_file(spec, weights, trust, device)
    callable_name = name if hub == "arch" else spec
    if not CALLABLE_NAME.fullmatch(callable_name):
        hint = f"; did you mean 'timm:{spec}' or 'torchvision:{spec}'?" if HUB_NAME.fullmatch(spec) else ""
        raise usage_error(f"model must be {KINDS}, got {shown(spec)}{hint}")
    return load_from_callable(callable_name, weights, trust)


def _from_object(model, weights: str | None) -> RawModel:
    if weights is not None:
        raise usage_error(f"weights must be None if model is an object, which has its weights, got {shown(weights)}")
    if isinstance(model, torch.export.ExportedProgram):
        return RawModel(model.module(), owned=False)
    if not callable(model) or isinstance(model, type):
        raise usage_error(f"model must be {KINDS}, got {shown(model)}")
    return RawModel(model, owned=False)


def _default_channels(data_channels: int | None, mean: Sequence[float] | None) -> int:
    if data_channels is None or (mean and len(mean) != data_channels):
        return DEFAULT_METADATA["channels"]
    return data_channels


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the generators of torch, Python and numpy in the block.

    Afterwards, their states are restored. Of torch, only the generator of the CPU is seeded.
    """
    with RandomStream():
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        yield


def _path_or_none(weights) -> str | None:
    try:
        return None if weights is None else os.path.expanduser(weights)
    except TypeError as error:
        raise usage_error(f"weights must be a path, 'random' or None, got {shown(weights)}") from error


def _check_flags_and_seed(trust_checkpoint: bool, channels_last: bool, seed: int) -> int:
    """Check the arguments, and return the seed as an int."""
    try:
        check_bool("trust_checkpoint", trust_checkpoint)
        check_bool("channels_last", channels_last)
        return check_int("seed", seed, 0, 2**63 - 1)
    except (TypeError, ValueError) as error:
        raise usage_error(str(error)) from error


def _device(device) -> torch.device:
    try:
        device = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise usage_error(f"device must be 'cpu', 'cuda' or 'cuda:N', got {shown(device)}") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise usage_error(f"device must be one of the {torch.cuda.device_count()} GPUs of this machine, got '{device}'")
    return device


def _dtype(dtype: str) -> torch.dtype:
    if dtype not in DTYPES:
        raise usage_error(f"dtype must be one of {DTYPES}, got {shown(dtype)}")
    return getattr(torch, dtype)

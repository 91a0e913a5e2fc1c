"""Trains the larger networks of the presets.

The trained weights are kept in the evaluation's folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import usage_error
from ...io.atomic_io import atomic_write
from ...io.progress import Progress
from ...memory import threads
from ...version import __version__
from .digits_data import LabelledImages, train_model

THREADS = 1  # the weights depend on the number of threads; on busy cores, two threads took ten times as long
TEST_BATCH = 500


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes
    ----------
    epochs : int
    augment : {"affine", "flip"}
        Random changes of the training images: see :func:`affine` and :func:`flip`.
    minimum : float
        Required test accuracy, from 0 to 1.
    batch : int
    rate : float
        Highest learning rate. The rate rises to it and falls again, once.
    seed : int
        Seed of weights, order and augmentation.
    """

    epochs: int
    augment: str
    minimum: float
    batch: int = 100
    rate: float = 4e-3
    seed: int = 0


@dataclass
class TrainingRun:
    """The options of an evaluation that training needs, and the accuracies of the networks.

    Attributes
    ----------
    folder : Path or None
        The folder of trained weights; None to keep none.
    data : str
        The evaluation's data, as in its option ``data``.
    progress : str
        How progress is reported, see :class:`steerlens_fast.io.progress.Progress`.
    accuracies : dict
        For each network, ``test_accuracy``, ``test_images`` and the required ``minimum``.
    """

    folder: Path | None = None
    data: str = ""
    progress: str = "none"
    accuracies: dict[str, dict] = field(default_factory=dict)

    def problems(self) -> list[str]:
        """Return a message for every network below its required accuracy."""
        return [
            f"test accuracy of {name} must be at least {entry['minimum']}, got {entry['test_accuracy']:.4g}"
            for name, entry in self.accuracies.items()
            if entry["test_accuracy"] < entry["minimum"]
        ]


_RUN: ContextVar[TrainingRun | None] = ContextVar("training_run", default=None)


@contextmanager
def training_run(run: TrainingRun) -> Iterator[TrainingRun]:
    """Make ``run`` the current run in the block.

    Networks that are loaded in the block are trained for this run.

    The functions that make the networks are called by name (``pkg.mod:callable``) without arguments, so they cannot get
    the run as an argument.
    """
    token = _RUN.set(run)
    try:
        yield run
    finally:
        _RUN.reset(token)


def current_run() -> TrainingRun:
    """Return the current run or, if there is none, a run without a folder."""
    return _RUN.get() or TrainingRun()


def report_epochs(epochs: range, name: str) -> Iterator[int]:
    """Yield the numbers of epochs, and report progress."""
    progress = Progress(len(epochs), kind=current_run().progress, unit=f"epochs of {name}")
    for epoch in epochs:
        yield epoch
        progress.update(1)
    progress.close()


def trained(name: str, make: Callable[[], nn.Module], data: LabelledImages, recipe: Recipe) -> nn.Module:
    """Return a trained network.

    If the run's folder has its weights, for this recipe and data, they are read.

    Parameters
    ----------
    name : str
    make : callable
        Returns the network with random weights.
    data : LabelledImages
    recipe : Recipe

    Returns
    -------
    nn.Module
        In eval mode; its parameters need no gradients.

    Raises
    ------
    JobError
        If the file of weights in the run's folder was not written by this function.
    """
    run = current_run()
    with torch.random.fork_rng(devices=[]), threads(THREADS):
        torch.default_generator.manual_seed(recipe.seed)
        model = make()
        key = _fingerprint(model, data, recipe)
        path = None if run.folder is None else run.folder / f"{name}.pt"
        state = None if path is None or not path.exists() else _read_weights(path, key)
        if state is None:
            augment = {"affine": affine, "flip": flip}[recipe.augment]
            change = lambda images, _: augment(unit_range(images))
            progress = partial(report_epochs, name=name)
            options = {"rate": recipe.rate, "batch": recipe.batch, "change": change, "progress": progress}
            train_model(model, data, recipe.epochs, **options)
            if path is not None:
                _write_weights(path, key, model)
        else:
            model.load_state_dict(state)
        model.requires_grad_(False).eval()
        run.accuracies[name] = {
            "test_accuracy": accuracy(model, data.test_images, data.test_labels),
            "test_images": len(data.test_images),
            "minimum": recipe.minimum,
        }
    return model


def unit_range(images: Tensor) -> Tensor:
    """Return images as float32 in [0, 1].

    Examples
    --------
    >>> unit_range(torch.tensor([0, 255], dtype=torch.uint8))
    tensor([0., 1.])
    """
    return images.float() / 255 if images.dtype == torch.uint8 else images


def affine(images: Tensor) -> Tensor:
    """Return images that are randomly rotated, scaled, sheared and shifted.

    The limits are 11°, 15 %, 20 % and, for shifts, 7.5 % of the size.
    """
    uniform = lambda *shape: torch.rand(len(images), *shape, device="cpu") * 2 - 1
    angle, scale, shear, shift = 0.2 * uniform(), 1 + 0.15 * uniform(), 0.2 * uniform(), 0.15 * uniform(2)
    top = torch.stack([scale * angle.cos(), shear - scale * angle.sin(), shift[:, 0]], 1)
    bottom = torch.stack([scale * angle.sin(), scale * angle.cos(), shift[:, 1]], 1)
    grid = F.affine_grid(torch.stack([top, bottom], 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def flip(images: Tensor) -> Tensor:
    """Return images, each mirrored with probability 1/2."""
    mirrored = torch.rand(len(images), 1, 1, 1, device="cpu") < 0.5
    return torch.where(mirrored, images.flip(3), images)


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share of images whose label a model predicts."""
    with torch.no_grad():
        right = [
            model(unit_range(part)).argmax(1) == expected
            for part, expected in zip(images.split(TEST_BATCH), labels.split(TEST_BATCH))
        ]
    return torch.cat(right).double().mean().item()


# --- Files of weights ------------------------------------------------------------------------------------------------


def _fingerprint(model: nn.Module, data: LabelledImages, recipe: Recipe) -> str:
    """Return a hash of versions, network, recipe and training data."""
    digest = sha256(repr((__version__, torch.__version__, THREADS, repr(model), recipe)).encode())
    for tensor in (data.train_images, data.train_labels):
        digest.update(tensor.contiguous().numpy())
    return digest.hexdigest()


def _read_weights(path: Path, key: str) -> dict | None:
    """Return the weights in a file, or None if their fingerprint differs."""
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        return saved["state"] if saved["fingerprint"] == key else None
    except OSError:
        raise
    except Exception as error:  # torch.load raises many kinds of errors
        raise usage_error(f"{path} must be the weights of a preset's network, got another file") from error


def _write_weights(path: Path, key: str, model: nn.Module) -> None:
    path.parent.mkdir(exist_ok=True)
    with atomic_write(path) as file:
        torch.save({"fingerprint": key, "state": model.state_dict()}, file)

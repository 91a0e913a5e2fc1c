"""The driver: the classifier whose outputs are optimised. The field calls it so; another one may judge the result.

Its outputs and their gradient are taken as a guest would: nothing of the caller's is changed, on any path out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import DataParallel, Module
from torch.nn.parallel import DistributedDataParallel

from ..checks import check_choice, check_int
from .dtypes import cast_for, explained, module_of
from .isolation import (
    MODEL_LOCK,
    RandomStream,
    frames_within_the_package,
    in_training,
    is_exported,
    may_write,
    private_buffers,
)
from .outputs import TASKS, class_scores

Losses = Callable[[Tensor, slice], Tensor]
ENOUGH = 8  # logits, of which all lie between 0 and 1 by accident rarely


class Classifier:
    """A classifier, run and differentiated with respect to its images, and left as it was found.

    Training flags, ``requires_grad``, ``param.grad``, hooks, buffers, random numbers, grad mode and all inputs stay the
    caller's. Random numbers are torch's (of the CPU and of the CUDA devices in use), Python's, numpy's, and those of
    generators that modules have as attributes. A plain function may hide a module, whose flags, buffers and generators
    cannot be seen: those are not looked after. A process that is forked while another thread is in a call finds all of
    this as it was before the call.

    Parameters
    ----------
    model : torch.nn.Module, ExportedProgram or callable
        Maps images (and ``args``) to class scores [N, classes, ...], or to something that holds them: an object with
        ``logits``, a mapping with "logits", a tuple or list whose first entry they are.
    preprocessing : callable, optional
        Applied to each batch of images before the model: the place of normalisation. What it returns (the images, where
        there is none) is cast to the model's floating-point dtype, if that is a module with one such dtype.
    task : {"multiclass", "binary", "multilabel"}
        What the outputs are; :func:`~steerlens_fast.classifier.outputs.class_scores` converts them to scores.

    Attributes
    ----------
    seed : tuple of int and str, or None
        Where random numbers of a call or session begin; None, as at first: at the caller's.

    Raises
    ------
    TypeError, ValueError
        Where model or preprocessing cannot be called, or task is no such name.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> driver = Classifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)).eval())
    >>> images = torch.rand(5, 1, 8, 8)
    >>> gradient, outputs = driver.gradient(images, lambda outputs, at: -outputs[:, 2], batch=2)
    >>> gradient.shape, outputs.shape
    (torch.Size([5, 1, 8, 8]), torch.Size([5, 3]))
    """

    def __init__(
        self,
        model: Callable | torch.export.ExportedProgram,
        preprocessing: Callable | None = None,
        task: str = "multiclass",
    ):
        if isinstance(model, torch.export.ExportedProgram):
            model = model.module()
        elif isinstance(model, DistributedDataParallel):
            model = model.module  # its own forward writes the buffers of rank 0 into all, and waits for all
        if not callable(model) or isinstance(model, type):
            raise TypeError(f"model must be a module, ExportedProgram or callable on images, got {_kind(model)}")
        if preprocessing is not None and (not callable(preprocessing) or isinstance(preprocessing, type)):
            raise TypeError(f"preprocessing must be None or a callable on batches, got {_kind(preprocessing)}")
        self.model, self.preprocessing = model, preprocessing
        self.task = check_choice("task", task, TASKS)
        self.seed: tuple | None = None

    def outputs(
        self, images: Tensor, args=(), batch: int | None = None, *, stream: RandomStream | None = None
    ) -> Tensor:
        """Run the model without a graph.

        Parameters
        ----------
        images : Tensor [N, ...], floating point
        args
            ``additional_forward_args`` as in captum: None, a value or a tuple, passed after the images. Tensors whose
            first dimension is N are cut along with the images.
        batch : int, optional
            Most samples per call of the model; by default all.
        stream : RandomStream, optional
            Where random numbers come from; by default each call starts anew at the caller's.

        Returns
        -------
        Tensor [N, classes, ...]
            Class scores; see ``task``.
        """
        parts = _parts(images, batch)
        with self._as_guest(images, stream), torch.no_grad():
            return torch.cat([self._forward(_own(images, at), args, at, len(images)).clone() for at in parts])

    def gradient(
        self, images: Tensor, loss: Losses, args=(), batch: int | None = None, *, stream: RandomStream | None = None
    ) -> tuple[Tensor, Tensor]:
        """Differentiate the sum of all samples' losses with respect to the images, with one model call per batch.

        Parameters
        ----------
        images, args, batch, stream
            As :meth:`outputs` takes them.
        loss : callable
            ``loss(outputs, at) -> [n]``, given the outputs [n, classes, ...] of the samples ``images[at]``, with graph.

        Returns
        -------
        gradient : Tensor, shape and dtype of images
        outputs : Tensor [N, classes, ...]
            Detached.
        """
        parts, outputs = _parts(images, batch), []
        with self._as_guest(images, stream), torch.enable_grad():
            gradient = torch.empty_like(images)
            for at in parts:
                gradient[at], scores = self._differentiate(images, loss, args, at)
                outputs.append(scores)
            return gradient, torch.cat(outputs)

    def session(self, images: Tensor) -> RandomStream:
        """Begin a stream of random numbers that successive calls continue.

        It begins where the caller's generators stand, or at :attr:`seed`. With it a stochastic model sees another
        dropout mask at each refreshed gradient; without, the same one.
        """
        modules = self._modules()
        return RandomStream([images.device, *(p.device for m in modules for p in m.parameters())], modules, self.seed)

    def warn_if_training(self) -> None:
        """Warn, in the name of whoever called this package, where the model has modules in training mode."""
        modules = [] if is_exported(self.model) else [m for m in self._modules() if m is not self.preprocessing]
        if any(map(in_training, modules)):
            text = (
                "model is in training mode, or a part of it is: dropout and batch statistics, where it has any, enter "
            )
            text += "the gradient. Its flags are not changed; model.eval() is what is usually meant"
            warnings.warn(text, UserWarning, stacklevel=frames_within_the_package())

    def warn_of_probabilities(self, outputs: Tensor) -> None:
        """Warn where scores [N, classes] come, by their values, not from logits but from a softmax or sigmoid.

        Of the CPU's alone: a GPU would have to be waited for.
        """
        if outputs.device.type != "cpu" or outputs.dim() < 2 or outputs.shape[1] < 2:
            return
        if self.task == "multiclass":
            flat = outputs.dim() == 2
            if not flat or outputs.min().item() < 0:
                return
            if bool((outputs >= 0).all() & ((outputs.sum(1) - 1).abs() < 1e-3).all()):
                self._warn_of_probabilities("at least 0, with a sum of 1", "softmax", "take the logarithm of it")
            return
        logits = 2 * outputs[:, 1].detach()
        if logits.numel() >= ENOUGH and bool(((logits >= 0) & (logits <= 1)).all()):
            self._warn_of_probabilities("none below 0 or above 1", "sigmoid", "take torch.logit of it")

    def _warn_of_probabilities(self, looks: str, function: str, instead: str) -> None:
        text = (
            f"model must return logits, and what it returned look like probabilities ({looks}): "
            f"a {function} is taken of them once more. End the model before its {function}, or {instead}"
        )
        warnings.warn(text, UserWarning, stacklevel=frames_within_the_package())

    def _modules(self) -> list[Module]:
        """Of model and preprocessing; a bound method's module counts."""
        return [m for m in map(module_of, (self.model, self.preprocessing)) if m is not None]

    @contextmanager
    def _as_guest(self, images: Tensor, stream: RandomStream | None) -> Iterator[None]:
        stream = self.session(images) if stream is None else stream
        with MODEL_LOCK, torch.inference_mode(False), stream, private_buffers(filter(may_write, self._modules())):
            yield

    def _differentiate(self, images: Tensor, loss: Losses, args, at: slice) -> tuple[Tensor, Tensor]:
        """Of one batch; its graph is gone when this returns, before the next begins."""
        leaf = _own(images, at).requires_grad_()
        outputs = self._forward(leaf.clone(), args, at, len(images))  # not the leaf: a model may work in place
        if not outputs.requires_grad:
            raise ValueError("model must return outputs that depend on the images, got outputs without a graph")
        half = outputs.dtype == torch.float16
        gradient = _through_half(leaf, outputs, loss, at) if half else _gradient(loss(outputs, at).sum(), leaf)
        if gradient is None:
            raise ValueError("model and objective must depend on the images, got a loss that does not")
        return gradient, outputs.detach().clone()  # a copy: a compiled model may reuse its outputs' memory

    def _forward(self, images: Tensor, args, at: slice, count: int) -> Tensor:
        given = images if self.preprocessing is None else self.preprocessing(images)
        if given is None:
            raise TypeError("preprocessing must return what the model takes, got None")
        self._check_device(given)
        given = cast_for(self.model, given)
        with explained(self.model, given):
            outputs = self.model(given, *_cut(args, at, count))
        return class_scores(outputs, len(images), self.task)

    def _check_device(self, images) -> None:
        if not isinstance(self.model, Module) or isinstance(self.model, DataParallel):  # which moves images itself
            return
        devices = {p.device for p in self.model.parameters()}
        if isinstance(images, Tensor) and len(devices) == 1 and images.device not in devices:
            raise ValueError(f"images must be on the model's device {devices.pop()}, got {images.device}")


def _gradient(total: Tensor, leaf: Tensor) -> Tensor | None:
    return torch.autograd.grad(total, leaf, allow_unused=True)[0] if total.requires_grad else None


def _through_half(leaf: Tensor, outputs: Tensor, loss: Losses, at: slice) -> Tensor | None:
    """The gradient by way of float16 outputs, which would hold no loss' gradient below 6e-8.

    Each sample's is brought to about 1 by a power of 2 on its way through the model, and back after it.
    """
    scores = outputs.detach().float().requires_grad_()
    along = _gradient(loss(scores, at).sum(), scores)
    if along is None:
        return None
    largest = along.abs().flatten(1).amax(1)
    usable = largest.isfinite() & (largest > 0)
    power = torch.where(usable, torch.exp2(largest.log2().floor()), 1.0)
    along = along / power.view(-1, *[1] * (along.dim() - 1))
    (gradient,) = torch.autograd.grad(outputs, leaf, along.to(outputs.dtype), allow_unused=True)
    return None if gradient is None else gradient * power.to(leaf.device).view(-1, *[1] * (leaf.dim() - 1))


def _kind(value) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def _parts(images, batch: int | None) -> list[slice]:
    if not isinstance(images, Tensor) or not images.is_floating_point():
        got = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"images must be a floating-point tensor [N, C, H, W], got {got}")
    if images.dim() < 2 or not images.numel():
        raise ValueError(f"images must have shape [N, C, H, W] and hold a sample, got {list(images.shape)}")
    size = len(images) if batch is None else check_int("batch", batch, 1, None)
    return [slice(i, min(i + size, len(images))) for i in range(0, len(images), size)]


def _own(tensor: Tensor, at) -> Tensor:
    """A private copy of some samples, outside of any graph and of inference mode, in their memory format."""
    return tensor[at].detach().clone()


def _cut(args, at: slice, count: int) -> Iterator:
    for arg in args if isinstance(args, tuple) else () if args is None else (args,):
        per_sample = isinstance(arg, Tensor) and arg.dim() > 0 and len(arg) == count
        yield _own(arg, at if per_sample else ...) if isinstance(arg, Tensor) else arg

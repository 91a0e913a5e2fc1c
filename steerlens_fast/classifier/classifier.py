"""``Classifier`` computes outputs and gradients of a model, without side effects."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor
from torch.nn import DataParallel, Module
from torch.nn.parallel import DistributedDataParallel

from ..checks import check_choice
from ..memory import rows
from .batches import joined, split_args, split_samples
from .dtypes import cast_for, mismatch_error, without_autocast
from .isolation import RandomStream, private_buffers, warning_stacklevel
from .modules import all_modules, in_training, is_exported, module_of, must_protect_buffers, parameters_of
from .outputs import TASKS, class_scores

Loss = Callable[[Tensor, slice], Tensor | tuple[Tensor, Tensor]]
# End of the messages about outputs without gradients
NO_GRADIENTS = "no gradient passes torch.no_grad(), .detach(), numpy, rounding, integers and quantised layers"
MIN_LOGITS = 8  # with fewer logits, all of them could be between 0 and 1 by chance
MIN_SPREAD = 0.5  # the scores of an untrained multi-class model may all be between 0 and 1, but are similar


class Classifier:
    """Runs a model and differentiates it with respect to images, without side effects.

    Calls do not change training flags, ``requires_grad``, ``param.grad``, hooks, buffers, random number generators,
    grad mode or inputs. Two cases are not protected: modules that a plain function uses (they are not known), and
    buffers that a model compiled by ``torch.compile`` writes in eval mode.

    Parameters
    ----------
    model : torch.nn.Module, ExportedProgram or callable
        Maps images (and ``args``) to class scores [N, classes, ...]. The scores may also be the attribute ``logits``,
        the item "logits" of a mapping, or the first entry of a tuple or list.
    preprocessing : callable, optional
        A function that is applied to each batch of images before the model, for example a normalisation. If the model
        is a module with a single floating-point dtype, the inputs of the model are cast to this dtype.
    task : {"multiclass", "binary", "multilabel"}
        Meaning of the outputs; :func:`~steerlens_fast.classifier.outputs.class_scores` converts them to scores.

    Attributes
    ----------
    seed : tuple of int and str, or None
        Seed of the random numbers of a call, or of calls that share a stream (:meth:`session`). By default None: random
        numbers start at the state of the caller's generators.
    on_warning : callable
        Called with the text of each warning, after the warning was issued.

    Raises
    ------
    TypeError, ValueError
        If model or preprocessing is not callable, or task is unknown.

    Notes
    -----
    The protected generators are those of torch (on the CPU and on the CUDA devices in use), Python and numpy, and those
    that are attributes of modules.

    Only one thread at a time runs a model, since the generators belong to the process, and the model's buffers are
    replaced while it runs.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> classifier = Classifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)).eval())
    >>> images = torch.rand(5, 1, 8, 8)
    >>> gradient, outputs = classifier.gradient(images, lambda outputs, at: -outputs[:, 2], batch=2)
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
            model = model.module  # the forward of DistributedDataParallel synchronises all ranks
        if not callable(model) or isinstance(model, type):
            is_loaded_model = hasattr(model, "preprocessing")  # a result of load_model
            hint = " (pass its .model, .preprocessing and .class_names)" if is_loaded_model else ""
            hint = " (load it by steerlens_fast.load_model)" if isinstance(model, str) else hint
            expected = "a module, ExportedProgram or callable on images"
            raise TypeError(f"model must be {expected}, got {_type_text(model)}{hint}")
        if preprocessing is not None and (not callable(preprocessing) or isinstance(preprocessing, type)):
            expected = "None or a callable on batches, such as torchvision.transforms.Normalize(mean, std)"
            raise TypeError(f"preprocessing must be {expected}, got {_type_text(preprocessing)}")
        self.model, self.preprocessing = model, preprocessing
        self._roots = [m for m in map(module_of, (model, preprocessing)) if m is not None]
        self.task = check_choice("task", task, TASKS)
        self.seed: tuple | None = None
        self.on_warning: Callable[[str], object] = _ignore
        # For warn_of_probabilities: some outputs, and the range of all outputs; None if one was not between 0 and 1
        self._outputs_in_unit_interval: set[float] | None = set()
        self._range = 1.0, 0.0

    def outputs(
        self, images: Tensor, args=(), batch: int | None = None, *, stream: RandomStream | None = None
    ) -> Tensor:
        """Return the model's class scores for images, without an autograd graph.

        Parameters
        ----------
        images : Tensor [N, ...], floating point
        args
            ``additional_forward_args`` as in captum: None, a value or a tuple, which the model gets after the images.
            Tensors whose first dimension is N are split like the images.
        batch : int, optional
            Largest number of samples in one call of the model; by default all.
        stream : RandomStream, optional
            The stream of random numbers, see :meth:`session`. By default each call starts a new one.

        Returns
        -------
        Tensor [N, classes, ...]
            Class scores, see :func:`~steerlens_fast.classifier.outputs.class_scores`.
        """
        parts, outputs = split_samples(images, batch), []
        with self._without_side_effects(images, stream), torch.no_grad():
            for at in parts:
                copy = rows(images, at).detach().clone()  # since a model may change it in place
                outputs.append(self._forward(copy, args, at, images.shape[0]).clone())
            return joined(outputs)

    def gradient(
        self, images: Tensor, loss: Loss, args=(), batch: int | None = None, *, stream: RandomStream | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the gradient of the summed losses with respect to the images, and the outputs.

        The model is called once per batch.

        Parameters
        ----------
        images, args, batch, stream
            As for :meth:`outputs`.
        loss : callable
            ``loss(outputs, at) -> [n]``, a loss for each of the samples ``images[at]``. ``outputs`` [n, classes, ...]
            are the outputs of these samples, with their autograd graph. Instead of losses, ``loss`` may return a tuple:
            a tensor that depends on the outputs, and the gradient of the summed losses with respect to this tensor.

        Returns
        -------
        gradient : Tensor
            Has the shape and dtype of the images.
        outputs : Tensor [N, classes, ...]
            Class scores, detached from autograd.
        """
        parts, outputs = split_samples(images, batch), []
        with self._without_side_effects(images, stream), torch.enable_grad():
            if len(parts) == 1:
                return self._differentiate(images, loss, args, parts[0])
            gradient = torch.empty_like(images)  # joining the gradients of parts would need twice the memory
            for at in parts:
                gradient[at], scores = self._differentiate(images, loss, args, at)
                outputs.append(scores)
            return gradient, joined(outputs)

    def session(self, images: Tensor) -> RandomStream:
        """Return a stream of random numbers for successive calls.

        The stream starts at :attr:`seed` or, without a seed, at the state of the caller's generators. If calls share a
        stream, a model with dropout draws a new mask in each call. Otherwise it draws the same mask in each call.
        """
        if not self._roots:
            return RandomStream([images.device], (), self.seed)
        modules = all_modules(self._roots)
        return RandomStream([images.device, *(p.device for p in parameters_of(modules))], modules, self.seed)

    def warn_if_training(self) -> None:
        """Warn if the model has modules in training mode."""
        module = module_of(self.model)
        if module is not None and not is_exported(module) and in_training(all_modules([module])):
            text = (
                "model is in training mode, or a part of it is: dropout and batch statistics affect the gradient. Its "
                "flags are not changed; call model.eval() unless this is intended"
            )
            self._warn(text)

    def warn_of_probabilities(self, outputs: Tensor) -> None:
        """Warn if the scores [N, classes] look like probabilities instead of logits.

        Scores on a GPU are not checked, because reading them would wait for the GPU's computations.
        """
        if outputs.device.type != "cpu" or outputs.dim() < 2 or outputs.shape[1] < 2 or not outputs.numel():
            return
        if self.task != "multiclass":  # class_scores returns -z/2 and z/2 for each logit z
            if self._all_in_unit_interval(2 * outputs[:, 1].detach(), min_spread=0.0):
                self._warn_of_probabilities("none below 0 or above 1", "another sigmoid", "sigmoid", "torch.logit")
        elif outputs.min().item() >= 0:  # most models have negative scores
            if bool(((outputs.sum(1) - 1).abs() < 1e-3).all()):
                self._warn_of_probabilities("at least 0, with a sum of 1", "another softmax", "softmax", "logarithm")
            elif self._all_in_unit_interval(outputs.detach(), MIN_SPREAD):
                self._warn_of_probabilities("none below 0 or above 1", "a softmax", "sigmoid", "torch.logit")
        else:
            self._outputs_in_unit_interval = None

    def _all_in_unit_interval(self, values: Tensor, min_spread: float) -> bool:
        """Return whether this and all earlier calls had only values between 0 and 1, and enough of them.

        The values of several calls are counted if they differ, since a call may have a single image, or the same images
        as an earlier call.
        """
        low, high = (x.item() for x in torch.aminmax(values))
        seen = self._outputs_in_unit_interval
        if seen is None or not (low >= 0 and high <= 1):
            self._outputs_in_unit_interval = None
            return False
        if len(seen) < MIN_LOGITS:
            seen.update(round(value, 5) for value in values.flatten()[:MIN_LOGITS].tolist())
        self._range = min(low, self._range[0]), max(high, self._range[1])
        return max(values.numel(), len(seen)) >= MIN_LOGITS and self._range[1] - self._range[0] >= min_spread

    def _warn_of_probabilities(self, evidence: str, applied: str, function: str, inverse: str) -> None:
        text = (
            f"model must return logits, got values that look like probabilities ({evidence}), to which {applied} is "
            f"applied. Remove the model's {function}, or return its {inverse}"
        )
        self._warn(text)

    def _warn(self, text: str) -> None:
        warnings.warn(text, UserWarning, stacklevel=warning_stacklevel())
        self.on_warning(text)

    def _without_side_effects(self, images: Tensor, stream: RandomStream | None) -> AbstractContextManager:
        stream = self.session(images) if stream is None else stream
        return self._isolated(stream) if self._roots or torch.is_inference_mode_enabled() else stream

    @contextmanager
    def _isolated(self, stream: RandomStream) -> Iterator[None]:
        with torch.inference_mode(False), stream:
            trees = [all_modules([root]) for root in self._roots]
            with private_buffers([module for tree in trees if must_protect_buffers(tree) for module in tree]):
                yield

    def _differentiate(self, images: Tensor, loss: Loss, args, at: slice) -> tuple[Tensor, Tensor]:
        """Return gradient and outputs of one batch, and free its autograd graph."""
        leaf = rows(images, at).detach()
        leaf = (leaf.clone() if leaf.is_inference() else leaf).requires_grad_()
        copy = leaf.clone()  # since a model may change it in place
        outputs = self._forward(copy, args, at, images.shape[0])
        if not outputs.requires_grad:
            expected = "return outputs that depend on the images"
            raise ValueError(f"model must {expected}, got outputs without a graph: {NO_GRADIENTS}")
        half = outputs.dtype == torch.float16
        gradient = _through_half(leaf, outputs, loss, at) if half else _gradient(loss(outputs, at), leaf)
        if gradient is None:
            raise ValueError(f"model and objective must depend on the images, got a loss that does not: {NO_GRADIENTS}")
        # Copies, since a compiled model may reuse the memory of its results.
        same_layout = gradient.stride() == leaf.stride()
        gradient = gradient.clone() if same_layout else torch.empty_like(leaf).copy_(gradient)
        return gradient, outputs.detach().clone()

    def _forward(self, images: Tensor, args, at: slice, count: int) -> Tensor:
        inputs = images if self.preprocessing is None else self.preprocessing(images)
        if inputs is None:
            raise TypeError("preprocessing must return the inputs of the model, got None")
        module, parameters = module_of(self.model), []
        if module is not None:
            parameters = parameters_of(all_modules([module]))
            self._check_device(inputs, parameters)
            inputs = cast_for(parameters, inputs)
        try:
            outputs = self.model(inputs, *(() if args is None else split_args(args, at, count)))
        except (RuntimeError, TypeError) as error:
            if mismatch := mismatch_error(error, parameters, inputs):
                raise mismatch from error
            raise
        return class_scores(outputs, images.shape[0], self.task)

    def _check_device(self, images, parameters: list[Tensor]) -> None:
        if not isinstance(self.model, Module) or isinstance(self.model, DataParallel):
            return  # DataParallel moves images itself
        devices = {p.device for p in parameters}
        if isinstance(images, Tensor) and len(devices) == 1 and images.device not in devices:
            raise ValueError(f"images must be on the model's device {devices.pop()}, got {images.device}")


def _ignore(text: str) -> None:
    """Do nothing with a warning; a function and no lambda, so that a classifier can be pickled."""


def _gradient(losses: Tensor | tuple[Tensor, Tensor], leaf: Tensor) -> Tensor | None:
    """Return the gradient of the summed losses, given the result of ``loss`` in :meth:`Classifier.gradient`."""
    start, gradient = losses if isinstance(losses, tuple) else (losses.sum(), None)
    return _backward(start, leaf, gradient) if start.requires_grad else None


def _backward(start: Tensor, leaf: Tensor, gradient: Tensor | None) -> Tensor | None:
    """Return the gradient with respect to ``leaf``.

    Autocast is off here, so that the backward pass of each op has the dtype of its forward pass. The caller's autocast
    would lower the precision of parts of a model that turn autocast off. Autocast is off on GPUs, too, since a model
    may compute on a GPU even if images and outputs are on the CPU.
    """
    with without_autocast("cpu", "cuda", leaf.device.type, start.device.type):
        return torch.autograd.grad(start, leaf, gradient, allow_unused=True)[0]


def _through_half(leaf: Tensor, outputs: Tensor, loss: Loss, at: slice) -> Tensor | None:
    """Return the gradient of the summed losses through float16 outputs.

    Float16 cannot represent gradients below 6e-8. Therefore the gradient of each sample's outputs is scaled to about 1,
    by a power of 2, before the backward pass of the model; the result is scaled back.
    """
    scores = outputs.detach().float().requires_grad_()
    score_gradient = _gradient(loss(scores, at), scores)
    if score_gradient is None:
        return None
    largest = score_gradient.abs().flatten(1).amax(1)
    usable = largest.isfinite() & (largest > 0)
    power = torch.where(usable, torch.exp2(largest.log2().floor()), 1.0)
    score_gradient = score_gradient / power.view(-1, *[1] * (score_gradient.dim() - 1))
    gradient = _backward(outputs, leaf, score_gradient.to(outputs.dtype))
    if gradient is None:
        return None
    return (gradient * power.to(leaf.device).view(-1, *[1] * (leaf.dim() - 1))).to(leaf.dtype)


def _type_text(value) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__

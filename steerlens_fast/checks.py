"""Argument checks of the public API.

A check raises a TypeError or ValueError that says what the argument must be, and what it is. Most checks return the
argument, with numbers of numpy converted to those of Python.
The compiled ops check their own arguments (``csrc/checks.h``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Sized
from difflib import get_close_matches
from inspect import signature
from numbers import Real
from operator import index
from reprlib import Repr

import numpy as np
import torch
from torch import Tensor

from .torch_internals import has_transforms, is_exporting

Factors = Sequence[float] | Tensor
MAX_ENTRIES, MAX_CHARACTERS, MAX_SHOWN = 12, 200, 1000  # limits of a value in an error message


class _Shown(Repr):
    """Short representations of values, for error messages."""

    def __init__(self):
        super().__init__()
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = MAX_ENTRIES
        self.maxstring = self.maxlong = MAX_CHARACTERS

    def repr1(self, x, level: int) -> str:
        if isinstance(x, Tensor) and x.is_nested:  # it may have no shape
            return f"nested {type(x).__name__}, {x.dtype}"
        if isinstance(x, (Tensor, np.ndarray)) and math.prod(x.shape) > MAX_ENTRIES:
            return f"{type(x).__name__} {list(x.shape)}, {x.dtype}"
        return super().repr1(x, level)

    def repr_instance(self, x, level: int) -> str:
        text = " ".join(repr(x).split())
        return text if len(text) <= MAX_CHARACTERS else f"{type(x).__module__}.{type(x).__qualname__}"


def shown(value) -> str:
    """Return ``repr(value)`` for an error message, but only type and shape of large tensors and other long values.

    Examples
    --------
    >>> shown([torch.zeros(2, 3, 64, 64), "cat", 3])
    "[Tensor [2, 3, 64, 64], torch.float32, 'cat', 3]"
    """
    text = _Shown().repr(value)
    is_short = len(text) <= MAX_SHOWN or not isinstance(value, Sized)
    return text if is_short else f"{type(value).__name__} of length {len(value)}"


def is_int(value) -> bool:
    """Return whether a value is an int of Python, numpy or torch; bools are not ints here."""
    if isinstance(value, int):
        return not isinstance(value, bool)
    if str(getattr(value, "dtype", "")).endswith("bool"):
        return False
    try:
        index(value)
    except TypeError:
        return False
    return True


def check_int(name: str, value, minimum: int, maximum: int | None, reason: str = "") -> int:
    """Return an int in [minimum, maximum]. ``reason`` explains the limits in the error message."""
    if not is_int(value):
        raise TypeError(f"{name} must be an int, got {shown(value)}")
    value = index(value)
    if value < minimum or (maximum is not None and value > maximum):
        limits = f"{minimum} to {maximum}" if maximum is not None else f"at least {minimum}"
        raise ValueError(f"{name} must be {limits}{' ' + reason if reason else ''}, got {value}")
    return value


def check_bool(name: str, value) -> bool:
    """Return a bool. 0 and 1 are not bools here."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, got {shown(value)}")
    return value


def check_number(name: str, value, above: float = -math.inf, note: str = "", closed: bool = False) -> float:
    """Return a finite float greater than ``above`` or, if ``closed``, at least ``above``.

    Tensors and arrays without dimensions count as numbers. ``note`` follows the expected value in the error message,
    such as " (radians)".
    """
    if isinstance(value, (Tensor, np.ndarray)) and value.ndim == 0:
        value = value.item()
    if type(value) not in (float, int) and (isinstance(value, bool) or not isinstance(value, Real)):
        raise TypeError(f"{name} must be a float{note}, got {shown(value)}")
    # torch.compile of torch 2.10 cannot trace math.isfinite.
    if not -math.inf < value < math.inf or value < above or (value == above and not closed):
        limit = "" if above == -math.inf else f" and {'at least' if closed else 'above'} {above:g}"
        raise ValueError(f"{name} must be finite{limit}{note}, got {value}")
    return float(value)


def check_choice(name: str, value, choices: Sequence[str]) -> str:
    """Return a value that is one of ``choices``."""
    if not isinstance(value, str) or value not in choices:
        hint = did_you_mean(value, choices) if isinstance(value, str) else ""
        raise ValueError(f"{name} must be one of {tuple(choices)}, got {shown(value)}{hint}")
    return value


def check_class_names(name: str, names: Sequence[str] | None, count: int) -> None:
    """Raise unless there is a name for each of ``count`` classes, or no names at all.

    Examples
    --------
    >>> check_class_names("class_names", ["cat", "dog"], 3)
    Traceback (most recent call last):
    ValueError: class_names must have one name for each of the model's 3 classes, got 2 names
    """
    if names is not None and len(names) != count:
        raise ValueError(f"{name} must have one name for each of the model's {count} classes, got {len(names)} names")


def check_options(name: str, options: Mapping, function, excluded: str) -> None:
    """Check that all options are parameters of ``function``, but not the parameter ``excluded``."""
    known = [parameter for parameter in signature(function).parameters if parameter != excluded]
    for option in options:
        if option not in known:
            hint = did_you_mean(option, known)
            raise TypeError(
                f"{name} must only have options of {function.__name__} {tuple(known)}, got {option!r}{hint}"
            )


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return the end of a message about an unknown word, which suggests similar known words.

    Examples
    --------
    >>> did_you_mean("hight", ["height", "width"]), did_you_mean("q", ["height", "width"])
    ("; did you mean 'height'?", '')
    """
    close = get_close_matches(str(word), known, 3)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def check_indices(name: str, values, size: int | None) -> list[int]:
    """Return distinct ints in [0, size); there is no upper limit if ``size`` is None."""
    values = as_list(values)
    if isinstance(values, (str, bytes)) or not isinstance(values, (Sequence, range)):
        raise TypeError(f"{name} must be a sequence of ints, got {shown(values)}")
    checked = [check_int(f"each item of {name}", v, 0, None if size is None else size - 1) for v in values]
    if len(set(checked)) != len(checked):
        raise ValueError(f"{name} must be distinct, got {list(values)}")
    return checked


def as_list(values):
    """Return a numpy array or a tensor as a list of Python numbers; anything else unchanged."""
    return values.tolist() if hasattr(values, "tolist") else values


def check_image_shape(image_shape, name: str = "image_shape") -> tuple[int, int]:
    """Return (H, W), two ints that are each at least 8."""
    image_shape = as_list(image_shape)
    sizes = tuple(image_shape) if isinstance(image_shape, Sequence) else ()
    if len(sizes) != 2 or not all(map(is_int, sizes)):
        raise TypeError(f"{name} must be two ints (H, W), got {shown(image_shape)}")
    if min(sizes) < 8:
        raise ValueError(f"{name} must be at least (8, 8), the smallest size with room for one scale, got {sizes}")
    return index(sizes[0]), index(sizes[1])


def check_exportable() -> None:
    """Raise an error if torch.export traces transforms of torch.func: the package does not support this."""
    if has_transforms() and is_exporting():
        raise NotImplementedError(
            "torch.export of a function with torch.func transforms (grad, jvp, vmap ...) in it is not supported here; "
            "export the function without them and transform the exported program, or use torch.compile"
        )


def check_image(name: str, image, shape: tuple[int, int] | None = None) -> Tensor:
    """Return a real floating-point tensor [..., H, W]; half precision is converted to float32."""
    check_exportable()
    if not isinstance(image, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(image).__name__}")
    if not image.is_floating_point():
        raise TypeError(f"{name} must be a real floating-point tensor, got {image.dtype}")
    check_dense(name, image)
    if image.dim() < 2 or (shape is not None and tuple(image.shape[-2:]) != shape):
        size = "H, W" if shape is None else f"{shape[0]}, {shape[1]}"
        raise ValueError(f"{name} must have shape [..., {size}], got {list(image.shape)}")
    return image if image.dtype in (torch.float32, torch.float64) else image.float()


def check_dense(name: str, tensor: Tensor) -> None:
    """Check that a tensor is neither sparse nor nested."""
    if tensor.layout != torch.strided or tensor.is_nested:
        got = "a nested tensor" if tensor.is_nested else tensor.layout
        raise TypeError(f"{name} must be a dense tensor, got {got}")


def check_same(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    """Check that two tensors have the same shape, dtype and device."""
    if tensor.shape != other.shape:
        raise ValueError(f"{name} must have the {other_name}'s shape {list(other.shape)}, got {list(tensor.shape)}")
    if tensor.dtype != other.dtype:
        raise TypeError(f"{name} must have the {other_name}'s dtype {other.dtype}, got {tensor.dtype}")
    if tensor.device != other.device:
        raise ValueError(f"{name} must be on the {other_name}'s device {other.device}, got {tensor.device}")


def check_bounds(bounds) -> tuple[float, float] | None:
    """Return None or two finite floats (low, high) with low < high."""
    if bounds is None:
        return None
    bounds = as_list(bounds)
    if type(bounds) is not tuple and (not isinstance(bounds, Sequence) or isinstance(bounds, str)) or len(bounds) != 2:
        raise TypeError(f"bounds must be None or two floats (low, high), got {shown(bounds)}")
    low, high = check_number("bounds", bounds[0]), check_number("bounds", bounds[1])
    if low >= high:
        raise ValueError(f"bounds must be (low, high) with low < high, got {shown(bounds)}")
    return low, high


def factor_table(name: str, factors: Factors, image: Tensor) -> Tensor:
    """Return factors as a table [F, 1] or [F, N], for N image planes.

    The table has the image's device and dtype. Factors must be finite. This is not checked under torch.compile and
    torch.func, nor on a GPU, for which the CPU would have to wait.
    """
    table = _as_tensor(name, factors, image)
    if table.is_complex() or table.dim() == 0:
        raise TypeError(f"{name} must be a sequence of floats or a real tensor [F, ...], got {shown(factors)}")
    on_host, table = table.device.type == "cpu", to_dtype(table, image.dtype)
    readable = on_host and not torch.compiler.is_compiling() and not has_transforms()
    # If the sum is finite, all factors are. If it is not, it may only have overflowed, so each factor is tested. (This
    # takes more calls of torch.)
    if readable and not math.isfinite(table.detach().sum()) and not table.detach().isfinite().all():
        raise ValueError(f"{name} must be finite in {image.dtype}, got {shown(factors)}")
    table, leading = to_device_async(name, table, image.device), image.shape[:-2]
    if table.dim() == 1:
        return table[:, None]
    sizes = table.shape[1:]  # must be the first few leading dimensions of the image
    if tuple(sizes) != tuple(leading[: len(sizes)]):
        raise ValueError(f"{name} must have shape [F] or [F, *{list(leading)}], got {list(table.shape)}")
    if readable and len(sizes) == 1 and sizes[0] == math.prod(leading):
        return table  # has a factor for each plane already
    table = table.reshape(*table.shape, *[1] * (len(leading) - len(sizes))).expand(table.shape[0], *leading)
    return table.reshape(table.shape[0], math.prod(leading))


def to_device_async(name: str, table: Tensor, device: torch.device) -> Tensor:
    """Return a small tensor on ``device``, without waiting for the copy.

    While a CUDA graph is captured, a tensor on the CPU raises a ValueError: each replay of the graph would read the
    tensor's memory, which may be reused by then.
    """
    if table.device.type != "cpu" or device.type != "cuda":
        return to_device(table, device)
    if not torch.compiler.is_compiling() and torch.cuda.is_current_stream_capturing():
        raise ValueError(f"{name} must be on {device} while a CUDA graph is captured there, got {table.device}")
    return table.to(device, non_blocking=True)


def to_device(t: Tensor, device: torch.device) -> Tensor:
    """Return ``t.to(device)``, without a call of torch if the tensor is there already."""
    return t if t.device == device else t.to(device)


def to_dtype(t: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``t.to(dtype)``, without a call of torch if the tensor has this dtype already."""
    return t if t.dtype == dtype else t.to(dtype)


def _as_tensor(name: str, factors, image: Tensor) -> Tensor:
    if isinstance(factors, Tensor):
        return factors
    try:
        return torch.as_tensor(factors, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        message = f"{name} must be a sequence of floats or a real tensor [F, ...], got {shown(factors)}"
        raise TypeError(message) from error

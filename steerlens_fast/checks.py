"""Argument checks of the public API: a TypeError or ValueError that names argument, expectation and value.

All of them run on the host, before any kernel. The raw ops check their own arguments in ``csrc/checks.h``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from inspect import signature
from numbers import Real
from operator import index

import torch
from torch import Tensor

from .torch_internals import has_transforms

Factors = Sequence[float] | Tensor


def is_int(value) -> bool:
    """An int of Python, numpy or torch (whatever ``operator.index`` takes), not a bool."""
    if isinstance(value, int):
        return not isinstance(value, bool)
    if str(getattr(value, "dtype", "")).endswith("bool"):
        return False
    try:
        index(value)
    except TypeError:
        return False
    return True


def check_int(name: str, value, least: int, most: int | None, why: str = "") -> int:
    """An int in [least, most]."""
    if not is_int(value):
        raise TypeError(f"{name} must be an int, got {value!r}")
    if value < least or (most is not None and value > most):
        bounds = f"{least} to {most}" if most is not None else f"at least {least}"
        raise ValueError(f"{name} must be {bounds}{' ' + why if why else ''}, got {value}")
    return index(value)


def check_bool(name: str, value) -> bool:
    """True or False, nothing that merely counts as one."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, got {value!r}")
    return value


def check_number(name: str, value, above: float = -math.inf, unit: str = "", closed: bool = False) -> float:
    """A finite float above a limit (or, ``closed``, at it)."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a float{unit}, got {value!r}")
    if not math.isfinite(value) or value < above or (value == above and not closed):
        limit = "" if above == -math.inf else f" and {'at least' if closed else 'above'} {above:g}"
        raise ValueError(f"{name} must be finite{limit}{unit}, got {value}")
    return float(value)


def check_choice(name: str, value, choices: Sequence[str]) -> str:
    """One of the names."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {tuple(choices)}, got {value!r}")
    return value


def check_options(name: str, options: Mapping, taker, beside: str) -> None:
    """Every one is a parameter of ``taker``, other than ``beside``."""
    known = [parameter for parameter in signature(taker).parameters if parameter != beside]
    for option in options:
        if option not in known:
            hint = did_you_mean(option, known)
            raise TypeError(f"{name} must have options of {taker.__name__} {tuple(known)}, got {option!r}{hint}")


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """What ends a message about a name that is not known: those that are like it, if any.

    Examples
    --------
    >>> did_you_mean("hight", ["height", "width"]), did_you_mean("q", ["height", "width"])
    ("; did you mean 'height'?", '')
    """
    close = get_close_matches(str(word), known, 3)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def check_indices(name: str, values, size: int | None) -> list[int]:
    """Distinct ints in [0, size); from 0 on where the size is not known yet."""
    values = as_list(values)
    if isinstance(values, (str, bytes)) or not isinstance(values, (Sequence, range)):
        raise TypeError(f"{name} must be a sequence of ints, got {values!r}")
    checked = [check_int(f"each of {name}", v, 0, None if size is None else size - 1) for v in values]
    if len(set(checked)) != len(checked):
        raise ValueError(f"{name} must not repeat, got {list(values)}")
    return checked


def as_list(values):
    """An array of numpy or a tensor as a list of Python's numbers; anything else as it is."""
    return values.tolist() if hasattr(values, "tolist") else values


def check_image_shape(image_shape, name: str = "image_shape") -> tuple[int, int]:
    """Two ints, each at least 8."""
    image_shape = as_list(image_shape)
    sizes = tuple(image_shape) if isinstance(image_shape, Sequence) else ()
    if len(sizes) != 2 or not all(map(is_int, sizes)):
        raise TypeError(f"{name} must be two ints (H, W), got {image_shape!r}")
    if min(sizes) < 8:
        raise ValueError(f"{name} must be at least (8, 8), the smallest that holds one scale, got {sizes}")
    return index(sizes[0]), index(sizes[1])


def check_exportable() -> None:
    """No torch.func transform within ``torch.export``, whose own functions fail there (``torch.where``'s gradient)."""
    if has_transforms() and torch.compiler.is_exporting():
        raise NotImplementedError(
            "torch.export of a function with torch.func transforms (grad, jvp, vmap ...) in it is not supported here; "
            "export the function without them and transform what is exported, or use torch.compile"
        )


def check_image(name: str, image, shape: tuple[int, int] | None = None) -> Tensor:
    """A real floating-point tensor [..., H, W]; half precision becomes float32."""
    check_exportable()
    if not isinstance(image, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(image).__name__}")
    if not image.is_floating_point():
        raise TypeError(f"{name} must be a real floating-point tensor, got {image.dtype}")
    if image.dim() < 2 or (shape is not None and tuple(image.shape[-2:]) != shape):
        size = "H, W" if shape is None else f"{shape[0]}, {shape[1]}"
        raise ValueError(f"{name} must have shape [..., {size}], got {list(image.shape)}")
    return image if image.dtype in (torch.float32, torch.float64) else image.float()


def check_same(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    """One shape, dtype and device."""
    if tensor.shape != other.shape:
        raise ValueError(f"{name} must have the {other_name}'s shape {list(other.shape)}, got {list(tensor.shape)}")
    if tensor.dtype != other.dtype:
        raise TypeError(f"{name} must have the {other_name}'s dtype {other.dtype}, got {tensor.dtype}")
    if tensor.device != other.device:
        raise ValueError(f"{name} must be on the {other_name}'s device {other.device}, got {tensor.device}")


def check_bounds(bounds) -> tuple[float, float] | None:
    """None, or two finite numbers in order."""
    if bounds is None:
        return None
    bounds = as_list(bounds)
    if not isinstance(bounds, Sequence) or isinstance(bounds, str) or len(bounds) != 2:
        raise TypeError(f"bounds must be None or two floats (low, high), got {bounds!r}")
    low, high = (check_number("bounds", b) for b in bounds)
    if low >= high:
        raise ValueError(f"bounds must be (low, high) with low < high, got {bounds!r}")
    return low, high


def factor_table(name: str, factors: Factors, image: Tensor) -> Tensor:
    """Factors as [F, 1] or [F, N] with N the image's planes, on its device and in its precision.

    Host values are checked to be finite; a tensor on another device is not read, since that would wait for the device.
    """
    table = _as_tensor(name, factors, image)
    if table.is_complex() or table.dim() == 0:
        raise TypeError(f"{name} must be a sequence of floats or a real tensor [F, ...], got {factors!r}")
    on_host, table = table.device.type == "cpu", table.to(image.dtype)
    readable = on_host and not torch.compiler.is_compiling() and not has_transforms()
    if readable and not table.detach().isfinite().all():
        raise ValueError(f"{name} must be finite in {image.dtype}, got {factors!r}")
    table, lead = sent(name, table, image.device), image.shape[:-2]
    if table.dim() == 1:
        return table[:, None]
    given = table.shape[1:]
    if tuple(given) != tuple(lead[: len(given)]):
        raise ValueError(f"{name} must have shape [F] or [F, *{list(lead)}], got {list(table.shape)}")
    table = table.reshape(*table.shape, *[1] * (len(lead) - len(given))).expand(table.shape[0], *lead)
    return table.reshape(table.shape[0], math.prod(lead))


def sent(name: str, table: Tensor, device: torch.device) -> Tensor:
    """A small tensor on ``device``; from the host without waiting until it is there.

    Not while a CUDA graph is captured: each replay would read the host's memory again, whoever has it then.
    """
    if table.device.type != "cpu" or device.type != "cuda":
        return table.to(device)
    if not torch.compiler.is_compiling() and torch.cuda.is_current_stream_capturing():
        raise ValueError(f"{name} must be on {device} while a CUDA graph is captured there, got {table.device}")
    return table.to(device, non_blocking=True)


def _as_tensor(name: str, factors, image: Tensor) -> Tensor:
    if isinstance(factors, Tensor):
        return factors
    try:
        return torch.as_tensor(factors, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        message = f"{name} must be a sequence of floats or a real tensor [F, ...], got {factors!r}"
        raise TypeError(message) from error

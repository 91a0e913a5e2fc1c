"""``Coefficients``: the container of a pyramid's bands and residuals."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..checks import is_int
from ..torch_internals import register_container

HIGHPASS_KEY, LOWPASS_KEY = "residual_highpass", "residual_lowpass"  # in plenoptic's dictionaries


@dataclass(frozen=True, eq=False)
class Coefficients:
    """The result of :meth:`SteerablePyramid.analyze`: coefficients of images.

    A part that was not requested is None. Coefficients are immutable, and torch.func and torch.compile see their
    tensors (they are a pytree).

    Attributes
    ----------
    highpass : Tensor [..., H, W], real, or None
    bands : tuple of (Tensor [..., K, h_s, w_s], complex, or None)
        One entry for each scale s = 0 ... J - 1, from fine to coarse. h_s = ceil(H / 2^s), w_s = ceil(W / 2^s), or
        H x W without ``downsample``.
    lowpass : Tensor [..., h_J, w_J], real, or None

    Examples
    --------
    >>> import torch
    >>> from steerlens_fast import SteerablePyramid
    >>> coefficients = SteerablePyramid((32, 32), height=2)(torch.rand(5, 32, 32))
    >>> coefficients
    Coefficients(highpass=[5, 32, 32], bands=([5, 4, 32, 32], [5, 4, 16, 16]), lowpass=[5, 8, 8], float32, cpu)
    >>> halved = coefficients.map(lambda band: band / 2)
    >>> halved.bands[1].shape
    torch.Size([5, 4, 16, 16])
    """

    # Tensors or None. With Any in place of None, type checkers do not demand a check for None.
    highpass: Tensor | Any
    bands: tuple[Tensor | Any, ...]
    lowpass: Tensor | Any

    # So that ``array * coefficients`` calls __rmul__ once. Otherwise, numpy would call it for each element.
    __array_ufunc__ = None

    def tensors(self) -> list[Tensor]:
        """Return all tensors: high-pass, bands from fine to coarse, low-pass."""
        return [t for t in (self.highpass, *self.bands, self.lowpass) if t is not None]

    def apply(self, function: Callable[[Tensor], Tensor]) -> Coefficients:
        """Apply ``function`` to all tensors, residuals included."""
        applied = lambda t: _applied(function, t)
        return Coefficients(applied(self.highpass), tuple(map(applied, self.bands)), applied(self.lowpass))

    def map(self, function: Callable[[Tensor], Tensor]) -> Coefficients:
        """Apply ``function`` to the bands of each scale, but not to residuals."""
        return replace(self, bands=tuple(_applied(function, b) for b in self.bands))

    def to(self, *args: Any, **kwargs: Any) -> Coefficients:
        """Apply ``Tensor.to`` to all tensors. For complex bands, a real dtype means the corresponding complex dtype."""

        def convert(t: Tensor) -> Tensor:
            like = lambda v: _complex_dtype(v) if t.is_complex() else v
            return t.to(*map(like, args), **{name: like(v) for name, v in kwargs.items()})

        return self.apply(convert)

    def clone(self) -> Coefficients:
        """Return a copy that shares no memory with these coefficients."""
        return self.apply(torch.clone)

    def detach(self) -> Coefficients:
        """Return the coefficients detached from autograd, sharing memory."""
        return self.apply(torch.detach)

    def __add__(self, other: Coefficients) -> Coefficients:
        return _pairwise(torch.add, self, other)

    def __sub__(self, other: Coefficients) -> Coefficients:
        return _pairwise(torch.sub, self, other)

    def __mul__(self, factor: float | Tensor) -> Coefficients:
        """Multiply all tensors by a number, or by a tensor of one element.

        Other tensors raise a ValueError: bands have one more dimension than residuals, so a tensor with one factor for
        each image would multiply orientations.
        """
        if isinstance(factor, (Tensor, np.ndarray)):
            if math.prod(factor.shape) != 1:
                expected = "a number or a tensor of one element (for a factor per image, multiply the images)"
                raise ValueError(f"factor must be {expected}, got shape {list(factor.shape)}")
            factor = factor.reshape(()) if isinstance(factor, Tensor) else factor.item()
        return self.apply(lambda t: t * factor)

    __rmul__ = __mul__

    def to_plenoptic(self) -> OrderedDict:
        """Return plenoptic's dictionary of these tensors, without a copy.

        Its keys are "residual_highpass", 0, 1, ... and "residual_lowpass".
        """
        named = [(HIGHPASS_KEY, self.highpass), *enumerate(self.bands), (LOWPASS_KEY, self.lowpass)]
        return OrderedDict((key, t) for key, t in named if t is not None)

    @staticmethod
    def from_plenoptic(coefficients: dict) -> Coefficients:
        """Return the coefficients in a dictionary of plenoptic, without a copy."""
        scales = [key for key in coefficients if is_int(key)]
        if not coefficients or min(scales, default=0) < 0 or set(coefficients) - {HIGHPASS_KEY, LOWPASS_KEY, *scales}:
            expected = f"the keys {HIGHPASS_KEY!r}, 0, 1, ... and {LOWPASS_KEY!r}, or some of them"
            raise ValueError(f"coefficients must have {expected}, got {list(coefficients)}")
        bands = tuple(coefficients.get(s) for s in range(max(scales, default=-1) + 1))
        return Coefficients(coefficients.get(HIGHPASS_KEY), bands, coefficients.get(LOWPASS_KEY))

    def __repr__(self) -> str:
        shape = lambda t: "None" if t is None else str(list(t.shape))
        bands = ", ".join(map(shape, self.bands)) + ("," if len(self.bands) == 1 else "")
        first = next(iter(self.tensors()), None)
        kind = "" if first is None else f", {str(first.real.dtype).removeprefix('torch.')}, {first.device}"
        return f"Coefficients(highpass={shape(self.highpass)}, bands=({bands}), lowpass={shape(self.lowpass)}{kind})"


def _applied(function: Callable[[Tensor], Tensor], t: Tensor | None) -> Tensor | None:
    """Return ``function(t)``, which must be a tensor; None for a missing part."""
    result = None if t is None else function(t)
    if t is not None and not isinstance(result, Tensor):
        raise TypeError(f"function must return a torch.Tensor, got {type(result).__name__}")
    return result


def _pairwise(function: Callable, a: Coefficients, b: Coefficients) -> Coefficients:
    """Return ``function(x, y)`` for each part x of ``a`` and y of ``b``; a part that is None in both stays None."""
    if not isinstance(b, Coefficients):
        raise TypeError(f"other must be Coefficients, got {type(b).__name__}")
    parts = [(a.highpass, b.highpass), *zip(a.bands, b.bands), (a.lowpass, b.lowpass)]
    size = lambda t: None if t is None else t.shape[-2:]  # batches may be broadcast
    if len(a.bands) != len(b.bands) or any(size(x) != size(y) for x, y in parts):
        raise ValueError(f"other must have the same parts, of the same sizes, as {a}, got {b}")
    high, *bands, low = [None if x is None else function(x, y) for x, y in parts]
    return Coefficients(high, tuple(bands), low)


def _complex_dtype(value: Any) -> Any:
    """Return the complex dtype that corresponds to a real one; anything else unchanged."""
    if not isinstance(value, torch.dtype) or value.is_complex:
        return value
    if not value.is_floating_point:
        raise TypeError(f"dtype must be a floating-point or complex dtype, got {value}")
    return value.to_complex()


def _flatten(c: Coefficients) -> tuple[list[Any], None]:
    return [c.highpass, c.bands, c.lowpass], None


def _unflatten(children: Iterable[Any], _: None) -> Coefficients:
    highpass, bands, lowpass = children
    return Coefficients(highpass, tuple(bands), lowpass)


register_container(Coefficients, ("highpass", "bands", "lowpass"), _flatten, _unflatten)
torch.serialization.add_safe_globals([Coefficients])  # torch.load accepts files with coefficients

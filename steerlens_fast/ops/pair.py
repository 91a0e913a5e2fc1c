"""``pair`` stores two real planes as one complex plane, and ``unpair`` reverses this."""

from __future__ import annotations

import torch
from torch import Tensor

from .enums import real_dtype
from .fake_checks import COMPLEX, REAL, check_dtype, require
from .registration import call, contiguous_grad, fake, register_derivative


def pair(planes: Tensor, run: int) -> Tensor:
    """Store pairs of real planes as complex planes, x_2p + i x_(2p+1).

    One complex FFT then transforms two real planes.

    Parameters
    ----------
    planes : Tensor [R * run, ...], real or complex
        R runs of ``run`` planes, such as the orientations of R images. Imaginary parts are ignored.
    run : int
        Planes are paired only within a run. If ``run`` is odd, the last plane of a run is paired with zeros.

    Returns
    -------
    Tensor [R * ceil(run / 2), ...], complex

    Raises
    ------
    RuntimeError
        If the number of planes is not a multiple of ``run``, or a dtype is wrong.

    Examples
    --------
    >>> import torch
    >>> pair(torch.tensor([[1.0], [2.0], [3.0]]), 3)
    tensor([[1.+2.j],
            [3.+0.j]])
    """
    return call("pair", planes, run)


def unpair(pairs: Tensor, run: int) -> Tensor:
    """Return the real planes [R * run, ...] from which :func:`pair` made ``pairs``.

    Raises
    ------
    RuntimeError
        If the number of pairs is not a multiple of ``ceil(run / 2)``, or a dtype is wrong.

    Examples
    --------
    >>> import torch
    >>> unpair(torch.tensor([[1 + 2j], [3 + 0j]]), 3)
    tensor([[1.],
            [2.],
            [3.]])
    """
    return call("unpair", pairs, run)


def pair_orientations(bands: Tensor) -> Tensor:
    """Return the real parts of bands [N, K, h, w] in pairs: [N, ceil(K / 2), h, w] complex."""
    N, K = bands.shape[:2]
    return pair(bands.flatten(0, 1), K).unflatten(0, (N, (K + 1) // 2))


def unpair_orientations(pairs: Tensor, K: int) -> Tensor:
    """Return real bands [N, K, h, w] from pairs: the inverse of :func:`pair_orientations`."""
    return unpair(pairs.flatten(0, 1), K).unflatten(0, (pairs.shape[0], K))


@fake("pair")
def _(planes, run):
    check_dtype("planes", planes, *REAL, *COMPLEX)
    runs = _runs("planes", planes, run, run)
    dtype = real_dtype(planes.dtype).to_complex()
    return planes.new_empty(runs * ((run + 1) // 2), *planes.shape[1:], dtype=dtype)


def _runs(name: str, t: Tensor, run: int, per_run: int) -> int:
    """Check ``run`` and the first dimension; return the number of runs, of ``per_run`` items each."""
    require(run >= 0, f"run must be at least 0, got {run}")
    require(t.dim() >= 1, f"{name} must have shape [N, ...], got a scalar")
    fits = t.shape[0] % per_run == 0 if per_run else t.shape[0] == 0
    text = f"{name} must have a first dimension that is a multiple of {per_run}"
    require(fits, f"{text}, got shape {list(t.shape)}")
    return t.shape[0] // per_run if per_run else 0


@fake("unpair")
def _(pairs, run):
    check_dtype("pairs", pairs, *COMPLEX)
    runs = _runs("pairs", pairs, run, (run + 1) // 2)
    return pairs.new_empty(runs * run, *pairs.shape[1:], dtype=real_dtype(pairs.dtype))


def _setup_pair(ctx, inputs, output):
    planes, ctx.run = inputs
    ctx.complex = planes.is_complex()


def _pair_backward(ctx, grad):
    planes = unpair(contiguous_grad(grad), ctx.run)
    return torch.complex(planes, torch.zeros_like(planes)) if ctx.complex else planes, None


def _setup_unpair(ctx, inputs, output):
    ctx.run = inputs[1]


def _unpair_backward(ctx, grad):
    return pair(contiguous_grad(grad), ctx.run), None


register_derivative("pair", _pair_backward, _setup_pair)
register_derivative("unpair", _unpair_backward, _setup_unpair)

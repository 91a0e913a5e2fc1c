"""``polar_split`` converts coefficients to amplitude and phase, and ``polar_join`` converts them back."""

from __future__ import annotations

from torch import Tensor

from .enums import real_dtype
from .fake_checks import COMPLEX, REAL, check_dtype, check_like
from .registration import (
    call,
    contiguous_grad,
    fake,
    register_derivative,
    register_second_derivative,
    save_inputs,
    saved_inputs,
    two_real_like,
)


def polar_split(coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """Return amplitude and phase (radians, from -pi to pi) of complex coefficients.

    The phase is ``atan2(imag, real)``, except that the phase of 0 is 0 even if the real part is -0.0. The gradient at
    amplitude 0 is 0.

    Raises
    ------
    RuntimeError
        If the coefficients are not complex64 or complex128.

    Examples
    --------
    >>> import torch
    >>> amplitude, phase = polar_split(torch.tensor([3j]))
    >>> round(float(amplitude), 6), round(float(phase), 6)
    (3.0, 1.570796)
    """
    return call("polar_split", coefficients)


def polar_join(amplitude: Tensor, phase: Tensor) -> Tensor:
    """Return ``amplitude * exp(i phase)``, for two real tensors of one shape.

    This is the inverse of :func:`polar_split`.

    Raises
    ------
    RuntimeError
        If a shape, dtype or device is wrong; the message names the argument.

    Examples
    --------
    >>> import torch
    >>> polar_join(torch.tensor([2.0]), torch.tensor([0.0]))
    tensor([2.+0.j])
    """
    return call("polar_join", amplitude, phase)


@fake("polar_split")
def _(coefficients):
    check_dtype("coefficients", coefficients, *COMPLEX)
    return two_real_like(coefficients)


@fake("polar_split_backward")
def _(coefficients, grad_amplitude, grad_phase):
    check_dtype("coefficients", coefficients, *COMPLEX)
    for name, grad in (("grad_amplitude", grad_amplitude), ("grad_phase", grad_phase)):
        check_like(name, grad, coefficients, real_dtype(coefficients.dtype))
    return coefficients.new_empty(coefficients.shape)


@fake("polar_join")
def _(amplitude, phase):
    check_dtype("amplitude", amplitude, *REAL)
    check_like("phase", phase, amplitude)
    return amplitude.new_empty(amplitude.shape, dtype=amplitude.dtype.to_complex())


@fake("polar_join_backward")
def _(grad, amplitude, phase):
    check_dtype("amplitude", amplitude, *REAL)
    check_like("phase", phase, amplitude)
    check_like("grad", grad, amplitude, amplitude.dtype.to_complex())
    return two_real_like(grad)


def _polar_split_backward(ctx, grad_amplitude, grad_phase):
    (coefficients,) = saved_inputs(ctx)
    return call("polar_split_backward", coefficients, contiguous_grad(grad_amplitude), contiguous_grad(grad_phase))


def _polar_join_backward(ctx, grad):
    return call("polar_join_backward", contiguous_grad(grad), *saved_inputs(ctx))


register_derivative("polar_split", _polar_split_backward, save_inputs)
register_second_derivative("polar_split_backward")
register_derivative("polar_join", _polar_join_backward, save_inputs)
register_second_derivative("polar_join_backward")

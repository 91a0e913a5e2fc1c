"""``extrapolate`` computes the coefficients of frames from multiples of a step."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import checks
from . import reference
from .enums import FORMS, real_dtype, rule_index
from .fake_checks import check_dtype, check_extrapolate, check_option, check_shape
from .pair import unpair_orientations
from .registration import (
    call,
    contiguous_grad,
    fake,
    register_derivative,
    register_second_derivative,
    save_inputs,
    saved_inputs,
)


def extrapolate(
    coefficients: Tensor,
    phase_step: Tensor | None,
    amplitude_step: Tensor | None,
    phase_factors: Tensor,
    amplitude_factors: Tensor,
    rule: str = "complex",
    form: str = "real",
) -> Tensor:
    """Return the coefficients of all frames: those of the image, changed by multiples of a step.

    Parameters
    ----------
    coefficients : Tensor [N, K, h, w], complex
    phase_step, amplitude_step : Tensor [N, K, h, w], real, or None
        The results of :func:`step`, or None if phases or amplitudes do not change.
    phase_factors, amplitude_factors : Tensor [F, 1] or [F, N], real
        Phase factors b and amplitude factors a of each frame, for all planes or for each plane.
    rule : {"complex", "polar"}
        The rule of the step. The phase phi of a coefficient becomes phi + b dphi, where dphi is the phase step. Its
        amplitude A becomes max(A + a dA, 0) with "complex", and A exp(a dlogA) with "polar", where dA or dlogA is the
        amplitude step.
    form : {"real", "complex", "pairs"}
        What is returned. "complex": complex numbers. "real": only their real parts. "pairs": the real parts of two
        orientations as one complex number, see :func:`pair`.

    Returns
    -------
    Tensor [F, N, K, h, w], or [F, N, ceil(K / 2), h, w] for "pairs"
        Real numbers if ``form`` is "real", otherwise complex numbers.

    Raises
    ------
    ValueError
        For an unknown rule or form.
    RuntimeError
        If a shape, dtype or device is wrong; the message names the argument. No kernel has run then.

    Notes
    -----
    The op is differentiable with respect to coefficients, steps and factors. Derivatives with respect to factors take
    the memory of F copies of the bands.

    Examples
    --------
    >>> import torch
    >>> c, step_ = torch.ones(1, 1, 2, 2) + 0j, torch.full((1, 1, 2, 2), torch.pi)
    >>> factors = torch.tensor([[0.0], [1.0]])
    >>> extrapolate(c, step_, None, factors, 0 * factors)[:, 0, 0, 0, 0]
    tensor([ 1., -1.])
    """
    factors = phase_factors, amplitude_factors
    options = rule_index(rule), FORMS[checks.check_choice("form", form, tuple(FORMS))]
    return call("extrapolate", coefficients, phase_step, amplitude_step, *factors, *options)


@fake("extrapolate")
def _(coefficients, phase_step, amplitude_step, phase_factors, amplitude_factors, rule, form):
    check_extrapolate(coefficients, phase_step, amplitude_step, phase_factors, amplitude_factors, rule)
    check_option("form", form, FORMS)
    N, K, h, w = coefficients.shape
    K = (K + 1) // 2 if form == FORMS["pairs"] else K
    dtype = real_dtype(coefficients.dtype) if form == FORMS["real"] else coefficients.dtype
    return coefficients.new_empty(phase_factors.shape[0], N, K, h, w, dtype=dtype)


@fake("extrapolate_backward")
def _(grad, coefficients, phase_step, amplitude_step, phase_factors, amplitude_factors, rule):
    check_extrapolate(coefficients, phase_step, amplitude_step, phase_factors, amplitude_factors, rule)
    check_dtype("grad", grad, real_dtype(coefficients.dtype), coefficients.dtype)
    check_shape("grad", grad, (phase_factors.shape[0], *coefficients.shape))

    def grad_of(step):
        shape = 0 if step is None else coefficients.shape
        return coefficients.new_empty(shape, dtype=real_dtype(coefficients.dtype))

    return coefficients.new_empty(coefficients.shape), grad_of(phase_step), grad_of(amplitude_step)


def _extrapolate_backward(ctx, grad):
    *inputs, rule, form = saved_inputs(ctx)
    grad = contiguous_grad(grad)
    if form == FORMS["pairs"]:
        F, N = grad.shape[:2]
        grad = unpair_orientations(grad.flatten(0, 1), inputs[0].shape[1]).unflatten(0, (F, N))
    grad_c, grad_phase, grad_amplitude = call("extrapolate_backward", grad, *inputs, rule)
    grad_factors = _factor_gradients(ctx, grad, inputs, rule)
    grad_phase = None if inputs[1] is None else grad_phase
    grad_amplitude = None if inputs[2] is None else grad_amplitude
    return grad_c, grad_phase, grad_amplitude, *grad_factors, None, None


def _factor_gradients(ctx, grad, inputs, rule):
    if not any(ctx.needs_input_grad[3:5]):
        return None, None
    coefficients, phase_step, amplitude_step, phase_factors, amplitude_factors = inputs

    def frames(b, a):
        form = FORMS["complex" if grad.is_complex() else "real"]
        return reference.extrapolate(coefficients, phase_step, amplitude_step, b, a, rule, form)

    return torch.func.vjp(frames, phase_factors, amplitude_factors)[1](grad)


register_derivative("extrapolate", _extrapolate_backward, save_inputs)
register_second_derivative("extrapolate_backward")

"""``step`` computes how a gradient changes phases and amplitudes."""

from __future__ import annotations

from torch import Tensor

from .enums import real_dtype, rule_index
from .fake_checks import check_like, check_step
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


def step(
    coefficients: Tensor, gradient: Tensor, eps: float = 1.0, rule: str = "complex", floor: float = 1e-6
) -> tuple[Tensor, Tensor]:
    """Return the changes of phase and amplitude along ``-gradient``.

    Parameters
    ----------
    coefficients : Tensor [..., h, w], complex
    gradient : Tensor [..., h, w], real or complex
        G = dL/dRe(c) + i dL/dIm(c) of a loss L to decrease. G is real if the image does not depend on Im(c).
    eps : float
        Factor of the gradient in the step.
    rule : {"complex", "polar"}
        "complex": the change from c to ``c' = c - eps G``. The phase step is ``arg(c' conj c)``, and the amplitude step
        ``|c'| - |c|``. "polar": gradient descent in phase and log amplitude. The phase step is ``-eps Im(G conj c)``,
        and the step of the log amplitude ``-eps Re(G conj c)``.
    floor : float
        Coefficients below this share of the largest amplitude of their band [h, w] do not change.

    Returns
    -------
    phase_step, amplitude_step : Tensor [..., h, w], real
        The phase step is in radians. The amplitude step is in the coefficients' units with "complex"; with "polar", it
        is a step of the natural logarithm.

    Raises
    ------
    ValueError
        For an unknown rule.
    RuntimeError
        If a shape, dtype or device is wrong; the message names the argument.

    Examples
    --------
    >>> import torch
    >>> phase, amplitude = step(torch.ones(1, 1, 2, 2) + 0j, torch.full((1, 1, 2, 2), -0.5))
    >>> phase.abs().max().item(), amplitude.max().item()
    (0.0, 0.5)
    """
    return call("step", coefficients, gradient, eps, rule_index(rule), floor)


@fake("step")
def _(coefficients, gradient, eps, rule, floor):
    check_step(coefficients, gradient, rule)
    return two_real_like(coefficients)


@fake("step_backward")
def _(grad_phase_step, grad_amplitude_step, coefficients, gradient, eps, rule, floor):
    check_step(coefficients, gradient, rule)
    for name, grad in (("grad_phase_step", grad_phase_step), ("grad_amplitude_step", grad_amplitude_step)):
        check_like(name, grad, coefficients, real_dtype(coefficients.dtype))
    return coefficients.new_empty(coefficients.shape), gradient.new_empty(gradient.shape)


def _step_backward(ctx, grad_phase_step, grad_amplitude_step):
    step_grads = contiguous_grad(grad_phase_step), contiguous_grad(grad_amplitude_step)
    grads = call("step_backward", *step_grads, *saved_inputs(ctx))
    return *grads, None, None, None


register_derivative("step", _step_backward, save_inputs)
register_second_derivative("step_backward")

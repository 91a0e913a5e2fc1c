"""``morph_planes`` computes frames from images and gradients.

Its two halves, ``step_planes`` and ``move_planes``, are for callers that try several factors: the first computes what
does not depend on the factors, and the second renders frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .. import native
from . import reference
from .enums import EDITS, FORMS, RULES, edit_index, rule_index
from .fake_checks import check_dtype, check_factors, check_morph, check_shape
from .registration import (
    call,
    call_plane_op,
    check_constant,
    contiguous_grad,
    fake,
    opposite_i_powers,
    register_derivative,
    register_no_derivative,
    save_inputs,
    saved_inputs,
)


def morph_planes(
    images: Tensor,
    gradients: Tensor,
    phase_factors: Tensor,
    amplitude_factors: Tensor,
    analysis: Sequence[Tensor],
    synthesis: Sequence[Tensor],
    i_power: int = 0,
    edit: str = "phase",
    rule: str = "complex",
    complex_bands: bool = False,
    eps: float = 1.0,
    floor: float = 1e-6,
    bounds: tuple[float, float] | None = None,
) -> Tensor:
    """Return frames of image planes that are morphed to decrease a loss.

    One op does the work of :func:`split_planes`, :func:`step`, :func:`extrapolate`, :func:`merge_planes` and a clip.

    Parameters
    ----------
    images, gradients : Tensor [N, H, W], float32, on CPUs also float64
        Image planes, each one channel of one image, and the gradient of a loss to decrease, with respect to the planes.
    phase_factors, amplitude_factors : Tensor [F, 1] or [F, N], in the dtype of ``images``
        Factors of each frame, for all planes or for each plane.
    analysis : sequence of Tensors [K, h, w], in the dtype of ``images``
        Filters that split planes into bands, one tensor for each scale whose coefficients change; see
        :func:`split_planes`. One more tensor [1, H, W] at the end is the filter of the residual: what these bands do
        not contain, and what therefore does not change.
    synthesis : sequence of Tensors, shaped like those of ``analysis`` without the last
        Filters that merge bands to planes. They also split the gradients: the adjoint of the synthesis.
    i_power : int
        Bands are multiplied by ``i ** i_power`` in the analysis, and by ``i ** -i_power`` in the synthesis. 0 to 3.
    edit : {"phase", "amplitude", "joint"}
        What changes: phases, amplitudes or both.
    rule : {"complex", "polar"}
        How coefficients and gradients become a step, as in :func:`step`.
    complex_bands : bool
        Whether the synthesis reads complex coefficients; otherwise it reads their real parts.
    eps, floor : float
        As in :func:`step`.
    bounds : (float, float), optional
        Frames are clipped to these limits.

    Returns
    -------
    Tensor [F, N, H, W], in the dtype of ``images``
        The frames. A frame whose factors are 0 equals the plane, bit for bit, apart from the clip.

    Raises
    ------
    ValueError
        For an unknown edit or rule.
    RuntimeError
        As in :func:`split_planes`.

    Notes
    -----
    The op is differentiable with respect to images, gradients and factors. The backward pass uses the separate ops.

    On a CPU, each thread has temporaries for one plane: spectra, coefficients and steps. If these exceed 32 MiB, planes
    are computed one at a time. On CUDA, temporaries take at most 256 MiB, or what one frame of one plane needs if
    that is more.

    Examples
    --------
    >>> import torch
    >>> from steerlens_fast.native import SIMD_WIDTH  # 0 if this CPU does not have the op
    >>> planes, filters, residual = torch.rand(2, 32, 32), [torch.ones(3, 16, 16)], torch.ones(1, 32, 32) / 1024
    >>> factors = torch.tensor([[0.0], [1.0]])
    >>> if SIMD_WIDTH > 0:
    ...     frames = morph_planes(planes, planes, factors, factors, [*filters, residual], filters)
    ...     assert frames.shape == (2, 2, 32, 32) and torch.equal(frames[0], planes)
    """
    options = edit_index(edit), rule_index(rule), complex_bands, eps, floor
    filters = list(analysis), list(synthesis)
    low, high = (-math.inf, math.inf) if bounds is None else bounds
    args = images, gradients, phase_factors, amplitude_factors, *filters, i_power, *options, low, high
    return call_plane_op("morph_planes", *args)


@fake("morph_planes")
def _(images, gradients, phase_factors, amplitude_factors, analysis, synthesis, i_power, edit, rule, *options):
    check_morph(images, gradients, analysis, synthesis, i_power, edit, rule)
    check_factors(phase_factors, amplitude_factors, images)
    return images.new_empty(phase_factors.shape[0], *images.shape)


def _compose_morph(
    images: Tensor,
    gradients: Tensor,
    phase_factors: Tensor,
    amplitude_factors: Tensor,
    analysis: list[Tensor],
    synthesis: list[Tensor],
    i_power: int,
    edit: int,
    rule: int,
    complex_bands: bool,
    eps: float,
    floor: float,
    low: float,
    high: float,
) -> Tensor:
    """Compute ``morph_planes`` by separate ops, which have derivatives."""
    (N, H, W), num_scales, form = images.shape, len(synthesis), FORMS["complex" if complex_bands else "real"]
    i_powers, forms, analysis_forms = [i_power] * num_scales, [form] * num_scales, [FORMS["complex"]] * num_scales
    *bands, residual = call("split_planes", images, analysis, [*i_powers, 0], [*analysis_forms, FORMS["real"]])
    band_gradients = call("split_planes", gradients, synthesis, i_powers, forms)
    frames = []
    for c, g in zip(bands, band_gradients):
        phase, amplitude = call("step", c, g, eps, rule, floor)
        phase = phase if edit != EDITS["amplitude"] else None
        amplitude = amplitude if edit != EDITS["phase"] else None
        moved = call("extrapolate", c, phase, amplitude, phase_factors, amplitude_factors, rule, form)
        frames.append(moved.flatten(0, 1))
    out = call("merge_planes", frames, synthesis, opposite_i_powers(i_powers), forms, residual[:, 0], H, W)
    out = out.unflatten(0, (len(phase_factors), N))
    return reference.keep_still_frames(images, out, phase_factors, amplitude_factors, edit).clamp(low, high)


def _morph_planes_backward(ctx, grad):
    check_constant(ctx, 4, "analysis")
    check_constant(ctx, 5, "synthesis")
    inputs = saved_inputs(ctx)
    needed = [i for i, needs in enumerate(ctx.needs_input_grad[:4]) if needs]
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        for i in needed:
            inputs[i] = inputs[i].view_as(inputs[i])  # a separate graph node, since one input may depend on another
        frames = _compose_morph(*inputs)
    needed_grads = torch.autograd.grad(
        frames, [inputs[i] for i in needed], contiguous_grad(grad), create_graph=create_graph, allow_unused=True
    )
    grads = dict(zip(needed, needed_grads))
    filter_grads = [[None] * len(inputs[i]) for i in (4, 5)]
    return *(grads.get(i) for i in range(4)), *filter_grads, *[None] * (len(inputs) - 6)


register_derivative("morph_planes", _morph_planes_backward, save_inputs)


# --- The two halves of morph_planes, for factors that are not known in advance ---


def step_planes(
    images: Tensor,
    gradients: Tensor,
    analysis: Sequence[Tensor],
    synthesis: Sequence[Tensor],
    i_power: int = 0,
    edit: str = "phase",
    rule: str = "complex",
    complex_bands: bool = False,
    eps: float = 1.0,
    floor: float = 1e-6,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the first half of :func:`morph_planes`: all that does not depend on the factors.

    The arguments are those of :func:`morph_planes`.

    Returns
    -------
    coefficients : Tensor [N, numbers], in the dtype of ``images``
        Values from which :func:`move_planes` computes frames. Their layout depends on the CPU.
    squared_speeds : Tensor [N, bands], in the dtype of ``images``
        For each band, the sum of ``|dc / d factor|^2`` over its coefficients c, at factor 0, times ``h w / (2 H W)``.
        With this weight, coefficients of the default pyramid have the energy of the image. A search for a distance
        estimates its first factor from the sum over bands. For the default pyramid, planes were measured to change 0.5
        to 1.2 times as fast as the root of the sum; for tight frames and without downsampling, the estimate is rougher.
    largest_phases : Tensor [N, bands], in the dtype of ``images``
        Largest absolute phase step of each band, in radians; 0 if phases do not change.

    Raises
    ------
    ValueError
        For an unknown edit or rule.
    RuntimeError
        As in :func:`split_planes`.

    Notes
    -----
    Has no derivative; use :func:`morph_planes` where one is needed.

    Examples
    --------
    >>> import torch
    >>> from steerlens_fast.native import SIMD_WIDTH  # 0 if this CPU does not have the op
    >>> planes, filters, residual = torch.rand(2, 32, 32), [torch.ones(3, 16, 16)], torch.ones(1, 32, 32) / 1024
    >>> if SIMD_WIDTH > 0:
    ...     coefficients, squared_speeds, largest_phases = step_planes(planes, planes, [*filters, residual], filters)
    ...     assert squared_speeds.shape == largest_phases.shape == (2, 3)
    """
    options = edit_index(edit), rule_index(rule), complex_bands, eps, floor
    args = images, gradients, list(analysis), list(synthesis), i_power, *options
    return call_plane_op("step_planes", *args)


def move_planes(
    images: Tensor,
    coefficients: Tensor,
    phase_factors: Tensor,
    amplitude_factors: Tensor,
    analysis: Sequence[Tensor],
    synthesis: Sequence[Tensor],
    i_power: int = 0,
    edit: str = "phase",
    rule: str = "complex",
    complex_bands: bool = False,
    bounds: tuple[float, float] | None = None,
) -> Tensor:
    """Return frames from the coefficients that :func:`step_planes` computed.

    This is the second half of :func:`morph_planes`; both halves together give the same frames, bit for bit. The
    arguments are those of :func:`morph_planes`, with ``coefficients`` instead of gradients. Filters, ``edit`` and
    ``rule`` must be the same as in the call of :func:`step_planes`.

    Returns
    -------
    Tensor [F, N, H, W], in the dtype of ``images``
        The frames, clipped to ``bounds``.

    Raises
    ------
    ValueError
        For an unknown edit or rule.
    RuntimeError
        If the coefficients do not have the size that :func:`step_planes` returns; otherwise as in :func:`split_planes`.

    Notes
    -----
    Has no derivative; use :func:`morph_planes` where one is needed.

    Examples
    --------
    >>> import torch
    >>> from steerlens_fast.native import SIMD_WIDTH  # 0 if this CPU does not have the op
    >>> planes, filters, residual = torch.rand(2, 32, 32), [torch.ones(3, 16, 16)], torch.ones(1, 32, 32) / 1024
    >>> filters, factors = ([*filters, residual], filters), torch.tensor([[0.0], [1.0]])
    >>> if SIMD_WIDTH > 0:
    ...     coefficients, *_ = step_planes(planes, planes, *filters)
    ...     frames = move_planes(planes, coefficients, factors, factors, *filters)
    ...     assert torch.equal(frames, morph_planes(planes, planes, factors, factors, *filters))
    """
    options = edit_index(edit), rule_index(rule), complex_bands
    filters = list(analysis), list(synthesis)
    low, high = (-math.inf, math.inf) if bounds is None else bounds
    args = images, coefficients, phase_factors, amplitude_factors, *filters, i_power, *options, low, high
    return call_plane_op("move_planes", *args)


@fake("step_planes")
def _(images, gradients, analysis, synthesis, i_power, edit, rule, *options):
    check_morph(images, gradients, analysis, synthesis, i_power, edit, rule)
    bands = sum(len(filters) for filters in synthesis)
    count = _stored_numbers(images, synthesis, edit, rule)
    N = images.shape[0]
    return images.new_empty(N, count), images.new_empty(N, bands), images.new_empty(N, bands)


def _stored_numbers(images: Tensor, synthesis: Sequence[Tensor], edit: int, rule: int) -> int:
    """Return the number of values that step_planes stores for a plane."""
    _, H, W = images.shape
    moves_phase, moves_amplitude = edit != EDITS["amplitude"], edit != EDITS["phase"]
    # As in csrc/kernel_args/morph.h: a coefficient has 2 numbers, and each of its steps 1. Amplitudes that move by the
    # rule "complex" are stored, too. The residual has 1 number for each pixel. Rows are padded to whole SIMD vectors.
    numbers = 2 + moves_phase + moves_amplitude * (2 if rule == RULES["complex"] else 1)
    width = native.SIMD_WIDTH * torch.float32.itemsize // images.itemsize or 1
    padded = lambda K, h, w: K * h * -(-w // width) * width
    return padded(1, H, W) + sum(numbers * padded(*filters.shape) for filters in synthesis)


@fake("move_planes")
def _(images, coefficients, phase_factors, amplitude_factors, analysis, synthesis, i_power, edit, rule, *options):
    check_morph(images, None, analysis, synthesis, i_power, edit, rule)
    check_factors(phase_factors, amplitude_factors, images)
    check_dtype("coefficients", coefficients, images.dtype)
    count = _stored_numbers(images, synthesis, edit, rule)
    check_shape("coefficients", coefficients, (images.shape[0], count))
    return images.new_empty(phase_factors.shape[0], *images.shape)


for _name in ("step_planes", "move_planes"):
    register_no_derivative(_name, "step_planes and move_planes have no derivative: use morph_planes")

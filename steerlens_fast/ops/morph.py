"""``morph_planes``: all frames of an image from its gradient, in one pass; its halves, for factors known later."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .. import checks, native
from .enums import EDITS, FORMS, rule_index
from .registration import (
    call,
    call_plane_op,
    check_constant_masks,
    dense,
    fake,
    float32_only,
    opposite,
    register_derivative,
    save_tensors,
    saved,
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
    """Move planes along ``-gradients``: analysis, :func:`step`, :func:`extrapolate`, synthesis and clip.

    One pass for each plane: the only temporaries are the coefficients of one plane for each thread, or of one plane for
    all threads if they take more than 32 MiB. CPU and float32 only, as :func:`split_planes`.

    Parameters
    ----------
    images, gradients : Tensor [N, H, W], float32
        Planes, and dL/dplane of a loss to decrease.
    phase_factors, amplitude_factors : Tensor [F, 1] or [F, N], float32
        b_j and a_j of frame j (and plane n).
    analysis : sequence of Tensors [K, h, w], float32
        Filters of the bands that move, as :func:`split_planes` takes them; last that of the residual, [1, H, W].
    synthesis : sequence of Tensors, shaped as those of ``analysis`` but the last
        Filters of the synthesis; its adjoint analyses the gradient.
    i_power : int
        The analysis multiplies bands by ``i ** i_power``, 0 to 3; the synthesis by ``i ** -i_power``.
    edit : {"phase", "amplitude", "joint"}
        Which coordinates move.
    rule : {"complex", "polar"}
    eps, floor : float
        As in :func:`step`.
    complex_bands : bool
        The synthesis reads complex coefficients, not only their real parts.
    bounds : (float, float), optional
        Frames are clipped to them.

    Returns
    -------
    Tensor [F, N, H, W], float32
        A frame of factors 0 is the plane itself, bit by bit (but for the clip).

    Raises
    ------
    ValueError
        For an unknown edit or rule.
    RuntimeError
        As in :func:`split_planes`.

    Notes
    -----
    Differentiable in images, gradients and factors: the backward pass is that of the ops it is composed of.

    Examples
    --------
    >>> import torch
    >>> from steerlens_fast.pyramid.filters import Geometry
    >>> from steerlens_fast.pyramid.backend import plane_ops_supported
    >>> planes, filters, residual = torch.rand(2, 32, 32), [torch.ones(3, 16, 16)], torch.ones(1, 32, 32) / 1024
    >>> factors = torch.tensor([[0.0], [1.0]])
    >>> if plane_ops_supported(Geometry((32, 32), 1, 3, 4, 1.0, False, True), planes):
    ...     frames = morph_planes(planes, planes, factors, factors, [*filters, residual], filters)
    ...     assert frames.shape == (2, 2, 32, 32) and torch.equal(frames[0], planes)
    """
    options = EDITS[checks.check_choice("edit", edit, tuple(EDITS))], rule_index(rule), complex_bands, eps, floor
    groups = list(analysis), list(synthesis), i_power
    low, high = (-math.inf, math.inf) if bounds is None else bounds
    args = images, gradients, phase_factors, amplitude_factors, *groups, *options, low, high
    return call_plane_op("morph_planes", *args)


@fake("morph_planes")
def _(images, gradients, phase_factors, amplitude_factors, *options):
    float32_only("images", images)
    return images.new_empty(phase_factors.shape[0], *images.shape)


def _composed(
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
    """Compute the op's result by the ops it is composed of, which have derivatives."""
    (N, H, W), groups, form = images.shape, len(synthesis), FORMS["complex" if complex_bands else "real"]
    i_powers, forms, analysis_forms = [i_power] * groups, [form] * groups, [FORMS["complex"]] * groups
    *bands, residual = call("split_planes", images, analysis, [*i_powers, 0], [*analysis_forms, FORMS["real"]])
    band_gradients = call("split_planes", gradients, synthesis, i_powers, forms)
    frames = []
    for c, g in zip(bands, band_gradients):
        phase, amplitude = call("step", c, g, eps, rule, floor)
        phase = phase if edit != EDITS["amplitude"] else None
        amplitude = amplitude if edit != EDITS["phase"] else None
        moved = call("extrapolate", c, phase, amplitude, phase_factors, amplitude_factors, rule, form)
        frames.append(moved.flatten(0, 1))
    out = call("merge_planes", frames, synthesis, opposite(i_powers), forms, residual[:, 0], H, W)
    out = out.unflatten(0, (len(phase_factors), N))
    phase_still = (phase_factors == 0) | (edit == EDITS["amplitude"])
    amplitude_still = (amplitude_factors == 0) | (edit == EDITS["phase"])
    still = (phase_still & amplitude_still)[..., None, None]
    # A still frame is the image bit by bit, but has the derivative of its reconstruction.
    return (torch.where(still, images, out).detach() + (out - out.detach())).clamp(low, high)


def _morph_planes_backward(ctx, grad):
    check_constant_masks(ctx, 4)
    check_constant_masks(ctx, 5)
    inputs = saved(ctx)
    needed = [i for i, needs in enumerate(ctx.needs_input_grad[:4]) if needs]
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        for i in needed:
            inputs[i] = inputs[i].view_as(inputs[i])  # its own graph node: one input may be, or depend on, another
        frames = _composed(*inputs)
    needed_grads = torch.autograd.grad(
        frames, [inputs[i] for i in needed], dense(grad), create_graph=create_graph, allow_unused=True
    )
    grads = dict(zip(needed, needed_grads))
    filters = [[None] * len(inputs[i]) for i in (4, 5)]
    return *(grads.get(i) for i in range(4)), *filters, *[None] * (len(inputs) - 6)


register_derivative("morph_planes", _morph_planes_backward, save_tensors)


# --- The two halves, for factors that are not known all at once ---


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
    """Compute what :func:`move_planes` reads: the first half of :func:`morph_planes`, with the same arguments.

    Returns
    -------
    coefficients : Tensor [N, floats], float32
        Coefficients and step of all planes. The layout depends on the CPU: only :func:`move_planes` reads it.
    speeds : Tensor [N, bands], float32
        For each band, the squared L2 norm, in pixels, of its change at a small factor, divided by the factor squared.
        The planes change by less where the synthesis drops a part of it.
    phases : Tensor [N, bands], float32
        Each band's largest absolute phase step, 0 where no phase moves.

    Raises
    ------
    ValueError
        For an unknown edit or rule.
    RuntimeError
        As in :func:`split_planes`.

    Notes
    -----
    Has no derivative: use :func:`morph_planes` where one is needed.

    Examples
    --------
    >>> import torch
    >>> from steerlens_fast.pyramid.filters import Geometry
    >>> from steerlens_fast.pyramid.backend import plane_ops_supported
    >>> planes, filters, residual = torch.rand(2, 32, 32), [torch.ones(3, 16, 16)], torch.ones(1, 32, 32) / 1024
    >>> if plane_ops_supported(Geometry((32, 32), 1, 3, 4, 1.0, False, True), planes):
    ...     coefficients, speeds, phases = step_planes(planes, planes, [*filters, residual], filters)
    ...     assert speeds.shape == phases.shape == (2, 3)
    """
    options = EDITS[checks.check_choice("edit", edit, tuple(EDITS))], rule_index(rule), complex_bands, eps, floor
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
    """Compute frames of what :func:`step_planes` returned: the second half of :func:`morph_planes`, bit by bit.

    The arguments are those of :func:`morph_planes`, with ``coefficients`` [N, floats] in place of the gradients; the
    filters, ``edit`` and ``rule`` must be those that :func:`step_planes` was given.

    Returns
    -------
    Tensor [F, N, H, W], float32
        The frames, clipped to ``bounds``.

    Raises
    ------
    ValueError
        For an unknown edit or rule.
    RuntimeError
        If the coefficients have another size than :func:`step_planes` returns; otherwise as in :func:`split_planes`.

    Examples
    --------
    >>> import torch
    >>> from steerlens_fast.pyramid.filters import Geometry
    >>> from steerlens_fast.pyramid.backend import plane_ops_supported
    >>> planes, filters, residual = torch.rand(2, 32, 32), [torch.ones(3, 16, 16)], torch.ones(1, 32, 32) / 1024
    >>> filters, factors = ([*filters, residual], filters), torch.tensor([[0.0], [1.0]])
    >>> if plane_ops_supported(Geometry((32, 32), 1, 3, 4, 1.0, False, True), planes):
    ...     coefficients, *_ = step_planes(planes, planes, *filters)
    ...     frames = move_planes(planes, coefficients, factors, factors, *filters)
    ...     assert torch.equal(frames, morph_planes(planes, planes, factors, factors, *filters))
    """
    options = EDITS[checks.check_choice("edit", edit, tuple(EDITS))], rule_index(rule), complex_bands
    groups, (low, high) = (list(analysis), list(synthesis)), (-math.inf, math.inf) if bounds is None else bounds
    args = images, coefficients, phase_factors, amplitude_factors, *groups, i_power, *options, low, high
    return call_plane_op("move_planes", *args)


@fake("step_planes")
def _(images, gradients, analysis, synthesis, i_power, edit, rule, *options):
    float32_only("images", images)
    N, H, W = images.shape
    width, moves_amplitude = native.SIMD_WIDTH or 1, edit != EDITS["phase"]
    # The layout of csrc/cpu/planes/coefficients.h and motion.h.
    fields = 2 + (edit != EDITS["amplitude"]) + moves_amplitude * (1 + (rule == rule_index("complex")))
    vectors = lambda K, h, w: K * h * -(-w // width)
    count = vectors(1, H, W) + sum(fields * vectors(*filters.shape) for filters in synthesis)
    bands = sum(len(filters) for filters in synthesis)
    return images.new_empty(N, count * width), images.new_empty(N, bands), images.new_empty(N, bands)


@fake("move_planes")
def _(images, coefficients, phase_factors, *options):
    float32_only("images", images)
    return images.new_empty(phase_factors.shape[0], *images.shape)


def _no_derivative(ctx, *grads):
    raise RuntimeError("step_planes and move_planes have no derivative: use morph_planes")


for _name in ("step_planes", "move_planes"):
    register_derivative(_name, _no_derivative, lambda ctx, inputs, output: None)

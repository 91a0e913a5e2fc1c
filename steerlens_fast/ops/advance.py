"""``advance_planes`` takes one step of a morph that has a new gradient at each step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .enums import EDITS, edit_index, rule_index
from .fake_checks import check_dtype, check_iterations, check_morph, check_samples, check_shape, require
from .registration import call_op, check_plane_ops_exist, fake, leaves


class StepTaken(NamedTuple):
    """The results of :func:`advance_planes`, for B samples."""

    frames: Tensor  # [1, B * channels, H, W]
    factors: Tensor  # [2, B], of the phase and of the amplitude step
    l2: Tensor  # [B], the distances of the frames from the source
    out_of_range: Tensor  # [B] bool, see :class:`SearchColumn`


def advance_planes(
    images: Tensor,
    gradients: Tensor,
    coordinates: Sequence[Tensor],
    planes_per_sample: int,
    source: Tensor,
    position: Tensor,
    analysis: Sequence[Tensor],
    synthesis: Sequence[Tensor],
    i_power: int = 0,
    edit: str = "phase",
    rule: str = "complex",
    complex_bands: bool = False,
    eps: float = 1.0,
    floor: float = 1e-6,
    bounds: tuple[float, float] | None = None,
    *,
    factors: Tensor | None = None,
    limits: Tensor | None = None,
    base: Tensor | None = None,
    phase_cap: float = math.inf,
    phase_limit: float = math.inf,
    speed_share: float = 1.0,
    max_step_ratio: float = math.inf,
    iterations: int = 48,
) -> StepTaken:
    """Take one step along a new gradient for each sample, by given factors or to given distances.

    A sample consists of one or more planes. There are two ways to use the op:

    - With ``coordinates`` (the persistent regime), ``images`` are the sources, and the coordinates are the total change
      of each coefficient so far: delta of its phase, and eta of its log amplitude. A coefficient c0 of the source is
      now c0 exp(eta + i delta). The op writes the new delta and eta in place. They stay within abs(delta) <= pi and
      abs(eta) <= 1.
    - Without ``coordinates`` (the live regime), ``images`` are the present images, as in :func:`morph_planes`.

    Parameters
    ----------
    images, gradients : Tensor [B * planes_per_sample, H, W], float32 or float64
        Planes as described above, and the gradient at the present images.
    coordinates : sequence of Tensors [B * planes_per_sample, K, h, w], contiguous
        For each group of bands, delta if phases change, then eta if amplitudes change; or an empty sequence. The op
        writes these tensors, so they must not share memory with each other or with another argument.
    planes_per_sample : int
        Number of planes of a sample.
    source, position : Tensor [B * channels, H, W], in the dtype of ``images`` (like all other tensors)
        Images from which distances are measured, and the present images. Without ``limits``, ``position`` is not read.
        ``channels`` is as in :func:`morph_planes_to_l2`.
    analysis, synthesis, i_power, edit, rule, complex_bands, eps, floor, bounds
        As in :func:`morph_planes`.
    factors : Tensor [2, B], optional
        Factors of the phase step and of the amplitude step. If ``phase_cap`` is infinite, both limits are ignored.
        Otherwise, both factors are scaled down until no phase changes by more than ``min(phase_cap, phase_limit)``.
    limits : Tensor [4, B], optional
        Limits of a search, in place of ``factors``. The rows are distances to reach, their tolerances,
        ``dtype_max_factors`` as in :func:`morph_planes_to_l2`, and the first factors to try (0 if unknown).
    base : Tensor [B * channels, H, W], optional
        As in :func:`morph_planes_to_l2`.
    phase_cap, phase_limit, speed_share, iterations
        As in :func:`morph_planes_to_l2`.
    max_step_ratio : float
        With ``limits``, a step from distance d to distance r is at most this many times as long as sqrt(r^2 - d^2), the
        length of a step perpendicular to the change so far. Steps no longer than the tolerance are always allowed.

    Returns
    -------
    StepTaken
        The new images, and the factors and distances of the step.

    Raises
    ------
    ValueError
        For an unknown edit or rule.
    RuntimeError
        As in :func:`split_planes`, and if a derivative would be recorded.

    Notes
    -----
    The op exists only for CPUs with AVX2, AVX-512 or NEON. It has no derivative.

    Examples
    --------
    >>> import torch
    >>> from steerlens_fast.native import SIMD_WIDTH  # 0 if this CPU does not have the op
    >>> planes, filters, residual = torch.rand(2, 32, 32), [torch.ones(3, 16, 16)], torch.ones(1, 32, 32) / 1024
    >>> phases = torch.zeros(2, 3, 16, 16)
    >>> if SIMD_WIDTH > 0:
    ...     args = planes, -planes.flip(0), [phases], 2, planes, planes, [*filters, residual], filters
    ...     taken = advance_planes(*args, factors=torch.ones(2, 1))
    ...     assert taken.frames.shape == (1, 2, 32, 32) and bool(phases.any())
    """
    low, high = (-math.inf, math.inf) if bounds is None else bounds
    options = i_power, edit_index(edit), rule_index(rule), complex_bands, eps, floor, low, high
    search = phase_cap, phase_limit, speed_share, max_step_ratio, iterations
    filters = list(analysis), list(synthesis)
    args = images, gradients, list(coordinates), planes_per_sample, base, source, position, factors, limits, *filters
    check_plane_ops_exist("advance_planes", args)
    tensors = (t for t in leaves(args) if isinstance(t, Tensor))
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        # Not by register_no_derivative, since torch registers derivatives only of ops that write no argument.
        raise RuntimeError("advance_planes has no derivative: use morph_planes")
    return StepTaken(*call_op("advance_planes", *args, *options, *search, instead="morph_planes"))


@fake("advance_planes")
def _(images, gradients, coordinates, planes_per_sample, base, source, position, factors, limits, *filters_and_options):
    analysis, synthesis, i_power, edit, rule, *_, iterations = filters_and_options
    check_morph(images, gradients, analysis, synthesis, i_power, edit, rule)
    samples, channels = check_samples(images, planes_per_sample, base)
    check_iterations(iterations)
    for name, t in (("source", source), ("position", position)):
        check_dtype(name, t, images.dtype)
        check_shape(name, t, (samples * channels, *images.shape[1:]))
    given = "neither" if factors is None else "both"
    require((factors is None) != (limits is None), f"either factors or limits must be given, got {given}")
    for name, t, rows in (("factors", factors, 2), ("limits", limits, 4)):
        if t is not None:
            check_dtype(name, t, images.dtype)
            check_shape(name, t, (rows, samples))
    if len(coordinates) > 0:
        per_group = 2 if edit == EDITS["joint"] else 1
        expected = [f for f in synthesis for _ in range(per_group)]
        text = f"coordinates must hold {len(expected)} tensors, or none, got {len(coordinates)}"
        require(len(coordinates) == len(expected), text)
        for i, (t, filter_) in enumerate(zip(coordinates, expected)):
            check_dtype(f"coordinates[{i}]", t, images.dtype)
            check_shape(f"coordinates[{i}]", t, (images.shape[0], *filter_.shape))
            require(t.is_contiguous(), f"coordinates[{i}] must be contiguous")
    l2 = images.new_empty(samples)
    return source.new_empty(1, *source.shape), images.new_empty(2, samples), l2, torch.empty_like(l2, dtype=torch.bool)

"""Workloads of the single ops of ``steerlens_fast.ops`` and of their backwards.

Tensors have the shapes of a batch 8x3x224x224, in float32, so that they exceed the caches. Pointwise ops take the shape
of the bands of scale 0. split_bands and merge_bands take all scales.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import plain_ops as plain
import torch
import workloads
from torch import Tensor
from workloads import BATCH, Run, Workload

from steerlens_fast import ops
from steerlens_fast.pyramid import filters

RAW = torch.ops.steerlens_fast  # backwards have no wrapper
COEFFICIENTS = (24, 4, 224, 224)  # [N, K, h, w]
COMPLEX, POLAR = 0, 1  # numbers of the rules


def _normal(seed: int, *shape, dtype=torch.float32, device="cpu") -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype).to(device)


def _run(who: str, ours: Callable, baseline: Callable, *inputs, pieces=True) -> Run:
    """Return the run of one implementation.

    Plain torch takes a few planes at a time, so that its temporaries stay in the caches. Compiled code has no
    temporaries and takes all planes. ``pieces`` is False for ops whose result has another number of planes than
    their input: plain torch then takes all planes, too.
    """
    if who == "ours":
        return Run(partial(ours, *inputs), inputs)
    if who == "compiled":
        return Run(partial(torch.compile(baseline, dynamic=False), *inputs), inputs)
    return Run(partial(plain.in_pieces, baseline, *inputs) if pieces else partial(baseline, *inputs), inputs)


# --- Pairs ---


def pair(shape, who, device="cpu") -> Run:
    planes, length = _normal(0, shape[0] * shape[1], *shape[2:], device=device), shape[1]
    return _run(who, lambda p: ops.pair(p, length), lambda p: plain.pair(p, length), planes, pieces=False)


def unpair(shape, who, device="cpu") -> Run:
    pairs = _normal(0, shape[0] * shape[1] // 2, *shape[2:], dtype=torch.complex64, device=device)
    length = shape[1]
    return _run(who, lambda p: ops.unpair(p, length), lambda p: plain.unpair(p, length), pairs, pieces=False)


# --- Polar coordinates ---


def polar_split(shape, who, device="cpu") -> Run:
    return _run(who, ops.polar_split, plain.polar_split, _normal(0, *shape, dtype=torch.complex64, device=device))


def polar_join(shape, who, device="cpu") -> Run:
    return _run(who, ops.polar_join, plain.polar_join, *(_normal(s, *shape, device=device) for s in (0, 1)))


def polar_split_backward(shape, who, device="cpu") -> Run:
    c, *grads = _normal(0, *shape, dtype=torch.complex64, device=device), *_reals(shape, device)
    return _run(who, RAW.polar_split_backward, plain.polar_split_backward, c, *grads)


def polar_join_backward(shape, who, device="cpu") -> Run:
    grad, *inputs = _normal(0, *shape, dtype=torch.complex64, device=device), *_reals(shape, device)
    return _run(who, RAW.polar_join_backward, plain.polar_join_backward, grad, *inputs)


def _reals(shape, device) -> tuple[Tensor, Tensor]:
    return _normal(1, *shape, device=device), _normal(2, *shape, device=device)


# --- The step ---


def step(shape, who, rule=COMPLEX, device="cpu") -> Run:
    c, gradient = _normal(0, *shape, dtype=torch.complex64, device=device), 0.2 * _normal(1, *shape, device=device)
    ours = lambda c, g: ops.step(c, g, rule=tuple(ops.RULES)[rule])
    return _run(who, ours, lambda c, g: plain.step(c, g, rule), c, gradient)


def step_backward(shape, who, device="cpu") -> Run:
    c, gradient = _normal(0, *shape, dtype=torch.complex64, device=device), 0.2 * _normal(3, *shape, device=device)
    options = 1.0, COMPLEX, plain.AMPLITUDE_FLOOR  # eps, rule, floor
    ours, baseline = (lambda *t, f=f: f(*t, *options) for f in (RAW.step_backward, plain.step_backward))
    return _run(who, ours, baseline, *_reals(shape, device), c, gradient)


# --- Extrapolation ---


def extrapolate(shape, who, joint=False, form="pairs", device="cpu") -> Run:
    c, factors, steps = _extrapolation_inputs(shape, joint, device)
    amplitude_factors = factors if joint else torch.zeros_like(factors)
    arguments = c, steps[0], steps[1] if joint else None, factors, amplitude_factors
    inputs = c, *steps, factors, amplitude_factors
    if who == "ours":
        return Run(lambda: ops.extrapolate(*arguments, form=form), inputs)
    baseline = {"pairs": plain.extrapolate_pairs, "real": plain.extrapolate}[form]
    if who == "compiled":
        return Run(partial(torch.compile(baseline, dynamic=False), *arguments), inputs)
    return Run(lambda: plain.frames_in_pieces(baseline, *arguments), inputs)


def extrapolate_backward(shape, who, device="cpu") -> Run:
    c, factors, (phase_step,) = _extrapolation_inputs(shape, False, device)
    grad, zeros = _normal(5, workloads.FRAMES, *shape, device=device), torch.zeros_like(factors)
    function = {"ours": RAW.extrapolate_backward, "plain": plain.extrapolate_backward}.get(who)
    function = function or torch.compile(plain.extrapolate_backward, dynamic=False)
    inputs = grad, c, phase_step, factors, zeros
    return Run(lambda: function(grad, c, phase_step, None, factors, zeros, COMPLEX), inputs)


def _extrapolation_inputs(shape, joint: bool, device) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return coefficients, factors and the steps: of phases and, if ``joint``, of amplitudes."""
    c = _normal(0, *shape, dtype=torch.complex64, device=device)
    steps = [0.2 * _normal(s, *shape, device=device) for s in (3, 4)[: 1 + joint]]
    return c, torch.arange(float(workloads.FRAMES), device=device)[:, None], steps


# --- Filters ---


def split_bands(shape, who, paired=False, device="cpu") -> Run:
    """Return the run that splits a spectrum into bands.

    A half spectrum is split into complex bands, a whole one into pairs of real bands. The baselines always take half
    spectra.
    """
    masks, widths, i_powers = _filters(shape, paired, device)
    planes = workloads.planes_of(workloads.image_of(shape, device))
    if who == "ours":
        spectrum = torch.fft.fft2(planes) if paired else torch.fft.rfft2(planes)
        function = lambda: ops.split_bands(spectrum, masks, i_powers, widths, shape[-1], paired)
        return Run(function, (spectrum, *masks))
    spectrum, plain_masks = torch.fft.rfft2(planes), [m[..., None] for m in masks]
    return _run_at_once(who, plain.split_bands, spectrum, plain_masks, i_powers, widths)


def merge_bands(shape, who, paired=False, device="cpu") -> Run:
    """Return the run that merges bands into a spectrum.

    Bands in half layout give a half spectrum, pairs of bands a whole one. The baselines always take half layouts.
    """
    masks, widths, i_powers = _filters(shape, True, device)
    n, (H, W), i_powers = shape[0] * shape[1], shape[-2:], [-power % 4 for power in i_powers]
    spectra = lambda like, K: [_normal(i, n, K, *m.shape[1:], dtype=torch.complex64, device=device)
                               for i, m in enumerate(like)]  # fmt: skip
    if who == "ours" and paired:
        bands = spectra(masks, len(masks[0]) // 2)
        return Run(lambda: ops.merge_bands(bands, masks, i_powers, widths, H, W, True, True), (*bands, *masks))
    halves = [m[..., : w // 2 + 1].contiguous() for m, w in zip(masks, widths)]
    bands = spectra(halves, len(masks[0]))
    if who == "ours":
        return Run(lambda: ops.merge_bands(bands, halves, i_powers, widths, H, W), (*bands, *halves))
    return _run_at_once(who, plain.merge_bands, bands, [m[..., None] for m in halves], i_powers, H, W)


def _run_at_once(who: str, baseline: Callable, *args) -> Run:
    """Return the run of a baseline on all planes at once."""
    return Run(partial(torch.compile(baseline, dynamic=False) if who == "compiled" else baseline, *args))


def _filters(shape, real: bool, device) -> tuple[list[Tensor], list[int], list[int]]:
    """Return (masks [K, h, w], widths, i_powers) of every scale.

    The masks of real bands are two-sided.
    """
    g = workloads.pyramid_of(shape).geometry
    bands = [filters.band_filter(g, s) * (1 if real else filters.analytic_weight(g, s)) for s in range(g.num_scales)]
    masks = [b.to(device, torch.float32).contiguous() for b in bands]
    return masks, [m.shape[-1] for m in masks], [-g.order % 4] * len(masks)


OPS = {
    work: Workload(setup, [BATCH if "bands" in work else COEFFICIENTS], ("plain", "compiled"))
    for work, setup in {
        "pair": pair,
        "unpair": unpair,
        "split_bands": split_bands,
        "split_bands, pairs": partial(split_bands, paired=True),
        "merge_bands": merge_bands,
        "merge_bands, pairs": partial(merge_bands, paired=True),
        "polar_split": polar_split,
        "polar_join": polar_join,
        "polar_split_backward": polar_split_backward,
        "polar_join_backward": polar_join_backward,
        "step, complex": step,
        "step, polar": partial(step, rule=POLAR),
        "step_backward": step_backward,
        "extrapolate, phase": partial(extrapolate, form="real"),
        "extrapolate, phase, pairs": extrapolate,
        "extrapolate, joint, pairs": partial(extrapolate, joint=True),
        "extrapolate_backward": extrapolate_backward,
    }.items()
}

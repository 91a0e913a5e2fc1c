"""``morph_planes_to_l2`` morphs images to given L2 distances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .enums import edit_index, rule_index
from .fake_checks import check_dtype, check_iterations, check_morph, check_rank, check_samples, check_shape, require
from .registration import (
    call_op,
    check_plane_ops_exist,
    fake,
    register_no_derivative,
)


class FramesAtL2(NamedTuple):
    """The results of :func:`morph_planes_to_l2`, for B samples, F frames and M distances."""

    frames: Tensor  # [F, B * channels, H, W]
    factors: Tensor  # [F, B]
    l2: Tensor  # [M, B], the distances of the last M frames
    attained: Tensor  # [M, B] bool, whether ``l2`` is within the tolerances
    out_of_range: Tensor  # [M, B] bool, see :class:`SearchColumn`


def morph_planes_to_l2(
    images: Tensor,
    gradients: Tensor,
    planes_per_sample: int,
    max_l2: Tensor,
    tolerances: Tensor,
    dtype_max_factors: Tensor,
    shares: Tensor,
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
    base: Tensor | None = None,
    phase_cap: float = math.inf,
    phase_limit: float = math.inf,
    speed_share: float = 1.0,
    iterations: int = 48,
) -> FramesAtL2:
    """Morph samples to given L2 distances, and return the frames.

    A sample consists of one or more planes, for example the three channels of an image. All planes of a sample have the
    same factor. The op tries factors until a frame has the distance. Unlike a search that calls :func:`morph_planes`,
    it computes the coefficients only once.

    There are F frames. The last M frames are at the M distances. The other frames are intermediate: their factors are
    given shares of the factor at the first distance.

    Parameters
    ----------
    images, gradients : Tensor [B * planes_per_sample, H, W], float32 or float64
        As in :func:`morph_planes`.
    planes_per_sample : int
        Number of planes of a sample.
    max_l2, tolerances : Tensor [M, B], in the dtype of ``images`` (like all other tensors)
        Distances from the images, and their largest errors.
    dtype_max_factors : Tensor [B]
        Largest factors that can be represented, such as the largest number of the dtype. If a sample would need a
        larger factor, its gradient is too small (``out_of_range``).
    shares : Tensor [F - M]
        Factors of the intermediate frames, divided by the factor of the first distance. For example, [0, 0.5] with one
        distance gives 3 frames: the source, a frame at half of the final factor, and the frame at the distance.
    analysis, synthesis, i_power, edit, rule, complex_bands, eps, floor, bounds
        As in :func:`morph_planes`.
    base : Tensor [B * channels, H, W], optional
        Images to which the change of the planes is added. For example, the planes are the luma of colour images, and
        ``base`` are the colour images: the change of the luma is then added to all three channels. ``channels`` must be
        a multiple of ``planes_per_sample``. By default, the frames are the changed planes, and ``channels`` is
        ``planes_per_sample``.
    phase_cap, phase_limit : float
        Upper bounds of the change of a phase, in radians: the user's, and the angle up to which sines are accurate.
    speed_share : float
        Estimate of (speed of the planes) / (speed of the coefficients), where a speed is (L2 norm of a change) /
        factor. The first factor to try is computed from this ratio.
    iterations : int
        Largest number of factors to try for a distance, not counting factor 0.

    Returns
    -------
    FramesAtL2
        The frames, their factors and distances. Without ``base``, the frames are, bit for bit, those of
        :func:`morph_planes` at the returned factors.

    Raises
    ------
    ValueError
        For an unknown edit or rule.
    RuntimeError
        As in :func:`split_planes`.

    Notes
    -----
    The op exists only for CPUs with AVX2, AVX-512 or NEON. It has no derivative; :func:`morph_planes` has one.

    Each thread has temporaries for one sample: spectra, coefficients and steps. If a sample needs more than 32 MiB, the
    threads share the work on one sample after the other.

    Examples
    --------
    >>> import torch
    >>> from steerlens_fast.native import SIMD_WIDTH  # 0 if this CPU does not have the op
    >>> planes, filters, residual = torch.rand(2, 32, 32), [torch.ones(3, 16, 16)], torch.ones(1, 32, 32) / 1024
    >>> limits = torch.tensor([[0.1]]), torch.tensor([[1e-4]]), torch.tensor([1e30]), torch.tensor([0.0, 0.5])
    >>> if SIMD_WIDTH > 0:
    ...     result = morph_planes_to_l2(planes, -planes.flip(0), 2, *limits, [*filters, residual], filters)
    ...     assert result.frames.shape == (3, 2, 32, 32) and torch.equal(result.frames[0], planes)
    """
    low, high = (-math.inf, math.inf) if bounds is None else bounds
    limits = max_l2, tolerances, dtype_max_factors, shares
    options = i_power, edit_index(edit), rule_index(rule), complex_bands, eps, floor, low, high
    search = phase_cap, phase_limit, speed_share, iterations
    args = images, gradients, planes_per_sample, base, *limits, list(analysis), list(synthesis), *options, *search
    check_plane_ops_exist("morph_planes_to_l2", args)
    return FramesAtL2(*call_op("morph_planes_to_l2", *args, instead="morph_planes"))


@fake("morph_planes_to_l2")
def _(images, gradients, planes_per_sample, base, max_l2, tolerances, dtype_max_factors, shares, *filters_and_options):
    analysis, synthesis, i_power, edit, rule, *_, iterations = filters_and_options
    check_morph(images, gradients, analysis, synthesis, i_power, edit, rule)
    samples, _ = check_samples(images, planes_per_sample, base)
    check_iterations(iterations)
    check_rank("max_l2", max_l2, 2, "[M, B]")
    check_rank("shares", shares, 1, "[F - M]")
    M, B = max_l2.shape
    require(M > 0, "max_l2 must have at least one row, got none")
    limits = {"max_l2": max_l2, "tolerances": tolerances, "dtype_max_factors": dtype_max_factors, "shares": shares}
    for name, t in limits.items():
        check_dtype(name, t, images.dtype)
    for name, t, shape in (("max_l2", max_l2, (M, samples)), ("tolerances", tolerances, (M, samples))):
        check_shape(name, t, shape)
    check_shape("dtype_max_factors", dtype_max_factors, (samples,))
    F = M + len(shares)
    flags = (torch.empty_like(max_l2, dtype=torch.bool) for _ in range(2))
    frames = images.new_empty(F, *(images if base is None else base).shape)
    return frames, max_l2.new_empty(F, B), torch.empty_like(max_l2), *flags


register_no_derivative("morph_planes_to_l2", "morph_planes_to_l2 has no derivative: use morph_planes")

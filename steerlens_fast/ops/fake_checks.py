"""Checks of arguments for the shape functions of ops ("fakes").

They repeat the checks of the kernels (``csrc/prepare``), so that an op rejects the same arguments when it is traced.
Only the kernels check values of tensors, whether tensors overlap in memory, and the smaller limits of CUDA.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import native
from .enums import EDITS, RULES, real_dtype

REAL, COMPLEX = (torch.float32, torch.float64), (torch.complex64, torch.complex128)
MAX_GROUPS = 28  # groups of bands, as in csrc/kernel_args/bands.h
MAX_SIDE = native.CPU_PLANE_SIDE  # side of planes and bands
MAX_PRIME = 61  # factor of a side, as in csrc/kernel_args/planes.h
MAX_ITERATIONS = 1 << 20  # iterations of a search, as in csrc/prepare/morph.h


class BadArgument(RuntimeError):
    """An argument that the op does not accept; :func:`.registration.fake` adds the op's name to the message."""


def require(condition: bool, text: str) -> None:
    """Raise if a condition is false."""
    if not condition:
        raise BadArgument(text)


def check_dtype(name: str, t: Tensor, *allowed: torch.dtype) -> None:
    """Raise if a tensor has none of the allowed dtypes."""
    names = " or ".join(str(dtype).removeprefix("torch.") for dtype in allowed)
    require(t.dtype in allowed, f"{name} must have dtype {names}, got {str(t.dtype).removeprefix('torch.')}")


def check_rank(name: str, t: Tensor, rank: int, layout: str) -> None:
    """Raise if a tensor does not have ``rank`` dimensions."""
    require(t.dim() == rank, f"{name} must have shape {layout}, got {list(t.shape)}")


def check_shape(name: str, t: Tensor, shape: Sequence[int]) -> None:
    """Raise if the shape of a tensor is not ``shape``."""
    same = t.dim() == len(shape) and all(a == b for a, b in zip(t.shape, shape))
    require(same, f"{name} must have shape {list(shape)}, got {list(t.shape)}")


def check_like(name: str, t: Tensor, other: Tensor, *dtypes: torch.dtype) -> None:
    """Raise if a tensor does not have the shape of ``other`` and one of the dtypes, by default that of ``other``."""
    check_dtype(name, t, *(dtypes or (other.dtype,)))
    check_shape(name, t, other.shape)


def check_option(name: str, number: int, numbers: dict[str, int]) -> None:
    """Raise if ``number`` is not in ``numbers``, a table of :mod:`.enums`."""
    *others, last = (f"{n} ({text})" for text, n in numbers.items())
    require(number in numbers.values(), f"{name} must be {', '.join(others)} or {last}, got {number}")


def check_i_power(name: str, power: int) -> None:
    """Raise if an exponent of i is not from 0 to 3."""
    require(0 <= power <= 3, f"{name} must be 0 to 3, got {power}")


def check_step(coefficients: Tensor, gradient: Tensor, rule: int) -> None:
    """Check the arguments that step and its backward have in common."""
    check_option("rule", rule, RULES)
    check_dtype("coefficients", coefficients, *COMPLEX)
    shape = list(coefficients.shape)
    require(coefficients.dim() >= 2, f"coefficients must have shape [..., h, w], got {shape}")
    check_like("gradient", gradient, coefficients, real_dtype(coefficients.dtype), coefficients.dtype)


def check_factors(phase_factors: Tensor, amplitude_factors: Tensor, planes: Tensor) -> None:
    """Raise if factors are not [F, 1] or [F, N], in the precision of ``planes`` [N, ...]."""
    for name, t in (("phase_factors", phase_factors), ("amplitude_factors", amplitude_factors)):
        check_dtype(name, t, real_dtype(planes.dtype))
        check_rank(name, t, 2, "[F, 1] or [F, N]")
        fits = t.shape[1] == 1 or t.shape[1] == planes.shape[0]
        require(fits, f"{name} must have shape [F, 1] or [F, N] with N = {planes.shape[0]}, got {list(t.shape)}")
    check_shape("amplitude_factors", amplitude_factors, phase_factors.shape)


def check_extrapolate(coefficients, phase_step, amplitude_step, phase_factors, amplitude_factors, rule: int) -> None:
    """Check the arguments that extrapolate and its backward have in common."""
    check_option("rule", rule, RULES)
    check_dtype("coefficients", coefficients, *COMPLEX)
    check_rank("coefficients", coefficients, 4, "[N, K, h, w]")
    for name, t in (("phase_step", phase_step), ("amplitude_step", amplitude_step)):
        if t is not None:
            check_like(name, t, coefficients, real_dtype(coefficients.dtype))
    check_factors(phase_factors, amplitude_factors, coefficients)


def check_masks(masks, i_powers, widths, size: tuple[int, int], full: bool, dtype: torch.dtype) -> None:
    """Check the groups of bands of split_bands and merge_bands, for images of ``size``.

    If ``full``, all masks must be in the full layout. ``dtype`` is that of the spectra.
    """
    count = len(masks)
    require(1 <= count <= MAX_GROUPS, f"masks must hold 1 to {MAX_GROUPS} tensors, got {count}")
    text = f"i_powers and widths must have one entry for each of {count} masks"
    require(len(i_powers) == len(widths) == count, f"{text}, got {len(i_powers)} and {len(widths)}")
    height, width = size
    for i, (mask, w) in enumerate(zip(masks, widths)):
        name = f"masks[{i}]"
        check_i_power(f"i_powers[{i}]", i_powers[i])
        check_rank(name, mask, 3, "[K, h, columns]")
        check_dtype(name, mask, real_dtype(dtype))
        h, columns = mask.shape[1:]
        fits = 1 <= w <= width and 1 <= h <= height and (columns == w or (columns == w // 2 + 1 and not full))
        layouts = "[K, h, w]" if full else "[K, h, w] or [K, h, w/2+1]"
        limits = f"with h <= {height}, w = widths[{i}] <= {width}"
        require(fits, f"{name} must be {layouts} {limits}, got {list(mask.shape)} with width {w}")


def plane_dtypes(device: torch.device) -> tuple[torch.dtype, ...]:
    """Return the real dtypes that the ops on whole planes support on a device."""
    has_float64 = device.type == "meta" or (device.type == "cpu" and native.SIMD_WIDTH > 0)
    return REAL if has_float64 else REAL[:1]


def check_plane_dtype(name: str, t: Tensor, *allowed: torch.dtype) -> None:
    """Raise if a tensor has none of the allowed dtypes that the ops on whole planes support on its device."""
    supported = plane_dtypes(t.device)
    check_dtype(name, t, *(dtype for dtype in allowed if real_dtype(dtype) in supported))


def check_side(name: str, side: int) -> None:
    """Raise if no device supports planes or bands with such a side; a symbolic side is not checked."""
    if isinstance(side, int):
        require(1 <= side <= MAX_SIDE, f"{name} must be 1 to {MAX_SIDE}, got {side}")
        supported = native.plane_side_supported(side)
        require(supported, f"{name} must have no prime factor above {MAX_PRIME}, got {side}")


def check_iterations(iterations: int) -> None:
    """Raise if the number of factors that a search may try is negative or too large."""
    require(0 <= iterations <= MAX_ITERATIONS, f"iterations must be from 0 to {MAX_ITERATIONS}, got {iterations}")


def check_filters(name: str, filters: Sequence[Tensor], dtype: torch.dtype, size: tuple[int, int]) -> None:
    """Check the filters of an op on whole planes, for planes of ``dtype`` and ``size``."""
    check_side("height", size[0])
    check_side("width", size[1])
    for i, filter_ in enumerate(filters):
        check_dtype(f"{name}[{i}]", filter_, dtype)
        check_rank(f"{name}[{i}]", filter_, 3, "[K, h, w]")
        fits = 1 <= filter_.shape[1] <= size[0] and 1 <= filter_.shape[2] <= size[1]
        text = f"{name}[{i}] must have shape [K, h, w] with h <= {size[0]} and w <= {size[1]}"
        require(fits, f"{text}, got {list(filter_.shape)}")
        check_side(f"height of {name}[{i}]", filter_.shape[1])
        check_side(f"width of {name}[{i}]", filter_.shape[2])


def check_plane_groups(filters, i_powers, forms, allowed_forms, dtype: torch.dtype, size: tuple[int, int]) -> None:
    """Check the groups of bands of split_planes and merge_planes; ``allowed_forms`` is a table of :mod:`.enums`."""
    count = len(filters)
    text = f"i_powers and forms must have one entry for each of {count} filters"
    require(len(i_powers) == len(forms) == count, f"{text}, got {len(i_powers)} and {len(forms)}")
    check_filters("filters", filters, dtype, size)
    for i in range(count):
        check_i_power(f"i_powers[{i}]", i_powers[i])
        check_option(f"forms[{i}]", forms[i], allowed_forms)


def check_morph(images, gradients, analysis, synthesis, i_power: int, edit: int, rule: int) -> None:
    """Check the arguments that the morphs of whole planes have in common."""
    check_plane_dtype("images", images, *REAL)
    check_rank("images", images, 3, "[N, H, W]")
    if gradients is not None:
        check_like("gradients", gradients, images)
    counts = f"{len(analysis)} and {len(synthesis)}"
    text = "analysis must have one filter more than synthesis, which must not be empty"
    require(len(synthesis) > 0 and len(analysis) == len(synthesis) + 1, f"{text}, got {counts}")
    size = images.shape[1:]
    check_side("height of images", size[0])
    check_side("width of images", size[1])
    check_filters("synthesis", synthesis, images.dtype, size)
    for i, filter_ in enumerate(synthesis):
        check_like(f"analysis[{i}]", analysis[i], filter_)
    check_dtype(f"analysis[{len(synthesis)}]", analysis[-1], images.dtype)
    check_shape(f"analysis[{len(synthesis)}]", analysis[-1], (1, *size))
    check_i_power("i_power", i_power)
    check_option("edit", edit, EDITS)
    check_option("rule", rule, RULES)


def check_samples(images: Tensor, planes_per_sample: int, base: Tensor | None) -> tuple[int, int]:
    """Check ``planes_per_sample`` and ``base``; return the numbers of samples and of channels of a sample."""
    planes = images.shape[0]
    divides = planes_per_sample >= 1 and planes % planes_per_sample == 0
    require(divides, f"planes_per_sample must divide the number of planes, {planes}, got {planes_per_sample}")
    samples = planes // planes_per_sample
    if base is None:
        return samples, planes_per_sample
    check_dtype("base", base, images.dtype)
    check_rank("base", base, 3, "[B * channels, H, W]")
    count = base.shape[0]
    check_shape("base", base, (count, *images.shape[1:]))
    fits = count == 0 if planes == 0 else count > 0 and count % planes == 0
    require(fits, f"number of planes of base must be a multiple of that of images, {planes}, got {count}")
    return samples, count // samples if samples else planes_per_sample

"""Which frames a morph has: given factors, or distances from the source that its factors must meet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import Factors, check_int, sent

DEFAULT_RMS = 2 / 28  # of the range of the bounds: the follow-up's larger budget, L2 = 2 on 28 x 28 pixels


@dataclass(frozen=True)
class Schedule:
    """F frames of B samples: ``factors`` [F, B] (and amplitude factors), or ``budgets`` [M, B]."""

    frames: int
    factors: Tensor | None = None
    amplitude_factors: Tensor | None = None
    budgets: Tensor | None = None
    several: bool = False  # one frame for each budget, instead of F frames up to the only one
    starts_at_source: bool = True  # the first frame has factor 0 for every sample
    increasing: bool = True  # each budget is larger than the one before

    def ladder(self) -> Tensor:
        """[F - 1, B]: the distance of every frame after the source, for regimes that step from frame to frame."""
        if self.several:
            return self.budgets
        return (
            torch.linspace(0, 1, self.frames, dtype=self.budgets.dtype, device=self.budgets.device)[1:, None]
            * self.budgets
        )

    def factors_to(self, reached: Tensor) -> Tensor:
        """[F, B]: from 0 to the factors [M, B] that reach the budgets, linearly to an only one."""
        if self.several:
            return torch.cat([torch.zeros_like(reached[:1]), reached])
        return self._shares(reached) * reached

    def _shares(self, like: Tensor) -> Tensor:
        return torch.linspace(0, 1, self.frames, dtype=like.dtype, device=like.device)[:, None]


def make_schedule(
    images: Tensor,
    bounds: tuple[float, float] | None,
    factors: float | Factors | None,
    amplitude_factors: float | Factors | None,
    max_l2: float | Sequence[float] | Tensor | None,
    frames: int,
) -> Schedule:
    """Check what :meth:`SteerableLens.morph` was asked for; images [B, C, H, W]."""
    check_int("frames", frames, 2, None)
    if factors is not None and max_l2 is not None:
        raise ValueError("factors and max_l2 exclude each other: give factors, or the distance that they shall reach")
    if factors is None:
        if amplitude_factors is not None:
            raise ValueError("amplitude_factors must come with factors, got factors=None")
        return _budget_schedule(images, _default_l2(images, bounds) if max_l2 is None else max_l2, frames)
    b = _factor_frames("factors", factors, frames, images)
    a = None if amplitude_factors is None else _factor_frames("amplitude_factors", amplitude_factors, frames, images)
    if a is not None and len(a) != len(b):
        raise ValueError(f"amplitude_factors must have {len(b)} frames like factors, got {len(a)}")
    at_source = not any(bool(t[0].any()) for t in (b, a) if t is not None)
    here = lambda name, t: None if t is None else sent(name, t, images.device)
    b, a = here("factors", b), here("amplitude_factors", a)
    return Schedule(len(b), b, a, starts_at_source=at_source)


def _default_l2(images: Tensor, bounds: tuple[float, float] | None) -> float:
    if bounds is None:
        raise ValueError(
            "factors or max_l2 must be given where bounds is None: the default distance is relative to them"
        )
    return DEFAULT_RMS * (bounds[1] - bounds[0]) * math.sqrt(math.prod(images.shape[1:]))


def _factor_frames(name: str, factors, frames: int, images: Tensor) -> Tensor:
    """A largest factor, [F] or [B, F] -> [F, B], finite; still where it was given, to be read without waiting."""
    table = _real_table(name, factors, "a float, a sequence of floats, or a real tensor [F] or [B, F]")
    if table.dim() == 0:
        table = torch.linspace(0, 1, frames, dtype=torch.float64, device=table.device) * table
    count = len(images)
    if table.dim() not in (1, 2) or not table.shape[-1] or (table.dim() == 2 and len(table) != count):
        raise ValueError(
            f"{name} must be a float, [F], or [B, F] with B = {count} and F at least 1, got shape {list(table.shape)}"
        )
    table = table.to(images.dtype)
    if not bool(table.isfinite().all()):
        raise ValueError(f"{name} must be finite in {images.dtype}, got {factors!r}")
    return table.T.contiguous() if table.dim() == 2 else table[:, None].expand(-1, count)


def _budget_schedule(images: Tensor, max_l2, frames: int) -> Schedule:
    kinds = "a float, a tensor [B], a sequence of M floats, or a tensor [B, M]"
    several = not isinstance(max_l2, Tensor) and isinstance(max_l2, Sequence) and not isinstance(max_l2, str)
    table = _real_table("max_l2", max_l2, kinds)
    several = several or table.dim() == 2
    count = len(images)
    fits = table.dim() == 0 or (several and table.dim() == 1) or len(table) == count
    if table.dim() > 2 or not fits or (several and not table.shape[-1]):
        raise ValueError(f"max_l2 must be {kinds} with B = {count}, got shape {list(table.shape)}")
    if not bool((table.isfinite() & (table > 0)).all()):
        raise ValueError(f"max_l2 must be finite and above 0, got {max_l2!r}")
    if table.dim() < 2:
        table = table[None] if several else table.reshape(-1, 1)
    budgets = sent("max_l2", table.to(images.dtype), images.device).T.expand(-1, count)
    increasing = not several or bool((table.diff(dim=1) > 0).all())
    return Schedule(len(budgets) + 1 if several else frames, budgets=budgets, several=several, increasing=increasing)


def _real_table(name: str, value, kinds: str) -> Tensor:
    if isinstance(value, (bool, str, complex)) or value is None:
        raise TypeError(f"{name} must be {kinds}, got {value!r}")
    try:
        table = value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} must be {kinds}, got {value!r}") from error
    if table.is_complex() or table.dtype == torch.bool:
        raise TypeError(f"{name} must be {kinds}, got {table.dtype}")
    return table.detach().to(torch.float64)

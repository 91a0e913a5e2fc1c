"""One call of ``SteerableLens.morph``: a batch on its way from images to frames."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..checks import check_image
from ..classifier.isolation import frames_within_the_package
from ..families.luma import luma
from ..memory import new_output, store
from ..morphs import Morphs, MorphStatus
from .gradient_provider import GradientProvider
from .l2_search import l2_from
from .regimes import MorphState, frozen, live, persistent
from .schedule import make_schedule

if TYPE_CHECKING:
    from .lens import SteerableLens

BOUNDS_TOLERANCE = 1e-4  # what rounding in a decoder or a resize may leave outside


class MorphRun:
    """A batch on its way from images to :class:`Morphs`."""

    def __init__(self, lens: SteerableLens, images, target, schedule: dict, batch: int | None, args):
        self.lens = lens
        self.images = check_images(images, lens.bounds, lens.color)
        self.provider = GradientProvider(lens, self.images, target, batch, args)
        if self.images.is_cuda and self.images.numel():
            self.provider.refuse(~in_range(self.images, lens.bounds))
        source = check_image("images", self.images).detach().contiguous()
        if lens.color == "grey" and source.shape[1] == 3:
            source = luma(source).repeat(1, 3, 1, 1)
        self.schedule = make_schedule(source, lens.bounds, regime=lens.regime, **schedule)
        can_read = not self.images.is_cuda or self.schedule.budgets is not None  # else it would wait for the device
        self.provider.warns &= lens.warns and can_read and self.schedule.toward
        self.beyond_range: dict[int, Tensor] = {}  # frame -> which samples [B] are not
        self.state = MorphState(lens._family_for(source), source, self.schedule, lens.bounds, lens.phase_cap)

    def morph(self, score: str) -> Morphs:
        """Render, score, and tell everything that is known."""
        frames, l2 = self._render()
        for frame, good in self.beyond_range.items():
            self.provider.forget(frame, good)
        self.provider.score(frames, score)
        state, provider, budgets = self.state, self.provider, self.schedule.budgets
        attained = torch.stack(state.attained, 1) if budgets is not None else None
        if attained is not None and not self.schedule.several:
            attained = attained[:, -1]
        morphs = Morphs(
            frames=frames.transpose(0, 1).to(self.images.dtype),
            factors=torch.stack(state.factors, 1),
            amplitude_factors=state.all_amplitude_factors(),
            target=provider.target,
            source=provider.source_class,
            outputs=provider.all_outputs(len(frames)),
            l2=l2.T.contiguous(),
            budget=None if budgets is None else budgets.T.clone(),
            attained=attained,
            status=provider.status,
            settings=self.lens.settings,
            gradient_norm=provider.gradient_norm,
            stopped=None if self.lens.regime == "frozen" else provider.stopped,
        )
        self._warn_of_falls(morphs)
        return morphs

    def _warn_of_falls(self, morphs: Morphs) -> None:
        """Warn where a morph went too far for its target."""
        if not self.provider.warns or not morphs.l2.numel():
            return
        farthest = morphs.l2[:, -1] >= morphs.l2.amax(1) * (1 - 1e-3)  # else it has not gone too far
        if count := int((morphs.fell & farthest).sum()):
            text = (
                f"the last frame of {count} of {len(morphs)} morphs is less probable to be its target than an earlier "
                "frame (see Morphs.fell and best_frame): a smaller distance may serve better"
            )
            warnings.warn(text, UserWarning, stacklevel=frames_within_the_package())

    def iterate(self) -> Iterator[Tensor]:
        """Frames one by one [B, C, H, W], as the caller gets them: his own, in the images' dtype."""
        count = 0
        for frames in self._blocks(1):
            self._presentable(frames, count)
            count += 1
            yield frames[0].to(self.images.dtype, copy=True)

    def _blocks(self, block: int | None = None) -> Iterator[Tensor]:
        """Frames [f, B, C, H, W], in order."""
        if self.lens.regime == "frozen":
            return frozen(self.state, self.provider.gradient, block)
        return {"live": live, "persistent": persistent}[self.lens.regime](self.state, self.provider.gradient)

    def _render(self) -> tuple[Tensor, Tensor]:
        """All frames [F, B, C, H, W] in float32 or float64, and their distances [F, B]."""
        source, count = self.state.source, 0
        distances, out = [], None
        for frames in self._blocks():
            if len(frames) == self.schedule.frames:  # all at once: no need to copy them
                return frames, self._presentable(frames, 0)
            out = new_output((self.schedule.frames, *source.shape), source.dtype, source.device) if out is None else out
            for frame in frames:
                store(out[count], frame)
                distances.append(self._presentable(out[count : count + 1], count))
                count += 1
        return out, torch.cat(distances)

    def _presentable(self, frames: Tensor, first: int) -> Tensor:
        """Put the source in place of frames that are none, and give the distances [F, B] of all.

        Those of samples that had no gradient to start with, and those that left the floating-point range.
        """
        provider = self.provider
        started = (provider.status == MorphStatus.OK) | (
            (provider.status >= MorphStatus.GRADIENT_BECAME_NOT_FINITE)
            & (provider.status != MorphStatus.IMAGE_NOT_IN_BOUNDS)
        )
        l2 = l2_from(frames, self.state.source)
        finite = l2.isfinite()
        if l2.device.type == "cpu" and bool(finite.all()) and bool(started.all()):
            return l2
        still = self.state.still()[0].to(frames.dtype)
        for j, frame in enumerate(frames):
            torch.where((finite[j] & started).view(-1, 1, 1, 1), frame, still, out=frame)
            self.beyond_range[first + j] = finite[j]
        provider.status = torch.where(
            (provider.status == MorphStatus.OK) & ~finite.all(0), MorphStatus.OVERFLOW, provider.status
        )
        return torch.where(finite & started, l2, 0.0)


def check_images(images, bounds: tuple[float, float] | None, color: str) -> Tensor:
    """Real images [B, C, H, W] within their bounds."""
    if not isinstance(images, Tensor):
        raise TypeError(f"images must be a torch.Tensor [B, C, H, W], got {type(images).__name__}")
    if not images.is_floating_point():
        got = f"{images.dtype} (divide uint8 images by 255)" if images.dtype == torch.uint8 else images.dtype
        raise TypeError(f"images must be real floating-point tensors, got {got}")
    if images.dim() != 4:
        hint = ": for one image give images[None]" if images.dim() == 3 else ""
        raise ValueError(f"images must have shape [B, C, H, W], got {list(images.shape)}{hint}")
    if images.shape[3] in (1, 3, 4) and min(images.shape[1:3]) >= 8:
        raise ValueError(f"images must have their channels first, [B, C, H, W], got {list(images.shape)}")
    if color != "rgb" and images.shape[1] not in (1, 3):
        raise ValueError(f"images must have 1 or 3 channels for color {color!r}, got {images.shape[1]}")
    if images.numel() and not images.is_cuda:  # there it would wait for the device: see in_range
        _check_range(images, bounds)
    return images


def _check_range(images: Tensor, bounds: tuple[float, float] | None) -> None:
    low, high = torch.stack(torch.aminmax(images.detach())).tolist()
    if not (low > float("-inf") and high < float("inf")):  # NaN is neither
        bad = (~images.isfinite()).flatten(1).any(1).nonzero()[:, 0].tolist()
        raise ValueError(f"images must be finite, got NaN or infinite values in samples {bad}")
    if bounds is None:
        return
    tolerance = _bounds_tolerance(images, bounds)
    if low < bounds[0] - tolerance or high > bounds[1] + tolerance:
        expected = f"in bounds {bounds} (normalisation belongs in preprocessing)"
        raise ValueError(f"images must be {expected}, got values from {low:g} to {high:g}")


def in_range(images: Tensor, bounds: tuple[float, float] | None) -> Tensor:
    """[B] bool: which images are finite and within their bounds; not read, so that nobody waits for a device."""
    low, high = torch.aminmax(images.detach().flatten(1), dim=1)
    if bounds is None:
        return low.isfinite() & high.isfinite()
    tolerance = _bounds_tolerance(images, bounds)
    return (low >= bounds[0] - tolerance) & (high <= bounds[1] + tolerance)  # NaN is neither


def _bounds_tolerance(images: Tensor, bounds: tuple[float, float]) -> float:
    return max(BOUNDS_TOLERANCE, torch.finfo(images.dtype).eps * max(map(abs, bounds)))

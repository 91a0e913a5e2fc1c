"""One call of ``SteerableLens.morph``: images, targets and gradients of a batch, and what its regime makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .. import checks
from ..budget import l2_from
from ..driver.objectives import loss
from ..driver.targets import check_target, resolve_target, slice_target
from ..families.luma import luma
from ..memory import new_output, store
from ..morphs import Morphs
from .regimes import Walk, frozen, live, persistent
from .schedule import make_schedule

if TYPE_CHECKING:
    from . import SteerableLens

BOUNDS_TOLERANCE = 1e-4  # what rounding in a decoder or a resize may leave outside
OK, NOT_FINITE, ZERO, BECAME_NOT_FINITE, OVERFLOWED = range(5)  # Morphs.status


class Call:
    """A batch on its way from images to :class:`Morphs`."""

    def __init__(self, lens: SteerableLens, images, target, schedule: dict, batch: int | None, args):
        self.lens = lens
        self.images = check_images(images, lens.bounds, lens.color)
        self.batch = None if batch is None else checks.check_int("internal_batch_size", batch, 1, None)
        self.args = args
        self.target, self.source_class = check_target(target, len(images)), None
        lens.driver.warn_if_training()
        source = self.images.float() if self.images.dtype in (torch.float16, torch.bfloat16) else self.images
        source = source.detach().contiguous()
        if lens.color == "grey" and source.shape[1] == 3:
            source = luma(source).repeat(1, 3, 1, 1)
        self.schedule = make_schedule(source, lens.bounds, **schedule)
        self.status = torch.zeros(len(source), dtype=torch.int64, device=source.device)
        self.outputs: dict[int, Tensor] = {}
        self.classes: tuple[int, ...] = (0,)
        self.stream = lens.driver.session(self.images)
        self.walk = Walk(lens._family_for(source), source, self.gradient, self.schedule, lens.bounds, lens.phase_cap)

    # --- The classifier ---

    def gradient(self, image: Tensor, frame: int | None) -> Tensor:
        """d(loss)/d(image) [B, C, H, W], 0 where a sample has none to follow; ``image`` is frame ``frame``, if any."""
        if not len(image):
            self.target = self.source_class = torch.zeros(0, dtype=torch.int64, device=image.device)
            return torch.zeros_like(image)
        found: list[tuple[Tensor, Tensor]] = []
        gradient, outputs = self.lens.driver.gradient(
            image.to(self.images.dtype), partial(self._loss, found), self.args, self.batch, stream=self.stream
        )
        if self.source_class is None:
            self.target, self.source_class = (torch.cat(parts) for parts in zip(*found))
            self.classes = tuple(outputs.shape[1:])
            first = True
        else:
            first = False
        if frame is not None:
            self.outputs[frame] = outputs
        return self._only_good(gradient.to(image.dtype), first)

    def _loss(self, found: list, outputs: Tensor, at: slice) -> Tensor:
        if self.source_class is None:
            found.append(resolve_target(slice_target(self.target, at), outputs))
            target, source = found[-1]
        else:
            target, source = self.target[at], self.source_class[at]
        return loss(self.lens.objective, outputs, target, source)

    def _only_good(self, gradient: Tensor, first: bool) -> Tensor:
        largest = gradient.abs().flatten(1).amax(1)  # NaN where there is one
        finite = largest.isfinite()
        status = torch.where(finite, OK, NOT_FINITE if first else BECAME_NOT_FINITE)
        if first:
            status = torch.where(largest == 0, ZERO, status)
        self.status = torch.where(self.status == OK, status, self.status)
        good = self.status == OK  # one that failed stays where it is, also where a later gradient is good
        if gradient.device.type == "cpu" and bool(good.all()):
            return gradient
        return torch.where(good.view(-1, 1, 1, 1), gradient, 0.0)

    def score(self, frames: Tensor, which: str) -> None:
        """Run the model on frames [F, B, C, H, W] whose outputs its gradients have not told."""
        wanted = {"all": range(len(frames)), "last": range(len(frames) - 1, len(frames)), "none": ()}[which]
        for frame in wanted if len(self.images) else ():
            if frame not in self.outputs:
                image = frames[frame].to(self.images.dtype)
                self.outputs[frame] = self.lens.driver.outputs(image, self.args, self.batch, stream=self.stream)

    # --- The frames ---

    def blocks(self, block: int | None = None) -> Iterator[Tensor]:
        """Frames [f, B, C, H, W], in order."""
        if self.lens.regime == "frozen":
            return frozen(self.walk, block)
        return {"live": live, "persistent": persistent}[self.lens.regime](self.walk)

    def render(self) -> Tensor:
        """All frames [F, B, C, H, W], in float32 or float64."""
        source, out = self.walk.source, None
        done = 0
        for frames in self.blocks():
            if len(frames) == self.schedule.frames:
                out = frames
                break
            if out is None:
                out = new_output((self.schedule.frames, *source.shape), source.dtype, source.device)
            for frame in frames:
                store(out[done], frame)
                done += 1
        return self._repeat_source(out)

    def iterate(self) -> Iterator[Tensor]:
        """Frames one by one, as the caller gets them."""
        for frames in self.blocks(1):
            frames = self._repeat_source(frames)
            yield frames[0].to(self.images.dtype)

    def _repeat_source(self, frames: Tensor) -> Tensor:
        """The source itself in place of the frames of samples that had no gradient to start with."""
        good = (self.status == OK) | (self.status == BECAME_NOT_FINITE)
        if good.device.type == "cpu" and bool(good.all()):
            return frames
        for frame in frames:
            frame.copy_(torch.where(good.view(-1, 1, 1, 1), frame, self.walk.still()[0]))
        return frames

    def _repeat_source_beyond_range(self, frames: Tensor, l2: Tensor) -> Tensor:
        """The source in place of frames [F, B, ...] that left the floating-point range; their distances [F, B]."""
        finite = l2.isfinite()
        if l2.device.type == "cpu" and bool(finite.all()):
            return l2
        for frame, good in zip(frames, finite):
            frame.copy_(torch.where(good.view(-1, 1, 1, 1), frame, self.walk.still()[0]))
        self.status = torch.where((self.status == OK) & ~finite.all(0), OVERFLOWED, self.status)
        return torch.where(finite, l2, 0.0)

    def morphs(self, frames: Tensor) -> Morphs:
        """Everything that is known of frames [F, B, C, H, W]."""
        walk, dtype = self.walk, self.images.dtype
        l2 = self._repeat_source_beyond_range(frames, l2_from(frames, walk.source))
        b, a = torch.stack(walk.factors, 1), torch.stack(walk.amplitude_factors, 1)
        budgets = self.schedule.budgets
        attained = torch.stack(walk.attained, 1) if budgets is not None else None
        if attained is not None and not self.schedule.several:
            attained = attained[:, -1]
        return Morphs(
            frames=frames.transpose(0, 1).to(dtype),
            factors=b,
            amplitude_factors=None if self.schedule.amplitude_factors is None else a,
            target=self.target,
            source=self.source_class,
            outputs=self._all_outputs(len(frames)),
            l2=l2.T.contiguous(),
            budget=None if budgets is None else budgets.T.contiguous(),
            attained=attained,
            status=self.status,
            settings=self.lens.settings,
        )

    def _all_outputs(self, frames: int) -> Tensor:
        """[B, F, classes, ...], NaN where the model was not run."""
        dtype = next(iter(self.outputs.values())).dtype if self.outputs else self.walk.source.dtype
        shape = (len(self.images), *self.classes)
        unknown = torch.full(shape, torch.nan, dtype=dtype, device=self.images.device)
        return torch.stack([self.outputs.get(frame, unknown).to(unknown.device) for frame in range(frames)], 1)


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
    if color != "rgb" and images.shape[1] not in (1, 3):
        raise ValueError(f"images must have 1 or 3 channels for color {color!r}, got {images.shape[1]}")
    if images.numel():
        _check_range(images, bounds)
    return images


def _check_range(images: Tensor, bounds: tuple[float, float] | None) -> None:
    low, high = (float(v) for v in torch.aminmax(images.detach()))
    if not (low > float("-inf") and high < float("inf")):  # NaN is neither
        raise ValueError("images must be finite, got NaN or infinite values")
    if bounds is not None and (low < bounds[0] - BOUNDS_TOLERANCE or high > bounds[1] + BOUNDS_TOLERANCE):
        expected = f"in bounds {bounds} (normalisation belongs in preprocessing)"
        raise ValueError(f"images must be {expected}, got values from {low:g} to {high:g}")

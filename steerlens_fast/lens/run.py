"""One call of ``SteerableLens.morph``: checks, gradients, frames, result."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..checks import check_dense, to_dtype
from ..classifier.batches import joined
from ..classifier.class_names import own_class_names
from ..classifier.isolation import warning_stacklevel
from ..families.luma import luma
from ..memory import new_output, store
from ..morphs import Morphs, MorphStatus
from .gradient_provider import GradientProvider
from .l2_search import TOLERANCE, l2_from
from .regimes import MorphState, frozen, live, persistent

if TYPE_CHECKING:
    from .lens import SteerableLens

BOUNDS_TOLERANCE = 1e-4  # pixels may exceed the bounds by this much, because of rounding in decoders and resizing


class MorphRun:
    """One call of ``SteerableLens.morph``: checks arguments, renders frames, makes the :class:`Morphs`."""

    def __init__(self, lens: SteerableLens, images, target, extent: dict, batch: int | None, args, score: str):
        self.lens = lens
        self.images = check_images(images, lens.bounds, lens.color)
        self.provider = GradientProvider(lens, self.images, target, batch, args, score)
        if self.images.is_cuda and self.images.numel():
            self.provider.exclude(~in_range(self.images, lens.bounds))
        source = self.images.detach().contiguous()
        if source.dtype not in (torch.float32, torch.float64):
            source = source.float()
        if lens.color == "grey" and source.shape[1] == 3:
            source = luma(source).repeat(1, 3, 1, 1)
        self.schedule = lens._schedule_for(source, extent)
        # Warnings read tensors, which waits for a GPU. So they are omitted there unless a search waits anyway.
        can_read = not self.images.is_cuda or self.schedule.budgets is not None
        self.may_warn = lens.warn_about_results and can_read
        self.provider.warn_if_predicted &= self.may_warn and self.schedule.moves_toward_target
        self.warn_if_fell = self.provider.warn_if_predicted  # both warnings have the same conditions
        self.overflowed: dict[int, Tensor] = {}  # by frame number: which samples [B] are not finite
        self.state = MorphState(
            lens._family_for(source),
            source,
            self.schedule,
            lens.bounds,
            lens.phase_cap,
            self.provider.stop_where_gradient_too_small,
        )

    def result(self, frames: Tensor, l2: Tensor) -> Morphs:
        """Run the model on the frames to be scored, and return the :class:`Morphs`."""
        state, provider, budgets = self.state, self.provider, self.schedule.budgets
        for frame, overflowed in self.overflowed.items():
            provider.discard_outputs(frame, overflowed)
        provider.score(frames)
        attained = torch.stack(state.attained, 1) if budgets is not None else None
        if attained is not None and not self.schedule.one_frame_per_budget:
            attained = attained[:, -1]
        morphs = Morphs(
            frames=to_dtype(frames.transpose(0, 1), self.images.dtype),
            factors=_samples_first(state.factors),
            amplitude_factors=_samples_first(state.amplitude_factors) if state.amplitude_factors else None,
            target=provider.target,
            source=provider.source_class,
            outputs=provider.all_outputs(frames.shape[0]),
            l2=l2.T.contiguous(),
            budget=None if budgets is None else budgets.T.clone(),
            attained=attained,
            status=provider.status,
            settings=self.lens.settings | self._class_names(),
            gradient_norm=provider.gradient_norm,
            stopped=provider.stopped_at_step,
        )
        if self.may_warn:
            self._warn_of_failures(morphs, attained)
        if self.warn_if_fell and len(provider.outputs) > 1:  # the comparison needs two frames with outputs
            self._warn_if_fell(morphs)
        return morphs

    def _class_names(self) -> dict[str, list[str]]:
        """Return the class names as a setting; no setting unless each class has a name."""
        names = self.lens.class_names
        names = own_class_names(self.lens.classifier.model) if names is None else names
        complete = names is not None and len(names) == self.provider.class_count
        return {"class_names": names} if complete else {}

    def _warn_of_failures(self, morphs: Morphs, attained: Tensor | None) -> None:
        """Warn of morphs that do not reach all distances or, if all do, of samples that are not OK.

        ``attained`` is [B] or [B, M]; None for given factors.
        """
        count, missed = len(morphs), 0
        if attained is not None and attained.numel():
            not_attained = ~attained.view(count, -1).all(1)
            missed = int(not_attained.sum())
        if not missed and (self.provider.known_all_ok or bool(morphs.ok.all())):
            return
        causes = sorted({reason for reason in morphs.reasons if reason})
        see = ["Morphs.reasons"] if causes else []
        if missed:
            text = f"{missed} of {count} morphs do not reach the requested L2 distance"
            see = ["Morphs.attained", "Morphs.l2", *see]
            causes += self._limits(not_attained & morphs.ok, morphs.l2.amax(1) <= TOLERANCE)
        else:
            text = f"{int((~morphs.ok).sum())} of {count} morphs are not ok, and repeat a frame"
            see = ["Morphs.ok", *see]
        text += f" (see {', '.join(see[:-1])} and {see[-1]})" + (f": {'; '.join(causes)}" if causes else "")
        warnings.warn(text, UserWarning, stacklevel=warning_stacklevel())

    def _limits(self, missed: Tensor, unchanged: Tensor) -> list[str]:
        """Return possible reasons why samples with usable gradients do not reach their distance.

        ``missed`` [B] marks these samples, and ``unchanged`` [B] samples whose frames are all like the source.
        """
        limits, still = [], int((missed & unchanged).sum())
        if still:
            text = "the gradient changes nothing that the family can change (for example, a flat image has no phases)"
            clipped = "" if self.lens.bounds is None else ", or all changes are clipped"
            limits.append(f"{still} of them do not change at all: {text}{clipped}")
        if bool((missed & ~unchanged).any()):
            if self.lens.phase_cap is not None:
                limits.append("phase_cap may have stopped them, so try a larger one")
            wrapped = "wrapped phases" if self.lens.bounds is None else "clipped pixels or wrapped phases"
            if isinstance(self.lens.family, str) and self.lens.family.startswith("csp-"):
                wrapped += " or the pyramid's residuals, which do not change,"
            limits.append(f"{wrapped} may limit distances, so try a smaller one")
            if self.lens.regime != "frozen":
                limits.append("the last step may have been shortened, so try another distance or more steps")
        return limits

    def _warn_if_fell(self, morphs: Morphs) -> None:
        """Warn of morphs whose last frame has a lower target probability than an earlier frame."""
        if not morphs.l2.numel():
            return
        # Frames that return toward the source are no reason for a warning.
        fell, farthest = morphs.fell, morphs.l2[:, -1] >= morphs.l2.amax(1) * (1 - 1e-3)
        if bool((fell & farthest).any()):
            text = (
                f"in {int(fell.sum())} of {len(morphs)} morphs, the last frame has a lower target probability than an "
                "earlier frame (see Morphs.fell and Morphs.best_frame): try "
            )
            # With the rule "complex", changes of amplitude need not lower the loss, however small they are.
            may_rise = self.lens.rule == "complex" and self.lens.family in ("csp-amplitude", "csp-joint")
            below_source = morphs.target_probability[:, -1] < morphs.target_probability[:, 0]
            remedies = ["rule='polar'"] if may_rise and bool((fell & farthest & below_source).any()) else []
            remedies += ["regime='persistent'"] if self.lens.regime == "frozen" else []
            text += " or ".join(["a smaller distance", *remedies])
            warnings.warn(text, UserWarning, stacklevel=warning_stacklevel())

    def iterate(self) -> Iterator[Tensor]:
        """Yield the frames one by one [B, C, H, W], as copies in the images' dtype."""
        for number, frames in enumerate(self._blocks(block_size=1)):
            self._replace_failed(frames, number)
            yield frames[0].to(self.images.dtype, copy=True)

    def _blocks(self, block_size: int | None = None) -> Iterator[Tensor]:
        """Yield all frames in order, in blocks [f, B, C, H, W]. Only the frozen regime uses ``block_size``."""
        if self.lens.regime == "frozen":
            return frozen(self.state, self.provider.gradient, block_size)
        return {"live": live, "persistent": persistent}[self.lens.regime](self.state, self.provider.gradient)

    def render(self) -> tuple[Tensor, Tensor]:
        """Return all frames [F, B, C, H, W] and their distances [F, B]."""
        source, count = self.state.source, 0
        distances, out = [], None
        for frames in self._blocks():
            if frames.shape[0] == self.schedule.frames:  # a single block has all frames and needs no copy
                return frames, self._replace_failed(frames, 0)
            out = new_output((self.schedule.frames, *source.shape), source.dtype, source.device) if out is None else out
            for frame in frames:
                store(out[count], frame)
                distances.append(self._replace_failed(out[count : count + 1], count))
                count += 1
        return out, torch.cat(distances)

    def _replace_failed(self, frames: Tensor, first: int) -> Tensor:
        """Replace failed frames by the source, and return the distances [F, B] of all frames.

        A frame has failed if it is not finite, or if its sample had no valid image, or no valid gradient at the source.
        ``first`` is the number of the first frame.
        """
        provider = self.provider
        l2 = l2_from(frames, self.state.source)
        if provider.known_all_ok and math.isfinite(sum(map(sum, l2.tolist()))):  # the sum is NaN or inf if a value is
            return l2
        finite = l2.isfinite()
        started = provider.started()
        if l2.device.type == "cpu" and bool(finite.all()) and bool(started.all()):
            return l2
        source = self.state.source_frame()[0].to(frames.dtype)
        for j, frame in enumerate(frames):
            torch.where((finite[j] & started).view(-1, 1, 1, 1), frame, source, out=frame)
            self.overflowed[first + j] = ~finite[j]
        provider.fail(~finite.all(0), MorphStatus.OVERFLOW)
        return torch.where(finite & started, l2, 0.0)


def _samples_first(blocks: list[Tensor]) -> Tensor:
    """Return blocks of factors [f, B] as a new tensor [B, F]."""
    return joined(blocks).T.clone(memory_format=torch.contiguous_format)


def check_images(images, bounds: tuple[float, float] | None, color: str) -> Tensor:
    """Check images [B, C, H, W] and return them.

    On a GPU, values are not checked, since this would wait for it.
    """
    if not isinstance(images, Tensor):
        raise TypeError(f"images must be a torch.Tensor [B, C, H, W], got {type(images).__name__}")
    if not images.is_floating_point():
        got = f"{images.dtype} (divide uint8 images by 255)" if images.dtype == torch.uint8 else images.dtype
        raise TypeError(f"images must be a real floating-point tensor, got {got}")
    check_dense("images", images)
    if images.device.type == "meta":
        raise ValueError("images must be on a CPU or GPU, got images on the device meta, which have no values")
    if images.dim() != 4:
        hint = ": for one image pass images[None]" if images.dim() == 3 else ""
        raise ValueError(f"images must have shape [B, C, H, W], got {list(images.shape)}{hint}")
    if images.shape[3] in (1, 3, 4) and min(images.shape[1:3]) >= 8:
        raise ValueError(f"images must have their channels first, [B, C, H, W], got {list(images.shape)}")
    if color != "rgb" and images.shape[1] not in (1, 3):
        raise ValueError(f"images must have 1 or 3 channels for color {color!r}, got {images.shape[1]}")
    if images.numel() and not images.is_cuda:  # in_range checks images on a GPU, without waiting for it
        _check_range(images, bounds)
    return images


def _check_range(images: Tensor, bounds: tuple[float, float] | None) -> None:
    lowest, highest = torch.aminmax(images)
    low, high = lowest.item(), highest.item()
    if not (low > float("-inf") and high < float("inf")):  # comparisons with NaN are false
        bad = (~images.isfinite()).flatten(1).any(1).nonzero()[:, 0].tolist()
        raise ValueError(f"images must be finite, got NaN or infinite values in samples {bad}")
    if bounds is None or (low >= bounds[0] and high <= bounds[1]):
        return
    tolerance = _bounds_tolerance(images, bounds)
    if low < bounds[0] - tolerance or high > bounds[1] + tolerance:
        expected = f"in bounds {bounds} (normalisation belongs in preprocessing)"
        raise ValueError(f"images must be {expected}, got values from {low:g} to {high:g}")


def in_range(images: Tensor, bounds: tuple[float, float] | None) -> Tensor:
    """Return which images [B] are finite and within the bounds, without waiting for the device."""
    low, high = torch.aminmax(images.flatten(1), dim=1)
    if bounds is None:
        return low.isfinite() & high.isfinite()
    tolerance = _bounds_tolerance(images, bounds)
    return (low >= bounds[0] - tolerance) & (high <= bounds[1] + tolerance)  # false for NaN


def _bounds_tolerance(images: Tensor, bounds: tuple[float, float]) -> float:
    return max(BOUNDS_TOLERANCE, torch.finfo(images.dtype).eps * max(map(abs, bounds)))

"""Whose an exception of a morph is, and what to say of it: this package's, about arguments, or the model's."""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence

import torch

from .loading import Batch
from .outcome import USAGE, JobError, ModelError

OUT_OF_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "ALLOC_FAILED")  # also cuFFT's and cuBLAS'
OF_SHAPES = (RuntimeError, ValueError, AssertionError, IndexError)  # what models raise at images they are not made for
ONE_BATCH_SIZE = re.compile(r"\.size\(\)\[0\] == |\.shape\[0\] to be equal")  # the guards of an exported program


def is_out_of_memory(error: Exception) -> bool:
    """Whether less at once may work."""
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in OUT_OF_MEMORY)


def told_of(
    error: Exception, image_shape: Sequence[int], batch: Batch, targets: Sequence[int | None], first: bool
) -> JobError | None:
    """What to raise in place of an exception; None where nothing better is known of it.

    ``first`` says that the model has not taken any images yet: then it is taken to refuse their shape.
    """
    if _is_ours(error):
        return _about_arguments(error, batch, targets) if isinstance(error, (TypeError, ValueError)) else None
    if isinstance(error, OF_SHAPES) and not is_out_of_memory(error):
        return _about_images(error, image_shape, first)
    return None


def _about_arguments(error: Exception, batch: Batch, targets: Sequence[int | None]) -> JobError:
    told = [(target, item.path) for target, item in zip(targets, batch.items) if target is not None]
    largest = f" (largest of this batch: {max(told)[0]}, of {max(told)[1]})" if told else ""
    return JobError(f"{error}{largest}", USAGE)


def _about_images(error: Exception, image_shape: Sequence[int], first: bool) -> ModelError | None:
    hint = "--channels and --size decide them" if first else None
    if ONE_BATCH_SIZE.search(str(error)):
        hint = "it was exported for batches of one size: export it with a dynamic batch dimension"
    if hint is None:
        return None
    line = str(error).strip().partition("\n")[0]
    shape = " x ".join(map(str, image_shape))
    return ModelError(f"the model refused images of {shape}: {type(error).__name__}: {line}; {hint}")


def _is_ours(error: Exception) -> bool:
    """Whether this package raised it; else the model did."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals.get("__name__", "").startswith(__package__.rpartition(".")[0] + ".")

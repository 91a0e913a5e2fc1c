"""Whose an exception of a morph is, and what to say of it: this package's, about arguments, or the model's."""

from __future__ import annotations

import os
import re
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import suppress
from math import prod

from ..errors import NO_THREAD, USAGE, BadItem, JobError, ModelError
from ..models.errors import TORCHSCRIPT, error_summary, is_out_of_memory
from .loading import Batch

OF_SHAPES = (RuntimeError, ValueError, AssertionError, IndexError)  # what models raise at images they are not made for
SHOWN = 3  # images that a message names
PACKAGE = __package__.rpartition(".")[0]
ONE_BATCH_SIZE = re.compile(r"\.size\(\)\[0\] == |\.shape\[0\] to be equal")  # the guards of an exported program
# What a trace raises that keeps its batch size: at a reshape, at the product after one, at a sum, at a concatenation
TRACED = {
    "reshape": re.compile(r"shape '\[(\d+), ([\d, ]+)\]' is invalid for input of size (\d+)"),
    "product": re.compile(r"mat1 and mat2 shapes cannot be multiplied \((\d+)x(\d+) and (\d+)x\d+\)"),
    "pair": re.compile(r"tensor a \((\d+)\) must match the size of tensor b \((\d+)\) at non-singleton dimension 0"),
    "cat": re.compile(r"Expected size (\d+) but got size (\d+)"),
}
DYNAMIC = "trace or export it with a dynamic batch dimension"


def may_be_caused_by_image(error: Exception) -> bool:
    """Whether an error of a batch may come from one of its images.

    Not from memory, threads or files that are not to be had, from targets, or from a program made for one batch size.
    """
    if NO_THREAD in str(error):
        return False
    if isinstance(error, JobError) or is_out_of_memory(error) or ONE_BATCH_SIZE.search(str(error)):
        return False
    if isinstance(error, OSError) and error.errno is not None:
        return False
    return _raised_in(error) != f"{PACKAGE}.driver.targets"


def image_failure(error: Exception) -> BadItem:
    """Why an image is left out at which the model raised an error: the same words in every run."""
    text = error_summary(error)
    with suppress(OSError):  # there may be no folder for temporary files
        text = text.replace(tempfile.gettempdir() + os.sep, "")
    return BadItem("model-error", text)


def model_failure(error: Exception, batch: Batch) -> ModelError:
    """Where the model raises an error whatever the image: it names shard and images."""
    keys = [item.path for item, loaded in zip(batch.items, batch.loaded) if loaded.failure is None]
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    where = f"shard {batch.shard}, {', '.join(keys[:SHOWN])}{more}"
    return ModelError(f"{error_summary(error)}; the model raised it at {where}")


def told_of(
    error: Exception, batch: Batch, targets: Sequence[int | None], first: bool, batch_sizes: Sequence[int] = ()
) -> JobError | None:
    """What to raise in place of an exception; None where nothing better is known of it.

    ``first`` says that the model has not taken any images yet: then it is taken to refuse their shape. ``batch_sizes``
    are how many it may have been given.
    """
    if _is_ours(error):
        return _about_arguments(error, batch, targets) if isinstance(error, (TypeError, ValueError)) else None
    if isinstance(error, OF_SHAPES) and not is_out_of_memory(error):
        return _about_images(error, batch, first, {len(batch.items), *batch_sizes})
    return None


def _about_arguments(error: Exception, batch: Batch, targets: Sequence[int | None]) -> JobError:
    told = [(target, item.path) for target, item in zip(targets, batch.items) if target is not None]
    largest = f" (largest of this batch: {max(told)[0]}, of {max(told)[1]})" if told else ""
    return JobError(f"{error}{largest}", USAGE)


def _about_images(error: Exception, batch: Batch, first: bool, sizes: set[int]) -> ModelError | None:
    text, traced = str(error).strip(), TORCHSCRIPT in str(error)
    size = fixed_batch(text, sizes)
    hint = "--channels and --size decide them" if first else None
    if ONE_BATCH_SIZE.search(text):
        hint = "it was exported for batches of one size: export it with a dynamic batch dimension"
    elif size is not None:
        hint = f"it takes batches of {size} only, as it was traced or exported: {DYNAMIC}"
    elif traced:
        hint = f"{hint}; if it was traced for batches of one size: {DYNAMIC}" if first else f"if traced: {DYNAMIC}"
    if hint is None:
        return None
    shape = " x ".join(map(str, batch.pixels.shape[1:]))
    return ModelError(f"the model refused images of {shape}: {model_failure(error, batch)}; {hint}")


def fixed_batch(text: str, sizes: set[int]) -> int | None:
    """The batch size that a program keeps from its trace, told by the shapes in its error; None where it is none.

    Parameters
    ----------
    text : str
        The error's.
    sizes : set of int
        How many images it may have been given.

    Examples
    --------
    >>> fixed_batch("RuntimeError: shape '[4, 256]' is invalid for input of size 2048", {8})
    4
    >>> fixed_batch("RuntimeError: mat1 and mat2 shapes cannot be multiplied (8x768 and 256x10)", {8})
    """
    for kind, pattern in TRACED.items():
        found = pattern.search(text)
        if found is None:
            continue
        if kind == "reshape":
            kept, image, values = int(found[1]), prod(map(int, found[2].split(","))), int(found[3])
        elif kind == "product":
            kept, values, image = int(found[1]), int(found[1]) * int(found[2]), int(found[3])
        else:
            kept, given = sorted(map(int, found.groups()), key=lambda n: n in sizes)
            image, values = 1, given
        if kept not in sizes and any(n * image == values for n in sizes):
            return kept
    return None


def _is_ours(error: Exception) -> bool:
    """Whether this package raised it; else the model did."""
    return _raised_in(error).startswith(PACKAGE + ".")


def _raised_in(error: Exception) -> str:
    """The module that raised it."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals.get("__name__", "")

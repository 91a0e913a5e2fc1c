"""Finds out whether an image, the model or an argument caused an exception of a morph."""

from __future__ import annotations

import os
import re
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from math import prod

from ..data.items import target_class
from ..data.targets import TargetRule
from ..errors import NO_THREAD, TORCHSCRIPT, BadItem, JobError, ModelError, usage_error
from ..models.errors import error_summary, is_out_of_memory
from .loading import Batch

SHAPE_ERRORS = (RuntimeError, ValueError, AssertionError, IndexError)  # models raise these for the wrong image shape
MAX_SHOWN = 3  # images that a message names
PACKAGE = __package__.rpartition(".")[0]
# Messages of exported programs with a fixed batch size
ONE_BATCH_SIZE = re.compile(r"\.size\(\)\[0\] == |\.shape\[0\] to be equal")
# Messages of models that were traced with a constant batch size, by the operation that raises them
TRACED = {
    "reshape": re.compile(r"shape '\[(\d+), ([\d, ]+)\]' is invalid for input of size (\d+)"),
    "product": re.compile(r"mat1 and mat2 shapes cannot be multiplied \((\d+)x(\d+) and (\d+)x\d+\)"),
    "sum": re.compile(r"tensor a \((\d+)\) must match the size of tensor b \((\d+)\) at non-singleton dimension 0"),
    "cat": re.compile(r"Expected size (\d+) but got size (\d+)"),
}
DYNAMIC = "trace or export it with a dynamic batch dimension"


class ModelExit(RuntimeError):
    """Replaces a SystemExit that a model raised. A SystemExit would end the process without a message."""


@contextmanager
def exit_as_error() -> Iterator[None]:
    """Convert a SystemExit to a ModelExit. It is then handled like any other error of the model."""
    try:
        yield
    except SystemExit as error:
        raise ModelExit(f"sys.exit({'' if error.code is None else repr(error.code)}) was called") from error


def may_be_caused_by_image(error: Exception) -> bool:
    """Return whether an image may have caused the error.

    Errors of memory, threads, files and targets, and errors of programs that were exported for one batch size, are not
    caused by images.
    """
    if NO_THREAD in str(error):
        return False
    if isinstance(error, JobError) or is_out_of_memory(error) or ONE_BATCH_SIZE.search(str(error)):
        return False
    if isinstance(error, OSError) and error.errno is not None:
        return False
    return _raised_in(error) != f"{PACKAGE}.classifier.targets"


def clear_stack_frames(error: BaseException | None) -> None:
    """Clear the local variables of the functions in which an error was raised.

    These variables keep tensors alive, even after the error was handled, since some of them refer to the error.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


def image_failure(error: Exception) -> BadItem:
    """Return the failure of an image for which the model raised an error. Its message is the same in every run."""
    text = error_summary(error)
    with suppress(OSError):  # gettempdir raises it if it finds no folder
        text = text.replace(tempfile.gettempdir() + os.sep, "")
    return BadItem("model-error", text)


def model_failure(error: Exception, batch: Batch) -> ModelError:
    """Return the error of a model that fails for every image. Its message names the shard and the images."""
    paths = [batch.items[n].path for n in batch.good]
    return ModelError(f"{error_summary(error)}; raised by the model in shard {batch.shard}, for {list_paths(paths)}")


def list_paths(paths: Sequence[str]) -> str:
    """Return the first few paths as text, and how many more there are.

    Examples
    --------
    >>> list_paths(["a.png", "b.png", "c.png", "d.png"])
    'a.png, b.png, c.png and 1 more'
    """
    more = f" and {len(paths) - MAX_SHOWN} more" if len(paths) > MAX_SHOWN else ""
    return f"{', '.join(paths[:MAX_SHOWN])}{more}"


def explain_error(
    error: Exception, batch: Batch, rule: TargetRule, first: bool, batch_sizes: Sequence[int]
) -> JobError | None:
    """Return a more helpful error for an exception of a morph, or None if there is none.

    Parameters
    ----------
    error : Exception
    batch : Batch
    rule : TargetRule
        The rule of the batch's targets.
    first : bool
        Whether the model has not computed any images yet. The shape of the images is then assumed to be the cause.
    batch_sizes : sequence of int
        Batch sizes that the model may have been called with.
    """
    if _raised_by_package(error):
        return _argument_error(error, batch, rule) if isinstance(error, (TypeError, ValueError)) else None
    if isinstance(error, SHAPE_ERRORS) and not is_out_of_memory(error):
        return _shape_error(error, batch, first, {len(batch.items), *batch_sizes})
    return None


def _argument_error(error: Exception, batch: Batch, rule: TargetRule) -> JobError:
    known = [(target_class(t), rule.where(item)) for t, item in zip(batch.targets, batch.items) if t is not None]
    largest = ""
    if known and rule.kind != "class" and str(error).startswith("target "):
        largest = " (largest target in this batch: {},{})".format(*max(known))
    return usage_error(f"{error}{largest}")


def _shape_error(error: Exception, batch: Batch, first: bool, sizes: set[int]) -> ModelError | None:
    text, traced = str(error).strip(), TORCHSCRIPT in str(error)
    size = fixed_batch(text, sizes)
    hint = "set --channels and --size (in Python channels= and size=) to the model's" if first else None
    if ONE_BATCH_SIZE.search(text):
        hint = "the model was exported for one batch size: export it with a dynamic batch dimension"
    elif size is not None:
        hint = f"the model was traced or exported for batches of {size} only: {DYNAMIC}"
    elif traced:
        hint = (
            f"{hint}; if it was traced for one batch size: {DYNAMIC}"
            if first
            else f"if it was traced for one batch size: {DYNAMIC}"
        )
    if hint is None:
        return None
    shape = " x ".join(map(str, batch.pixels.shape[1:]))
    return ModelError(f"the model failed for images of {shape}: {model_failure(error, batch)}; {hint}")


def fixed_batch(text: str, sizes: set[int]) -> int | None:
    """Return the constant batch size of a traced program.

    The size is found in the shapes of the error message. The result is None if they show no constant size.

    Parameters
    ----------
    text : str
        The message.
    sizes : set of int
        Batch sizes that the program may have been called with.

    Examples
    --------
    >>> fixed_batch("RuntimeError: shape '[4, 256]' is invalid for input of size 2048", {8})
    4
    >>> text = "RuntimeError: mat1 and mat2 shapes cannot be multiplied (8x768 and 256x10)"
    >>> fixed_batch(text, {8}) is None  # 8 is not constant: the images have the wrong size
    True
    """
    for kind, pattern in TRACED.items():
        match = pattern.search(text)
        if match is None:
            continue
        if kind == "reshape":
            fixed, per_image, values = int(match[1]), prod(map(int, match[2].split(","))), int(match[3])
        elif kind == "product":  # the rows of the second matrix are the features of one image
            fixed, values, per_image = int(match[1]), int(match[1]) * int(match[2]), int(match[3])
        else:
            # The message has both sizes in any order. Sorting puts the size first that is not in ``sizes``.
            fixed, called_with = sorted(map(int, match.groups()), key=lambda n: n in sizes)
            per_image, values = 1, called_with
        if fixed not in sizes and any(n * per_image == values for n in sizes):
            return fixed
    return None


def _raised_by_package(error: Exception) -> bool:
    """Return whether this package raised the error; otherwise the model did."""
    return _raised_in(error).startswith(PACKAGE + ".")


def _raised_in(error: Exception) -> str:
    """Return the name of the module that raised the error."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals.get("__name__", "")

"""The demo on digits: trains a small classifier, and morphs digits.

Each digit is morphed along one gradient to one L2 distance in three ways: by phase alone, by phase and amplitude, and
by pixels for comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import index
from pathlib import Path

import torch
from torch import Tensor, nn

from ..checks import check_choice, check_int, check_number, is_int
from ..evaluate.presets import digits_data
from ..evaluate.presets.digits_data import LabelledImages
from ..extras import require_extra
from ..io.output_dir import expand_home
from ..lens import SteerableLens
from ..memory import threads
from ..morphs import Morphs
from ..ops import RULES
from .shared import FAMILIES, prepare_folder, timed

PAIRS = ((3, 8), (7, 2), (5, 6), (2, 3), (1, 7), (4, 9))


@dataclass(frozen=True)
class Example:
    """One digit, morphed toward another class by every family."""

    source: int
    target: int
    test_index: int
    image: Tensor  # [32, 32]
    morphs: dict[str, Morphs]  # by family; each has one sample

    @property
    def name(self) -> str:
        return f"{self.source}-to-{self.target}"


@dataclass(frozen=True)
class DemoResult:
    """The result of :func:`run_demo`, and the files that it wrote."""

    examples: list[Example]
    test_accuracy: float
    flipped: dict[tuple[int, int], dict[str, float]]  # pair -> family -> share of test digits that reach the target
    tested: dict[tuple[int, int], int]  # pair -> number of correctly classified test digits
    files: list[Path]
    seconds: dict[str, float] = field(compare=False)
    model: nn.Module = field(compare=False, repr=False)
    digits: LabelledImages = field(compare=False, repr=False)


def run_demo(
    out: str | Path,
    pairs: Sequence[tuple[int, int]] = PAIRS,
    *,
    max_l2: float = 4.0,
    frames: int = 8,
    rule: str = "polar",
    epochs: int = 15,
    seed: int = 0,
    progress: bool = False,
) -> DemoResult:
    """Train a digit classifier, morph test digits, and write pictures and a table.

    The digit of a pair is the first test digit of the source class that is classified correctly. If several pairs
    have the same source class, the second pair has the second such digit, and so on. No digit was selected by the look
    of its morph.

    Parameters
    ----------
    out : path
        A new folder, or one of an earlier demo, whose files are replaced.
    pairs : sequence of (int, int)
        Source and target digits.
    max_l2 : float
        L2 distance of the last frame from the image in every family, after clipping to [0, 1].
    frames : int
        Number of frames, from the image to ``max_l2``, evenly spaced in factor.
    rule : {"polar", "complex"}
        How a step is computed from coefficients and gradient; see :func:`steerlens_fast.ops.step`.
    epochs : int
        Number of training epochs.
    seed : int
        Seed of the train/test split and of the training. On one machine the same seed gives the same result.
    progress : bool
        Show progress bars on stderr.

    Returns
    -------
    DemoResult

    Raises
    ------
    TypeError, ValueError
        For an invalid argument, or a pair with too few correctly classified test digits of the source class.
    JobError
        If ``out`` has files but is not a demo's folder.
    OSError
        If ``out`` cannot be written; raised before the training.
    ImportError
        If the extra ``steerlens_fast[demo]`` is not installed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as out:
    ...     result = run_demo(out, [(3, 8)], frames=3, epochs=2)
    ...     sorted(path.name for path in result.files)
    ['3-to-8.gif', '3-to-8.png', 'overview.png', 'probabilities.csv']
    >>> result.examples[0].morphs["joint"].frames.shape
    torch.Size([1, 3, 1, 32, 32])
    """
    pairs, (frames, epochs, seed), max_l2 = _check(pairs, max_l2, frames, rule, epochs, seed)
    from . import pictures  # raises before the training if matplotlib or Pillow is missing

    bar = partial(require_extra("demo", "tqdm.auto").tqdm, disable=not progress, dynamic_ncols=True)
    out = expand_home(out)
    prepare_folder(out)
    seconds: dict[str, float] = {}
    with threads(1):
        with timed(seconds, "training"):
            digits = digits_data.load(seed)
            model = digits_data.train_robust_classifier(
                digits, epochs, seed=seed, progress=partial(bar, desc="training", unit="epoch")
            )
        right = model(digits.test_images).argmax(1) == digits.test_labels
        with timed(seconds, "morphs"):
            morph = partial(_morph, model, max_l2=max_l2, frames=frames, rule=rule)
            examples = _examples(morph, digits, right, pairs, partial(bar, desc="morphs", unit="family"))
        with timed(seconds, "all test digits"):
            progress_bar = partial(bar, desc="all test digits", unit="pair")
            flipped, tested = _flip_rates(morph, digits, right, pairs, progress_bar)
        with timed(seconds, "pictures"):
            files = pictures.write_all(out, examples, partial(bar, desc="pictures", unit="file"))
    return DemoResult(examples, right.float().mean().item(), flipped, tested, files, seconds, model, digits)


def _morph(
    model: nn.Module,
    images: Tensor,
    targets: Tensor | int,
    *,
    max_l2: float,
    frames: int,
    rule: str,
    progress: Callable[..., Iterable] = iter,
) -> dict[str, Morphs]:
    """Return the morphs of images [N, 1, 32, 32] in every family."""
    morphs = {}
    for name, family in progress(FAMILIES.items()):
        lens = SteerableLens(model, family=family, rule=rule)
        lens.warn_about_results = False  # the pictures show the probability of every frame
        morphs[name] = lens.morph(images, targets, max_l2=max_l2, frames=frames)
    return morphs


def _examples(morph, digits: LabelledImages, right: Tensor, pairs, progress) -> list[Example]:
    last_used: dict[int, int] = {}  # class -> index among its candidates
    indices = []
    for source, _ in pairs:
        candidates = ((digits.test_labels == source) & right).nonzero()[:, 0]
        nth = last_used[source] = last_used.get(source, -1) + 1
        if nth >= len(candidates):
            raise ValueError(
                f"pairs must not need more test digits of a class than are classified correctly, got only "
                f"{len(candidates)} of class {source}; train for more epochs"
            )
        indices.append(int(candidates[nth]))
    morphs = morph(digits.test_images[indices], torch.tensor([t for _, t in pairs], device="cpu"), progress=progress)
    return [
        Example(s, t, i, digits.test_images[i, 0], {name: batch[n] for name, batch in morphs.items()})
        for n, ((s, t), i) in enumerate(zip(pairs, indices))
    ]


def _flip_rates(morph, digits: LabelledImages, right: Tensor, pairs, progress):
    """Return ``DemoResult.flipped`` and ``DemoResult.tested``."""
    flipped, tested = {}, {}
    for source, target in progress(pairs):
        images = digits.test_images[(digits.test_labels == source) & right]
        morphs = morph(images, target, frames=2)
        flipped[source, target] = {name: m.reached[:, -1].double().mean().item() for name, m in morphs.items()}
        tested[source, target] = len(images)
    return flipped, tested


def _check(pairs, max_l2, frames, rule, epochs, seed) -> tuple[list[tuple[int, int]], list[int], float]:
    pairs = [tuple(index(d) if is_int(d) else d for d in pair) for pair in pairs]
    valid = lambda pair: len(pair) == 2 and all(type(d) is int and 0 <= d <= 9 for d in pair) and pair[0] != pair[1]
    if not pairs or not all(map(valid, pairs)):
        raise ValueError(f"pairs must be (source, target) pairs of two different digits, got {pairs}")
    if len(set(pairs)) != len(pairs):
        raise ValueError(f"pairs must be distinct, got {pairs}")
    named = (("frames", frames, 2), ("epochs", epochs, 1), ("seed", seed, 0))
    counts = [check_int(name, value, minimum, None) for name, value, minimum in named]
    check_choice("rule", rule, tuple(RULES))
    return pairs, counts, check_number("max_l2", max_l2, above=0)

"""Measures of edits, and the comparison of edit families by these measures, which is called an evaluation.

The measures are those of the paper "Confidence Is Not Evidence". This folder's README.md explains the terms driver,
judge, source and budget, and lists the files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ..errors import usage_error
from .measures.alignment import alignment, phase_displacement
from .measures.consistency import Clipping, Consistency, clipping, coefficient_consistency
from .measures.probes import BandProbes, band_probes
from .measures.smooth import SmoothReconstruction, smooth_reconstruction
from .measures.statistics import Interval, bootstrap, paired_difference, proportion, proportion_difference
from .measures.transfer import CommonAttainment, Transfer, common_attainment, driver_confidence, transfer
from .presets.synthetic import SyntheticImages, synthetic_images

if TYPE_CHECKING:
    from .run import Evaluation

__all__ = [
    "BandProbes",
    "Clipping",
    "CommonAttainment",
    "Consistency",
    "Interval",
    "SmoothReconstruction",
    "SyntheticImages",
    "Transfer",
    "alignment",
    "band_probes",
    "bootstrap",
    "clipping",
    "coefficient_consistency",
    "common_attainment",
    "driver_confidence",
    "evaluate",
    "evaluate_families",
    "paired_difference",
    "phase_displacement",
    "proportion",
    "proportion_difference",
    "smooth_reconstruction",
    "synthetic_images",
    "transfer",
]


def evaluate_families(
    data,
    driver: str | os.PathLike | Callable,
    judges: Mapping[str, Callable] | list[str] | tuple[str, ...] = (),
    *,
    out: str | os.PathLike,
    resume: bool = False,
    overwrite: bool = False,
    progress: str = "none",
    figures: bool = True,
    **options,
) -> Evaluation:
    """Compare edit families by measures of their edits, as the command ``steerlens-fast evaluate`` does.

    Parameters
    ----------
    data : str, path or Dataset
        As in :func:`steerlens_fast.morph_dataset`. If the data have the methods of
        :class:`steerlens_fast.evaluate.ground_truth.TrueMotionData`, edits are compared with the true motion from class
        to class, unless the images are resized or cropped.
    driver : str, path or callable
        The classifier whose gradient the edits follow, as a name or as a callable on images [N, C, H, W] in [0, 1].
    judges : mapping from str to callable, or list of str
        Other classifiers with the driver's classes. Their gradients are not used. A mapping has callables by name; a
        list has names such as "timm:resnet18".
    out : path
        The folder for results.jsonl (see steerlens_fast/evaluate/README.md), summary.json, figures and index.html.
    resume : bool
        Continue the evaluation in ``out``: finished tasks are kept, and the results are bitwise the same.
    overwrite : bool
        Replace the evaluation in ``out``.
    progress : {"auto", "bar", "lines", "json", "none"}
    figures : bool
        Draw figures and write the page; needs the extra ``plot``.
    **options
        Fields of :class:`steerlens_fast.evaluate.config.EvaluationConfig`: ``families``, ``max_l2``, ``target``,
        ``sources``, ``rule``, ``regime`` and others.

    Returns
    -------
    Evaluation
        ``summary`` has the contents of summary.json, and ``out`` is the folder. ``code`` is 0, or 3 if
        ``summary["problems"]`` is not empty.

    Raises
    ------
    JobError
        If the evaluation cannot run or continue. Its ``code`` is the exit status that the command would have.

    Examples
    --------
    >>> import tempfile, torch
    >>> from torch.utils.data import StackDataset
    >>> images = torch.randint(0, 256, (6, 16, 16, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    >>> net = lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 3)).eval()
    >>> options = {"families": ["pixel", "csp-phase"], "max_l2": 1.0, "frames": 3, "select": "all", "channels": 1}
    >>> with tempfile.TemporaryDirectory() as out:
    ...     data = StackDataset(images, [0, 1, 2, 0, 1, 2])
    ...     result = evaluate_families(data, net(), {"other": net()}, out=out, figures=False, sources=6, **options)
    ...     sorted(path.name for path in result.out.iterdir() if path.is_file() and path.name[0] != ".")
    ['config.json', 'plan.json', 'results.jsonl', 'summary.json']
    >>> result.summary["budgets"][0]["attainment"]
    {'common': 6, 'of': 6, 'by_family': {'pixel': 6, 'csp-phase': 6}, 'by_control': {'noise': 6}}
    """
    from ..data.paths import with_absolute_paths
    from ..io.base_config import type_name
    from ..io.output_dir import expand_home
    from .run import run_evaluation

    judges = _judges(judges)
    is_name = lambda value: value is None or isinstance(value, (str, os.PathLike))
    by_name = {"data": is_name(data), "driver": is_name(driver), "judges": not isinstance(judges, Mapping)}
    inputs = {"data": data, "driver": driver, "judges": judges}
    names = {name: value for name, value in inputs.items() if by_name[name]}
    objects = {name: value for name, value in inputs.items() if not by_name[name]}
    # The configuration describes an object by its type's name, and a mapping of judges by the judges' names.
    described = {name: list(value) if name == "judges" else type_name(value) for name, value in objects.items()}
    settings = with_absolute_paths(names | options) | described
    run_options = {"resume": resume, "overwrite": overwrite, "progress": progress, "figures": figures}
    return run_evaluation(expand_home(out), settings, **objects, **run_options)


evaluate = evaluate_families  # another name: steerlens_fast.evaluate.evaluate(...)


def _judges(judges) -> Mapping[str, Callable] | list[str | os.PathLike]:
    """Return the judges as a mapping of callables or a list of names."""
    if isinstance(judges, (str, os.PathLike)):
        return [judges]
    if isinstance(judges, Mapping):
        return judges
    if not isinstance(judges, (list, tuple)) or not all(isinstance(judge, (str, os.PathLike)) for judge in judges):
        got = [type(judge).__name__ for judge in judges] if isinstance(judges, (list, tuple)) else type(judges).__name__
        raise usage_error(f"judges must be a dict {{name: classifier}}, or a list of names, got {got}")
    return list(judges)

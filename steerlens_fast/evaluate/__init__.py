"""What morphs show, measured: after "Confidence Is Not Evidence", on any data, and on data with a known answer.

::

    measures     confidence, transfer, common attainment   smooth      reconstruction by a warp (grids, fitting)
    probes       one band at a time                        consistency leakage, clipping, departure
    statistics   bootstrap over sources                    synthetic, alignment   the true motion, and how near to it
    evaluate     config, classifiers, sources -> tasks (edits, and all of the above) -> results -> summary -> report
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from .measures.alignment import alignment, phase_displacement
from .measures.consistency import Clipping, Consistency, clipping, coefficient_consistency
from .measures.probes import BandProbes, band_probes
from .measures.smooth import SmoothReconstruction, smooth_reconstruction
from .measures.statistics import Interval, bootstrap, paired_difference
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
    "paired_difference",
    "phase_displacement",
    "smooth_reconstruction",
    "synthetic_images",
    "transfer",
]


def evaluate(
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
    """Measure what edits of every family show; what the command ``steerlens-fast evaluate`` does.

    Parameters
    ----------
    data : str, path or Dataset
        As :func:`steerlens_fast.morph_dataset` takes them. A data set that knows the true motion from class to class
        (see :class:`steerlens_fast.evaluate.ground_truth.Truth`) has its edits compared with it, in its own size.
    driver : str, path or callable
        The classifier whose gradient is followed: what names one, or a classifier on images [N, C, H, W] in [0, 1].
    judges : mapping from str to callable, or list of str
        Classifiers over the same classes, never differentiated: objects by name, or what names them.
    out : path
        A folder for results.jsonl (a line for each source, family and budget), summary.json, figures and index.html.
    resume, overwrite : bool
        Go on with what the folder holds (finished tasks are kept; the results are the same, bit for bit); or drop it.
    progress : {"auto", "bar", "lines", "json", "none"}
    figures : bool
        Draw them, and write the page (extra ``plot``).
    **options
        Fields of :class:`steerlens_fast.evaluate.config.EvaluationConfig`: ``families``, ``max_l2``, ``target``,
        ``sources``, ``rule``, ``regime`` and the like.

    Returns
    -------
    Evaluation
        ``code``: 0, or 3 where ``summary["problems"]`` names some; ``summary``; ``out``.

    Raises
    ------
    JobError
        Naming what is wrong, with the ``code`` that the command exits with.

    Examples
    --------
    >>> import tempfile, torch
    >>> from torch.utils.data import StackDataset
    >>> images = torch.randint(0, 256, (6, 16, 16, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    >>> net = lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 3)).eval()
    >>> how = {"families": ["pixel", "csp-phase"], "max_l2": 1.0, "frames": 3, "select": "all", "channels": 1}
    >>> with tempfile.TemporaryDirectory() as out:
    ...     data = StackDataset(images, [0, 1, 2, 0, 1, 2])
    ...     found = evaluate(data, net(), {"other": net()}, out=out, figures=False, sources=6, **how)
    ...     sorted(path.name for path in found.out.iterdir() if path.is_file() and path.name[0] != ".")
    ['config.json', 'plan.json', 'results.jsonl', 'summary.json']
    >>> found.summary["budgets"][0]["attainment"]
    {'common': 6, 'of': 6, 'by_family': {'pixel': 6, 'csp-phase': 6}, 'by_control': {'noise': 6}}
    """
    from ..data.paths import with_absolute_paths
    from ..io.base_config import type_name
    from ..io.paths import output_folder
    from .run import run_evaluation

    judges = _judges(judges)
    objects = {
        "data": None if isinstance(data, (str, os.PathLike)) else data,
        "driver": None if isinstance(driver, (str, os.PathLike)) else driver,
        "judges": judges if isinstance(judges, Mapping) else None,
    }
    told = {name: list(it) if name == "judges" else type_name(it) for name, it in objects.items() if it is not None}
    named = {"data": data, "driver": driver, "judges": judges, **options}
    asked = with_absolute_paths({name: it for name, it in named.items() if name not in told}) | told
    run = {"resume": resume, "overwrite": overwrite, "progress": progress, "figures": figures}
    return run_evaluation(output_folder(out), asked, **objects, **run)


def _judges(given) -> Mapping[str, Callable] | list[str | os.PathLike]:
    """Objects by name, or what names them."""
    from ..errors import USAGE, JobError

    if isinstance(given, (str, os.PathLike)):
        return [given]
    if isinstance(given, Mapping):
        return given
    if not isinstance(given, (list, tuple)) or not all(isinstance(one, (str, os.PathLike)) for one in given):
        got = [type(one).__name__ for one in given] if isinstance(given, (list, tuple)) else type(given).__name__
        raise JobError(f"judges must be a dict {{name: classifier}}, or strs that name classifiers, got {got}", USAGE)
    return list(given)

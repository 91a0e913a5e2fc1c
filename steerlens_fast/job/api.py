"""``morph_dataset``, which runs the data-set job from Python. This folder's README.md lists the steps of a job."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..io.base_config import type_name

if TYPE_CHECKING:
    from .run import Outcome


def morph_dataset(
    data: Any,
    model: str | Callable,
    out: str | os.PathLike,
    *,
    engine: str = "local",
    workers: int | None = None,
    decoders: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    retry_failed: bool = False,
    max_failures: int | str = "10%",
    progress: str = "none",
    gallery: int = 48,
    **options: Any,
) -> Outcome:
    """Morph a whole data set, as the command ``morph`` does.

    Parameters
    ----------
    data : str, path or Dataset
        The images, for example a folder, or a map-style data set of ``(image, label[, key])``.
        :func:`steerlens_fast.data.sources.open.open_source` lists all kinds.
    model : str or callable
        A classifier on images [N, C, H, W] in [0, 1], or its name. :func:`steerlens_fast.models.load.load_model` lists
        all kinds of names.
    out : path
        The job's folder, for shards, records, manifest, summary and gallery.
    engine, workers, decoders, resume, overwrite, retry_failed, max_failures, progress, gallery
        See :class:`steerlens_fast.job.config.RunOptions`. If data or model is an object, the job runs in this
        process.
    **options
        Fields of :class:`steerlens_fast.job.config.JobConfig`: ``target``, ``max_l2``, ``frames``, ``score``,
        ``family``, ``size``, ``format``, ``limit`` and others. ``settings="photographs"`` stands for the settings of
        :meth:`steerlens_fast.SteerableLens.for_photographs`.

    Returns
    -------
    Outcome
        ``code`` is the exit status that the command would have: 0 if the job is complete, 3 if some items failed, 130
        if it was interrupted. ``summary`` has the contents of ``summary.json``.

    Raises
    ------
    JobError
        If the job cannot run or continue. Its ``code`` is the exit status that the command would have: 1, 2, 4, 5, or
        143 after SIGTERM.

    Examples
    --------
    >>> import tempfile, torch
    >>> from pathlib import Path
    >>> images = torch.randint(0, 256, (6, 16, 16, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    >>> dataset = torch.utils.data.StackDataset(images, [0, 1, 2, 0, 1, 2])
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 3)).eval()
    >>> with tempfile.TemporaryDirectory() as out:
    ...     outcome = morph_dataset(dataset, model, out, channels=1, frames=4, gallery=0)
    ...     sorted(path.name for path in Path(out, "shards").iterdir())
    ['00000.done.json', '00000.jsonl', '00000.safetensors']
    >>> outcome.code, outcome.summary["done"]
    (0, 6)
    """
    from ..data.paths import with_absolute_paths
    from ..errors import usage_error
    from ..io.output_dir import expand_home
    from .config import RunOptions
    from .run import run_job

    for name, value in (("data", data), ("model", model)):
        if value is None:  # run_job(dataset=None, model=None) would load data and model by name
            raise usage_error(f"{name} must be a name or an object, got None")
    data_is_named, model_is_named = isinstance(data, (str, os.PathLike)), isinstance(model, str)
    config = {
        "data": os.fspath(data) if data_is_named else type_name(data),
        "model": model if model_is_named else type_name(model),
        **options,
    }
    run_options = RunOptions(
        engine, workers, decoders, resume, overwrite, retry_failed, max_failures, progress=progress, gallery=gallery
    )
    dataset, classifier = None if data_is_named else data, None if model_is_named else model
    return run_job(expand_home(out), with_absolute_paths(config), run_options, dataset=dataset, model=classifier)

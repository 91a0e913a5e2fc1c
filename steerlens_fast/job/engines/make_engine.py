"""Selects the engine of a job."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from ...errors import usage_error
from ..config import RunOptions
from ..planning import JobInputs
from .engine import Engine
from .env import rank_of
from .inprocess import InProcess
from .local import Local
from .ray import Ray


def make_engine(inputs: JobInputs, options: RunOptions, out: Path) -> Engine:
    """Return the selected engine, which starts to load the model immediately, unless it is Ray."""
    config, workers = inputs.config, num_workers(options, inputs.device)
    decoders = options.decoders or max(1, min(8, len(os.sched_getaffinity(0)) // max(workers, 1)))
    has_objects = inputs.dataset is not None or inputs.model is not None
    if has_objects and (options.engine != "local" or (options.workers or 0) > 1):
        text = "data and model must be given by name for several workers or an engine other than 'local'"
        raise usage_error(f"{text}, got an object")
    if options.engine == "env" or has_objects or workers == 0:
        source = None if inputs.dataset is None else inputs.source
        device, number = inputs.device, 0
        if options.engine == "env":
            rank = rank_of()
            number = rank.number
            if device == "cuda":  # the ranks of a machine use different GPUs, if it has enough
                device = f"cuda:{rank.local % torch.cuda.device_count()}"
        log = out / "logs" / f"worker-{number}.log"
        return InProcess(config, device, decoders, log, source, inputs.model)
    if options.engine == "ray":
        return Ray(config, workers, inputs.device, decoders)
    devices = [f"cuda:{n}" for n in range(torch.cuda.device_count())] if inputs.device == "cuda" else ["cpu"]
    return Local(config, workers, devices, decoders, out / "logs")


def num_workers(options: RunOptions, device: str) -> int:
    """Return the number of workers. The default is the number of GPUs if the device is "cuda", else 1."""
    if options.workers is not None:
        return options.workers
    return torch.cuda.device_count() if device == "cuda" else 1

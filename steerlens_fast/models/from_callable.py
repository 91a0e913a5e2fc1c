"""Models in the user's own Python: ``pkg.mod:callable``."""

from __future__ import annotations

import torch
from torch import nn

from ..data.import_object import import_object, user_code_error
from ..errors import USAGE, JobError
from .checkpoints import load_weights
from .loaded import Built, copied, model_name


def from_name(name: str, weights: str | None, trust: bool) -> Built:
    """What ``pkg.mod:callable`` gives, its weights loaded."""
    found = import_object("model", name)
    if isinstance(found, nn.Module):
        # It may be the caller's own, where the caller has imported that module, too.
        model = copied(found, f"let {name} name a callable that gives the model")
    elif isinstance(found, torch.export.ExportedProgram):
        model = found.module()
    else:
        model = _called(name, found)
    if weights is not None:
        if not isinstance(model, nn.Module):
            raise JobError(f"weights need a torch.nn.Module, got {model_name(model)} from model {name!r}", USAGE)
        load_weights(model, weights, trust)
    return Built(model)


def _called(name: str, factory):
    if not callable(factory):
        raise JobError(f"model {name!r} must be a module, or a callable that gives one, got {factory!r}", USAGE)
    try:
        model = factory()
    except Exception as error:
        raise user_code_error("model", name, "called without arguments, to give the model, it") from error
    if isinstance(model, torch.export.ExportedProgram):
        return model.module()
    if not callable(model) or isinstance(model, type):
        raise JobError(f"model {name!r} must give a module or callable, got {model!r}", USAGE)
    return model

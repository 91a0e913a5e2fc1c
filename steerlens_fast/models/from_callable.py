"""Loads models from the user's own code: ``pkg.mod:callable``."""

from __future__ import annotations

import torch
from torch import nn

from ..checks import shown
from ..data.import_object import import_object, user_code_error
from ..errors import JobError, usage_error
from ..extras import MissingExtra
from .checkpoints import put_weights, read_weights
from .loaded import RawModel, copy_model, model_name


def load_from_callable(name: str, weights: str | None, trust: bool) -> RawModel:
    """Return the model that the callable ``name`` returns, with the weights of the checkpoint ``weights``, if given.

    If ``name`` refers to a ``torch.nn.Module``, return a copy of this module.
    """
    value = import_object("model", name)
    if isinstance(value, nn.Module):
        # Other code may use the same object, which must not change.
        model = copy_model(value, f"make {name} a callable that returns the model")
    elif isinstance(value, torch.export.ExportedProgram):
        model = value.module()
    else:
        model = _call_factory(name, value)
    if weights is not None:
        if not isinstance(model, nn.Module):
            raise usage_error(f"model {name!r} must be a torch.nn.Module to load weights, got {model_name(model)}")
        put_weights(model, read_weights(weights, trust), weights)
    return RawModel(model)


def _call_factory(name: str, factory):
    if not callable(factory):
        raise usage_error(f"model {name!r} must be a module, or a callable that returns one, got {shown(factory)}")
    try:
        model = factory()
    except JobError:
        raise
    except MissingExtra as error:
        raise usage_error(f"model {name!r}: {error}") from error
    except (Exception, SystemExit) as error:
        raise user_code_error("model", name, "calling it without arguments") from error
    if isinstance(model, torch.export.ExportedProgram):
        return model.module()
    if not callable(model) or isinstance(model, type):
        raise usage_error(f"model {name!r} must return a module or callable, got {shown(model)}")
    return model

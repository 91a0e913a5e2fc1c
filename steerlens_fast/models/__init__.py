"""Loading of models and checkpoints, and preprocessing of images."""

from .load import LoadedModel, load_model

__all__ = ["LoadedModel", "load_model"]

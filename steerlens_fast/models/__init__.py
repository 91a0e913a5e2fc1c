"""Loads models and checkpoints, and preprocesses images for them."""

from .load import LoadedModel, load_model

__all__ = ["LoadedModel", "load_model"]

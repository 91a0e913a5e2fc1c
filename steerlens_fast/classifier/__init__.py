"""The classifier: its outputs, targets, objectives and gradients."""

from .classifier import Classifier

__all__ = ["Classifier"]

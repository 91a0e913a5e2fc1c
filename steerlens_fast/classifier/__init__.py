"""The classifier: its outputs, targets, objectives and gradients."""

from .classifier import Driver

__all__ = ["Driver"]

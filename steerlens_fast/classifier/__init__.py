"""Classifiers: outputs, targets, objectives and gradients without side effects."""

from .classifier import Classifier
from .objectives import OBJECTIVES
from .outputs import TASKS

__all__ = ["OBJECTIVES", "TASKS", "Classifier"]

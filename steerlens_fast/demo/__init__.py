"""The demos: morphs of handwritten digits by a small classifier, and of photographs by an ImageNet classifier."""

from .demo import run_demo

__all__ = ["run_demo"]

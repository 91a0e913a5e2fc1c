"""The demo: morphs of handwritten digits along a small classifier's gradient."""

from .demo import run_demo

__all__ = ["run_demo"]

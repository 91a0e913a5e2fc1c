"""The demos: morphs of handwritten digits, and of photographs."""

from .demo import run_demo

__all__ = ["run_demo"]

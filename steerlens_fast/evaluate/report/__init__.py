"""The report of an evaluation: figures and one static page."""

from .report import write_report

__all__ = ["write_report"]

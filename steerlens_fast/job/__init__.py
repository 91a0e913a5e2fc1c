"""The data-set job: every image of a data set morphed toward another class."""

from ..errors import JobError
from .api import morph_dataset

__all__ = ["JobError", "morph_dataset"]

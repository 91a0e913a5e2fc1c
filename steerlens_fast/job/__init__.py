"""The data-set job: morph every image of a data set toward another class."""

from ..errors import JobError
from .api import morph_dataset

__all__ = ["JobError", "morph_dataset"]

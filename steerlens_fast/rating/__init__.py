"""Ratings of morphs by people.

:func:`write_form` writes a page on which people rate the morphs of jobs, and a key that says what each image is.
:func:`tally` computes results from the key and the files that raters export.
"""

from .agreement import krippendorff_alpha
from .form import Form, write_form
from .tally import table, tally

__all__ = ["Form", "krippendorff_alpha", "table", "tally", "write_form"]

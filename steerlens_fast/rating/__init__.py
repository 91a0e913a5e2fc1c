"""Ratings of morphs by people.

:func:`write_form` writes a page on which people rate the morphs of jobs, and a key that says what each image is.
:func:`tally` computes results from the key and the files that raters export.

A *source* is an image of the data, with its target and the class that the model predicts for it. It is shown in several
*conditions*: edited by each family, and unedited. An image of the form, a source in one condition, is a *trial*.
"""

from .agreement import krippendorff_alpha
from .form import Form, write_form
from .tally import table, tally

__all__ = ["Form", "krippendorff_alpha", "table", "tally", "write_form"]
